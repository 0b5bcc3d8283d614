"""Where a training stands, on disk: one that was killed goes on from there to the weights it would have come to."""

import hashlib
import json
import os
import time
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim


class Checkpoint:
    """A file with the trained weights, the moments of AdamW and what has been noted so far.

    Parameters
    ----------
    path : Path
    stamp : dict
        What the training is of. A file with another stamp is not gone on from.
    seconds : float
        Between two writings.
    """

    def __init__(self, path: Path, stamp: dict, seconds: float = 30.0):
        self._path, self._stamp, self._seconds = path, json.dumps(stamp, sort_keys=True), seconds
        self._written = time.monotonic()

    def load(self, draft: nn.Module, optimizer: optim.Optimizer) -> dict | None:
        """Put draft and optimiser where they were; returns what was noted with them, or None if there is nothing."""
        try:
            file = safe_open(self._path, "pt", device=str(draft.device))
        except (OSError, SafetensorError):
            return None
        with file:
            found = file.metadata() or {}
            if found.get("stamp") != self._stamp:
                return None
            for name, parameter in _trained(draft):
                parameter.data.copy_(file.get_tensor(name))
                keys = ("step", "exp_avg", "exp_avg_sq")
                optimizer.state[parameter] = {key: file.get_tensor(f"{name}/{key}") for key in keys}
        return json.loads(found["noted"])

    def save(self, draft: nn.Module, optimizer: optim.Optimizer, noted: dict) -> None:
        """Write, whole or not at all."""
        tensors = {}
        for name, parameter in _trained(draft):
            tensors[name] = parameter.data
            tensors |= {f"{name}/{key}": value for key, value in optimizer.state[parameter].items()}
        partial = self._path.with_name(f"{self._path.name}.partial")
        save_file(tensors, partial, {"stamp": self._stamp, "noted": json.dumps(noted)})
        os.replace(partial, self._path)
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last writing was long enough ago."""
        return time.monotonic() - self._written >= self._seconds

    def remove(self) -> None:
        """The training is done."""
        self._path.unlink(missing_ok=True)


def digest_of(numbers: Tensor) -> str:
    """What tells a tensor, a text or the tokens of a head, from others of its dtype and shape."""
    return hashlib.sha256(numbers.cpu().numpy().tobytes()).hexdigest()


def _trained(draft: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in draft.named_parameters() if parameter.requires_grad]
