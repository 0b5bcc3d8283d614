"""Instruments that see what a computation asks of the host, and which devices it mixes, without a GPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS = ("aten._local_scalar_dense", "aten.item", "aten.nonzero", "aten.masked_select", "aten.unique", "aten.equal")


class NoHostReads(TorchDispatchMode):
    """Inside the block whatever would wait for a GPU fails: reading a value, or a size that depends on values."""

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        name = str(kernel)
        if name.startswith(_READS):
            raise AssertionError(f"{name} is read on the host")
        if name.startswith(("aten.index.Tensor", "aten.index_put")) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        ):
            raise AssertionError(f"{name} by a mask is read on the host")
        return kernel(*args, **(kwargs or {}))


class OneDevice(TorchDispatchMode):
    """Inside the block a kernel that is given tensors of two devices fails, as CUDA refuses it; copies may cross.

    With a model on the meta device, which holds no values, it shows on any machine what a GPU would refuse.
    """

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        name = str(kernel)
        found = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
        devices = {x.device.type for x in found if x.dim() or x.device.type != "cpu"}
        if len(devices) > 1 and not name.startswith(("aten.copy_", "aten._to_copy")):
            raise AssertionError(f"{name} mixes {' and '.join(sorted(devices))}")
        return kernel(*args, **(kwargs or {}))


class Kernels(TorchDispatchMode):
    """The kernels called inside the block, in order: `names`, without their overloads."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        self.names.append(str(kernel).rpartition(".")[0])
        return kernel(*args, **(kwargs or {}))
