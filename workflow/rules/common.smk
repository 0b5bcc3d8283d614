# The study, the folders, and the functions the rules share. A job depends on small files only: manifest.json files, its
# sources (hashed by content) and one canonical JSON text of its configuration.
import json
import os
import shlex
import sys
from pathlib import Path

import yaml

from snakemake.exceptions import WorkflowError
from specpress.study import estimates
from specpress.files.writable import obstacles
from specpress.sources import fetch as resources
from specpress.study.load import StudyError, load_study
from specpress.study.expansion import canonical, data_of, is_compared, is_timed, models_of, modules_of
from specpress.study.source_code import sources

# `python` in a job is the one that runs snakemake, whether or not its environment is activated, and its library that of
# this checkout. SPECPRESS_RUN marks the jobs of this run, so that workflow/recover.py can tell those that a killed run
# has left behind. SPECPRESS_WARM: whether a job may be a fork of one that has begun (specpress.files.warm).
own = {"PATH": Path(sys.executable).parent, "PYTHONPATH": checkout / "src"}
before = {name: f"{place}{os.pathsep}{os.environ.get(name, '')}".rstrip(os.pathsep) for name, place in own.items()}
exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in before.items())
warm = os.environ.get("SPECPRESS_WARM", str(int(workflow.local_exec and workflow.is_main_process)))
# -e -u -o pipefail: a prefix of one's own takes the place of snakemake's.
prefix = f"set -euo pipefail; export {exports} SPECPRESS_RUN={os.getpid()} SPECPRESS_WARM={shlex.quote(warm)}; trap 'workflow/after-job.sh $?' EXIT; "
shell.prefix(prefix.replace("{", "{{").replace("}", "}}"))

try:
    study = load_study(config)
except StudyError as error:
    raise WorkflowError(str(error)) from None

# Figures, tables, texts and sources of the paper; its tests read the same file.
contents = yaml.safe_load(Path("paper/contents.yaml").read_text(encoding="utf-8"))

RESOURCES = f"resources/{study.name}"
RESULTS = f"results/{study.name}"
LOGS = f"logs/{study.name}"

if in_the_way := obstacles([RESOURCES, "resources/downloads", RESULTS, LOGS, "paper", ".snakemake"]):
    raise WorkflowError("\n".join(in_the_way))

wheels = {
    resources.download_name(entry["source"]): entry["source"]
    for entry in [*study.models.values(), *study.data.values()]
    if resources.download_name(entry["source"])
}
figures = {**contents["figures"], **contents["report"]["figures"]}
tables = [*contents["tables"], *contents["report"]["tables"]]
table_of = {f"tables/{name}": name for name in contents["tables"]}
# Every generated piece of LaTeX and its template, by path below the results.
fragments = {
    **dict.fromkeys(table_of, contents["layouts"]["paper"]),
    **{f"text/{name}": text["template"] for name, text in contents["texts"].items()},
    "numbers": contents["numbers"]["template"],
}
captions = yaml.safe_load(Path("paper/captions.yaml").read_text(encoding="utf-8"))


known_sizes = estimates.models(study)
cautious = estimates.machine("t4", graphs=False)


def job_of(experiment):
    """What an experiment takes, on a slow GPU."""
    return estimates.job(study.experiments[experiment], known_sizes, cautious)


def training_of(draft):
    """What training a draft takes, on a slow GPU."""
    return estimates.training(estimates.draft_config(study, draft), known_sizes, cautious)


def job_mb(job):
    """Megabytes of a job: Python and torch, and what its models need. Without shapes, a guess."""
    return 3000 + (job.memory_bytes or 0) // 10**6


def job_minutes(job):
    """Minutes to ask a cluster for: four times the estimate, and never less than an hour."""
    return max(60, int(4 * 60 * (job.hours or 0)))


