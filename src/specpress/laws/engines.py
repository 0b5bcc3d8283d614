"""Which laws rows of logits get: on their supports on the host, or where the logits are.

A CPU makes a law of some dozens of tokens faster than one of a vocabulary, and reads it for nothing; on a GPU a read
waits for all that was asked of it. There sampled laws are rows over the vocabulary, and greedy ones are tokens. All
kinds are sequences of laws with `draw` and `take`, and verification knows them (`specpress.speculation.rounds`).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from specpress.laws.device import DeviceLaws
from specpress.laws.law import Head, Law, Laws
from specpress.laws.points import Points
from specpress.laws.sampling import SamplingParams
from specpress.laws.there import LawsThere


def laws_there(logits: Tensor, sampling: SamplingParams, head: Head | None = None) -> DeviceLaws | Points:
    """The laws of rows of logits, (n, head size), on the device of these, made without a read on the host."""
    return Points(logits, head) if sampling.greedy else DeviceLaws(logits, sampling, head)


ENGINES: dict[str, Callable] = {"cuda": laws_there}  # by the kind of device; all others have theirs on the host


def laws_of(logits: Tensor, sampling: SamplingParams, head: Head | None = None) -> Laws | DeviceLaws | Points:
    """The laws of rows of logits, (n, head size); see `specpress.laws.law.law_of`."""
    return ENGINES.get(logits.device.type, Laws)(logits, sampling, head)


def selected(laws: Sequence[Law], places: Sequence[int]) -> Sequence[Law]:
    """The laws at these places, where they are."""
    return laws.picked(places) if isinstance(laws, LawsThere) else [laws[place] for place in places]


def joined(parts: Sequence[Sequence[Law]]) -> Sequence[Law]:
    """Several runs of laws as one, where they are if they are of one kind."""
    if parts and all(isinstance(part, DeviceLaws) for part in parts):
        width = max(part.mass.shape[1] for part in parts)
        laws = [DeviceLaws.gathered(part, width, part.mass.device) for part in parts]
        return DeviceLaws.of(torch.cat([part.mass for part in laws]), torch.cat([part.sound for part in laws]))
    if parts and all(isinstance(part, Points) for part in parts):
        return Points.of(torch.cat([part.tokens for part in parts]), torch.cat([part.sound for part in parts]))
    return [law for part in parts for law in part]
