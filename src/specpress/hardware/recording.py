"""Kernels that a GPU launches together: a function of tensors, recorded as a CUDA graph for each shape of its inputs.

Between two steps of a model stand dozens of kernels of a few microseconds (a law, a draw, a verdict), and launching one
takes the host longer than the GPU takes to run it. Recorded, they are one launch. What a graph reads and writes stays
where it is: inputs are copied there, outputs from there.
"""

from collections.abc import Callable, Hashable
from functools import cache

import torch
from torch import Tensor

ROWS = 17  # of inputs, beyond which a function is not recorded; and up to which it is recorded ahead of time
SETTINGS = 64  # whose recordings are kept: a function's constants and the widths of its inputs; a job has some twenty
_WARM_UP = 3  # runs before a capture, in which libraries choose kernels and allocate

# Turns a function into its replay. Both compute from inputs that stay where they are; the outputs of a replay are
# overwritten by the next.
Capture = Callable[[Callable[[], object]], Callable[[], object]]


class CudaGraphs:
    """Captures on a CUDA device, in one memory pool: no two run at once, and outputs are copied in between."""

    def __init__(self, device: torch.device):
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def __deepcopy__(self, memo) -> "CudaGraphs":
        """Another one there: streams cannot be copied, and a copied model captures its own steps."""
        return CudaGraphs(self._stream.device)

    def __call__(self, run: Callable[[], object]) -> Callable[[], object]:
        """Warm up on a side stream, as capturing needs it, then capture there."""
        with torch.cuda.device(self._stream.device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP):
                    run()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                outputs = run()

        def replay() -> object:
            graph.replay()
            return outputs

        return replay


def is_casting(device: torch.device) -> bool:
    """Whether autocast is on there: a graph would go on reading copies of weights that are gone with it."""
    return device.type in ("cuda", "cpu") and torch.is_autocast_enabled(device.type)


class Recording:
    """Whether functions are recorded, and what was.

    `on` : on CUDA, unless told otherwise
    `ahead` : with the first shape all others of up to `ROWS` rows are recorded, so that none is while a clock runs
    `captured` : shapes recorded so far, of all functions
    """

    def __init__(self, capture_on: Callable[[torch.device], Capture] = CudaGraphs, kind: str = "cuda"):
        self.on, self.ahead, self.captured = True, False, 0
        self.made: dict[tuple, dict[int, tuple]] = {}  # by setting and rows the inputs that stay, and the replay
        self._capture_on, self._kind = cache(capture_on), kind

    def takes(self, device: torch.device) -> bool:
        """Whether functions of tensors there are recorded."""
        return self.on and device.type == self._kind and not is_casting(device)

    def of(self, setting: tuple) -> dict[int, tuple]:
        """What is recorded of a setting, by rows, to add to; of more than `SETTINGS` the one used least lately goes."""
        made = self.made[setting] = self.made.pop(setting, {})  # the last used comes last
        if len(self.made) > SETTINGS:
            del self.made[next(iter(self.made))]
        return made

    def capture(self, run: Callable[[], object], device: torch.device) -> Callable[[], object]:
        """See `CudaGraphs`; counted."""
        self.captured += 1
        return self._capture_on(device)(run)


recording = Recording()


class Recorded:
    """A function of tensors and of constants that returns tensors, the same on every device.

    It must not read on the host, and its results must depend on nothing but its arguments. The first dimension of its
    tensors is n, or n plus a number that is always the same: what is recorded ahead has other n.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]):
        self._function = function
        self.__doc__ = function.__doc__

    @torch.inference_mode()
    def __call__(self, *tensors: Tensor, constants: tuple[Hashable, ...] = ()) -> tuple[Tensor, ...]:
        """What the function returns for `tensors`, which lie on one device, and `constants` after them."""
        if len(tensors[0]) > ROWS or not recording.takes(tensors[0].device):
            return self._function(*tensors, *constants)
        inputs, replay = self._of(tensors, constants)
        for mine, given in zip(inputs, tensors, strict=True):
            mine.copy_(given)
        return tuple(output.clone() for output in replay())

    def _of(self, tensors: tuple[Tensor, ...], constants: tuple[Hashable, ...]):
        rows, shapes = len(tensors[0]), [(tensor.shape[1:], tensor.dtype) for tensor in tensors]
        more = [len(tensor) - rows for tensor in tensors]
        made = recording.of((self, *shapes, *more, tensors[0].device, *constants))
        if rows not in made:
            inputs = [tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors]
            made[rows] = inputs, recording.capture(lambda: self._function(*inputs, *constants), inputs[0].device)
            if recording.ahead:
                for n in range(1, ROWS + 1):
                    self._of(tuple(t.new_ones(len(t) + n - rows, *t.shape[1:]) for t in tensors), constants)
        return made[rows]
