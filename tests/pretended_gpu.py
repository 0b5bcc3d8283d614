"""A CUDA device on any machine, for tests: its tensors hold values, and what CUDA refuses is refused.

A tensor of the device wraps one of the host's, on which its kernels run. What the tests look for is a kernel that is
given tensors of both; which of them CUDA takes is in `_check`. To autograd the tensors are on the meta device, as it
would start a thread for a CUDA device, which this build of torch may not know; Python sees `cuda:0`.
"""

from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch.utils import _device
from torch.utils._python_dispatch import TorchDispatchMode

from specpress.engine import graphs
from specpress.experiments import machine
from specpress.hardware import devices
from specpress.hardware.recording import recording

GPU = torch.device("cuda", 0)
_META, _MEMORY = torch.device("meta"), 2**33
_COPIES = ("aten.copy_", "aten._to_copy", "aten.to.")
_INDEXING = ("aten.index.Tensor", "aten.index_put", "aten._unsafe_index", "aten._index_put_impl_")
_EVEN_NUMBERS = ("aten.stack", "aten.index_select", "aten.index_copy", "aten.index_fill")  # take no number either


class TwoDevices(RuntimeError):
    """What CUDA would raise."""


class OnGpu(torch.Tensor):
    """A tensor of the device; `held`, of the host, has its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        with torch.inference_mode(False):  # views of weights taken in inference mode count their versions
            made = torch.Tensor._make_wrapper_subclass(cls, held.shape, device="meta", **layout)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, kernel, types, args=(), kwargs=None):
        return _computed(kernel, args, kwargs or {})

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    def __repr__(self, **_):
        return f"OnGpu({self.held})"

    def __deepcopy__(self, memo):
        made = OnGpu(self.held.clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, self.requires_grad)
        return memo.setdefault(id(self), made)

    def to(self, *args, **kwargs):
        """Itself where nothing changes, as of any tensor."""
        device, dtype, *_ = torch._C._nn._parse_to(*_without_copy(args), **_known(kwargs))
        copy = kwargs.get("copy", False)
        if device is not None and device.type != GPU.type:
            return torch.ops.aten._to_copy(self, device=device, dtype=dtype or self.dtype)
        if copy or (dtype is not None and dtype != self.dtype):
            return torch.ops.aten._to_copy(self, dtype=dtype or self.dtype)
        return self

    def cpu(self):
        """A copy on the host."""
        return self.to("cpu")

    def __getitem__(self, index):
        return super().__getitem__(_indices(index))

    def __setitem__(self, index, value):
        super().__setitem__(_indices(index), value)

    def tolist(self):
        """The values, read on the host."""
        return self.cpu().tolist()

    def numpy(self, **_):
        """Refused, as of any tensor that is not on the host."""
        raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu()")

    def data_ptr(self):
        """The address of the values."""
        return self.held.data_ptr()

    def untyped_storage(self):
        """Where the values are."""
        return self.held.untyped_storage()

    def __tensor_flatten__(self):
        """Has a module that moves here take the tensor itself."""
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return OnGpu(inner["held"])


def _indices(index):
    """Lists in an index as tensors, of which torch would have made tensors on the meta device, without values."""
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    return torch.tensor(index) if isinstance(index, list | range) else index


def _without_copy(args: tuple) -> tuple:
    """The arguments of `to`, which may be a tensor to be like."""
    if args and isinstance(args[0], torch.Tensor):
        return (args[0].device, args[0].dtype)
    return tuple(x for x in args if not isinstance(x, bool))


def _known(kwargs: dict) -> dict:
    return {key: value for key, value in kwargs.items() if key in ("device", "dtype") and value is not None}


class _Everywhere(TorchDispatchMode):
    """Kernels that are given no tensor of the device, but may make one."""

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        return _computed(kernel, args, kwargs or {})


def _computed(kernel, args: tuple, kwargs: dict):
    """The kernel's results, of which those on the device are wrapped."""
    given = _leaves(kwargs.values(), _leaves(args))
    ours = [x for x in given if type(x) is OnGpu]
    asked = [_is_ours(x) for x in given if isinstance(x, torch.device)]
    if not ours and not any(asked):
        return kernel(*args, **kwargs)
    name = _name(kernel)
    if name.startswith("aten._has_compatible_shallow_copy_type"):
        return False
    _check(name, args, given, bool(ours))
    if name.startswith("aten._fused_sdp_choice"):
        return 0  # by plain kernels: the fused ones are each a device's own
    results = kernel(*map(_on_host, args), **{key: _on_host(x) for key, x in kwargs.items()})
    if any(x.shape != x.held.shape for x in ours):
        raise NotImplementedError(f"{name} changes the shape of a tensor in place")
    to_host = name.startswith("aten.copy_") and not isinstance(given[0], OnGpu)
    wraps = any(asked) if asked else not to_host
    crosses = bool(asked) and wraps != bool(ours)
    if isinstance(results, torch.Tensor):
        return _handed_out(results, ours, given, wraps, crosses)
    if isinstance(results, tuple | list):
        return type(results)(
            _handed_out(x, ours, given, wraps, crosses) if isinstance(x, torch.Tensor) else x for x in results
        )
    return results


