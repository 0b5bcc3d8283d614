"""A study file: checked as a whole, then expanded into one spec per experiment.

The workflow calls this while it is parsed, so nothing here imports torch, pandas or matplotlib.
"""

from dataclasses import dataclass
from pathlib import Path

from specpress.study.checks.whole import problems
from specpress.study.expansion import canonical, expand, is_timed, models_of, modules_of
from specpress.study.reading import FileProblem, read_yaml, value_problems
from specpress.study.source_code import sources

__all__ = [
    "Study",
    "StudyError",
    "canonical",
    "expand",
    "is_timed",
    "load_study",
    "models_of",
    "modules_of",
    "read_study",
    "sources",
]


class StudyError(ValueError):
    """Everything that is wrong with a study file; `problems` has one line for each."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        many = f"the study has {len(problems)} problems:\n" + "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"the study has a problem: {problems[0]}" if len(problems) == 1 else many)


@dataclass(frozen=True)
class Study:
    """A valid study: its `config` as written, and `experiments`, the expanded specs by ID."""

    config: dict
    experiments: dict[str, dict]

    @property
    def name(self) -> str:
        """The name of the study, which is the folder of its resources and results."""
        return self.config["study"]

    @property
    def device(self) -> str | None:
        """What the experiments run on; None where the study leaves it to each machine."""
        return self.config.get("device")

    @property
    def eager(self) -> bool | None:
        """True if decoding steps are to run without CUDA graphs, on a GPU too; None where they are left to run so."""
        return True if self.config.get("cuda_graphs") is False else None

    @property
    def models(self) -> dict[str, dict]:
        """The models by name."""
        return self.config["models"]

    @property
    def data(self) -> dict[str, dict]:
        """The data sets by name."""
        return self.config["data"]

    @property
    def drafts(self) -> dict[str, dict]:
        """The drafts trained in the workflow by name; may be empty."""
        return self.config.get("drafts", {})

    @property
    def has_speedups(self) -> bool:
        """Whether a speed-up is measured, beside which stands the most that the machine's rates allow."""
        specs = self.experiments.values()
        return any(spec["kind"] in ("speed", "regime") or "timed_steps" in spec for spec in specs)


def load_study(config: dict) -> Study:
    """Check a study and expand its experiments.

    Parameters
    ----------
    config : dict
        The content of a study file (config/README.md explains its keys).

    Returns
    -------
    Study

    Raises
    ------
    StudyError
        With every problem at once, each led by the path of its key, such as `experiments[3].drafter.model`.
    """
    if not isinstance(config, dict):
        raise StudyError([f"the file holds no keys, but {type(config).__name__}; config/README.md explains a study"])
    found = list(dict.fromkeys(value_problems(config))) or list(dict.fromkeys(problems(config)))
    if found:
        raise StudyError(found)
    return Study(config=config, experiments={spec["id"]: spec for spec in expand(config)})


def read_study(path: str | Path) -> Study:
    """The study in a file.

    Raises
    ------
    StudyError
        As `load_study`, or if the file is not YAML, or gives a key twice: with the line.
    OSError
        If it cannot be read.
    """
    try:
        config = read_yaml(path)
    except FileProblem as error:
        raise StudyError([str(error)]) from error
    return load_study(config)
