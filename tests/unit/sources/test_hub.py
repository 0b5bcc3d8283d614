"""The hub source, against a hub on the loopback interface that speaks huggingface_hub's protocol."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_hub import REVISION, serve
from waiting import wait_for

from specpress.files.publish import sha256
from specpress.models.build import random_model
from specpress.models.prepare import prepare
from specpress.models.save import save_model
from specpress.sources import hub as hub_source
from specpress.sources.errors import SourceError
from specpress.sources.fetch import DATA_KINDS, check_source, fetch
from specpress.sources.hub import download_config, download_file, download_model

ROOT = Path(__file__).parents[3]
MODEL, DATA = "owner/tiny", "owner/texts"
FILE = "raw/test-00000-of-00001.parquet"
WEIGHTS = bytes(range(256)) * 2000  # half a megabyte


def parquet(**columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with a model and a data set, as the environment of this process names it; an empty cache; no waiting."""
    with serve() as server:
        server.repositories["models", MODEL] = {
            "config.json": b'{"model_type": "gpt_neox"}',
            "model.safetensors": WEIGHTS,
            "pytorch_model.bin": b"a pickle",
            "modeling_tiny.py": b"raise SystemExit",
            "onnx/config.json": b"{}",
        }
        server.repositories["datasets", DATA] = {FILE: parquet(text=["One.", "Two."])}
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 600)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield server
        huggingface_hub.close_session()


def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_a_model_is_its_safetensors_and_json(hub):
    folder = download_model(MODEL, REVISION)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_configuration_and_its_commit_are_had_without_the_weights(hub):
    folder, commit = download_config(MODEL)
    assert commit == REVISION
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert hub.asked("GET", "model.safetensors") == []
    hub.repositories["models", "owner/no-model"] = {"readme.json": b"{}"}
    with pytest.raises(SourceError, match=r"owner/no-model holds no config\.json"):
        download_config("owner/no-model")


def test_a_chat_template_in_a_file_of_its_own_comes_with_the_model(hub):
    hub.repositories["models", MODEL]["chat_template.jinja"] = b"{{ messages }}"
    assert (download_model(MODEL, REVISION) / "chat_template.jinja").read_bytes() == b"{{ messages }}"


def test_a_family_that_is_not_decoded_here_is_refused_before_its_weights_are_fetched(hub, tmp_path):
    hub.repositories["models", MODEL]["config.json"] = b'{"model_type": "gemma2"}'
    with pytest.raises(ValueError, match="gemma2"):
        prepare({"kind": "hub", "repo": MODEL, "revision": REVISION}, tmp_path / "model")
    assert hub.asked("GET", "model.safetensors") == []


def test_a_data_set_is_one_file(hub):
    path = fetch({"kind": "hub", "repo": DATA, "revision": REVISION, "file": FILE}, ".")
    assert path.read_bytes() == hub.repositories["datasets", DATA][FILE]
    assert hub.asked("GET", FILE) == [None]


def test_what_is_in_the_cache_is_not_fetched_again(hub, monkeypatch):
    folder, path = download_model(MODEL, REVISION), download_file(DATA, REVISION, FILE)
    hub.requests.clear()
    assert (download_model(MODEL, REVISION), download_file(DATA, REVISION, FILE)) == (folder, path)
    offline(monkeypatch)
    assert (download_model(MODEL, REVISION), download_file(DATA, REVISION, FILE)) == (folder, path)
    assert not hub.requests


def test_offline_without_a_cache_says_so(hub, monkeypatch):
    offline(monkeypatch)
    for call in (lambda: download_model(MODEL, REVISION), lambda: download_file(DATA, REVISION, FILE)):
        with pytest.raises(
            SourceError, match=r"HF_HUB_OFFLINE is set and the cache .* does not hold all of it.*HF_HOME"
        ):
            call()
    assert not hub.requests


def test_a_cut_connection_goes_on_where_it_was_cut(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.cuts["model.safetensors"] = [200_000, 100_000]
    folder = download_model(MODEL, REVISION)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    whole, *resumed = hub.asked("GET", "model.safetensors")
    assert whole is None
    assert len(resumed) == 2
    starts = [int(part.removeprefix("bytes=").removesuffix("-")) for part in resumed]
    assert 0 < starts[0] < starts[1] <= 300_000


def kill_in_the_middle(hub, call: str, tmp_path, written: int) -> None:
    """Run a download in a process of its own and kill it where the line goes quiet and so much has been written."""
    chunks = "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 1000"
    code = f"{chunks}\nfrom specpress.sources.hub import download_config, download_file, download_model\n{call}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    own["HF_HUB_DOWNLOAD_TIMEOUT"] = "600"  # the quiet line is waited on until the kill, however late that comes
    process = subprocess.Popen([sys.executable, "-c", code], env={**clean, **own})
    try:
        assert hub.quiet.wait(300)
        partials = wait_for(lambda: [p for p in (tmp_path / "cache").rglob("*.partial") if p.stat().st_size > written])
        assert len(partials) == 1
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["model", "data"])
def test_a_killed_process_is_followed_by_one_that_asks_for_the_rest_only(hub, kind, tmp_path):
    content = hub.repositories["models", MODEL]["model.safetensors"]
    hub.repositories["datasets", DATA][FILE] = content
    file = "model.safetensors" if kind == "model" else FILE
    call = (
        f"download_model({MODEL!r}, {REVISION!r})"
        if kind == "model"
        else f"download_file({DATA!r}, {REVISION!r}, {FILE!r})"
    )
    hub.stalls[file] = 300_000
    kill_in_the_middle(hub, call, tmp_path, written=200_000)
    hub.requests.clear()
    if kind == "model":
        path = download_model(MODEL, REVISION) / "model.safetensors"
    else:
        path = download_file(DATA, REVISION, FILE)
    assert path.read_bytes() == content
    (part,) = hub.asked("GET", file)
    assert 200_000 < int(part.removeprefix("bytes=").removesuffix("-")) <= 300_000
    assert not list((tmp_path / "cache").rglob("*.partial"))


