"""What attention layers were given in the forwards on one cache: presses that look at queries need it.

Hidden states are kept by reference, as the forwards pass them, and joined only when a press asks: watching costs a list
entry a layer and forward. What a rollback takes back is dropped when other tokens come in its place.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy

import torch
from torch import Tensor, nn

from specpress.engine.layer_view import attention_layers


class LayerObservation:
    """The hidden states one attention layer was given for the last tokens of a cache, and its attention weights."""

    def __init__(self, layer: nn.Module):
        self.layer = layer
        self.attentions: Tensor | None = None  # (batch, heads, tokens, tokens) of a prefill with eager attention
        self.end = 0  # tokens of the cache when it was last observed
        self._pieces: list[Tensor] = []  # (batch, n, hidden size) a forward

    @property
    def hidden_states(self) -> Tensor:
        """(batch, tokens, hidden size), of the tokens before `end`."""
        if not self._pieces:
            raise ValueError("no forward of the model has been observed: feed the prompt inside `observed_attention`")
        if len(self._pieces) > 1:
            self._pieces = [torch.cat(self._pieces, 1)]
        return self._pieces[0]

    def append(self, hidden_states: Tensor, start: int) -> None:
        """Add the hidden states of the tokens from `start` on, in place of what was noted for them before."""
        self.cut(start)
        self._pieces.append(hidden_states)
        self.end = start + hidden_states.shape[1]

    def cut(self, length: int) -> None:
        """Drop what was noted for tokens from `length` on: they were rejected."""
        while self.end > length and self._pieces:
            last = self._pieces.pop()
            start = self.end - last.shape[1]
            if start < length:
                self._pieces.append(last[:, : length - start])
            self.end = max(start, length)

    def keep(self, new: int, kept: Sequence[int]) -> None:
        """Of the last `new` tokens, noted in one forward, drop all but those at `kept`."""
        last = self._pieces.pop()
        before, of_tree = last.split([last.shape[1] - new, new], 1)
        self._pieces.append(torch.cat([before, of_tree[:, list(kept)]], 1))
        self.end -= new - len(kept)

    def keep_last(self, tokens: int) -> None:
        """Drop all but the last `tokens` hidden states, and the attention weights."""
        self._pieces, self.attentions = [self.hidden_states[:, -tokens:].clone()], None

    def last(self, tokens: int) -> "LayerObservation":
        """What was noted of the last `tokens` tokens before `end`, or of all if they are fewer."""
        other = copy(self)
        other._pieces = [self.hidden_states[:, -tokens:]]
        return other

    def copied(self) -> "LayerObservation":
        """An independent observation; the tensors, which nobody changes, are shared."""
        other = copy(self)
        other._pieces = list(self._pieces)
        return other

    def row(self, r: int, length: int) -> "LayerObservation":
        """What was noted of the first `length` tokens of row r, from the first token on."""
        other = copy(self)
        other._pieces, other.end = [self.hidden_states[r : r + 1, :length]], length
        if self.attentions is not None:
            other.attentions = self.attentions[r : r + 1, :, :length, :length]
        return other


class Observations:
    """One `LayerObservation` for each attention layer of a causal LM, in layer order.

    `limit` : hidden states of each layer that later compressions need; None, while the prompt is read: all
    """

    def __init__(self, model: nn.Module):
        self.model, self.limit = model, None
        self.layers = [LayerObservation(layer) for layer in attention_layers(model)]

    def keep_last(self, tokens: int) -> None:
        """Drop all but the last `tokens` hidden states of each layer, and the attention weights."""
        self.limit = tokens
        for layer in self.layers:
            layer.keep_last(tokens)

    def trim(self) -> None:
        """Drop hidden states far beyond `limit`, which would grow with the text.

        As many again are left: the last tokens may still be taken back, as those that a cascade drafts are.
        """
        if self.limit is not None:
            for layer in self.layers:
                layer.keep_last(2 * self.limit)

    def keep(self, new: int, kept: Sequence[int]) -> None:
        """See `LayerObservation.keep`."""
        for layer in self.layers:
            layer.keep(new, kept)

    def copied(self) -> "Observations":
        """See `LayerObservation.copied`."""
        other = copy(self)
        other.layers = [layer.copied() for layer in self.layers]
        return other

    def row(self, r: int, length: int) -> "Observations":
        """See `LayerObservation.row`."""
        other = copy(self)
        other.layers = [layer.row(r, length) for layer in self.layers]
        return other


class RowObservations:
    """`Observations` of each row of a ragged cache, in `rows`: rows take tokens, and take them back, on their own.

    Parameters
    ----------
    prompts : what was noted of the prompts, padded on the right
    lengths : tokens of each prompt
    """

    def __init__(self, prompts: Observations, lengths: Sequence[int]):
        self.rows = [prompts.row(r, length) for r, length in enumerate(lengths)]

    def append(self, seen: Observations, starts: Sequence[int], counts: Sequence[int]) -> None:
        """Add what one forward of all rows was given: of row r counts[r] tokens, its own from starts[r] on."""
        for r, (row, start, count) in enumerate(zip(self.rows, starts, counts, strict=True)):
            if count:
                for layer, new in zip(row.layers, seen.layers, strict=True):
                    layer.append(new.hidden_states[r : r + 1, :count], start)

    def keep_last(self, tokens: int) -> None:
        """See `Observations.keep_last`."""
        for row in self.rows:
            row.keep_last(tokens)


@contextmanager
def observed_attention(model: nn.Module, observations: Observations | None = None) -> Iterator[Observations]:
    """Note what the attention layers of `model` are given inside the block, in new or given observations.

    All forwards in the block must be on one cache.
    """
    observations = observations or Observations(model)

    def hook(seen: LayerObservation, index: int):
        def watch(module, args, kwargs, output):
            hidden_states = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            cache = kwargs["past_key_values"] if "past_key_values" in kwargs else kwargs["layer_past"]
            seen.append(hidden_states, start=cache.layers[index].seen - hidden_states.shape[1])
            if output[1] is not None:
                seen.attentions = output[1]

        return watch

    handles = [
        seen.layer.register_forward_hook(hook(seen, index), with_kwargs=True)
        for index, seen in enumerate(observations.layers)
    ]
    try:
        yield observations
    finally:
        for handle in handles:
            handle.remove()