def model_mb(name):
    """Megabytes to prepare a model: its weights as read and as written."""
    model = known_sizes[name]
    return 3000 + (2 * model.size["weight_bytes"] // 10**6 if model else 0)


def model_minutes(name):
    """Minutes to prepare a model: half an hour, and what its download takes at 5 MB/s."""
    megabytes = study.models[name].get("download_mb") if name in study.models else None
    size = known_sizes[name].size["weight_bytes"] / 1e6 if known_sizes[name] else 0
    return 30 + int((megabytes or size) / 5 / 60)


def machine_mb(name):
    """Megabytes to measure the machine: a few layers of a model, and its embeddings and output head."""
    model = known_sizes[name]
    shape = model.shape if model else None
    return 4000 + (4 * 2 * shape.vocabulary * shape.hidden_size // 10**6 if shape else 0)


def calibration_mb(name):
    """Megabytes of a calibration: the weights, and beside them those of a format twice as wide."""
    model = known_sizes[name]
    return 3000 + (4 * model.size["weight_bytes"] // 10**6 if model else 0)


def one_of(names):
    """A wildcard constraint: one of these names, or nothing at all where there is none."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    wheel=one_of(wheels),
    model=one_of(study.models),
    data=one_of(study.data),
    draft=one_of(study.drafts),
    experiment=one_of(study.experiments),
    figure=one_of(figures),
    fragment=one_of(fragments),


def model_dir(name):
    """The folder of a model, or of a draft trained here."""
    return f"{RESULTS}/drafts/{name}" if name in study.drafts else f"{RESOURCES}/models/{name}"


def data_dir(name):
    return f"{RESOURCES}/data/{name}"


def manifest_of(name):
    return f"{model_dir(name)}/manifest.json"


def heads_beside(draft):
    """The feature heads that are trained from the same target on the same data as a draft."""
    same = lambda other: all(other[key] == study.drafts[draft][key] for key in ("target", "data"))
    return [name for name, entry in study.drafts.items() if entry.get("kind") == "head" and same(entry)]


def manifests(models=(), data=()):
    """The manifest of each of these models, drafts and data sets."""
    return [*map(manifest_of, models), *(f"{data_dir(name)}/manifest.json" for name in data)]


def rounding_of(experiment):
    """The record of how far rounding moves the logits of the model whose greedy texts an experiment's should equal."""
    spec = study.experiments[experiment]
    return [f"{RESULTS}/rounding/{spec['baseline']}.json"] if is_compared(spec) else []


def named(flag, names, path):
    """Command-line arguments: `flag` with NAME=PATH for each name."""
    return " ".join(f"{flag} {name}={path(name)}" for name in names)


def wheel_path(source):
    """Where the wheel of a source is downloaded to; None for sources of another kind."""
    name = resources.download_name(source)
    return f"resources/downloads/{name}" if name else None


def wheel_of(source):
    """The wheel of a source as an input. It is pinned by its sha256, so its time says nothing."""
    return [ancient(wheel_path(source))] if wheel_path(source) else []


def without_plan(entry):
    """A model or data set of the study without what only `make plan` reads, so that correcting it reruns nothing."""
    return {key: value for key, value in entry.items() if key not in ("shape", "download_mb")}


def options(**values):
    """Command-line arguments for the values that are set; nested values as JSON, a true one as a flag alone."""
    return " ".join(
        f"--{key.replace('_', '-')}"
        + (
            ""
            if value is True
            else f" {shlex.quote(canonical(value) if isinstance(value, (dict, list)) else str(value))}"
        )
        for key, value in values.items()
        if value is not None and value is not False
    )


def title_of(shown):
    """What a figure or table, such as "figures/pareto", is called in a list."""
    kind, name = shown.split("/")
    return captions[kind][name]["title"]


def page_of_report(name, category, **labels):
    """An output of make_report_pages as an entry of the report."""
    return report(f"{RESULTS}/report/{name}.html", category=category, labels=labels, caption="../report/page.rst")
