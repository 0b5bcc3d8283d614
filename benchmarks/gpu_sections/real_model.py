"""A real model, where one is named: greedy texts of graphs and speculation against eager autoregressive decoding."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from gpu_sections.bench import GREEDY, Check, Row
from specpress import generate, load_model
from specpress.drafters import CompressedTarget, PromptLookup
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.graphs import use_eager
from specpress.models.build import from_gguf
from specpress.presses import get_press


def real(check: Check) -> Iterator[Row]:
    """A real model, greedy: gamma 4 and graphs against eager autoregressive decoding, in both 16-bit types."""
    if check.real is None:
        yield Row("a real model", "", "none: name one with --model")
        return
    for dtype in (torch.float16, torch.bfloat16) if check.cuda else (torch.float32,):
        check.time_left()
        model, tokenizer = load(check.real, dtype, check.device)
        prompt = tokenizer("The history of the city begins with a small settlement on the river", return_tensors="pt")
        settings = {"max_new_tokens": 24 if check.tiny else 128, "sampling": GREEDY}
        use_eager(model)
        expected = generate(model, prompt.input_ids, **settings).tokens[0]
        check.graphs(model)
        press = get_press("streaming_llm", compression_ratio=0.3)
        for name, options in {
            "autoregressive, graphs": lambda: {},
            "gamma 4, prompt lookup, graphs": lambda: {"drafter": PromptLookup()},
            "gamma 4, compressed target, graphs": lambda press=press: {"drafter": CompressedTarget(press)},
        }.items():
            found = generate(model, prompt.input_ids, **options(), **settings)
            text = f"{dtype}".removeprefix("torch.")
            said, right = compared(check, model, prompt.input_ids, expected, found.tokens[0])
            rate = 1e3 / found.metrics()["tpot_ms"]
            yield Row(f"{text}, {name}", "equal or a near tie", f"{said}; {rate:.0f} tokens/s", rate, right)


def load(folder: Path, dtype: torch.dtype, device: torch.device) -> tuple[nn.Module, object]:
    files = [folder] if folder.suffix == ".gguf" else sorted(folder.glob("*.gguf"))
    if files:
        model, tokenizer = from_gguf(files[0], dtype=dtype)
        return model.to(device), tokenizer
    return load_model(folder, dtype=dtype, device=device)


def compared(check: Check, model: nn.Module, prompt: Tensor, expected: Tensor, found: Tensor) -> tuple[str, bool]:
    """Whether two greedy texts are one, or first differ at two tokens within 4 units of the last place."""
    differ = (expected != found).nonzero()
    if not len(differ):
        return "equal", True
    at = int(differ[0])
    use_eager(model)
    with decode_attention(model), torch.inference_mode():
        text = torch.cat([prompt[0], expected[:at]])[None]
        row = CachedModel(model, text.shape[1]).feed(text)[0, -1].float()
    check.graphs(model)
    gap = float((row[expected[at]] - row[found[at]]).abs())
    units = gap / (torch.finfo(model.dtype).eps * 2 ** math.floor(math.log2(float(row.abs().max()))))
    return f"differ at token {at} by {units:.1f} ulp", units <= 4