@pytest.mark.parametrize(("left", "ranges"), [(1000, ["bytes=1000-", None]), (len(WEIGHTS) + 1, [None])])
def test_what_a_killed_process_left_may_be_something_else(hub, left, ranges, tmp_path):
    """The hash of the whole, or its length, gives it away: all of it is fetched."""
    folder = tmp_path / "cache" / "models--owner--tiny" / "blobs"
    folder.mkdir(parents=True)
    (folder / f"{hashlib.sha256(WEIGHTS).hexdigest()}.partial").write_bytes(b"x" * left)
    assert (download_model(MODEL, REVISION) / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.asked("GET", "model.safetensors") == ranges


@pytest.mark.parametrize(("file", "fetching"), [("model.safetensors", download_model), (FILE, None)])
def test_a_wrong_hash_is_refused_and_leaves_nothing(hub, file, fetching, tmp_path):
    content = (
        hub.repositories["models", MODEL]["model.safetensors"] if fetching else hub.repositories["datasets", DATA][FILE]
    )
    hub.lies[file] = b"x" * len(content)
    with pytest.raises(
        SourceError, match=r"has the wrong hash.\n  expected \w{64}\n  got      \w{64}\nIt was removed"
    ) as caught:
        fetching(MODEL, REVISION) if fetching else download_file(DATA, REVISION, FILE)
    assert hub.url in str(caught.value)
    assert not [
        path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.read_bytes() == hub.lies[file]
    ]
    del hub.lies[file]
    assert fetching(MODEL, REVISION) if fetching else download_file(DATA, REVISION, FILE)


def test_a_small_file_is_checked_too(hub):
    hub.lies["config.json"] = b'{"model_type": "gpt_evil"}'
    with pytest.raises(SourceError, match=r"config.json has the wrong hash.\n  expected \w{40}\n"):
        download_model(MODEL, REVISION)


def test_a_file_that_went_bad_in_the_cache_is_fetched_again(hub):
    path = download_file(DATA, REVISION, FILE)
    blob = path.resolve()
    blob.write_bytes(b"y" * blob.stat().st_size)
    assert download_file(DATA, REVISION, FILE).read_bytes() == hub.repositories["datasets", DATA][FILE]


@pytest.mark.parametrize("where", ["tree", "model.safetensors"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(hub, where, status):
    hub.errors[where] = [status, status]
    assert (download_model(MODEL, REVISION) / "model.safetensors").read_bytes() == WEIGHTS
    assert not hub.errors[where]


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(429, "asks to wait"), (500, r"answered HTTP 500 \(4 attempts\)"), (403, "needs a token in HF_TOKEN")],
)
def test_a_hub_that_goes_on_refusing_is_named_with_its_answer(hub, status, complaint, capfd):
    hub.errors["tree"] = [status] * 100
    with pytest.raises(SourceError, match=complaint):
        download_model(MODEL, REVISION)
    attempts = capfd.readouterr().err.count("attempt ")
    assert attempts == (1 if status == 403 else 4)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: download_model(MODEL, "f" * 40), "no such revision"),
        (lambda: download_file(DATA, "f" * 40, FILE), "no such revision"),
        (lambda: download_file(DATA, REVISION, "raw/train.parquet"), "no such file at this revision"),
        (lambda: download_model("owner/nothing", REVISION), r"no such repository.*HTTP 404"),
        (lambda: download_file("owner/nothing", REVISION, FILE), r"no such repository.*HTTP 404"),
    ],
)
def test_what_does_not_exist_is_asked_for_once(hub, call, complaint, capfd):
    with pytest.raises(SourceError, match=complaint):
        call()
    assert capfd.readouterr().err.count("attempt ") == 1


