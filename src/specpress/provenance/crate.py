"""What an archive holds, for programs that know nothing of specpress: the metadata of a Workflow Run RO-Crate.

RO-Crate 1.1 (Soiland-Reyes et al., 2022) with the profile Workflow Run Crate 0.5 (Leo et al., 2024), which WorkflowHub
and Zenodo read: the workflow, the run of it, what went in, what came out, by whom, under which licence. Nothing here
depends on when or where the archive is written.
"""

import json
import mimetypes
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import yaml
from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from specpress.study.load import Study

NAME = "ro-crate-metadata.json"
WORKFLOW = "Snakefile"
LICENCE = "https://spdx.org/licenses/Apache-2.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
# Where the packages that the metrics name are at home.
HOMES = {
    "Python": "https://www.python.org",
    "torch": "https://pytorch.org",
    "transformers": "https://huggingface.co/docs/transformers",
    "tokenizers": "https://huggingface.co/docs/tokenizers",
    "safetensors": "https://huggingface.co/docs/safetensors",
    "kvpress": "https://github.com/NVIDIA/kvpress",
    "numpy": "https://numpy.org",
}
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
TYPES = {".tex": "application/x-tex", ".yaml": "application/yaml", ".cff": "application/yaml", ".md": "text/markdown"}


def metadata(study: Study, files: Mapping[str, bytes]) -> bytes:
    """The text of ro-crate-metadata.json.

    Parameters
    ----------
    study : Study
    files : Mapping
        Every other file of the archive, by path: the study, Snakefile, CITATION.cff, metrics, manifests, the paper.

    Raises
    ------
    ValueError
        If a metrics file does not say when and where it was measured.
    """
    metrics = _metrics(study, files)
    begin, end = _span(metrics)
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(TERMS)
    workflow = _workflow(crate, metrics)
    for name, content in files.items():
        if name != WORKFLOW:
            kind = TYPES.get(name[name.rfind(".") :]) or mimetypes.guess_type(name)[0] or "text/plain"
            crate.add_file(dest_path=name, properties={"contentSize": str(len(content)), "encodingFormat": kind})
    parameters = _parameters(crate, study)
    workflow["input"], workflow["output"] = parameters["study.yaml"], parameters[_paper(study)]
    authors = _authors(crate, files)
    run = _add(
        crate,
        "#run",
        "CreateAction",
        name=f"Run of the study {study.name}",
        description=_machine(metrics),
        startTime=begin,
        endTime=end,
        actionStatus="http://schema.org/CompletedActionStatus",
        instrument=workflow,
        agent=authors,
        object=[crate.get("study.yaml"), *_inputs(crate, study, files)],
        result=[crate.get(name) for name in files if name.startswith(f"results/{study.name}/")],
    )
    _describe(crate, study, end, authors, run)
    return (json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _describe(crate: ROCrate, study: Study, end: str, authors: list[Entity] | Entity, run: Entity) -> None:
    """The crate as a whole."""
    root = crate.root_dataset
    root["name"] = f"specpress: the study {study.name}"
    root["description"] = (
        "Speculative decoding and KV-cache compression, measured; and the paper that says what was found."
    )
    root["datePublished"] = end
    root["license"] = _add(crate, LICENCE, "CreativeWork", name="Apache License 2.0", url=LICENCE)
    root["author"] = authors
    root["publisher"] = authors
    crate.get("README.md")["about"] = root
    root["mentions"] = run
    root["conformsTo"] = [
        _add(crate, profile, "CreativeWork", name=name, version=profile.rpartition("/")[2])
        for profile, name in PROFILES.items()
    ]


def _workflow(crate: ROCrate, metrics: list[dict]) -> Entity:
    """The main entity, with the software it ran on."""
    environment = metrics[0]["environment"]
    workflow = crate.add_workflow(dest_path=WORKFLOW, main=True, lang="snakemake")
    workflow["name"] = "specpress"
    workflow["license"] = {"@id": LICENCE}
    if environment.get("commit"):
        workflow["version"] = environment["commit"]
    workflow["encodingFormat"] = "text/plain"
    workflow["conformsTo"] = {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"}
    versions = {"Python": environment["python"], **environment["packages"]}
    workflow["softwareRequirements"] = [
        _add(crate, HOMES[name], "SoftwareApplication", name=name, url=HOMES[name], softwareVersion=versions[name])
        for name in HOMES
        if versions.get(name)
    ]
    return workflow


def _parameters(crate: ROCrate, study: Study) -> dict[str, Entity]:
    """The formal parameters of the workflow by the file that was given for each: a study goes in, a paper comes out."""
    found = {}
    for name, file in (("study", "study.yaml"), ("paper", _paper(study))):
        found[file] = _add(crate, f"#parameter-{name}", "FormalParameter", name=name, additionalType="File")
        found[file]["conformsTo"] = {"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"}
        found[file]["workExample"] = crate.get(file)
        crate.get(file)["exampleOfWork"] = found[file]
    return found


def _inputs(crate: ROCrate, study: Study, files: Mapping[str, bytes]) -> list[Entity]:
    """Models and data, which the archive does not hold: each is its source, described by its manifest."""
    found = []
    for kind, entries in (("models", study.models), ("data", study.data)):
        for name, entry in entries.items():
            manifest = f"resources/{study.name}/{kind}/{name}/manifest.json"
            thing = _add(crate, f"#{kind}-{name}", "CreativeWork", name=name)
            thing["description"] = json.dumps(entry["source"], sort_keys=True)
            if manifest in files:
                thing["subjectOf"] = crate.get(manifest)
            found.append(thing)
    return found


def _authors(crate: ROCrate, files: Mapping[str, bytes]) -> list[Entity] | Entity:
    """The authors that CITATION.cff names, people and others; one alone is no list, as JSON-LD wants it."""
    found = []
    for author in yaml.safe_load(files["CITATION.cff"])["authors"]:
        person = "family-names" in author
        name = f"{author.get('given-names', '')} {author['family-names']}".strip() if person else author["name"]
        identifier = author.get("orcid") or f"#{name.replace(' ', '-')}"
        found.append(_add(crate, identifier, "Person" if person else "Organization", name=name))
    return found if len(found) > 1 else found[0]


def _metrics(study: Study, files: Mapping[str, bytes]) -> list[dict]:
    """The metrics of every experiment and draft."""
    results, found = f"results/{study.name}", []
    names = [f"{results}/metrics/{name}.json" for name in study.experiments]
    for name in [*names, *(f"{results}/drafts/{draft}/metrics.json" for draft in study.drafts)]:
        found.append(json.loads(files[name]))
        if missing := {"started", "wall_seconds", "environment"} - found[-1].keys():
            raise ValueError(f"{name} lacks {', '.join(sorted(missing))}: it is of an earlier version or damaged")
    return found


def _span(metrics: list[dict]) -> tuple[str, str]:
    """When the first measurement began and the last one ended, in ISO 8601, by the clocks of the jobs."""
    begun = [(datetime.fromisoformat(one["started"]), timedelta(seconds=one["wall_seconds"])) for one in metrics]
    times = min(begin for begin, _ in begun), max(begin + took for begin, took in begun)
    return tuple(moment.astimezone(UTC).isoformat(timespec="seconds") for moment in times)


def _machine(metrics: list[dict]) -> str:
    """The machine in a sentence."""
    environment = metrics[0]["environment"]
    parts = [
        environment["cpu"],
        f"{environment['cores']} cores",
        environment["platform"],
        environment.get("accelerator"),
    ]
    return "Measured on: " + ", ".join(str(part) for part in parts if part)


def _paper(study: Study) -> str:
    return f"results/{study.name}/paper/main.pdf"


def _add(crate: ROCrate, identifier: str, kind: str, **properties) -> Entity:
    """An entity that is no file."""
    entity = crate.add(ContextEntity(crate, identifier, properties={"@type": kind}))
    for name, value in properties.items():
        entity[name] = value
    return entity
