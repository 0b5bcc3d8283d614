"""Linear maps of a model as a decoding step applies them: maps of one input joined, weights packed once for the CPU.

A step multiplies few rows with every weight, so it reads memory and little else. torch hands bfloat16 weights to oneDNN
as they lie, row after row, and oneDNN reads them at half the speed that it reads its own blocked layout with. Packing
copies them into that layout once; the model keeps its own weights, which training and presses go on using.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearMap:
    """Several linear maps of one input, whose outputs are laid end to end.

    Parameters
    ----------
    linears : nn.Linear each, with equal `in_features`, all of them with a bias or none
    """

    def __init__(self, linears: Sequence[nn.Linear]):
        self.in_features = linears[0].in_features
        self._weights = [linear.weight for linear in linears]
        self._biases = [linear.bias for linear in linears]
        self._packed = self._bias = None
        if packs(self._weights[0]):
            joined = torch.cat([weight.detach() for weight in self._weights])
            self._packed = torch.ops.mkldnn._reorder_linear_weight(joined, 1)
            self._bias = None if self._biases[0] is None else torch.cat([bias.detach() for bias in self._biases])

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(weight.nbytes for weight in self._weights)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in features) -> (..., sum of out features)."""
        if self._packed is not None:
            return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        outputs = [F.linear(x, weight, bias) for weight, bias in zip(self._weights, self._biases, strict=True)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)


def packs(weight: Tensor) -> bool:
    """Whether maps with this weight are packed: bfloat16 on a CPU whose oneDNN computes in bfloat16."""
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and _onednn_has_bfloat16()


def _onednn_has_bfloat16() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
