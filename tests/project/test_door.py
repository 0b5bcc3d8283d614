"""What a stranger looks for on the door: licence, citation, the catalog's entry."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_licence_is_the_one_that_is_declared():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"## {citation['version']} - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_workflow_catalog_finds_what_it_asks_for():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    for name in ("workflow/Snakefile", "config/README.md", "config/config.yaml", "README.md", "LICENSE"):
        assert (ROOT / name).is_file(), name


def test_every_row_of_what_can_go_wrong_names_tests_that_there_are():
    lines = (ROOT / "docs" / "what-can-go-wrong.md").read_text().splitlines()
    rows = [line.strip("|") for line in lines if line.startswith("| ") and "---" not in line]
    rows = [row for row in rows if not row.rstrip().endswith(" test")]
    assert len(rows) > 50
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)(?:::(test_\w+))?`", row.rpartition(" | ")[2])
        assert named, row
        for file, test in named:
            found = [path for path in (ROOT / "tests").rglob(Path(file).name) if path.as_posix().endswith(f"/{file}")]
            assert len(found) == 1, file
            assert f"def {test}" in found[0].read_text(), test


def test_what_the_page_on_reading_names_is_there():
    for named in re.findall(r"`([\w/]+(?:/|\.py|\.yaml))`", (ROOT / "docs/reading.md").read_text()):
        assert any((ROOT / start / named).exists() for start in ("", "src/specpress")), named


def test_the_layout_of_the_readme_names_every_wing_and_nothing_else():
    readme = (ROOT / "README.md").read_text()
    layout = readme.partition("## Layout")[2].partition("## ")[0]
    wings = re.findall(r"^        (\w+)(?:, (\w+))?  +\S", layout, re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "src/specpress").glob("*/__init__.py")}
    assert {wing for line in wings for wing in line if wing} == folders
