"""A causal LM together with its KV cache: feed it tokens at their true positions, take some back."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from specpress.engine.attention import ATTENTION, grouped_mask, tree_mask, within_window
from specpress.engine.cache import PreallocatedCache, in_place
from specpress.engine.compression import compress
from specpress.engine.forward import Forward, forward_of, kept, passes_window
from specpress.engine.graphs import StaticSteps, spare_slots, steps_of
from specpress.engine.observation import Observations, observed_attention
from specpress.engine.scores import Scores
from specpress.engine.states import HiddenStates
from specpress.engine.tree import Tree
from specpress.laws.law import head_tokens
from specpress.models.vocabulary import without_padding


class CachedModel:
    """`model` and a cache of its own.

    Parameters
    ----------
    model : transformers causal LM, see `specpress.decoding.models`
    capacity : int
        Tokens to make room for at once.
    padding : Tensor (batch, prompt_len) or None
        1 for real tokens, 0 for left padding; None when no row is padded.

    `head_tokens` : see `specpress.laws.law`
    `observations` : set them to have every forward noted for the presses; None notes nothing.
    `states` : set them to have the outputs of their layers kept; None keeps nothing. Only our own pass keeps them.
    """

    def __init__(self, model: nn.Module, capacity: int, padding: Tensor | None = None):
        self.model = model
        self.forward = forward_of(model)  # None: only the model's own modules can run it
        self.cache = PreallocatedCache(model.config.num_hidden_layers, capacity + spare_slots(model))
        self.observations: Observations | None = None
        self.states: HiddenStates | None = None
        self.head_tokens = head_tokens(model)
        self.device = model.device
        self._padding = None if padding is None else padding.to(self.device)

    @property
    def length(self) -> int:
        """Tokens fed and not taken back, padding included."""
        return self.cache.seen

    def feed(
        self, tokens: Tensor, keep: int | Tensor = 1, tree: Tree | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Append tokens, (batch, n), from any device; returns the logits after each of the last `keep`.

        keep : a number of tokens, or of each row their places among the n, LongTensor (batch, k) on the model's device
        tree : of the last tokens, whose context are all before them; each sees its own path alone, and its position is
            that of its depth. None: a path.
        inputs : Tensor (batch, n, hidden size), what the first layer of our own pass is given in place of embeddings

        Returns
        -------
        Tensor (batch, keep or k, head size).

        Positions count real tokens: they go on from what was fed, whatever has been evicted since.
        """
        tokens = tokens.to(self.device)
        if inputs is None and (static := self._captured(tokens)):
            logits = static.feed(self.model, self.forward, self.cache, tokens, tree)
            return without_padding(kept(logits, keep), self.model).clone()
        positions, mask = self._positions(tokens)
        new, slots = tokens.shape[1], self.cache.get_seq_length()
        if tree is not None:
            before = new - len(tree)
            positions[:, before:] = self.cache.position + before - 1 + positions.new_tensor(tree.depths)
            mask = tree_mask(tree, new, slots + new, self.model)
        elif self.model.config._attn_implementation == ATTENTION:
            queries = torch.arange(new, device=tokens.device)
            mask = grouped_mask(len(tokens), queries, slots + new, mask, self.model.dtype, self.model.config)
        narrow = None
        if self.forward and passes_window(self.forward, slots + new):
            places = positions if self._padding is None else torch.arange(slots, slots + new, device=self.device)[None]
            narrow = within_window(mask, places, slots + new, self.forward.window, self.model)
        end = self.cache.position + new
        extras = self.observations, self.states, inputs, narrow
        return run(self.model, self.forward, tokens, positions, end, mask, self.cache, keep, *extras)

    def make_ready(self) -> None:
        """Move the cache, a prompt having been read, to where captured steps read it: else the first waits for that."""
        if static := self._captured(torch.empty(1, 1, device=self.device)):
            static.take_in(self.forward, self.cache)

    def _captured(self, tokens: Tensor) -> StaticSteps | None:
        """The captured steps of the model, if one of them feeds the tokens; they know neither padding nor observers."""
        static = steps_of(self.model)
        plain = self._padding is None and not (self.observations or self.states)
        return static if static and plain and static.fit(self.model, self.forward, self.cache, tokens) else None

    def _positions(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Position ids (batch or 1, n) of the tokens, and the padding mask over all slots (None without padding)."""
        start, new = self.cache.position, tokens.shape[1]
        positions = torch.arange(start, start + new, device=tokens.device)[None]
        if self._padding is None:
            return positions, None
        mask = torch.nn.functional.pad(self._padding, (0, max(0, start + new - self._padding.shape[1])), value=1)
        offset = (1 - self._padding).sum(1, keepdim=True)  # (batch, 1) padded places
        return (positions - offset).clamp_(min=0), mask

    def expanded(self, rows: int) -> "CachedModel":
        """The same model on a copy of its one-row cache, with the row repeated `rows` times."""
        expanded = copy.copy(self)
        expanded.cache = self.cache.expanded(rows)
        return expanded

    def copied(self) -> "CachedModel":
        """The same model on an independent copy of its cache, and of what was observed."""
        copied = copy.copy(self)
        copied.cache = self.cache.clone()
        copied.observations = self.observations.copied() if self.observations else None
        return copied

    def compress(self, press, budget: int | None = None, decoding: bool = False, scores: Scores | None = None) -> None:
        """Compress the cache by what was observed; see `specpress.engine.compression.compress`."""
        compress(self.cache, press, self.observations, budget, decoding, scores)

    def rollback_to(self, length: int) -> None:
        """Take back tokens until at most `length` remain."""
        if length < self.length:
            self.cache.rollback(self.length - length)

    def keep(self, new: int, kept: Sequence[int]) -> None:
        """Of the last `new` tokens, fed in one go, only those at `kept`, ascending, stand: a path of their tree."""
        if self.observations and not in_place(kept):
            self.observations.keep(new, kept)
        if self.states and not in_place(kept):
            self.states.keep_path(new, kept)
        self.cache.keep(new, kept)


def run(
    model: nn.Module,
    forward: Forward | None,
    tokens: Tensor,
    positions: Tensor,
    end: int,
    mask: Tensor | None,
    cache: Cache,
    keep: int | Tensor,
    observations: Observations | None = None,
    states: HiddenStates | None = None,
    inputs: Tensor | None = None,
    narrow: Tensor | None = None,
) -> Tensor:
    """One forward on a cache, by our own pass over the model's weights where there is one, else by its modules.

    Parameters
    ----------
    forward : `forward_of` the model; it attends in one way only, so another way is left to the modules
    mask : additive, as `specpress.engine.attention` makes it; under another attention transformers'
        padding mask; or None
    observations : what to note the forward in; None notes nothing
    states, inputs : see `Forward`; None keeps nothing and feeds embeddings, as the modules do in any case
    narrow : see `Forward`; the model's own modules are never given a text longer than a window

    For the others and the result see `Forward`.
    """
    if forward is not None and model.config._attn_implementation == ATTENTION:
        seen = observations.layers if observations else None
        logits = forward(tokens, positions, end, mask, cache, keep, seen, states, inputs, narrow)
        return without_padding(logits, model)
    last = keep if isinstance(keep, int) else tokens.shape[1] - int(keep.min())
    with torch.inference_mode(), observed_attention(model, observations) if observations else nullcontext():
        logits = model(
            tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last,
        ).logits
    places = keep if isinstance(keep, int) else keep - (tokens.shape[1] - last)
    return without_padding(kept(logits, places), model)
