"""What the sections share: the device, the sizes, models of Pythia's shapes, clocks, a row of the table."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import GPTNeoXConfig

from specpress import SamplingParams
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.graphs import CudaGraphs, StaticSteps, use_eager, use_graphs
from specpress.hardware.clock import clock
from specpress.laws import engines
from specpress.models.build import build_model

GREEDY, SAMPLED = SamplingParams(temperature=0), SamplingParams(temperature=0.85, top_p=0.9)
GAMMA = 4
# (layers, hidden size, heads); the vocabulary is Pythia's
SHAPES = {"2.8B": (32, 2560, 32), "410M": (24, 1024, 16), "70M": (6, 512, 8)}
TINY_SHAPES = {"2.8B": (3, 64, 4), "410M": (2, 32, 4), "70M": (1, 32, 4)}
# milliseconds of a step on an H100 or H200, float16, batch 1: (as a graph in kernels of ours, eager)
STEP_MS = {"2.8B": ((2.4, 3.2), (5.0, 16.0)), "410M": ((1.0, 1.4), (4.0, 11.5)), "70M": ((0.3, 0.45), (1.0, 3.8))}


@dataclass
class Row:
    """A line of the table; `right` is None for what is a cost and not a question of right or wrong."""

    name: str
    expected: str
    measured: str
    value: float | None = None
    right: bool | None = None


class OutOfTime(Exception):
    """The budget of seconds is spent."""


class Check:
    """The device, the sizes, the models made so far, and the time that is left."""

    def __init__(self, device: torch.device, tiny: bool, seconds: float, model: Path | None):
        self.device, self.tiny, self.real = device, tiny, model
        self.cuda = device.type == "cuda"
        self.dtype = torch.float16 if self.cuda else torch.float32
        self.shapes = TINY_SHAPES if tiny else SHAPES
        self.vocabulary = 211 if tiny else 50304
        self.slots = (24, 100, 200) if tiny else (64, 512, 1900)
        self.repeats = 2 if tiny else 20
        self.deadline = time.monotonic() + seconds
        self._models: dict[str, nn.Module] = {}

    def time_left(self) -> None:
        """Raise OutOfTime if there is none."""
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def config(self, name: str) -> GPTNeoXConfig:
        layers, hidden, heads = self.shapes[name]
        return neox(layers, hidden, heads, self.vocabulary)

    def model(self, name: str) -> nn.Module:
        """A model of Pythia's shape, made once."""
        if name not in self._models:
            with torch.device(self.device):
                torch.manual_seed(0)
                model = build_model(self.config(name), dtype=self.dtype)
            self._models[name] = scaled(model)
        return self._models[name]

    def keep_only(self, *names: str) -> None:
        """Give back the other models, and what was captured on these."""
        self._models = {name: model for name, model in self._models.items() if name in names}
        for model in self._models.values():
            use_eager(model)
        if self.cuda:
            torch.cuda.empty_cache()

    def graphs(self, *models: nn.Module) -> None:
        """Steps as graphs, all captured ahead; without CUDA the same steps, run anew each time."""
        for model in models:
            if self.cuda:
                use_graphs(model, ahead=True)
            else:
                model.static_steps = StaticSteps(lambda step: step, ahead=True)

    def prompt(self, length: int, *, seed: int = 0, vocabulary: int | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(2, vocabulary or self.vocabulary, (1, length), generator=generator)

    def ms(self, run: Callable[[], object], repeats: int | None = None) -> float:
        """Median milliseconds of a call, the device synchronised before and after."""
        taken = []
        for _ in range(2 + (repeats or self.repeats)):
            started = clock(self.device)
            run()
            taken.append(clock(self.device) - started)
        return 1e3 * statistics.median(taken[2:])

    def streamed_ms(self, run: Callable[[], object], repeats: int | None = None) -> float:
        """Milliseconds of a call among many that nobody waits for."""
        count = repeats or self.repeats
        run()
        started = clock(self.device)
        for _ in range(count):
            run()
        return 1e3 * (clock(self.device) - started) / count

    def replayed_ms(self, run: Callable[[], Tensor]) -> float:
        """Milliseconds of a call among 32 in a replayed graph, as in the layers of a step; without CUDA just of it."""
        if not self.cuda:
            return self.streamed_ms(run)
        with torch.inference_mode():
            return self.streamed_ms(CudaGraphs(self.device)(lambda: [run() for _ in range(32)][-1])) / 32


def neox(layers: int, hidden: int, heads: int, vocabulary: int) -> GPTNeoXConfig:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_attention_heads": heads}
    return GPTNeoXConfig(
        vocab_size=vocabulary, num_hidden_layers=layers, max_position_embeddings=2048, rope_parameters=rope,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, **sizes,
    )  # fmt: skip


@torch.inference_mode()
def scaled(model: nn.Module) -> nn.Module:
    """The model with its output head scaled until its logits have a standard deviation of 4."""
    with decode_attention(model):
        tokens = torch.arange(2, 34)[None] % model.config.vocab_size
        spread = CachedModel(model, 64).feed(tokens, keep=32).float().std()
    model.get_output_embeddings().weight.data.mul_(4 / float(spread))
    return model


@contextmanager
def laws_on(kind: str, where: str) -> Iterator[None]:
    """Laws of logits on devices of a kind are made there ("device") or on the host."""
    before = dict(engines.ENGINES)
    engines.ENGINES.pop(kind, None)
    if where == "device":
        engines.ENGINES[kind] = engines.laws_there
    try:
        yield
    finally:
        engines.ENGINES.clear()
        engines.ENGINES.update(before)


def one_step(cached: CachedModel, queries: int) -> None:
    cached.feed(torch.full((1, queries), 7), keep=queries)
    cached.cache.rollback(queries)
