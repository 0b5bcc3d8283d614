"""The forward pass of decoding: a model's own weights and arithmetic, without its modules.

A decoding step of a small model spends most of its time outside the matrix products: in the calls of some ten modules a
layer, in kernels that could be fewer, and in weights read slowly. This pass does the same arithmetic (its oracle in the
tests is transformers' own) in fewer, larger operations; autoregressive decoding, drafting and verification all use it.
"""

import weakref
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specpress.engine.attention import grouped_attention
from specpress.engine.linear import LinearMap
from specpress.engine.states import HiddenStates
from specpress.models.families import FAMILIES, Family
from specpress.models.families.base import LayerParts
from specpress.models.feature_head import FeatureInput
from specpress.models.quantized import QuantizedLinear

_TABLE_BLOCK = 1024  # positions by which the rotary table grows
_passes: "weakref.WeakKeyDictionary[nn.Module, _Pass]" = weakref.WeakKeyDictionary()


class _Pass(NamedTuple):
    """A forward pass, and what tells whether the weights are those it was made of."""

    stamp: tuple
    views: list[Tensor]  # of the first row of each weight; made once, as hundreds of slices take milliseconds
    rows: Tensor  # what was in them
    forward: "Forward | None"


def forward_of(model: nn.Module) -> "Forward | None":
    """The forward pass over the weights of `model` as they are now; made once, and anew when weights have changed.

    A change that autograd does not count (through `.data`) is noticed where it reaches the first row of a weight.

    None for a model that only its own modules can run: another family, training mode, adapters or maps that others
    quantised in place of the linear ones, or hooks that expect to see the forward (as where layers lie on several
    devices).
    """
    family = _family(model)
    if family is None or model.training or _is_watched(model):
        return None
    stamp, known = _stamp(model), _passes.get(model)
    if known is None or known.stamp != stamp:
        views = [p.detach()[:1].flatten() for p in model.parameters()]
    else:
        views = known.views
    rows = torch.cat(views)
    if known is None or known.stamp != stamp or not torch.equal(known.rows, rows):
        known = _passes[model] = _Pass(stamp, views, rows, Forward(model, family) if _is_plain(model) else None)
    return known.forward


def forget(model: nn.Module) -> None:
    """Let go of what was made of the weights of `model`, copies and views: `forward_of` makes it anew."""
    _passes.pop(model, None)


def passes_window(forward: "Forward", slots: int) -> bool:
    """Whether layers of a forward over so many slots have a window, and one that does not reach over all of them."""
    return forward.window is not None and slots > forward.window


def _family(model: nn.Module) -> Family | None:
    """The family whose class the model is of, not one derived from it."""
    return next((family for family in FAMILIES.values() if type(model) is family.model), None)


def _stamp(model: nn.Module) -> tuple:
    """Where the weights lie, and how often autograd has seen them written."""
    return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in model.parameters())


def _is_plain(model: nn.Module) -> bool:
    """Whether every module is one that transformers builds the family from, or a linear map in fewer bits."""
    ours = QuantizedLinear.__module__, FeatureInput.__module__
    known = ("torch.nn.", "transformers.models.", "transformers.activations", *ours)
    return all(type(module).__module__.startswith(known) for module in model.modules())


def _is_watched(model: nn.Module) -> bool:
    """Whether a module has hooks, or a forward of its own put in place of its class's."""
    return any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in model.modules())


