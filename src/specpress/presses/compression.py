"""Compression between forwards: watch the attention layers during prefill, then evict by a press's scores.

A press scores the cache after the whole prefill has run on uncompressed keys, so no token's logits depend on a later
token: the causality leak of compressing inside a forward cannot arise. Kept slots stay in position order.
"""

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from specpress.cache import PreallocatedCache


class Observation(NamedTuple):
    """What an attention layer was given in a forward: presses that look at queries need it."""

    module: nn.Module
    hidden_states: Tensor  # (batch, tokens, hidden size)
    arguments: dict  # the forward's keyword arguments, position_embeddings among them


@contextmanager
def observed_attention(model: nn.Module):
    """Collect one `Observation` a layer from the forward inside the block, in layer order."""
    observations: list[Observation] = []

    def watch(module, args, kwargs):
        hidden_states = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        observations.append(Observation(module, hidden_states, kwargs))

    hooks = [layer.register_forward_pre_hook(watch, with_kwargs=True) for layer in attention_layers(model)]
    try:
        yield observations
    finally:
        for hook in hooks:
            hook.remove()


def attention_layers(model: nn.Module) -> list[nn.Module]:
    """The attention modules of a Llama or GPT-NeoX causal LM, first layer first."""
    layers = model.base_model.layers
    return [getattr(layer, "self_attn", None) or layer.attention for layer in layers]


@torch.inference_mode()
def compress(cache: PreallocatedCache, press, observations: list[Observation]) -> None:
    """Evict the slots `press` scores lowest, in every layer and KV head; a ratio of 0 leaves the cache as it is.

    Raises
    ------
    ValueError
        If the press does not score slots.
    """
    from kvpress import ScorerPress  # takes seconds to import, and only compression needs it
    from kvpress.presses.scorer_press import compute_n_kept

    if not isinstance(press, ScorerPress):
        raise ValueError(f"{type(press).__name__} does not score cache slots; presses that do: kvpress.ScorerPress")
    if press.compression_ratio == 0:
        return
    for layer, seen in zip(cache.layers, observations, strict=True):
        scores = press.score(seen.module, seen.hidden_states, layer.keys, layer.values, None, seen.arguments)
        kept = scores.topk(compute_n_kept(layer.slots, press.compression_ratio), dim=-1).indices
        layer.evict(kept.sort(dim=-1).values)
