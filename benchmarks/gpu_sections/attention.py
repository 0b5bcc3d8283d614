"""Ways to attend, timed: torch's kernels, two matrix products, the slots in parts side by side."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu_sections.bench import Check, Row
from specpress.hardware.clock import clock


def attention(check: Check) -> Iterator[Row]:
    """One layer's attention of the largest shape: a length met for the first time, again, and replayed in a graph."""
    for queries, slots in ((1, 512), (1, 2048), (5, 2048)):
        for name in attentions(check):
            check.time_left()
            fresh = []
            try:
                for length in (slots - 32, slots - 16, slots):
                    run = partial(attentions(check)[name], *attention_inputs(check, queries, length))
                    started = clock(check.device)
                    run()
                    fresh.append(1e3 * (clock(check.device) - started))
                again = check.streamed_ms(run)
                replayed = check.replayed_ms(run) if name != "cudnn" else None  # it may plan while captured
            except RuntimeError as error:
                yield Row(f"{name}, {queries} x {slots}", "", f"refused: {str(error).splitlines()[0][:60]}")
                continue
            expected = {"cudnn": "fresh 20 to 40"}.get(name, "replayed 0.01 to 0.03")
            measured = f"{max(fresh[1:]):.3f} fresh, {again:.4f} again"
            measured += "" if replayed is None else f", {replayed:.4f} replayed"
            yield Row(f"{name}, {queries} x {slots}, ms", expected, measured, replayed)


def attentions(check: Check) -> dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]:
    """Ways to attend; torch's fused kernels with a mask, as a graph needs it, and without where they take none."""

    def fused(backend: SDPBackend, masked: bool, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask if masked else None)

    ways = {"math": partial(fused, SDPBackend.MATH, True), "two products": two_products}
    if check.cuda:
        ways |= {
            "flash, no mask": partial(fused, SDPBackend.FLASH_ATTENTION, False),
            "memory-efficient": partial(fused, SDPBackend.EFFICIENT_ATTENTION, True),
            "cudnn": partial(fused, SDPBackend.CUDNN_ATTENTION, False),
        }
        ways |= {f"memory-efficient, slots in {parts} parts": partial(divided, parts) for parts in (4, 8, 16)}
    return ways


def attention_inputs(check: Check, queries: int, slots: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    heads, size = (4, 16) if check.tiny else (32, 80)
    shapes = ((1, heads, queries, size), (1, heads, slots, size), (1, heads, slots, size))
    q, k, v = (torch.randn(shape, device=check.device).to(check.dtype) for shape in shapes)
    return q, k, v, torch.zeros(1, 1, queries, slots, device=check.device, dtype=check.dtype)


def two_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3)) + mask
    return torch.matmul(torch.softmax(scores, -1), v)


def divided(parts: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The fused kernel on parts of the slots side by side, joined by their log-sum-exps; one sequence."""
    rows, slots = q.shape[2], k.shape[2] // parts
    k, v = (x[0].unflatten(1, (parts, slots)).transpose(0, 1) for x in (k, v))
    bias = mask.expand(1, q.shape[1], rows, -1)[0].unflatten(2, (parts, slots)).permute(2, 0, 1, 3)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    out, sums, *_ = kernel(q.expand(parts, -1, -1, -1), k, v, bias, True)
    weights = torch.softmax(sums[..., :rows], 0)
    return (weights[..., None] * out).sum(0, keepdim=True).to(q.dtype)
