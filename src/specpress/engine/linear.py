"""Linear maps of a model as a decoding step applies them: maps of one input joined, weights packed once for the CPU.

A step multiplies few rows with every weight, so it reads memory and little else. torch hands bfloat16 weights to oneDNN
as they lie, row after row, and oneDNN reads them at half the speed that it reads its own blocked layout with. Packing
copies them into that layout once; the model keeps its own weights, which training and presses go on using. Weights in
four and eight bits are packed for torch's own kernel in the same way.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specpress.models.quantized import GROUP, QuantizedLinear, unpacked_nibbles

# From so many rows on, codes are dequantised for the product: the packed kernel takes its time row by row.
_MANY_ROWS = 128


class LinearMap:
    """Several linear maps of one input, whose outputs are laid end to end.

    Parameters
    ----------
    linears : nn.Linear or QuantizedLinear each, with equal `in_features`, all of them with a bias or none

    `nbytes` : of the weights
    """

    def __init__(self, linears: Sequence[nn.Module]):
        self.in_features = linears[0].in_features
        quantized = isinstance(linears[0], QuantizedLinear)
        self.nbytes = sum(linear.nbytes if quantized else linear.weight.nbytes for linear in linears)
        if quantized:
            self._product: Callable[[Tensor], Tensor] = _Codes(linears)
        elif packs(linears[0].weight):
            self._product = _Blocked(linears)
        else:
            self._product = _AsTheyAre(linears)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in features) -> (..., sum of out features)."""
        return self._product(x)


class _AsTheyAre:
    """The product with each weight where it lies."""

    def __init__(self, linears: Sequence[nn.Linear]):
        self._maps = [(linear.weight, linear.bias) for linear in linears]

    def __call__(self, x: Tensor) -> Tensor:
        outputs = [F.linear(x, weight, bias) for weight, bias in self._maps]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)


class _Blocked:
    """The product with bfloat16 weights in oneDNN's layout."""

    def __init__(self, linears: Sequence[nn.Linear]):
        joined = torch.cat([linear.weight.detach() for linear in linears])
        self._packed = torch.ops.mkldnn._reorder_linear_weight(joined, 1)
        self._bias = _joined_bias(linears)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")


class _Codes:
    """The product with weights in four or eight bits: by torch's packed kernel; for many rows, dequantised to bfloat16.

    Codes of eight bits are two planes of four, so the kernel is given the inputs twice.
    """

    def __init__(self, linears: Sequence[QuantizedLinear]):
        codes = torch.cat([linear.codes for linear in linears])
        self._scales = torch.cat([linear.scales for linear in linears], 1)
        self._linears, self._planes, self._bias = linears, linears[0].planes, _joined_bias(linears)
        self._out = len(codes)
        missing = -self._out % 16  # the kernel takes outputs by sixteens
        wide = F.pad(unpacked_nibbles(codes), (0, 0, 0, missing))
        self._scales = F.pad(self._scales, (0, 0, 0, missing))
        self._packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(wide.to(torch.int32), 1)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous().bfloat16()
        if len(rows) >= _MANY_ROWS:
            output = torch.cat([F.linear(rows, linear.weight) for linear in self._linears], -1)
        else:
            rows = torch.cat([rows] * self._planes, -1) if self._planes > 1 else rows
            output = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self._packed, GROUP, self._scales)[:, : self._out]
        output = output if self._bias is None else output + self._bias
        return output.view(*x.shape[:-1], self._out).to(x.dtype)


def _joined_bias(linears: Sequence[nn.Module]) -> Tensor | None:
    return None if linears[0].bias is None else torch.cat([linear.bias.detach() for linear in linears])


def packs(weight: Tensor) -> bool:
    """Whether maps with this weight are packed: bfloat16 on a CPU whose oneDNN computes in bfloat16."""
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and _onednn_has_bfloat16()


def _onednn_has_bfloat16() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
