"""How far rounding moves a model's logits: the difference of two logits as the engine computes it, and as it should be.

A greedy text can differ from the baseline's without any fault, because a step and a verification of several tokens
round differently. They then disagree on which of two tokens is ahead, so that the true difference of the two logits is
no larger than the error of one of the computed differences. How large those errors are is measured here over many rows:
a true difference that is larger than all of them is not explained by rounding.
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from specpress.decoding.generate import generate
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.graphs import has_graphs
from specpress.experiments.assets import Assets
from specpress.experiments.oracle import WIDER, load_oracle, logits, name_of
from specpress.files.metrics import SCHEMA
from specpress.hardware.devices import claim, resolve_device
from specpress.hardware.disturbance import watch
from specpress.hardware.environment import describe, now, peak_memory_bytes
from specpress.hardware.threads import use_threads
from specpress.laws.sampling import SamplingParams

TEXTS, TOKENS = 8, 90
# Tokens in one forward (a step of the baseline, a verification, a prompt): rows of each text, its last, compared so.
ROWS = {1: 26, 5: 26, 80: 80}


def calibrate(spec: dict, folder: Path, *, threads: int, device: str = "auto", cuda_graphs: bool = True) -> dict:
    """The record of a model's rounding errors, on texts that it samples itself.

    Parameters
    ----------
    spec : dict, with the record's "id" and the name of the "model"
    folder : the model's directory
    threads, device, cuda_graphs : as the experiments will run

    Returns
    -------
    dict: formats (the model's and the wider one), errors (by tokens in a forward, one number a row: how far the
    difference of the two largest logits is from that of the wider format), allowed (the largest of them); with the spec
    and the environment. A further row like these exceeds the largest of n with a probability of 1 / (n + 1).
    """
    use_threads(threads)
    began, started = now(), time.perf_counter()
    where, name = claim(resolve_device(device)), spec["model"]
    assets = Assets({name: folder}, {}, where, graphs=cuda_graphs)
    model = assets.model(name)
    with watch() as watched:
        texts = _texts(model)
        computed = {together: [_computed(model, text, together) for text in texts] for together in ROWS}
        oracle = load_oracle(folder, model.dtype, where)
        exact = [logits(oracle, text[None], keep=max(ROWS.values()) + 1)[:-1] for text in texts]
    found = {
        str(together): [e for ours, true in zip(each, exact, strict=True) for e in errors(ours, true[-len(ours) :])]
        for together, each in computed.items()
    }
    return {
        "schema": SCHEMA,
        "id": spec["id"],
        "kind": "rounding",
        "spec": spec,
        "environment": describe(threads=threads, device=model.device, dtype=model.dtype, cuda_graphs=has_graphs(model)),
        "disturbance": watched.record(),
        "started": began,
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(str(model.device)),
        "formats": [name_of(model.dtype), name_of(WIDER[model.dtype])],
        "errors": found,
        "allowed": max(max(each) for each in found.values()),
    }


def errors(computed: Tensor, exact: Tensor) -> list[float]:
    """How far the difference of the two largest logits is off, row by row; both (rows, head size)."""
    two = exact.topk(2).indices
    off = computed.double().gather(1, two) - exact.double().gather(1, two)
    return (off[:, 0] - off[:, 1]).abs().tolist()


def _texts(model: nn.Module) -> Tensor:
    """Texts that the model samples, each from a token drawn at random: LongTensor (TEXTS, TOKENS)."""
    vocabulary = getattr(model, "head_token_ids", None)
    known = torch.arange(model.config.vocab_size) if vocabulary is None else vocabulary.cpu()
    first = known[torch.randint(len(known), (TEXTS, 1), generator=torch.Generator().manual_seed(0))]
    written = generate(model, first, max_new_tokens=TOKENS - 1, sampling=SamplingParams(temperature=1.0)).tokens
    return torch.cat([first, written.cpu()], 1)


def _computed(model: nn.Module, text: Tensor, together: int) -> Tensor:
    """The logits for each of a text's last tokens as the engine gives them, `together` tokens in a forward."""
    begun = TOKENS - 1 - ROWS[together]
    with decode_attention(model):
        cached = CachedModel(model, capacity=TOKENS)
        cached.feed(text[None, :begun])
        rest = text[None, begun:-1].split(together, dim=1)
        return torch.cat([cached.feed(piece, keep=piece.shape[1])[0].cpu() for piece in rest])
