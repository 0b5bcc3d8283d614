"""What a GPU would do or refuse, without one: reads on the host, kernels on two devices, recordings replayed."""

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


class Again:
    """A capture that runs the function anew at every replay; `captured` counts."""

    def __init__(self):
        self.captured = 0

    def __call__(self, run):
        self.captured += 1
        return run


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.kernels = []

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        result = kernel(*args, **(kwargs or {}))
        self.kernels.append((kernel, args, kwargs or {}, result))
        return result


class Tape(Again):
    """A capture that replays recorded kernels at recorded addresses, as a CUDA graph does.

    Whatever the function does not read from inputs that stay where they are is frozen in it.
    """

    def __call__(self, run):
        self.captured += 1
        with _Recorder() as recorder:
            outputs = run()

        def replay():
            for kernel, args, kwargs, result in recorder.kernels:
                again = kernel(*args, **kwargs)
                if isinstance(result, torch.Tensor) and again.data_ptr() != result.data_ptr():
                    result.copy_(again)
                elif isinstance(result, tuple | list):
                    for old, new in zip(result, again, strict=True):
                        if isinstance(old, torch.Tensor) and new.data_ptr() != old.data_ptr():
                            old.copy_(new)
            return outputs

        return replay
