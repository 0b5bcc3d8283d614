"""Attention for decoding: the query heads of one KV head are stacked, so that keys and values are never repeated.

Registered with transformers as `ATTENTION`; `decode_attention(model)` switches a model to it for a while. New tokens
sit in the last slots of the cache; the slots before them are visible to all. That holds for a plain cache, after a
rollback and after eviction, so no mask refers to positions.
"""

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from specpress.engine.kernels import FEW_SLOTS, attend, masked_products
from specpress.engine.tree import Tree
from specpress.hardware.devices import exact_kernels

ATTENTION = "specpress"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Softmax attention over un-repeated KV heads.

    Parameters
    ----------
    query : Tensor (batch, query heads, queries, head size)
    key, value : Tensor (batch, KV heads, slots, head size)
    attention_mask : Tensor (batch or 1, 1, rows, slots), added to the scores, or None
        rows = queries, or groups * queries as `grouped_mask` makes it. None: every slot is visible to a single query,
        and as many queries as slots are a causal prefill.

    Returns
    -------
    Tensor (batch, queries, query heads, head size), and None for the attention weights.
    """
    batch, heads, queries, size = query.shape
    groups = heads // key.shape[1]
    scaling = size**-0.5 if scaling is None else scaling
    if attention_mask is None and queries == key.shape[2] and queries > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
        output = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, dropout_p=dropout)
        return output.transpose(1, 2).contiguous(), None
    if attention_mask is not None and attention_mask.shape[3] != key.shape[2]:
        attention_mask = _of_length(attention_mask, queries, key.shape[2])
    if attention_mask is not None and groups > 1 and attention_mask.shape[2] == queries:
        attention_mask = attention_mask.repeat(1, 1, groups, 1)
    if getattr(key, "hidden", None) is not None:
        attention_mask = _hiding(key.hidden, key, attention_mask)
    stacked = query.reshape(batch, key.shape[1], groups * queries, size)
    if query.device.type == "cpu":
        output = attend(stacked, key, value, attention_mask, scaling)
    elif getattr(key, "captured", False) and key.shape[2] > FEW_SLOTS:
        output = masked_products(stacked, key, value, attention_mask, scaling)
    else:
        output = F.scaled_dot_product_attention(stacked, key, value, attn_mask=attention_mask, scale=scaling)
    return output.reshape(batch, heads, queries, size).transpose(1, 2), None


def _of_length(mask: Tensor, queries: int, slots: int) -> Tensor:
    """The mask of a layer with another number of slots: causal among the new tokens, all before them visible."""
    return F.pad(mask[..., -queries:], (slots - queries, 0))


def _hiding(hidden: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """`mask` with slots hidden; hidden: BoolTensor (batch, KV heads, slots), of the first slots of `key`."""
    visible = key.new_zeros(*key.shape[:2], 1, key.shape[2])
    visible[..., 0, : hidden.shape[2]].masked_fill_(hidden, torch.finfo(key.dtype).min)
    return visible if mask is None else visible + mask


def grouped_mask(
    batch_size: int,
    cache_position: Tensor,
    kv_length: int,
    attention_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    config=None,
    **kwargs,
) -> Tensor | None:
    """The mask of one forward, made once for all layers: (batch or 1, 1, groups * queries, slots), or None.

    `attention_mask` is transformers' padding mask (batch, slots), true where a token is real; `cache_position` only
    gives the number of queries and the device.
    """
    queries = cache_position.shape[0]
    if attention_mask is None and queries in (1, kv_length):
        return None
    places = torch.arange(kv_length - queries, kv_length, device=cache_position.device)[None]
    return slot_mask(places, kv_length, config, dtype, attention_mask)


def slot_mask(
    places: Tensor, slots: int, config, dtype: torch.dtype, real: Tensor | None = None, seen: Tensor | None = None
) -> Tensor:
    """Additive mask, (batch or 1, 1, groups * queries, slots): a query sees the slots up to its own.

    Parameters
    ----------
    places : LongTensor (batch or 1, queries), the slot of each query
    config : of a model, which says how many query heads are stacked for a KV head
    real : Tensor (batch, slots) or None, 0 where a slot holds padding, which only its own query sees: no row is empty
    seen : BoolTensor (batch or 1, queries, queries) or None, which of each other's slots the queries of a row see
    """
    slot, own = torch.arange(slots, device=places.device), places[:, None, :, None]
    hidden = slot > own
    if real is not None:
        hidden = hidden | (real[:, None, None, :slots] == 0) & (slot != own)
    if seen is not None:
        hidden = hidden.scatter(3, places[:, None, None].expand(-1, -1, places.shape[1], -1), ~seen[:, None])
    heads = config.num_attention_heads
    groups = heads // (getattr(config, "num_key_value_heads", None) or heads)
    batch, _, queries, _ = hidden.shape
    # Rows that start at multiples of 16 numbers: CUDA's kernels would copy others into such rows, in every layer.
    mask = torch.zeros(batch, groups, queries, -(-slots // 16) * 16, dtype=dtype, device=places.device)[..., :slots]
    return mask.masked_fill_(hidden, torch.finfo(dtype).min).flatten(1, 2)[:, None]


def tree_mask(tree: Tree, queries: int, slots: int, model: nn.Module) -> Tensor:
    """`slot_mask` of the last `queries` of `slots`, (1, 1, groups * queries, slots), the last of which are a tree's.

    Its nodes see all slots before the tree, of those in it their own path.

    Raises
    ------
    ValueError
        If the model attends in another way than `ATTENTION`.
    """
    if model.config._attn_implementation != ATTENTION:
        raise ValueError(f"trees are fed inside `decode_attention`, under the attention {ATTENTION!r}")
    places = torch.arange(slots - queries, slots, device=model.device)[None]
    seen = torch.from_numpy(tree.seen(queries - len(tree))).to(model.device)[None]
    return slot_mask(places, slots, model.config, model.dtype, seen=seen)


def within_window(mask: Tensor | None, places: Tensor, slots: int, window: int, model: nn.Module) -> Tensor:
    """A mask as `slot_mask` makes it that hides besides what a query's window, of its token and those before, has left.

    Parameters
    ----------
    mask : the mask of layers without a window, or None where that is causal
    places : LongTensor (batch or 1, queries), the slot that each query's path to it ends in; of a cache that nothing
        was evicted from, where slots are positions; of a tree no deeper than the window
    """
    if mask is None:
        mask = slot_mask(places, slots, model.config, model.dtype)
    left = torch.arange(slots, device=places.device) <= places[:, None, :, None] - window
    return mask.masked_fill(left.repeat(1, 1, mask.shape[2] // places.shape[1], 1), torch.finfo(mask.dtype).min)


AttentionInterface.register(ATTENTION, grouped_attention)
AttentionMaskInterface.register(ATTENTION, grouped_mask)


@contextmanager
def decode_attention(*models: nn.Module, implementation: str = ATTENTION):
    """Run `models` with grouped (or another) attention, in exact kernels, inside the block; afterwards as they were."""
    before = [model.config._attn_implementation for model in models]
    try:
        for model in models:
            model.set_attn_implementation(implementation)
        with exact_kernels():
            yield
    finally:
        for model, implementation in zip(models, before, strict=True):
            model.set_attn_implementation(implementation)
