"""The text that the whole engine writes with a drafter, tested against the target's law.

Under the target's law each token becomes a uniform number, given all before it (the randomised probability integral
transform); the numbers of a lossless engine's text are independent. A round begins at a stopping time, so those of the
first tokens after the beginnings of rounds are too: as many as a round can write, so that every drafted token and the
one after the last are looked at. Chi-square tests, in cells, the joint law of any three that follow each other.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from specpress.certification.small import FAMILIES, model, text
from specpress.decoding.generate import generate
from specpress.laws.sampling import SamplingParams, probabilities
from specpress.schedules.base import Constant
from specpress.speculation.drafter import Drafter
from specpress.speculation.verification import ImpossibleDraftError

VOCABULARY = 6
FALSE_ALARM = 1e-6
_SAMPLING = {"temperature": 1.3, "top_p": 0.97}
_NEW, _PROMPT, _NODES = 200, 12, 4
_WINDOW = _NODES + 1  # tokens: what a round writes at most
_TOGETHER, _BINS = 3, 4  # tokens whose joint law is tested, and parts of the unit interval for each
_EDGE = 1e-4  # of top-p: steps on a cache round otherwise than one forward over the text


class Finding(NamedTuple):
    """`p`: probability of a text that is as far off, if the engine is lossless; `broken` says so if it is not."""

    rounds: int
    p: float
    broken: str | None
    drafted: int = 0  # tokens


def certify(make: Callable[[str], Callable[[], Drafter]], verification: str, rounds: int) -> Finding:
    """Generate with both families, `rounds` rounds or more in all, and test the text.

    make : by family, what makes fresh drafters for a target of `VOCABULARY` tokens
    """
    windows, done, drafted, seed = [], 0, 0, 0
    while done < rounds:
        family = FAMILIES[seed % len(FAMILIES)]
        target, prompt = model(family, vocabulary=VOCABULARY), text(_PROMPT, seed, VOCABULARY)[None]
        sampling, how = SamplingParams(**_SAMPLING, seed=seed), {"verification": verification, "max_new_tokens": _NEW}
        try:
            found = generate(
                target, prompt, sampling=sampling, drafter=make(family)(), schedule=Constant(_NODES), **how
            )
        except ImpossibleDraftError as error:
            return Finding(done, 0.0, str(error))
        uniforms = transformed(target, prompt, found.tokens, seed)
        if uniforms is None:
            return Finding(done, 0.0, "it writes tokens that have no probability under the target's law")
        committed = [1, *(iteration.committed for iteration in found.trace.iterations)]
        windows += _windows(uniforms, list(itertools.accumulate(committed)))
        done += len(found.trace.iterations)
        drafted += sum(iteration.proposed for iteration in found.trace.iterations)
        seed += 1
    p = _p_value(torch.stack(windows))
    broken = f"the text does not follow the target's law: p = {p:.1e}" if p < FALSE_ALARM else None
    return Finding(done, p, broken, drafted)


def transformed(target: nn.Module, prompt: Tensor, tokens: Tensor, seed: int) -> Tensor | None:
    """A number in [0, 1) for each new token, float64 (n,); None if the target's law leaves one out."""
    whole = torch.cat([prompt, tokens], 1)[:, :-1]
    with torch.inference_mode():
        logits = target(whole, use_cache=False).logits[0, prompt.shape[1] - 1 :]
    law, wider = (
        probabilities(logits, SamplingParams(**{**_SAMPLING, "top_p": _SAMPLING["top_p"] + more})).double()
        for more in (0, _EDGE)
    )
    law = torch.where(law.gather(1, tokens[0][:, None]) > 0, law, wider)
    mass = law.gather(1, tokens[0][:, None])[:, 0]
    if not (mass > 0).all():
        return None
    generator = torch.Generator().manual_seed(10**6 + seed)  # not the engine's own, which its tokens depend on
    spread = torch.rand(mass.shape, generator=generator, dtype=torch.float64) * mass
    return law.cumsum(1).gather(1, tokens[0][:, None])[:, 0] - mass + spread


def _windows(uniforms: Tensor, starts: list[int]) -> list[Tensor]:
    """The numbers of the first tokens after the beginnings of rounds; windows do not overlap."""
    found, free = [], 0
    for start in starts:
        if start >= free and start + _WINDOW <= len(uniforms):
            found.append(uniforms[start : start + _WINDOW])
            free = start + _WINDOW
    return found


def _p_value(windows: Tensor) -> float:
    """Of the least likely of the tests, corrected for how many there are (Bonferroni)."""
    cells = (windows * _BINS).long().clamp_(max=_BINS - 1)
    weights, found = _BINS ** torch.arange(_TOGETHER), []
    for first in range(_WINDOW - _TOGETHER + 1):
        counts = torch.bincount((cells[:, first : first + _TOGETHER] * weights).sum(1), minlength=_BINS**_TOGETHER)
        found.append(float(chisquare(counts.numpy()).pvalue))
    return min(1.0, len(found) * min(found))
