"""Ways to compute the attention of a decoding step: on a CPU, and which of them is the fastest here; on a GPU.

They differ in speed by factors, from processor to processor and from shape to shape; in their results by rounding. So
the first step of each kind of shape is a measurement of some milliseconds, whose choice holds for the process. The
environment variable SPECPRESS_ATTENTION names one for all instead, where runs are to round alike.
"""

import os
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]

VARIABLE = "SPECPRESS_ATTENTION"
_BLOCK = 512  # slots that torch's fused kernel takes at a time: up to here there is nothing to divide, nor to choose
FEW_SLOTS = 256  # of a captured step on a GPU, up to which its fused kernel is no slower than two products
_MANY_ROWS = 256  # rows of a head from which on the fused kernel has enough to do: a prompt, not a step
_REPEATS = 4  # of each way in a measurement, of which the least time counts: nothing makes a way faster than it is
_WORTH = 0.9  # of the time of the plain way, above which another is not worth a result that rounds otherwise
_chosen: dict[tuple, str] = {}


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Softmax attention on a CPU by the way that is the fastest here: (batch, KV heads, rows, head size).

    Parameters
    ----------
    query : Tensor (batch, KV heads, rows, head size), the queries of a KV head's groups stacked
    key, value : Tensor (batch, KV heads, slots, head size)
    mask : Tensor (batch or 1, KV heads or 1, rows, slots), added to the scores, or None

    Raises
    ------
    ValueError
        If SPECPRESS_ATTENTION names no way.
    """
    if key.shape[2] <= _BLOCK or query.shape[2] > _MANY_ROWS:
        return fused(query, key, value, mask, scaling)
    name = os.environ.get(VARIABLE)
    if name is None:
        kind = _kind(query, key, mask)
        if kind not in _chosen:
            _chosen[kind] = fastest(query, key, value, mask, scaling)
        name = _chosen[kind]
    elif name not in KERNELS:
        raise ValueError(f"{VARIABLE} is {name!r}; use {', '.join(KERNELS)}, or unset it to have them measured")
    return KERNELS[name](query, key, value, mask, scaling)


def chosen() -> dict[str, str]:
    """What measurements have chosen in this process, by shape, for the record; what the variable names, if it does."""
    if VARIABLE in os.environ:
        return {"all shapes": os.environ[VARIABLE]}
    return {" ".join(f"{key} {value}" for key, value in kind): name for kind, name in sorted(_chosen.items())}


def fastest(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> str:
    """The name of the way that takes least time for these inputs; see `attend`."""
    least = dict.fromkeys(KERNELS, float("inf"))
    for _ in range(_REPEATS):
        for name, kernel in KERNELS.items():
            started = time.perf_counter()
            kernel(query, key, value, mask, scaling)
            least[name] = min(least[name], time.perf_counter() - started)
    plain = next(iter(KERNELS))
    best = min(least, key=least.get)
    return best if least[best] < _WORTH * least[plain] else plain


def _kind(query: Tensor, key: Tensor, mask: Tensor | None) -> tuple:
    """What a choice holds for: the shape, rows and slots by powers of two."""
    batch, heads, rows, size = query.shape
    up_to = {"rows": 1 << (rows - 1).bit_length(), "slots": 1 << (key.shape[2] - 1).bit_length()}
    kind = {"batch": batch, "heads": heads, "size": size, **up_to, "masked": mask is not None}
    return tuple({**kind, "dtype": str(query.dtype), "threads": torch.get_num_threads()}.items())


def fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """By torch's fused kernel, a head a thread."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)


def divided(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """By torch's fused kernel, a part of a head's slots a thread: few heads keep all threads busy.

    A part counts by the sum of its exponentials, whose logarithm the kernel returns (flash-decoding; Dao 2023,
    FlashAttention-2, section 2.3, for the merging). Slots that do not divide evenly are a part of their own.
    """
    slots = key.shape[2]
    parts = min(slots, 2 * torch.get_num_threads())
    length = slots // parts
    even = parts * length
    found = [_flash(query, key, value, mask, scaling, slice(even), parts)]
    if even < slots:
        found.append(_flash(query, key, value, mask, scaling, slice(even, slots), 1))
    outputs, sums = (torch.cat(x, 1) for x in zip(*found, strict=True))
    merged = (outputs * torch.softmax(sums, 1).unsqueeze(-1)).sum(1)
    return merged.to(query.dtype).view(query.shape)


def _flash(query, key, value, mask, scaling: float, places: slice, parts: int) -> tuple[Tensor, Tensor]:
    """Attention to each part of some slots, and the logarithms of its sums: (batch x heads, parts, rows, ...)."""
    batch, heads, rows, size = query.shape
    key, value = (x[:, :, places].unflatten(2, (parts, -1)).flatten(0, 1) for x in (key, value))
    query = query.reshape(batch * heads, 1, rows, size).expand(-1, parts, -1, -1)
    if mask is not None:
        mask = mask[..., places].unflatten(3, (parts, -1)).transpose(2, 3)  # (batch, heads, parts, rows, slots)
        mask = mask.expand(batch, heads, -1, -1, -1).flatten(0, 1)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return flash(query, key, value, 0.0, False, attn_mask=mask, scale=scaling)


def products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """By two matrix products. The softmax of low-precision scores is computed in float32 and rounded once."""
    scores = _scores(query * scaling, key)
    if mask is not None:
        scores = scores + mask
    return torch.matmul(torch.softmax(scores, dim=-1), value)


def masked_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Of a captured step on a GPU, whose mask hides the slots not yet in use; see `attend` for shapes.

    Of torch's fused kernels only the memory-efficient one takes a mask, and it gives each head to one multiprocessor:
    with 32 heads most of the GPU stands idle. Two matrix products keep it busy (docs/performance.md has the times);
    without a graph their more launches would cost more than they save. Scores and their softmax of 16 bits are float32,
    as in the fused kernels.
    """
    batch, heads, rows, size = query.shape
    widened = {"out_dtype": torch.float32} if query.dtype.itemsize == 2 else {}  # which a CPU's product cannot
    scores = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).mT, **widened)
    weights = torch.softmax(torch.add(mask, scores.view(batch, heads, rows, -1), alpha=scaling), -1).to(value.dtype)
    return torch.bmm(weights.flatten(0, 1), value.flatten(0, 1)).view(batch, heads, rows, size)


def _scores(query: Tensor, key: Tensor) -> Tensor:
    """Queries times keys: (batch, KV heads, rows, slots).

    torch copies the transpose of a slice of a buffer, but not that of the whole buffer: where most of it is in use, the
    unused slots are multiplied too and cut off. Otherwise keys times queries, which copies nothing but is slower.
    """
    slots, capacity = key.shape[2], key.stride(1) // key.shape[3]
    if 2 * capacity <= 3 * slots and key.stride() == _contiguous_strides(key, capacity):
        whole = key.as_strided((*key.shape[:2], capacity, key.shape[3]), key.stride())
        return torch.matmul(query, whole.transpose(2, 3))[..., :slots]
    return torch.matmul(key, query.transpose(2, 3)).transpose(2, 3)


def _contiguous_strides(key: Tensor, capacity: int) -> tuple[int, ...]:
    heads, size = key.shape[1], key.shape[3]
    return heads * capacity * size, capacity * size, size, 1


KERNELS: dict[str, Kernel] = {"fused": fused, "divided": divided, "products": products}
