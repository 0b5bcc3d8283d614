import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from specpress.files.publish import publish, sha256
from specpress.sources import fetch as resources
from specpress.sources.errors import SourceError
from specpress.sources.fetch import DATA_KINDS, check_source, download_name, download_wheel, fetch, input_files

ROOT = Path(__file__).parents[3]


def make_wheel(
    folder: Path, *, name="tiny_texts", version="1.2", tag="py3-none-any", content="Once upon a time."
) -> Path:
    """A wheel that pip downloads, with one text inside."""
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-{version}-{tag}.whl"
    information = f"{name}-{version}.dist-info"
    files = {
        f"{name}/data/story.txt": content,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{information}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{information}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():  # with a fixed date: a wheel made again later has the same hash
            archive.writestr(zipfile.ZipInfo(path), text)
    return wheel


def source_of(wheel: Path, **keys) -> dict:
    return {
        "kind": "wheel",
        "package": "tiny-texts",
        "version": "1.2",
        "sha256": sha256(wheel),
        "member": "tiny_texts/data/story.txt",
        **keys,
    }


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """pip sees the wheels of one folder and nothing else; the folder."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_wheel_is_downloaded_checked_and_unpacked(offline, tmp_path):
    source = source_of(make_wheel(offline))
    output = tmp_path / "downloads" / download_name(source)
    download_wheel(source, output)
    assert left_in(output.parent) == ["tiny_texts-1.2.whl"]
    story = fetch(source, tmp_path, wheel=output)
    assert story.read_text() == "Once upon a time."


def test_fetch_downloads_by_itself_when_it_has_no_wheel(offline, tmp_path):
    source = source_of(make_wheel(offline))
    assert fetch(source, tmp_path / "work").read_text() == "Once upon a time."


@pytest.mark.parametrize("tag", ["cp311-cp311-manylinux_2_24_x86_64", "cp311-cp311-manylinux2014_x86_64"])
def test_a_wheel_of_another_python_and_an_older_platform_is_found(offline, tmp_path, tag):
    source = source_of(make_wheel(offline, tag=tag), python="3.11", platform="manylinux_2_28_x86_64")
    download_wheel(source, tmp_path / "wheel.whl")
    assert (tmp_path / "wheel.whl").is_file()


def test_a_wrong_sha256_leaves_no_file_and_says_both(offline, tmp_path):
    wheel = make_wheel(offline)
    source = source_of(wheel, sha256="0" * 64)
    output = tmp_path / "downloads" / "wheel.whl"
    with pytest.raises(SourceError, match="wrong sha256") as caught:
        download_wheel(source, output)
    assert "expected " + "0" * 64 in str(caught.value)
    assert "got      " + sha256(wheel) in str(caught.value)
    assert left_in(output.parent) == []


def test_a_wrong_file_in_the_place_of_the_wheel_is_replaced(offline, tmp_path):
    source = source_of(make_wheel(offline))
    output = tmp_path / "wheel.whl"
    output.write_bytes(b"half a whe")
    download_wheel(source, output)
    assert sha256(output) == source["sha256"]


def test_a_right_wheel_is_not_fetched_again(tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path)
    monkeypatch.setattr(resources.subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    assert download_wheel(source_of(wheel), wheel) == wheel


def test_an_unreachable_wheel_says_what_and_what_to_do(offline, tmp_path, monkeypatch, capfd):
    waits = []
    monkeypatch.setattr(resources.time, "sleep", waits.append)
    source = source_of(make_wheel(tmp_path / "elsewhere"))
    output = tmp_path / "downloads" / "wheel.whl"
    with pytest.raises(SourceError, match=r"tiny-texts==1\.2 could not be fetched") as caught:
        download_wheel(source, output)
    for part in ("No matching distribution", "PIP_FIND_LINKS=<folder> PIP_NO_INDEX=1", "kind: path", source["member"]):
        assert part in str(caught.value)
    assert waits == [2.0, 4.0]
    assert "fetching tiny-texts==1.2 (attempt 3 of 3)" in capfd.readouterr().err
    assert left_in(output.parent) == []


def test_a_refused_connection_is_named(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PIP_PROXY", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    source = source_of(make_wheel(tmp_path / "elsewhere"))
    with pytest.raises(SourceError, match="refused"):
        download_wheel(source, tmp_path / "wheel.whl", attempts=1)


def test_a_second_attempt_can_succeed(offline, tmp_path, monkeypatch):
    source = source_of(make_wheel(tmp_path / "elsewhere"))
    monkeypatch.setattr(resources.time, "sleep", lambda _: make_wheel(offline))
    download_wheel(source, tmp_path / "wheel.whl")
    assert sha256(tmp_path / "wheel.whl") == source["sha256"]


def test_a_missing_member_names_the_nearest(tmp_path):
    wheel = make_wheel(tmp_path)
    with pytest.raises(SourceError, match=r"no member 'tiny_texts/story.txt'.*tiny_texts/data/story\.txt"):
        fetch(source_of(wheel, member="tiny_texts/story.txt"), tmp_path, wheel=wheel)


def test_a_wheel_that_changed_on_disk_is_refused(tmp_path):
    wheel = make_wheel(tmp_path)
    source = source_of(wheel)
    make_wheel(tmp_path, content="Twice upon a time.")
    with pytest.raises(SourceError, match="wrong sha256"):
        fetch(source, tmp_path, wheel=wheel)


def test_paths_are_used_as_they_are(tmp_path):
    source = {"kind": "path", "path": str(tmp_path)}
    assert fetch(source, tmp_path) == tmp_path
    assert input_files(source) == [str(tmp_path)]
    with pytest.raises(SourceError, match="does not exist"):
        fetch({"kind": "path", "path": str(tmp_path / "nowhere")}, tmp_path)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ({"kind": "ftp"}, "'ftp' is unknown here; known: wheel, hub, path"),
        ({}, "None is unknown here"),
        ({"kind": "random", "seed": 0}, "'random' is unknown here"),
        ({"kind": "path"}, "needs the keys path"),
        ({"kind": "path", "path": "x", "sha": "y"}, "has no keys sha; known: kind, path"),
        ({"kind": "wheel", "package": "p", "member": "m"}, "needs the keys sha256, version"),
    ],
)
def test_sources_that_cannot_work_are_refused(source, complaint):
    with pytest.raises(SourceError, match=complaint):
        check_source(source, kinds=DATA_KINDS)


def test_good_sources_pass(tmp_path):
    check_source(source_of(make_wheel(tmp_path), python="3.11", platform="manylinux_2_28_x86_64"))
    check_source({"kind": "path", "path": "x"})
    check_source({"kind": "random", "architecture": "llama", "hidden_size": 16, "layers": 1, "heads": 2, "seed": 0})


def test_download_names_need_no_network_and_tell_wheels_apart(tmp_path):
    source = source_of(make_wheel(tmp_path))
    names = {
        download_name(source),
        download_name({**source, "version": "1.3"}),
        download_name({**source, "python": "3.11", "platform": "manylinux_2_28_x86_64"}),
        download_name({**source, "python": "3.12", "platform": "manylinux_2_28_x86_64"}),
    }
    assert len(names) == 4
    assert download_name(source) == "tiny_texts-1.2.whl"
    assert download_name({"kind": "path", "path": "x"}) is None
    assert download_name({"kind": "random"}) is None


def test_platform_tags_include_the_older_ones():
    tags = resources._platform_tags("manylinux_2_17_aarch64")
    assert tags[0] == "manylinux_2_17_aarch64"
    assert {"manylinux_2_5_aarch64", "manylinux2014_aarch64", "manylinux1_aarch64"} < set(tags)
    assert "manylinux_2_18_aarch64" not in tags
    assert "manylinux2014_x86_64" not in resources._platform_tags("manylinux_2_12_x86_64")
    assert resources._platform_tags("macosx_11_0_arm64") == ["macosx_11_0_arm64"]
    assert resources._platform_tags(None) == []


def test_the_sources_load_without_torch():
    modules = "specpress.sources.fetch, specpress.data.readers, specpress.data.documents"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_killed_job_leaves_no_manifest_and_the_next_one_cleans_up(tmp_path):
    target = tmp_path / "model"
    code = (
        "import sys, time; from specpress.files.publish import publish\n"
        f"with publish({str(target)!r}, {{}}) as folder:\n"
        "    (folder / 'model.safetensors').write_text('half')\n"
        "    print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    with publish(target, {}) as folder:
        assert left_in(folder) == []
        (folder / "model.safetensors").write_text("whole")
    assert left_in(tmp_path) == ["model"]
    assert left_in(target) == ["manifest.json", "model.safetensors"]


def test_the_old_manifest_goes_before_the_first_new_file_comes(tmp_path, monkeypatch):
    with publish(tmp_path / "data", {"version": 1}) as folder:
        (folder / "a").write_text("old")
    moved = []

    def spy(source, target):
        moved.append(Path(target).name)
        assert not (tmp_path / "data" / "manifest.json").exists()
        Path(source).rename(target)

    monkeypatch.setattr("specpress.files.publish.os.replace", spy)
    with publish(tmp_path / "data", {"version": 2}) as folder:
        (folder / "a").write_text("new")
        (folder / "z").write_text("new")
    assert moved == ["a", "z", "manifest.json"]
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["version"] == 2


def test_command_line_fetches_or_says_why_in_one_message(offline, tmp_path):
    source = source_of(make_wheel(offline))
    command = [
        sys.executable,
        str(ROOT / "scripts" / "fetch_wheel.py"),
        "--output",
        str(tmp_path / "wheel.whl"),
        "--source",
    ]
    assert subprocess.run([*command, json.dumps(source)], capture_output=True).returncode == 0
    assert sha256(tmp_path / "wheel.whl") == source["sha256"]
    bad = {**source, "sha256": "0" * 64}
    done = subprocess.run([*command, json.dumps(bad)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: tiny-texts==1.2: wrong sha256" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "wheel.whl").exists()
