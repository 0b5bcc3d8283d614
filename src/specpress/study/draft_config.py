"""How a draft is cut and trained: one entry of `drafts` in a study. No torch: `make plan` reads it too."""

import math
from dataclasses import dataclass, fields


class DraftError(ValueError):
    """A draft that cannot be made as asked; the message says which key is wrong and what would do."""


@dataclass(frozen=True)
class DraftConfig:
    """How a draft is cut and trained: one entry of `drafts` in the study, with its name.

    Parameters
    ----------
    name, target : str
        The draft, and the model it is cut from.
    data : tuple of str
        Data sets whose train halves it is trained on.
    layers : int
        The draft's layers: the first ones of the target.
    vocabulary : int
        Tokens its output head covers.
    tokens : int
        Training budget, rounded up to whole steps. Counted in tokens and not in minutes, so that it reproduces.
    seed : int
    sequence : int
        Tokens of a training window.
    batch : int
        Windows of a step.
    learning_rate : float
        Peak of the schedule (linear warm-up, cosine to zero).
    mixture : {"proportional", "even"}
        Whether each data set gives windows in proportion to its size, or all the same number.
    evaluation : int
        Tokens scored in each data set, for validation and for the held-out figures.

    Raises
    ------
    DraftError
        If a value has the wrong type or is out of range.
    """

    name: str
    target: str
    data: tuple[str, ...]
    layers: int = 3
    vocabulary: int = 8000
    tokens: int = 600_000
    seed: int = 0
    sequence: int = 128
    batch: int = 4
    learning_rate: float = 2e-3
    mixture: str = "proportional"
    evaluation: int = 4096

    def __post_init__(self):
        minimum = {"layers": 1, "vocabulary": 1, "tokens": 1, "seed": 0, "sequence": 2, "batch": 1, "evaluation": 1}
        for key, low in minimum.items():
            value = getattr(self, key)
            if type(value) is not int or value < low:
                raise DraftError(f"{key}: expected a whole number of at least {low}, got {value!r}")
        if type(self.learning_rate) not in (int, float) or not 0 < self.learning_rate < math.inf:
            raise DraftError(f"learning_rate: expected a positive number, got {self.learning_rate!r}")
        if self.mixture not in ("proportional", "even"):
            raise DraftError(f"mixture: expected proportional or even, got {self.mixture!r}")
        if not self.data:
            raise DraftError("data: name at least one data set to train on")

    @classmethod
    def from_spec(cls, spec: dict) -> "DraftConfig":
        """The configuration in a plain dictionary; `name`, `target` and `data` are required, the rest has defaults.

        Raises
        ------
        DraftError
            If a key is unknown or missing, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(spec) - set(known)):
            raise DraftError(f"unknown key {', '.join(unknown)}; a draft has {', '.join(known)}")
        if missing := [key for key in ("name", "target", "data") if key not in spec]:
            raise DraftError(f"missing key {', '.join(missing)}")
        if not isinstance(spec["data"], list | tuple):
            raise DraftError(f"data: expected a list of names, got {spec['data']!r}")
        return cls(**{**spec, "data": tuple(spec["data"])})
