"""What a draft is worth: acceptance and cross-entropy on text it was not trained on, by the target's whole laws."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specpress.models.feature_head import feature_layers
from specpress.training.lesson import Lesson, read_windows
from specpress.training.objectives import IGNORED, cross_entropy, rows_of_tokens
from specpress.training.predictions import covered, predictions

POSITIONS = 4  # tokens of a chain of a head that are judged


@dataclass(frozen=True)
class Reading:
    """What a target says to some windows, as far as a draft is judged by it.

    rows : LongTensor (n, length + 1), the windows
    mass : (n, length, k), the probability at temperature 1 of each token that the draft's head covers, after each token
        of the windows but the last. The draft gives no other token any mass, so acceptance is known from these alone
    states : the outputs of the layers that a head reads; see `read_windows`
    """

    rows: Tensor
    mass: Tensor
    states: Tensor | None


def readings(draft: nn.Module, target: nn.Module, windows: Tensor, batch: int = 2) -> Iterator[Reading]:
    """The target's reading of windows, LongTensor (n, length + 1), `batch` of them at a time."""
    ids = covered(draft)
    for rows in windows.to(draft.device).split(batch):
        logits, states = read_windows(target, rows, feature_layers(draft))
        yield Reading(rows, _mass(logits, ids), states)


def _mass(logits: Tensor, ids: Tensor) -> Tensor:
    """The probability of each of the tokens `ids`, ascending, (..., k); logits (..., tokens).

    Numbers beyond the logits are padding of the vocabulary, which no target says.
    """
    known = ids[ids < logits.shape[-1]]
    return F.pad(logits.float().softmax(-1)[..., known], (0, len(ids) - len(known)))


def judge(draft: nn.Module, target: nn.Module, windows: Tensor) -> dict:
    """How well a draft predicts what the target would say, and the text itself.

    Parameters
    ----------
    draft, target : causal LM of a family in `specpress.models.families`; the draft may be a feature head
    windows : LongTensor (n, length + 1)
        Each is one context; every position of it that the draft predicts is scored.

    Returns
    -------
    dict
        `acceptance`: mean over positions of sum_x min(p(x), q(x)) at temperature 1, the chance that speculative
        sampling accepts a draft token (Leviathan et al., 2023, section 3.2), of the first token drafted.
        `acceptance_by_position`: the same of the first token, the second and so on, given the text as far as it; of a
        draft model one number, as it is the same for all. `cross_entropy`: nats a token of the draft on the tokens its
        head covers; `coverage`: their share. `n_tokens`: positions scored.
    """
    return _judged(draft, readings(draft, target, windows), POSITIONS)


def glance(draft: nn.Module, seen: Sequence[Reading]) -> float:
    """The `acceptance` of `judge` on windows that the target has read before, and is not asked to read again."""
    return _judged(draft, seen, 1)["acceptance"]


@torch.no_grad()
def _judged(draft: nn.Module, seen: Iterable[Reading], positions: int) -> dict:
    row_of = rows_of_tokens(covered(draft), draft.config.vocab_size)
    overlaps, places = [0.0] * positions, [0] * positions
    nll = scored = 0.0
    for reading in seen:
        rows, lesson = reading.rows, Lesson(reading.rows, states=reading.states)
        for position, (said, offset) in enumerate(predictions(draft, lesson, positions)):
            count = min(said.shape[1], reading.mass.shape[1] - offset)
            said = said[:, :count].float()
            mass = reading.mass[:, offset : offset + count]
            overlaps[position] += torch.minimum(mass, said.softmax(-1)).sum().item()
            places[position] += count * len(rows)
            if not position:
                labels = row_of[rows[:, 1 + offset : 1 + offset + count]]
                in_head = (labels != IGNORED).sum().item()
                nll += cross_entropy(said, labels).item() * in_head
                scored += in_head
    found = [overlap / n for overlap, n in zip(overlaps, places, strict=True) if n]
    return {
        "acceptance": found[0],
        "acceptance_by_position": found,
        "cross_entropy": nll / scored if scored else None,
        "coverage": scored / places[0],
        "n_tokens": places[0],
    }
