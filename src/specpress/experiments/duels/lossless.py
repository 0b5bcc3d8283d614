"""The losslessness check: greedy texts equal the baseline's, or first differ where rounding explains it.

Rounding explains a difference if the true difference of the two tokens' logits, after the same prefix, is within the
error that this model's rounding was found to make (see `specpress.experiments.rounding`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.experiments.assets import Assets
from specpress.experiments.oracle import WIDER, load_oracle, logits, name_of
from specpress.study.expansion import why_not_compared

EXPLAINED, UNEXPLAINED = "explained", "unexplained"


@dataclass(frozen=True)
class Pair:
    """What the baseline and a method made of one prompt, both greedily; `row` is that of a batch."""

    prompt: int
    row: int
    tokens: list[int]
    expected: list[int]
    got: list[int]

    @property
    def place(self) -> int | None:
        """Where the two texts first differ, counting new tokens from 0; None if they are equal."""
        if self.expected == self.got:
            return None
        differ = (i for i, (a, b) in enumerate(zip(self.expected, self.got, strict=False)) if a != b)
        return next(differ, min(len(self.expected), len(self.got)))


def check(spec: dict, assets: Assets, pairs: Iterable[Pair]) -> dict:
    """The `lossless` part of an experiment's metrics.

    Returns
    -------
    dict: compared, equal, explained, unexplained (numbers of texts), allowed (the largest error of rounding), and
    differences: of each text that differs its prompt, row and place, the two tokens (the baseline's first) and what
    they say, gaps (the first's logit less the second's, by number format), and the verdict. Where nothing can be
    compared `compared` is None, and `why` says so.
    """
    why = why_not_compared(spec)
    if not why and assets.rounding is None:
        why = "no record of this model's rounding was given: calibrate_rounding.py makes it"
    if why:
        return {"compared": None, "why": why}
    pairs, allowed = list(pairs), assets.rounding["allowed"]
    judge = _Judge(spec["baseline"], assets, allowed)
    differences = [judge(pair) for pair in pairs if pair.place is not None]
    verdicts = [difference["verdict"] for difference in differences]
    return {
        "compared": len(pairs),
        "equal": len(pairs) - len(differences),
        **{verdict: verdicts.count(verdict) for verdict in (EXPLAINED, UNEXPLAINED)},
        "allowed": allowed,
        "differences": differences,
    }


class _Judge:
    """Says of a difference what the model's logits are there, and the oracle's, which is loaded for the first one."""

    def __init__(self, name: str, assets: Assets, allowed: float):
        self.model, self.tokenizer = assets.model(name), assets.tokenizer(name)
        self.folder, self.allowed = assets.folder(name), allowed
        self.oracle: nn.Module | None = None

    def __call__(self, pair: Pair) -> dict:
        place = pair.place
        tokens = [text[place] if place < len(text) else None for text in (pair.expected, pair.got)]
        found = {"prompt": pair.prompt, "row": pair.row, "place": place, "tokens": tokens}
        if None in tokens:  # one text has ended
            return found | {"texts": None, "gaps": None, "verdict": UNEXPLAINED}
        gaps = self.gaps(torch.tensor([pair.tokens + pair.expected[:place]]), tokens)
        explained = abs(gaps[name_of(WIDER[self.model.dtype])]) <= self.allowed
        texts = [self.tokenizer.decode([token]) for token in tokens]
        return found | {"texts": texts, "gaps": gaps, "verdict": EXPLAINED if explained else UNEXPLAINED}

    def gaps(self, prefix: Tensor, tokens: list[int]) -> dict[str, float]:
        """The first token's logit less the second's after `prefix` (1, n), in the model's format and the wider one."""
        if self.oracle is None:
            self.oracle = load_oracle(self.folder, self.model.dtype, self.model.device)
        head = getattr(self.model, "head_token_ids", None)
        columns = tokens if head is None else [head.tolist().index(token) for token in tokens]
        with decode_attention(self.model):
            own = CachedModel(self.model, capacity=prefix.shape[1]).feed(prefix)[0, -1].cpu()
        rows = {self.model.dtype: own, WIDER[self.model.dtype]: logits(self.oracle, prefix)[-1]}
        return {
            name_of(dtype): float(row[columns[0]].double() - row[columns[1]].double()) for dtype, row in rows.items()
        }
