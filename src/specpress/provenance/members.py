"""Which files make up a study that is finished: what an archive holds, and what it cannot do without."""

from collections.abc import Iterator
from pathlib import Path

from specpress.study.expansion import is_compared
from specpress.study.load import Study

WORKFLOW = ("Snakefile", "README.md", "LICENSE", "CITATION.cff")  # and the folder workflow/


def members(root: Path, study: Study) -> Iterator[Path]:
    """Every file to archive but the study file. Weights, data and what LaTeX leaves behind stay where they are."""
    results = root / "results" / study.name
    picked = {
        "metrics": {f"{name}.json" for name in study.experiments},
        "rounding": {f"{name}.json" for name in _calibrated(study)},
        "paper": {"main.pdf"},
        "drafts": {f"{name}/{file}.json" for name in study.drafts for file in ("metrics", "manifest")},
    }
    for path in _files(results):
        if path == results / "report.html" and _older(path, results / "paper" / "main.pdf"):
            continue
        part, _, rest = path.relative_to(results).as_posix().partition("/")
        if (part not in picked or rest in picked[part]) and path.suffix != ".safetensors":
            yield path
    for kind, names in (("models", study.models), ("data", study.data)):
        paths = (root / "resources" / study.name / kind / name / "manifest.json" for name in names)
        yield from (path for path in paths if path.is_file())
    yield from (path for path in _files(root / "paper") if path != root / "paper" / "main.pdf")
    yield from (path for path in _files(root / "workflow") if "__pycache__" not in path.parts)
    yield from (root / name for name in WORKFLOW if (root / name).is_file())


def required(study: Study) -> set[str]:
    """The names of the files without which there is nothing to archive."""
    results, resources = f"results/{study.name}", f"resources/{study.name}"
    return {
        *([f"{results}/machine.json"] if study.has_speedups else []),  # the most of each is computed from it
        *(f"{results}/metrics/{name}.json" for name in study.experiments),
        *(f"{results}/rounding/{name}.json" for name in _calibrated(study)),
        *(f"{results}/drafts/{name}/{file}.json" for name in study.drafts for file in ("metrics", "manifest")),
        *(f"{resources}/models/{name}/manifest.json" for name in study.models),
        *(f"{resources}/data/{name}/manifest.json" for name in study.data),
        *(f"{results}/{name}" for name in ("analysis/summary.csv", "numbers.tex", "paper/main.pdf")),
        *WORKFLOW,
    }


def _older(path: Path, other: Path) -> bool:
    """Whether a file was written before another one: a report of results that are no longer there."""
    return other.is_file() and path.stat().st_mtime < other.stat().st_mtime


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _calibrated(study: Study) -> set[str]:
    """The models that greedy texts are compared with."""
    return {spec["baseline"] for spec in study.experiments.values() if is_compared(spec)}