class Rotary:
    """Rotary position embedding by a table of the model's own cosines and sines; see `rotated`.

    Types whose frequencies depend on the length of the text are asked anew for each forward.
    """

    def __init__(self, rotary: nn.Module, like: Tensor):
        self._rotary, self._like = rotary, like
        self._tabled = not follows_length(rotary.rope_type)
        self._table, self._outgrown = None, []

    def at(self, positions: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """(cos, signed sin), each (batch or 1, n, 1, rotated channels); positions (batch or 1, n), all under `end`."""
        if not self._tabled:
            return self._compute(positions)
        if self._table is None or end > self._table[0].shape[1]:
            self._outgrown.append(self._table)  # steps that were captured may still read it
            places = -(-end // _TABLE_BLOCK) * _TABLE_BLOCK
            self._table = self._compute(torch.arange(places, device=positions.device)[None])
        return tuple(part[0, positions] for part in self._table)

    def _compute(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self._rotary(self._like, positions)
        half = sin.shape[-1] // 2
        return cos.unsqueeze(2), torch.cat([-sin[..., :half], sin[..., half:]], -1).unsqueeze(2)


def follows_length(rope_type: str) -> bool:
    """Whether rotary embeddings of this type take their frequencies from the length of the text."""
    return "dynamic" in rope_type or rope_type == "longrope"


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads (batch, n, heads, head size) with those of their channels rotated, the first, that the table covers."""
    channels = cos.shape[-1]
    turned, rest = (x, None) if channels == x.shape[-1] else x.split([channels, x.shape[-1] - channels], -1)
    turned = turned.roll(channels // 2, -1).mul_(sin).add_(turned * cos)
    return turned if rest is None else torch.cat([turned, rest], -1)


class Forward:
    """One forward pass of a causal LM of a family: embeddings, layers, last norm, output head."""

    def __init__(self, model: nn.Module, family: Family):
        self._embeddings = model.get_input_embeddings().weight
        self._layers = [Layer(family.layer(layer)) for layer in family.layers(model)]
        self._final_norm, self._head = Norm(family.final_norm(model)), LinearMap([model.get_output_embeddings()])
        self._rotary = Rotary(model.base_model.rotary_emb, self._embeddings)
        self.window = max((layer.window for layer in self._layers if layer.window), default=None)  # all have the same

    @property
    def linear_maps(self) -> list[LinearMap]:
        """All linear maps in the order they run in; the output head is the last."""
        layers = [part for layer in self._layers for part in vars(layer).values() if isinstance(part, LinearMap)]
        return [*layers, self._head]

    @torch.inference_mode()
    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        end: int,
        mask: Tensor | None,
        cache,
        keep: int | Tensor,
        observed=None,
        states: HiddenStates | None = None,
        inputs: Tensor | None = None,
        narrow: Tensor | None = None,
    ) -> Tensor:
        """Append tokens to a cache; returns the logits after those of `keep`, (batch, kept, head size); see `kept`.

        Parameters
        ----------
        tokens : LongTensor (batch, n)
        positions : LongTensor (batch or 1, n), all under `end`
        mask : additive mask as `specpress.engine.attention.grouped_mask` makes it, or None
        cache : a transformers cache of as many layers, whose `update` takes (batch, KV heads, n, head size)
        observed : a `LayerObservation` for each layer, shown what its attention is given; None shows nobody
        states : keeps what the layers put out; None keeps nothing
        inputs : Tensor (batch, n, hidden size), what the first layer is given in place of the tokens' embeddings
        narrow : the mask of layers with a window, where the text is longer than that; None: the others' mask
        """
        rotation = self._rotary.at(positions, end)
        hidden = F.embedding(tokens, self._embeddings) if inputs is None else inputs
        if states is not None:
            states.begin(cache.seen, tokens.shape[1])
        for index, layer in enumerate(self._layers):
            seen = observed[index] if observed else None
            visible = mask if narrow is None or layer.window is None else narrow
            hidden = layer(hidden, rotation, visible, cache.layers[index], seen)
            if states is not None:
                states.keep(index + 1, hidden)
        return self._head(self._final_norm(kept(hidden, keep)))


def kept(x: Tensor, keep: int | Tensor) -> Tensor:
    """Of x, (batch, n, channels), the last `keep`, or of each row those at the places `keep`, LongTensor (batch, k)."""
    if isinstance(keep, int):
        return x[:, -keep:]
    return x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))


class Layer:
    """A layer of whatever family, of the parts that the family names: see `specpress.models.families.base`."""

    def __init__(self, parts: LayerParts):
        attention, mlp = parts.attention, parts.mlp
        self._attention_norm, self._mlp_norm = Norm(parts.attention_norm), Norm(parts.mlp_norm)
        self._qkv, self._out = LinearMap(attention.qkv), LinearMap([attention.out])
        self._up, self._down = LinearMap(mlp.up), LinearMap([mlp.down])
        self._activation, self._gated, self._parallel = mlp.activation, mlp.gated, parts.parallel
        self._head_size, self._by_head, self.window = attention.head_size, attention.by_head, attention.window
        heads, kv_heads = attention.heads, attention.kv_heads
        self._qk_v, self._q_k = (heads + kv_heads, kv_heads), (heads, kv_heads)
        self._q_norm, self._k_norm = (norm and Norm(norm) for norm in (attention.q_norm, attention.k_norm))

    def __call__(self, hidden: Tensor, rotation, mask: Tensor | None, cache, seen) -> Tensor:
        """(batch, n, hidden size) -> the same; see `Forward`."""
        x = self._attention_norm(hidden)
        if seen is not None:
            seen.append(x, cache.seen)
        q, k, v = (self._heads_in_turn if self._by_head else self._heads)(self._qkv(x), rotation)
        attended = self._out(_attend(q, k, v, mask, cache))
        if self._parallel:
            return self._mlp(self._mlp_norm(hidden)).add_(attended).add_(hidden)
        hidden = attended.add_(hidden)
        return self._mlp(self._mlp_norm(hidden)).add_(hidden)

    def _heads(self, qkv: Tensor, rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values, (batch, n, heads, head size) each, of an output that has all of each together."""
        qk, v = qkv.unflatten(-1, (-1, self._head_size)).split(self._qk_v, 2)
        if self._q_norm is not None:
            q, k = qk.split(self._q_k, 2)
            qk = torch.cat([self._q_norm(q), self._k_norm(k)], 2)
        q, k = rotated(qk, *rotation).split(self._q_k, 2)
        return q, k, v

    def _heads_in_turn(self, qkv: Tensor, rotation) -> tuple[Tensor, Tensor, Tensor]:
        """The same of an output that has the query, key and value of each head together."""
        qkv = qkv.unflatten(-1, (-1, 3, self._head_size)).transpose(2, 3)  # (batch, n, 3, heads, head size)
        q, k = rotated(qkv[:, :, :2], *(part.unsqueeze(2) for part in rotation)).unbind(2)
        return q, k, qkv[:, :, 2]

    def _mlp(self, x: Tensor) -> Tensor:
        up = self._up(x)
        if not self._gated:
            return self._down(self._activation(up))
        gate, up = up.chunk(2, -1)
        return self._down(self._activation(gate).mul_(up))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, cache) -> Tensor:
    """Attention of q over a layer's cache once k and v are in it, all (batch, n, heads, head size); heads joined."""
    keys, values = cache.update(k.transpose(1, 2), v.transpose(1, 2))
    return grouped_attention(None, q.transpose(1, 2), keys, values, mask)[0].flatten(2)


class Norm:
    """A layer norm, or a root-mean-square norm as Llama's, each in one kernel: in float32, rounded once.

    `centred` : whether the mean is taken off, as in a layer norm
    """

    def __init__(self, module: nn.Module):
        self.centred, self.weight = isinstance(module, nn.LayerNorm), module.weight
        self.bias = module.bias if self.centred else None
        self.epsilon = module.eps if self.centred else module.variance_epsilon
        mirrored = not self.centred and self.weight.device.type == "cpu"
        self._twice = torch.cat([self.weight.detach()] * 2) if mirrored else None

    def __call__(self, x: Tensor) -> Tensor:
        """(..., channels) -> the same.

        torch's CPU has one kernel for a layer norm, and seven for the other: that of x is the layer norm of [x, -x],
        whose mean is 0 and whose variance is the mean square.
        """
        if self.centred:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)
        if self._twice is None:
            return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
        both = F.layer_norm(torch.cat([x, -x], -1), self._twice.shape, self._twice, None, self.epsilon)
        return both[..., : x.shape[-1]].contiguous()
