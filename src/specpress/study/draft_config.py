"""How a draft is cut and trained: one entry of `drafts` in a study. No torch: `make plan` reads it too."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

KINDS = ("model", "head")
OBJECTIVES = ("cross_entropy", "forward_kl", "acceptance")
_NAMED = {"kind": KINDS, "mixture": ("proportional", "even"), "vocabulary_by": ("text", "target")}
_LEAST = {
    "layers": 1, "vocabulary": 1, "tokens": 1, "seed": 0, "sequence": 2, "batch": 1, "evaluation": 1, "passes": 1,
    "unrolled": 1, "top": 1,
}  # fmt: skip


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
    kind : {"model", "head"}
        A model of its own, or a feature head, which reads the target's hidden states besides.
    layers : int
        Its layers: the first ones of the target.
    mlp_width : int or None
        Units of each MLP that are kept, those of the largest weights; None keeps all.
    features : tuple of int
        The target's layers whose outputs a head reads, ascending, 1 the first; none named: its last.
    unrolled : int
        Tokens that a head drafts in a row in training, from its own outputs.
    vocabulary : int
        Tokens its output head covers.
    vocabulary_by : {"text", "target"}
        Whether these are the most frequent in the text, or those that have most mass in the target's laws of it.
    objective : dict of float
        Weights of `OBJECTIVES`, whose sum is trained on; a name alone is that objective.
    top : int
        Tokens of a law of the target that are kept, the most likely ones; of the others the sum.
    own_text : float
        Share of the training windows whose second half the target has written itself.
    own_temperature, own_top_p : float
        How it draws its tokens then.
    tokens : int
        Training budget, rounded up to whole steps. Counted in tokens and not in minutes, so that it reproduces.
    passes : int
        Times that each training window is read: the text is `tokens` / `passes`.
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
        If a value has the wrong type, is out of range, or does not go with another.
    """

    name: str
    target: str
    data: tuple[str, ...]
    kind: str = "model"
    layers: int = 3
    mlp_width: int | None = None
    features: tuple[int, ...] = ()
    unrolled: int = 1
    vocabulary: int = 8000
    vocabulary_by: str = "text"
    objective: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    top: int = 64
    own_text: float = 0.0
    own_temperature: float = 1.0
    own_top_p: float = 1.0
    tokens: int = 600_000
    passes: int = 1
    seed: int = 0
    sequence: int = 128
    batch: int = 4
    learning_rate: float = 2e-3
    mixture: str = "proportional"
    evaluation: int = 4096

    def __post_init__(self):
        for key, low in _LEAST.items():
            value = getattr(self, key)
            if type(value) is not int or value < low:
                raise DraftError(f"{key}: expected a whole number of at least {low}, got {value!r}")
        if self.mlp_width is not None and (type(self.mlp_width) is not int or self.mlp_width < 1):
            raise DraftError(f"mlp_width: expected a whole number of at least 1, got {self.mlp_width!r}")
        for key, known in _NAMED.items():
            if getattr(self, key) not in known:
                raise DraftError(f"{key}: expected {' or '.join(known)}, got {getattr(self, key)!r}")
        for key in ("learning_rate", "own_temperature"):
            if not _is_number(getattr(self, key)) or getattr(self, key) <= 0:
                raise DraftError(f"{key}: expected a positive number, got {getattr(self, key)!r}")
        for key in ("own_text", "own_top_p"):
            if not _is_number(getattr(self, key)) or not 0 <= getattr(self, key) <= 1:
                raise DraftError(f"{key}: expected a number from 0 to 1, got {getattr(self, key)!r}")
        if not self.data:
            raise DraftError("data: name at least one data set to train on")
        _check_objective(self.objective)
        _check_head(self)

    @property
    def needs_lesson(self) -> bool:
        """Whether the target has to read the training text, or write some, before training."""
        hard = set(self.objective) == {"cross_entropy"} and self.vocabulary_by == "text"
        return self.kind == "head" or not hard or self.own_text > 0

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
        lists = {key: spec[key] for key in ("data", "features") if key in spec}
        for key, value in lists.items():
            if not isinstance(value, list | tuple):
                what = {"data": "names", "features": "layer numbers"}[key]
                raise DraftError(f"{key}: expected a list of {what}, got {value!r}")
        objective = spec.get("objective", "cross_entropy")
        objective = {objective: 1.0} if isinstance(objective, str) else objective
        return cls(**{**spec, **{key: tuple(value) for key, value in lists.items()}, "objective": objective})


def _is_number(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _check_objective(objective) -> None:
    if not isinstance(objective, Mapping) or not objective:
        raise DraftError(f"objective: expected a name or weights by name, got {objective!r}")
    for name, weight in objective.items():
        if name not in OBJECTIVES:
            raise DraftError(f"objective: unknown objective {name!r}; known: {', '.join(OBJECTIVES)}")
        if not _is_number(weight) or weight <= 0:
            raise DraftError(f"objective.{name}: expected a positive weight, got {weight!r}")


def _check_head(config: DraftConfig) -> None:
    features = config.features
    if any(type(layer) is not int or layer < 1 for layer in features) or sorted(set(features)) != list(features):
        raise DraftError(f"features: expected ascending layer numbers from 1 on, got {list(features)}")
    if config.kind == "model":
        for key in ("features", "unrolled"):
            if getattr(config, key) != getattr(DraftConfig, key):
                raise DraftError(f"{key}: only a feature head has it; set kind to head, or remove it")
    elif config.unrolled >= config.sequence:
        raise DraftError(f"unrolled: expected less than sequence ({config.sequence}), got {config.unrolled}")