def test_a_private_repository_takes_the_token_of_the_environment(hub, monkeypatch):
    hub.token = "secret"
    with pytest.raises(SourceError, match=r"needs a token in HF_TOKEN \(HTTP 401\)"):
        download_model(MODEL, REVISION)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(SourceError, match="the token in HF_TOKEN may not read it") as caught:
        download_model(MODEL, REVISION)
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert download_model(MODEL, REVISION)


def test_pickled_weights_are_refused(hub):
    del hub.repositories["models", MODEL]["model.safetensors"]
    with pytest.raises(SourceError, match=r"no safetensors weights. Pickled weights .* never downloaded.*kind: path"):
        download_model(MODEL, REVISION)
    assert not hub.asked("GET", ".bin")


def test_no_hub_at_all_is_a_refused_connection(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"refused.*4 attempts"):
        download_model(MODEL, REVISION)


def test_waits_double(hub, monkeypatch):
    waits = []
    monkeypatch.setattr(hub_source.time, "sleep", waits.append)
    hub.errors["tree"] = [500] * 100
    with pytest.raises(SourceError):
        download_model(MODEL, REVISION)
    assert waits == [2.0, 4.0, 8.0]


def test_a_data_set_needs_its_file():
    with pytest.raises(SourceError, match="needs either `file` or `split`"):
        check_source({"kind": "hub", "repo": DATA, "revision": REVISION}, kinds=DATA_KINDS)
    check_source({"kind": "hub", "repo": DATA, "revision": REVISION, "file": FILE}, kinds=DATA_KINDS)
    check_source({"kind": "hub", "repo": MODEL, "revision": REVISION})


def test_the_scripts_take_hub_sources_by_the_environment_alone(hub, tmp_path):
    """A GPT-NeoX with its tokenizer and a data set, in processes of their own: first online, then from a warm cache."""
    made = random_model({"architecture": "gpt_neox", "hidden_size": 32, "layers": 2, "heads": 4, "seed": 0})
    save_model(*made, tmp_path / "made", {})
    hub.repositories["models", MODEL] = {
        path.name: path.read_bytes() for path in (tmp_path / "made").iterdir() if path.name != "manifest.json"
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**clean, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}

    def run(script: str, source: dict, *options: str, **extra) -> dict:
        output = tmp_path / script
        command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--source", json.dumps(source), *options]
        subprocess.run([*command, "--output", str(output)], env={**environment, **extra}, check=True)
        return json.loads((output / "manifest.json").read_text())

    model = {"kind": "hub", "repo": MODEL, "revision": REVISION}
    data = {"kind": "hub", "repo": DATA, "revision": REVISION, "file": FILE}
    for extra in ({}, {"HF_HUB_OFFLINE": "1"}):
        manifest = run("prepare_model", model, "--dtype", "float32", **extra)
        assert manifest["source"] == model
        assert manifest["architecture"] == "gpt_neox"
        assert manifest["downloads"]["model.safetensors"]["sha256"] == sha256(tmp_path / "made" / "model.safetensors")
        assert manifest["layers"] == 2
        assert manifest["kv_bytes_per_token"] == 2 * 2 * 32 * 4
        assert (tmp_path / "prepare_model" / "tokenizer.json").is_file()
    manifest = run("prepare_data", data, "--reader", "parquet", "--test-fraction", "0.5")
    assert manifest["test"]["documents"] == 1
    assert manifest["downloads"][Path(FILE).name]["sha256"] == manifest["sha256"]


def test_a_split_comes_by_the_loader_at_the_pinned_commit_and_offline_no_other(hub, tmp_path):
    card = "---\nconfigs:\n- config_name: raw\n  data_files:\n  - {split: test, path: raw/test-*}\n---\n"
    hub.repositories["datasets", DATA]["README.md"] = card.encode()
    hub.repositories["datasets", "owner/scripted"] = {"scripted.py": b"raise SystemExit('it ran')"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**clean, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    program = (
        "import sys, pathlib, pyarrow.parquet as pq\n"
        "from specpress.sources.hub_split import download_split\n"
        "from specpress.sources.errors import SourceError\n"
        "for repo, revision, config, split in (line.split() for line in sys.argv[2:]):\n"
        "    try:\n"
        "        path = download_split(repo, revision, config, split, pathlib.Path(sys.argv[1]))\n"
        "        print(pq.read_table(path)['text'])\n"
        "    except SourceError as error: print(error)\n"
    )

    def run(*wanted: str, **extra) -> str:
        command = [sys.executable, "-c", program, str(tmp_path), *wanted]
        return subprocess.run(command, env={**environment, **extra}, capture_output=True, text=True, check=True).stdout

    there = f"{DATA} {REVISION} raw test"
    said = run(there, f"{DATA} {REVISION} raw train", f"owner/scripted {REVISION} raw test")
    assert all(text in said for text in ("One.", "Two."))
    assert "Unknown split" in said
    assert "Dataset scripts are no longer supported" in said
    assert "it ran" not in said
    said = run(there, f"{DATA} {'f' * 40} raw test", HF_HUB_OFFLINE="1")
    assert "One." in said
    assert "does not hold revision ffff" in said