_name = cache(str)


def _leaves(given, found: list | None = None) -> list:
    """The tensors, devices and generators among the arguments of a kernel."""
    found = [] if found is None else found
    for x in given:
        kind = type(x)
        if kind is OnGpu or isinstance(x, torch.Tensor | torch.device | torch.Generator):
            found.append(x)
        elif kind is list or kind is tuple:
            _leaves(x, found)
    return found


def _is_ours(device: torch.device) -> bool:
    """Meta stands for the device too, where torch names it on its own; but models are loaded there."""
    return device.type == GPU.type or (device.type == "meta" and _device.CURRENT_DEVICE != _META)


def _on_host(x):
    if isinstance(x, OnGpu):
        return x.held
    if isinstance(x, tuple | list):
        return type(x)(map(_on_host, x))
    return torch.device("cpu") if isinstance(x, torch.device) and _is_ours(x) else x


def _handed_out(result: torch.Tensor, ours: list, given: list, wraps: bool, crosses: bool) -> torch.Tensor:
    if crosses:
        whole = any(isinstance(x, torch.Tensor) and _alias(x, result) for x in given)
        result = result.clone() if whole else result
        return OnGpu(result) if wraps else result
    same = [x for x in ours if x.held is result]
    if same:
        return same[0]
    return OnGpu(result) if wraps else result


def _alias(x: torch.Tensor, y: torch.Tensor) -> bool:
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


def _check(name: str, args: tuple, given: list, ours: bool) -> None:
    """Raise `TwoDevices` where CUDA refuses what is given: tensors of both devices, or a generator of the host's."""
    if all(type(x) is OnGpu for x in given) or name.startswith(_COPIES):
        return
    if any(isinstance(x, torch.Generator) and x.device.type != GPU.type for x in given):
        raise TwoDevices(f"{name}: expected a 'cuda' device type for generator but found 'cpu'")
    if not ours:
        return
    if name.startswith(_INDEXING) and isinstance(args[0], OnGpu):  # indices may lie on the host, and are copied
        given = _leaves((args[0], *args[2:]))
    numbers = not name.startswith(_EVEN_NUMBERS)  # a number on the host is taken as one
    host = [x for x in given if isinstance(x, torch.Tensor) and not isinstance(x, OnGpu)]
    if any(x.dim() or not numbers for x in host):
        raise TwoDevices(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")


@contextmanager
def pretended_gpu(folder):
    """Inside the block this machine has a CUDA device, `GPU`, whose lock is in `folder`.

    What is recorded as a graph runs anew at every replay, in torch's kernels alone.
    """
    state = torch.zeros(16, dtype=torch.uint8)
    properties = SimpleNamespace(name="pretended", uuid="pretended", total_memory=_MEMORY)
    answers = {
        **{"is_available": True, "device_count": 1, "current_device": 0, "_lazy_init": None, "synchronize": None},
        **{"get_device_properties": properties, "get_device_name": "pretended", "is_bf16_supported": True},
        **{"mem_get_info": (_MEMORY, _MEMORY), "max_memory_allocated": 2**21, "manual_seed_all": None},
        **{"get_rng_state": state, "set_rng_state": None},
    }
    with pytest.MonkeyPatch.context() as patch, _Everywhere():
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
        for module in (graphs, machine):
            patch.setattr(module, "CudaGraphs", lambda device: lambda run: run)
        patch.setattr(recording, "_capture_on", lambda device: lambda run: run)
        for name, value in {"made": {}, "on": True, "ahead": False, "captured": 0}.items():
            patch.setattr(recording, name, value)
        patch.setenv(devices.UNFUSED, "0")
        patch.setattr(devices, "_held", {})
        patch.setattr(devices, "gettempdir", lambda: folder)
        patch.setattr(devices, "_driver", lambda: None)
        lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # what torch.tensor makes goes to its device where a mode sees it
        try:
            yield GPU
        finally:
            torch._C._set_only_lift_cpu_tensors(lifts)
