import os

import pytest

from specpress.files.writable import obstacles


def test_nothing_is_in_the_way_of_a_folder_that_is_to_be_made(tmp_path):
    assert obstacles([tmp_path, tmp_path / "a" / "b"]) == []


def test_each_obstacle_is_named_once(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    lines = obstacles([tmp_path / "file" / "a", tmp_path / "file" / "a", tmp_path / "link" / "b"])
    assert lines == [
        f"{tmp_path}/file is a file, and {tmp_path}/file/a has to be a folder: move it away",
        f"{tmp_path}/link is a link to nowhere, which does not exist: make that folder, or remove the link",
    ]


def test_folder_without_permission_is_named(tmp_path, monkeypatch):
    """Root may write everywhere: what the system answers is put in its place."""
    if os.geteuid():
        tmp_path.chmod(0o500)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    (line,) = obstacles([tmp_path / "results"])
    assert line.startswith(f"{tmp_path} cannot be written to: change its permissions")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("relative", ["results/small", "."])
def test_relative_folders_begin_here(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    assert obstacles([relative]) == []
