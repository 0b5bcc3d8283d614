"""Kernels of a captured step on a GPU, written in Triton, each in the place of several of torch's.

A step of one token is a few matrix products, whose time is that of reading the weights, and between them some twenty
kernels of 2 or 3 microseconds each, which do next to nothing. Triton comes with torch for CUDA; this module is imported
there alone, by `specpress.engine.fused`. Sums and softmax are float32, rounded once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_SLOTS = 32  # that a program of `attended` takes at a time
_ROWS = 64  # of a KV head that one takes at most
_PRODUCT = 16  # the least size of a matrix product in Triton
_PARTS = 64  # of the slots at most: what merges them holds all in registers
_PROGRAMS = 512  # wanted of it, for the multiprocessors to share: some four each


def added_and_normed(hidden: Tensor, added: tuple[Tensor, ...], norms: list) -> tuple[Tensor, ...]:
    """hidden + all of `added`, (batch, n, hidden size), and its `Norm`s, of one kind: one or two of each."""
    rows, width = hidden.numel() // hidden.shape[-1], hidden.shape[-1]
    outputs = [torch.empty_like(hidden) for _ in range(1 + len(norms))]
    first, last = norms[0], norms[-1]
    pieces = [*added, hidden, hidden][:2]
    bias = first.bias is not None
    _add_and_norm[(rows,)](
        *(hidden, *pieces),
        *(outputs[0], outputs[1], outputs[-1]),
        *(first.weight, first.bias if bias else first.weight, last.weight, last.bias if bias else last.weight),
        width,
        first.epsilon,
        ADDED=len(added),
        NORMS=len(norms),
        CENTRED=first.centred,
        BIAS=bias,
        BLOCK=triton.next_power_of_2(width),
        num_warps=8 if width > 1024 else 4,
    )
    return tuple(outputs)


@triton.jit
def _add_and_norm(
    hidden, first, second, whole, x, y, x_weight, x_bias, y_weight, y_bias, width, epsilon,
    ADDED: tl.constexpr, NORMS: tl.constexpr, CENTRED: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * width
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    h = tl.load(hidden + at + channel, inside, other=0.0).to(tl.float32)
    if ADDED > 0:
        h += tl.load(first + at + channel, inside, other=0.0).to(tl.float32)
    if ADDED > 1:
        h += tl.load(second + at + channel, inside, other=0.0).to(tl.float32)
    h = h.to(whole.dtype.element_ty)
    tl.store(whole + at + channel, h, inside)
    h = h.to(tl.float32)
    if CENTRED:
        h = tl.where(inside, h - tl.sum(h) / width, 0.0)
    h = h * tl.rsqrt(tl.sum(h * h) / width + epsilon)
    _scaled(h, x, x_weight, x_bias, at, channel, inside, BIAS)
    if NORMS > 1:
        _scaled(h, y, y_weight, y_bias, at, channel, inside, BIAS)


@triton.jit
def _scaled(h, output, weight, bias, at, channel, inside, BIAS: tl.constexpr):
    h = h * tl.load(weight + channel, inside, other=0.0).to(tl.float32)
    if BIAS:
        h += tl.load(bias + channel, inside, other=0.0).to(tl.float32)
    tl.store(output + at + channel, h.to(output.dtype.element_ty), inside)


def rotated_and_stored(
    qkv: Tensor, rotation: tuple[Tensor, Tensor], slots: Tensor, buffers: list[Tensor], heads: int, by_head: bool
) -> Tensor:
    """Queries, rotated, (batch, heads, n, head size); keys, rotated, and values go to their slots in the buffers.

    Parameters
    ----------
    qkv : Tensor (batch, n, channels), of a layer's maps; `by_head` says how it lies, see `AttentionParts`
    rotation : cosines and signed sines, (batch or 1, n, 1, rotated channels)
    slots : LongTensor (n,)
    buffers : keys and values, (batch, KV heads, capacity, head size) each
    """
    batch, n, _ = qkv.shape
    keys, values = buffers
    kv_heads, size = keys.shape[1], keys.shape[3]
    cos, sin = (part.contiguous() for part in rotation)
    q = qkv.new_empty(batch, heads, n, size)
    qkv = qkv.contiguous()
    step, starts = (3 * size, (size, 2 * size)) if by_head else (size, (heads * size, (heads + kv_heads) * size))
    _rotate_and_store[(batch * n, heads + 2 * kv_heads)](
        *(qkv, cos, sin, slots, q, keys, values),
        *(n, qkv.shape[2], 0 if len(cos) == 1 else n * cos.shape[-1], *keys.stride()[:3], *values.stride()[:3]),
        HEADS=heads,
        KV_HEADS=kv_heads,
        SIZE=size,
        STEP=step,
        KEYS=starts[0],
        VALUES=starts[1],
        ROTATED=cos.shape[-1],
        BLOCK=triton.next_power_of_2(size),
        num_warps=1,
    )
    return q


@triton.jit
def _rotate_and_store(
    qkv, cos, sin, slots, q, keys, values,
    n, width, text, key_row, key_head, key_slot, value_row, value_head, value_slot,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr, STEP: tl.constexpr, KEYS: tl.constexpr,
    VALUES: tl.constexpr, ROTATED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place, head = tl.program_id(0), tl.program_id(1)
    row, token = place // n, place % n
    channel = tl.arange(0, BLOCK)
    inside, turning = channel < SIZE, channel < ROTATED
    slot = tl.load(slots + token)
    if head < HEADS:
        source = qkv + place * width + head * STEP
        output = q + ((row * HEADS + head) * n + token) * SIZE
    elif head < HEADS + KV_HEADS:
        source = qkv + place * width + KEYS + (head - HEADS) * STEP
        output = keys + row * key_row + (head - HEADS) * key_head + slot * key_slot
    else:
        source = qkv + place * width + VALUES + (head - HEADS - KV_HEADS) * STEP
        output = values + row * value_row + (head - HEADS - KV_HEADS) * value_head + slot * value_slot
    x = tl.load(source + channel, inside, other=0.0)
    if head < HEADS + KV_HEADS:
        other = tl.where(channel < ROTATED // 2, channel + ROTATED // 2, channel - ROTATED // 2)
        opposite = tl.load(source + other, turning, other=0.0).to(tl.float32)
        at = row * text + token * ROTATED + channel
        turned = x.to(tl.float32) * tl.load(cos + at, turning, other=0.0).to(tl.float32)
        turned += opposite * tl.load(sin + at, turning, other=0.0).to(tl.float32)
        x = tl.where(turning, turned.to(x.dtype), x)
    tl.store(output + channel, x, inside)


def attended(q: Tensor, buffers: list[Tensor], slots: int, mask: Tensor, scaling: float) -> Tensor:
    """Softmax attention over the first `slots` of the buffers, heads joined: (batch, n, heads x head size).

    A head's slots are divided over programs, whose parts are merged by their sums (flash-decoding; Dao 2023,
    FlashAttention-2, section 2.3, for the merging).

    Parameters
    ----------
    q : Tensor (batch, heads, n, head size)
    mask : Tensor (batch or 1, 1, groups x n, slots or more), added to the scores
    """
    keys, values = buffers
    batch, heads, n, size = q.shape
    kv_heads = keys.shape[1]
    pairs, rows = batch * kv_heads, heads // kv_heads * n
    block = min(_ROWS, max(_PRODUCT, triton.next_power_of_2(rows)))
    blocks = triton.cdiv(rows, block)
    wanted = min(triton.cdiv(_PROGRAMS, pairs * blocks), triton.cdiv(slots, _SLOTS), _PARTS)
    length = triton.cdiv(triton.cdiv(slots, wanted), _SLOTS) * _SLOTS
    parts = triton.cdiv(slots, length)
    sums = q.new_empty(2, pairs * rows, parts, dtype=torch.float32)
    outputs = q.new_empty(pairs * rows, parts, size, dtype=torch.float32)
    wide = max(_PRODUCT, triton.next_power_of_2(size))
    _attend_to_part[(pairs, parts, blocks)](
        *(q, keys, values, mask, outputs, sums[0], sums[1]),
        *(slots, rows, scaling, kv_heads, parts),
        *(0 if len(mask) == 1 else mask.stride(0), mask.stride(2), *keys.stride()[:3], *values.stride()[:3]),
        SIZE=size,
        WIDE=wide,
        ROWS=block,
        SLOTS=_SLOTS,
        LENGTH=length,
        num_warps=4,
    )
    output = q.new_empty(batch, n, heads * size)
    _merge_parts[(pairs * rows,)](
        *(outputs, sums[0], sums[1], output, parts, rows, n, heads, kv_heads),
        SIZE=size,
        WIDE=wide,
        PARTS=triton.next_power_of_2(parts),
        num_warps=2,
    )
    return output


@triton.jit
def _attend_to_part(
    q, keys, values, mask, outputs, tops, totals,
    slots, rows, scaling, kv_heads, parts,
    mask_row, mask_query, key_row, key_head, key_slot, value_row, value_head, value_slot,
    SIZE: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, SLOTS: tl.constexpr,
    LENGTH: tl.constexpr,
):  # fmt: skip
    pair, part = tl.program_id(0), tl.program_id(1)
    batch, head = pair // kv_heads, pair % kv_heads
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, WIDE)
    here = row < rows
    query = tl.load(
        q + (pair * rows + row)[:, None] * SIZE + channel[None, :],
        here[:, None] & (channel < SIZE)[None, :],
        other=0.0,
    )
    top = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    output = tl.zeros([ROWS, WIDE], tl.float32)
    for start in range(0, LENGTH, SLOTS):
        slot = part * LENGTH + start + tl.arange(0, SLOTS)
        there = (slot < slots)[:, None] & (channel < SIZE)[None, :]
        at = slot.to(tl.int64)[:, None]
        key = tl.load(keys + batch * key_row + head * key_head + at * key_slot + channel[None, :], there, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scaling
        seen = here[:, None] & (slot < slots)[None, :]
        hiding = tl.load(mask + batch * mask_row + row[:, None] * mask_query + slot[None, :], seen, other=0.0)
        scores = tl.where((slot < slots)[None, :], scores + hiding.to(tl.float32), -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp(scores - higher[:, None])
        kept = tl.exp(top - higher)
        total = total * kept + tl.sum(weights, 1)
        value = tl.load(
            values + batch * value_row + head * value_head + at * value_slot + channel[None, :], there, other=0.0
        )
        product = tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        output = output * kept[:, None] + product
        top = higher
    place = (pair * rows + row) * parts + part
    tl.store(tops + place, top, here)
    tl.store(totals + place, total, here)
    tl.store(outputs + place[:, None] * SIZE + channel[None, :], output, here[:, None] & (channel < SIZE)[None, :])


@triton.jit
def _merge_parts(
    outputs, tops, totals, output, parts, rows, n, heads, kv_heads,
    SIZE: tl.constexpr, WIDE: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0)
    pair, row = place // rows, place % rows
    batch, kv_head = pair // kv_heads, pair % kv_heads
    group, token = row // n, row % n
    part, channel = tl.arange(0, PARTS), tl.arange(0, WIDE)
    there = part < parts
    top = tl.load(tops + place * parts + part, there, other=-float("inf"))
    share = tl.exp(top - tl.max(top))
    total = tl.sum(share * tl.load(totals + place * parts + part, there, other=0.0))
    inside = there[:, None] & (channel < SIZE)[None, :]
    found = tl.load(outputs + (place * parts + part)[:, None] * SIZE + channel[None, :], inside, other=0.0)
    merged = tl.sum(found * (share / total)[:, None], 0)
    head = kv_head * (heads // kv_heads) + group
    at = output + ((batch * n + token) * heads + head) * SIZE + channel
    tl.store(at, merged.to(output.dtype.element_ty), channel < SIZE)
