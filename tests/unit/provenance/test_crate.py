"""The archive as other programs read it."""

import json
import tarfile
import warnings

import pytest
from stored import write, write_study

from specpress.provenance.archive import ArchiveError, load, pack
from specpress.provenance.crate import NAME


@pytest.fixture
def root(tmp_path):
    write_study(tmp_path)
    return tmp_path


def described(root) -> dict[str, dict]:
    """The entities of the crate by their ids."""
    pack(root, "study.yaml", root / "small.tar")
    return {entity["@id"]: entity for entity in json.loads(load(root / "small.tar")[1][NAME])["@graph"]}


def test_every_file_is_described_and_nothing_that_is_not_there(root):
    crate = described(root)
    files = set(load(root / "small.tar")[1]) - {NAME}
    assert {part["@id"] for part in crate["./"]["hasPart"]} == files
    assert files < set(crate)
    assert {"Snakefile", "workflow/rules/common.smk", "study.yaml"} <= files


def test_workflow_is_the_main_entity_with_the_versions_it_ran_on(root):
    crate = described(root)
    assert crate["./"]["mainEntity"] == {"@id": "Snakefile"}
    workflow = crate["Snakefile"]
    assert set(workflow["@type"]) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    assert workflow["version"] == "0123abc"
    assert crate[workflow["programmingLanguage"]["@id"]]["name"] == "Snakemake"
    software = {
        crate[part["@id"]]["name"]: crate[part["@id"]]["softwareVersion"] for part in workflow["softwareRequirements"]
    }
    assert software == {"Python": "3.11.2", "torch": "2.13.0"}


def test_run_has_what_went_in_what_came_out_and_when(root):
    path = root / "results/small/metrics/aimd.json"
    later = {**json.loads(path.read_text()), "started": "2026-11-24T13:30:00+02:00", "wall_seconds": 3600.5}
    path.write_text(json.dumps(later))
    crate = described(root)
    run = crate["#run"]
    assert run["instrument"] == {"@id": "Snakefile"}
    assert (run["startTime"], run["endTime"]) == ("2026-11-24T10:00:00+00:00", "2026-11-24T12:30:00+00:00")
    assert crate["./"]["datePublished"] == run["endTime"]
    assert {"study.yaml", "#models-target", "#data-prose"} == {part["@id"] for part in run["object"]}
    assert crate["#data-prose"]["subjectOf"] == {"@id": "resources/small/data/prose/manifest.json"}
    results = {part["@id"] for part in run["result"]}
    assert {"results/small/paper/main.pdf", "results/small/metrics/plain.json"} <= results
    assert all(name.startswith("results/small/") for name in results)


def test_authors_are_those_of_the_citation(root):
    crate = described(root)
    authors = [crate[part["@id"]] for part in crate["./"]["author"]]
    assert [(author["@type"], author["name"]) for author in authors] == [
        ("Organization", "The authors"),
        ("Person", "Emmy Noether"),
    ]


def test_one_author_is_no_list(root):
    write(root / "CITATION.cff", "authors: [{name: Alone}]")
    assert described(root)["./"]["author"] == {"@id": "#Alone"}


def test_unfinished_citation_or_workflow_is_refused(root):
    (root / "CITATION.cff").unlink()
    with pytest.raises(ArchiveError, match=r"1 of its files are missing, CITATION\.cff"):
        pack(root, "study.yaml", root / "small.tar")


def test_metrics_of_an_earlier_version_are_refused_by_name(root):
    write(root / "results/small/metrics/plain.json", '{"environment": {}, "wall_seconds": 1}')
    with pytest.raises(ArchiveError, match=r"plain\.json lacks started.*Remove it, run make paper"):
        pack(root, "study.yaml", root / "small.tar")


def test_validator_is_content(root, tmp_path):
    """With every requirement and recommendation of the profile it finds for itself, where it is installed."""
    services = pytest.importorskip("rocrate_validator.services")
    models = pytest.importorskip("rocrate_validator.models")
    write(root / "results/small/report.html", "<html>")
    pack(root, "study.yaml", root / "small.tar")
    with tarfile.open(root / "small.tar") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    settings = services.ValidationSettings(
        rocrate_uri=str(tmp_path / "out/specpress-small"),
        profile_identifier="workflow-run-crate-0.5",
        requirement_severity=models.Severity.RECOMMENDED,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = services.validate(settings)
    assert [issue.message for issue in result.get_issues()] == []
