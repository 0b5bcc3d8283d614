"""The forward of a captured step in fewer kernels, where Triton is: the same weights, the same arithmetic.

Its oracle is `specpress.engine.forward`, which a step runs wherever this cannot; everywhere, if SPECPRESS_FUSED is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from specpress.engine.forward import Forward, Layer
from specpress.hardware.devices import fuses

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)  # of a model; sums in the kernels are float32


def fused(forward: Forward, device: torch.device) -> Forward:
    """The same pass in fewer kernels, if there is one: on a GPU, of models that `FusedForward` knows."""
    return FusedForward(forward) if fuses(device) and FusedForward.knows(forward) else forward


class FusedForward(Forward):
    """A `Forward` of captured steps alone: the layers of its cache are `specpress.engine.graphs.StaticLayer`s."""

    def __init__(self, plain: Forward):
        vars(self).update(vars(plain))
        self._layers = [FusedLayer(layer) for layer in plain._layers]

    @staticmethod
    def knows(plain: Forward) -> bool:
        """Whether all that it does is done here too: layers without norms of queries and keys, in 16 or 32 bits."""
        return plain._embeddings.dtype in _DTYPES and all(layer._q_norm is None for layer in plain._layers)

    @torch.inference_mode()
    def __call__(self, tokens: Tensor, positions: Tensor, end: int, mask: Tensor, cache, keep: int) -> Tensor:
        """See `Forward`."""
        from specpress.engine.fused_kernels import added_and_normed  # needs Triton

        rotation = self._rotary.at(positions, end)
        hidden, added = F.embedding(tokens, self._embeddings), ()
        for layer, slots in zip(self._layers, cache.layers, strict=True):
            hidden, added = layer(hidden, added, rotation, mask, slots)
        _, x = added_and_normed(hidden, added, [self._final_norm])
        return self._head(x[:, -keep:])


class FusedLayer(Layer):
    """A layer that adds what the layer before it left to be added, and leaves to the next what it adds itself."""

    def __init__(self, plain: Layer):
        vars(self).update(vars(plain))

    def __call__(self, hidden: Tensor, added: tuple[Tensor, ...], rotation, mask: Tensor, cache):
        """The sum of `hidden` and `added`, (batch, n, hidden size) each, and what is to be added to it."""
        from specpress.engine.fused_kernels import added_and_normed

        if self._parallel:
            hidden, x, y = added_and_normed(hidden, added, [self._attention_norm, self._mlp_norm])
            return hidden, (self._attended(x, rotation, mask, cache), self._mlp(y))
        hidden, x = added_and_normed(hidden, added, [self._attention_norm])
        hidden, y = added_and_normed(hidden, (self._attended(x, rotation, mask, cache),), [self._mlp_norm])
        return hidden, (self._mlp(y),)

    def _attended(self, x: Tensor, rotation, mask: Tensor, cache) -> Tensor:
        from specpress.engine.fused_kernels import attended, rotated_and_stored

        q = rotated_and_stored(self._qkv(x), rotation, cache.slots, cache.buffers, self._q_k[0], self._by_head)
        return self._out(attended(q, cache.buffers, cache.bucket, mask, self._head_size**-0.5))
