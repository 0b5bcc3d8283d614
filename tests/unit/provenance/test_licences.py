from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
import yaml

from specpress.provenance.licences import NOT_STATED, of_package, rows, table
from specpress.study.load import read_study

ROOT = Path(__file__).resolve().parents[3]
SOURCES = yaml.safe_load((ROOT / "paper" / "sources.yaml").read_text())


def package(folder, metadata: str, **files: str) -> Distribution:
    """An installed package called some-name, with these lines in its metadata and these files beside it."""
    info = folder / "some_name-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: some-name\nVersion: 1.0\n{metadata}\n")
    for name, text in files.items():
        (info / name).write_text(text)
    (info / "RECORD").write_text("".join(f"{info.name}/{path.name},,\n" for path in info.iterdir()))
    return Distribution.at(info)


@pytest.mark.parametrize(
    ("metadata", "files", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: other", {}, "MIT OR Apache-2.0"),
        ("Classifier: License :: OSI Approved :: BSD License\nLicense: other", {}, "BSD License"),
        ("Classifier: License :: OSI Approved\nLicense: BSD-3-Clause", {}, "BSD-3-Clause"),
        ("License: " + "long " * 40, {"LICENSE": "\n   Some License  \nof 2020\n"}, "Some License"),
        ("", {"LICENSE": "words " * 40}, NOT_STATED),
        ("", {}, NOT_STATED),
    ],
)
def test_licence_of_a_package_is_what_it_states_first(tmp_path, metadata, files, licence):
    assert of_package(package(tmp_path, metadata, **files)) == licence


@pytest.mark.parametrize("study", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_models_and_data_of_every_study_here_have_a_licence(study):
    found = list(rows(read_study(study), SOURCES, []))
    assert {kind for kind, *_ in found} == {"model", "data"}
    assert not [row for row in found if NOT_STATED in row[-1]]


def test_every_installed_package_states_a_licence():
    found = rows(read_study(ROOT / "tests/study.yaml"), {}, distributions())
    licences = {name: licence for kind, name, _, licence in found if kind == "package"}
    assert licences["specpress"] == "Apache-2.0"
    assert not [name for name, licence in licences.items() if licence == NOT_STATED]


def test_what_is_the_users_own_or_unknown_says_so(tmp_path):
    study = tmp_path / "study.yaml"
    text = (ROOT / "config" / "config.yaml").read_text()
    study.write_text(text.replace("package: gensim", "package: unknown"))
    found = {name: licence for _, name, _, licence in rows(read_study(study), SOURCES, [])}
    assert found["wikipedia (unknown)"] == "not stated in paper/sources.yaml"
    tiny = {name: licence for _, name, _, licence in rows(read_study(ROOT / "tests/study.yaml"), {}, [])}
    assert any("a file of yours" in licence for licence in tiny.values())


def test_table_has_a_line_a_row_and_straight_columns():
    lines = table([("model", "a", "", "MIT"), ("package", "longer", "1.0", "BSD")]).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert lines[3] == "| package | longer | 1.0     | BSD     |"
