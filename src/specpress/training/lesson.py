"""A lesson: what a target says to a text, read once and kept, so that drafts learn from it as often as they like.

Of each law the most likely tokens are kept, and by their sum that of the rest; of the hidden states those that a head
reads. A lesson lies in a folder of its own with a manifest that says what it was made of: a training that asks for the
same takes it from there.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.forward import forward_of
from specpress.engine.states import HiddenStates
from specpress.files.publish import alone, publish
from specpress.study.draft_config import DraftError

ROWS = 8  # windows that are read at a time


@dataclass(frozen=True)
class Lesson:
    """Windows of text and what the target says to them.

    tokens : LongTensor (n, length + 1)
    top : int32 (n, length, k), the most likely tokens after each but the last; None where only the text teaches
    logs : float16 (n, length, k), the logarithms of their probabilities at temperature 1
    states : (n, length, layers x hidden size), outputs of the target's layers that a head reads, or None
    """

    tokens: Tensor
    top: Tensor | None = None
    logs: Tensor | None = None
    states: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows) -> "Lesson":
        """The windows that an index or a slice says."""
        return replace(self, **{name: held[rows] for name, held in self.tensors().items()})

    def to(self, device: torch.device) -> "Lesson":
        """The same on a device."""
        return replace(self, **{name: held.to(device) for name, held in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """What it holds, by name."""
        return {name: held for name, held in vars(self).items() if held is not None}


def hear(
    target: nn.Module, tokens: Tensor, top: int, features: Sequence[int], report: Callable[[int], None] = lambda _: None
) -> Lesson:
    """Let the target read windows, LongTensor (n, length + 1).

    top : tokens of each law that are kept
    features : layers whose outputs are kept; see `specpress.engine.states`
    report : called with the tokens read so far

    Raises
    ------
    DraftError
        If hidden states are asked of a target whose forward is not our own.
    """
    if features and forward_of(target) is None:
        raise DraftError("kind: a head needs a target of a known family: only our own forward shows hidden states")
    parts = []
    for rows in tokens.split(ROWS):
        logits, states = read_windows(target, rows, features)
        logs, found = logits.float().log_softmax(-1).topk(min(top, logits.shape[-1]))
        parts.append(Lesson(rows, found.int().cpu(), logs.half().cpu(), None if states is None else states.cpu()))
        report(sum(part.tokens[:, 1:].numel() for part in parts))
    joined = {name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()}
    return Lesson(**joined)


@torch.no_grad()
def read_windows(target: nn.Module, rows: Tensor, features: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Logits (n, length, vocabulary) after each token of windows (n, length + 1) but the last, and the layers' outputs.

    The outputs are (n, length, layers x hidden size); None if no layer is named.
    """
    cached = CachedModel(target, rows.shape[1])
    cached.states = HiddenStates(features) if features else None
    with decode_attention(target):
        logits = cached.feed(rows[:, :-1], keep=rows.shape[1] - 1)
    return logits.clone(), cached.states.take().clone() if features else None


def kept(folder: Path, identity: dict, features: Sequence[int], make: Callable[[], Lesson]) -> tuple[Lesson, float]:
    """The lesson that `identity` describes, from its place below `folder`, where it is made if it is not there.

    Returns it with the seconds that making it took, now or then. Of several trainings that ask at once one makes it.

    features : layers whose outputs it is to have; one that has more of them is cut, one that lacks some is made anew

    Raises
    ------
    DraftError
        If the disk has no room for it.
    """
    place = folder / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    with alone(folder / f".{place.name}.lock", "another training has the target read this text"):
        return _kept(place, identity, features, make)


def _kept(place: Path, identity: dict, features: Sequence[int], make: Callable[[], Lesson]) -> tuple[Lesson, float]:
    if (place / "manifest.json").is_file():
        manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
        if set(features) <= set(manifest["features"]) and "seconds" in manifest:
            lesson = Lesson(**load_file(place / "lesson.safetensors"))
            return _with_features(lesson, manifest["features"], features), manifest["seconds"]
    started = time.perf_counter()
    lesson, seconds = make(), time.perf_counter() - started
    tensors = {name: held.contiguous() for name, held in lesson.tensors().items()}
    _check_room(place.parent, sum(held.nbytes for held in tensors.values()))
    what = {"kind": "lesson", "features": list(features), "seconds": seconds, **identity}
    with publish(place, what) as partial:
        save_file(tensors, partial / "lesson.safetensors")
    return lesson, seconds


def _with_features(lesson: Lesson, found: Sequence[int], wanted: Sequence[int]) -> Lesson:
    """The lesson with the outputs of the wanted layers alone, of those found in it."""
    if list(found) == list(wanted):
        return lesson
    if not wanted:
        return replace(lesson, states=None)
    parts = lesson.states.chunk(len(found), -1)
    return replace(lesson, states=torch.cat([parts[found.index(layer)] for layer in wanted], -1))


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DraftError(
            f"tokens: what the target says to them takes {math.ceil(needed / 1e6)} MB, {folder} has {free // 10**6} MB "
            "free; lower tokens or top, raise passes, or free some space"
        )
