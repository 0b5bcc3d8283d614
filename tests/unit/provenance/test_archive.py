import io
import json
import os
import tarfile

import pytest
from stored import write, write_study

from specpress.provenance.archive import ArchiveError, load, open_results, pack, unpack


@pytest.fixture
def root(tmp_path):
    write_study(tmp_path)
    return tmp_path


@pytest.fixture
def archive(root):
    pack(root, "study.yaml", root / "small.tar")
    return root / "small.tar"


def rewritten(archive, change):
    """The archive with its files, as a dict, changed."""
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    change(files)
    with tarfile.open(archive, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def test_archive_holds_what_the_paper_is_made_of(archive):
    study, files = load(archive)
    assert study == "small"
    assert {"study.yaml", "paper/sections/introduction.tex", "resources/small/models/target/manifest.json"} <= set(
        files
    )
    assert {"metrics/plain.json", "paper/main.pdf", "numbers.tex", "drafts/draft/metrics.json"} <= {
        name.removeprefix("results/small/") for name in files
    }


@pytest.mark.parametrize("left_out", ["safetensors", ".aux", "metrics/removed.json", "report.html", "'paper/main.pdf"])
def test_archive_holds_nothing_else(archive, left_out):
    assert left_out not in repr(list(load(archive)[1]))


@pytest.mark.parametrize("age", [-10, 10])
def test_report_is_archived_if_it_is_of_these_results(root, age):
    """One of another study lies in the root, one of results before these is older than the paper."""
    write(root / "report.html", "<html>")
    report, paper = (root / "results/small" / name for name in ("report.html", "paper/main.pdf"))
    write(report, "<html>")
    os.utime(report, times=(paper.stat().st_mtime + age,) * 2)
    archived = pack(root, "study.yaml", root / "small.tar")
    assert [name for name in archived if name.endswith("report.html")] == ["results/small/report.html"] * (age > 0)


def test_results_of_another_version_of_the_study_are_refused(root):
    study = root / "study.yaml"
    study.write_text(study.read_text().replace("max_new_tokens: 8", "max_new_tokens: 9"))
    with pytest.raises(ArchiveError, match=r"results/small/metrics/plain\.json is not of the study as it is now"):
        pack(root, "study.yaml", root / "small.tar")


@pytest.mark.parametrize("index", ["no json", "[]", '{"schema": 3}', '{"schema": 3, "study": "small", "files": []}'])
def test_index_that_make_archive_did_not_write_is_refused(archive, index):
    rewritten(archive, lambda files: files.update({"specpress-small/archive.json": index.encode()}))
    with pytest.raises(ArchiveError, match=r"is damaged: archive\.json"):
        load(archive)


def test_same_files_give_the_same_bytes(root, archive, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_study(other)
    pack(other, "study.yaml", other / "again.tar")
    assert (other / "again.tar").read_bytes() == archive.read_bytes()


def test_unfinished_study_is_refused(root):
    (root / "results/small/metrics/aimd.json").unlink()
    with pytest.raises(ArchiveError, match=r"1 of its files are missing, results/small/metrics/aimd.json.*make paper"):
        pack(root, "study.yaml", root / "small.tar")
    assert not (root / "small.tar").exists()


def test_a_study_with_speedups_is_unfinished_without_the_machine_whose_rates_bound_them(root):
    assert "results/small/machine.json" in pack(root, "study.yaml", root / "small.tar")
    (root / "results/small/machine.json").unlink()
    with pytest.raises(ArchiveError, match=r"1 of its files are missing, results/small/machine.json"):
        pack(root, "study.yaml", root / "small.tar")


def test_unpacking_leaves_out_what_is_computed(archive, tmp_path):
    assert unpack(archive, tmp_path / "tree") == "small"
    files = {
        path.relative_to(tmp_path / "tree").as_posix() for path in (tmp_path / "tree").rglob("*") if path.is_file()
    }
    assert {"study.yaml", "results/small/metrics/plain.json", "results/small/drafts/draft/manifest.json"} <= files
    assert not [name for name in files if name.endswith((".csv", ".pdf", ".svg", "numbers.tex"))]


def damage(files):
    files["specpress-small/results/small/metrics/plain.json"] = b"{}"


def remove(files):
    del files["specpress-small/study.yaml"]


def reindex(**changes):
    def change(files):
        index = json.loads(files["specpress-small/archive.json"])
        files["specpress-small/archive.json"] = json.dumps({**index, **changes}).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage, "is damaged: results/small/metrics/plain.json is missing or not what was archived"),
        (remove, "is damaged: study.yaml"),
        (reindex(schema=9), "has schema 9, this version reads 3"),
        (lambda files: files.pop("specpress-small/archive.json"), "is not the archive of a study"),
    ],
)
def test_wrong_archive_is_refused(archive, change, message):
    with pytest.raises(ArchiveError, match=message):
        load(rewritten(archive, change))


def test_file_outside_the_folder_is_refused(archive, tmp_path):
    def escape(files):
        index = json.loads(files["specpress-small/archive.json"])
        index["files"]["../outside"] = index["files"]["study.yaml"]
        files["specpress-small/../outside"] = files["specpress-small/study.yaml"]
        files["specpress-small/archive.json"] = json.dumps(index).encode()

    with pytest.raises(ArchiveError, match="outside its folder"):
        unpack(rewritten(archive, escape), tmp_path / "tree")
    assert not (tmp_path / "outside").exists()


def test_file_that_is_no_tar_is_refused(archive):
    archive.write_bytes(b"not a tar file" * 100)
    with pytest.raises(ArchiveError, match="cannot be read as a tar file"):
        load(archive)


def test_truncated_archive_is_refused(archive):
    archive.write_bytes(archive.read_bytes()[:4000])
    with pytest.raises(ArchiveError, match=r"cannot be read as a tar file|damaged"):
        load(archive)


def test_folder_and_archive_read_alike(root, archive):
    folder, packed = open_results(root / "results/small"), open_results(archive)
    assert folder.study == packed.study == "small"
    assert folder.text("numbers.tex") == packed.text("numbers.tex")
    assert folder.read("nothing.csv") is packed.read("nothing.csv") is None


def test_results_of_one_study_are_found_and_of_several_named(root):
    assert open_results(root / "results").label.endswith("results/small")
    write_study(root, name="other")
    with pytest.raises(ArchiveError, match=r"not the results of one study; name one: .*/other, .*/small"):
        open_results(root / "results")
    with pytest.raises(ArchiveError, match="expected results/<study> or an archive"):
        open_results(root / "paper")


def test_elsewhere_than_in_the_project_no_study_is_packed(root, tmp_path):
    with pytest.raises(ArchiveError, match="holds no Snakefile: go to the folder of the project"):
        pack(root / "results", root / "study.yaml", tmp_path / "small.tar")
