"""A causal LM on a cache whose rows go their own ways.

Speculative decoding of a batch needs this: rows accept different numbers of tokens, yet one forward verifies them all.
"""

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from specpress.engine.attention import slot_mask, within_window
from specpress.engine.cache import PreallocatedCache, in_place
from specpress.engine.cached_model import CachedModel, run
from specpress.engine.compression import compress
from specpress.engine.forward import passes_window
from specpress.engine.observation import Observations, RowObservations
from specpress.engine.ragged_cache import RaggedCache
from specpress.engine.tree import Tree


class RaggedModel:
    """`CachedModel` for rows that go their own ways.

    Parameters
    ----------
    cached : CachedModel, whose cache, not compressed yet, this one takes over
    padded : for each row, how many of the tokens last fed are padding on the right and do not count

    `observations` : what was noted of each row for the presses; None notes nothing.
    """

    def __init__(self, cached: CachedModel, padded: Sequence[int]):
        self.model, self._forward, self.head_tokens = cached.model, cached.forward, cached.head_tokens
        self.cache = RaggedCache(cached.cache, padded)
        self.observations = RowObservations(cached.observations, self.lengths) if cached.observations else None

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row fed and not taken back."""
        return self.cache.lengths

    def feed(self, tokens: Tensor, counts: Sequence[int], trees: Sequence[Tree | None] | None = None) -> Tensor:
        """Append the first counts[r] tokens of each row r, and forget the others; returns all logits.

        Parameters
        ----------
        tokens : LongTensor (batch, n), padded on the right with any token
        counts : for each row, how many of its tokens count, 0 to n
        trees : for each row, the tree that the last of these tokens are; see `CachedModel.feed`. None: no row has one.

        Returns
        -------
        Tensor (batch, n, head size). Those after a row's first counts[r] mean nothing.
        """
        tokens = tokens.to(self.model.device)
        new, starts = tokens.shape[1], self.cache.positions
        places, width = self.cache.make_room(new, tokens.device)
        follows, sees = torch.arange(new, device=tokens.device)[None], None
        if trees is not None and any(trees):
            follows, sees = (x.to(tokens.device) for x in _of_trees(trees, counts, new))
        mask = slot_mask(places, width, self.model.config, self.model.dtype, seen=sees)
        positions = torch.tensor(starts, device=tokens.device)[:, None] + follows
        narrow, seen = None, Observations(self.model) if self.observations else None
        if self._forward and passes_window(self._forward, width):
            narrow = within_window(mask, places[:, :1] + follows, width, self._forward.window, self.model)
        end = max(starts) + new
        logits = run(self.model, self._forward, tokens, positions, end, mask, self.cache, new, seen, narrow=narrow)
        if seen:
            self.observations.append(seen, self.lengths, counts)
        self.cache.count(counts)
        return logits

    def keep(self, r: int, new: int, kept: Sequence[int]) -> None:
        """Of row r's last `new` tokens, fed in one go, only those at `kept` stand; see `CachedModel.keep`."""
        if self.observations and not in_place(kept):
            self.observations.rows[r].keep(new, kept)
        self.cache.keep(r, new, kept)

    def rollback_to(self, lengths: Sequence[int]) -> None:
        """Take back tokens of each row r until at most lengths[r] remain."""
        self.cache.count(min(0, length - have) for length, have in zip(lengths, self.lengths, strict=True))

    def clone(self) -> "RaggedModel":
        """The same model on a copy of its cache; what was observed is shared."""
        clone = copy.copy(self)
        clone.cache = copy.deepcopy(self.cache)
        return clone

    def run_by(self, other: CachedModel) -> "RaggedModel":
        """The model of `other` on this very cache, unobserved; what it feeds is taken back before this one feeds."""
        shared = copy.copy(self)
        shared.model, shared._forward, shared.head_tokens = other.model, other.forward, other.head_tokens
        shared.observations = None
        return shared

    def compressed(self, r: int, press, budget: int | None = None, decoding: bool = False) -> PreallocatedCache:
        """A copy of row r's cache, compressed as if the row were alone; see `CachedModel.compress`."""
        cache = self.cache.row(r)
        compress(cache, press, self.observations.rows[r], budget, decoding)
        return cache

    def compress(
        self, press, budget: int | None = None, decoding: bool = False, rows: Iterable[int] | None = None
    ) -> None:
        """Compress the caches of these rows, all if None; see `compressed`."""
        for r in range(len(self.lengths)) if rows is None else rows:
            self.cache.put(r, self.compressed(r, press, budget, decoding))


def _of_trees(trees: Sequence[Tree | None], counts: Sequence[int], new: int) -> tuple[Tensor, Tensor]:
    """Of `new` tokens a row, the last of whose counts[r] first are a tree: places in the text, and who sees whom.

    Returns
    -------
    LongTensor (batch, new), each token's place after the row's others, a node's that of its depth; BoolTensor (batch,
    new, new). Of a row without a tree each token follows the one before it.
    """
    follows, sees = np.tile(np.arange(new), (len(trees), 1)), np.tile(np.tri(new, dtype=bool), (len(trees), 1, 1))
    for r, (tree, count) in enumerate(zip(trees, counts, strict=True)):
        if tree is not None:
            before = count - len(tree)
            follows[r, before:count] = before - 1 + np.array(tree.depths)
            sees[r, :count, :count] = tree.seen(before)
    return torch.from_numpy(follows), torch.from_numpy(sees)
