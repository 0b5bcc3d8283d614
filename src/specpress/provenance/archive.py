"""`specpress archive`: everything the paper of a study is made of, in one tar, without models and data.

    specpress-<study>/archive.json                     schema, study, and the SHA-256 of every other file
    specpress-<study>/study.yaml                       the study file
    specpress-<study>/results/<study>/...              metrics, analysis, figures, tables, texts, numbers, the paper
    specpress-<study>/resources/<study>/.../manifest.json   what models and data were, not they themselves
    specpress-<study>/paper/...                        the sources of the paper
    specpress-<study>/Snakefile, workflow/, README.md, LICENSE, CITATION.cff    the workflow that ran
    specpress-<study>/ro-crate-metadata.json           all of this for other programs: see crate.py
    specpress-<study>/results/<study>/report.html      if there is one of these results

The same files give the same bytes: members are sorted and carry neither dates nor users.
"""

import argparse
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from specpress.files.metrics import SCHEMA
from specpress.provenance import crate
from specpress.provenance.members import members, required
from specpress.study.load import Study, read_study

INDEX = "archive.json"


class ArchiveError(ValueError):
    """Results or an archive that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Stored:
    """The results of one study, in a folder or in an archive.

    Parameters
    ----------
    label : str
        What the user called it.
    study : str
        The name of the study.
    read : callable
        The bytes of a file, given its path below results/<study>; None where there is none.
    """

    label: str
    study: str
    read: Callable[[str], bytes | None]

    def text(self, name: str) -> str:
        """The text of a file that has to be there.

        Raises
        ------
        ArchiveError
            If it is not, or is no text.
        """
        found = self.read(name)
        if found is None:
            raise ArchiveError(f"{self.label} has no {name}: expected the results of a finished study (make paper)")
        try:
            return found.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged(name, f"not UTF-8 (byte {error.start})") from error

    def mapping(self, name: str, *parts: str) -> dict:
        """What a JSON file says that has to be there, with mappings under the keys `parts`.

        Raises
        ------
        ArchiveError
            If it is not, or says something else.
        """
        try:
            found = json.loads(self.text(name))
        except (json.JSONDecodeError, RecursionError) as error:
            raise self.damaged(name, f"not JSON ({error})") from error
        if not isinstance(found, dict) or not all(isinstance(found.get(part), dict) for part in parts):
            raise self.damaged(name, "no mapping" + (f" with {', '.join(parts)}" if parts else ""))
        return found

    def damaged(self, name: str, why: str) -> ArchiveError:
        """What to raise for a file that is not what was written."""
        return ArchiveError(f"{self.label}/{name} is {why}: remove it, then run make paper, or get the archive again")


def pack(root: str | Path, study_file: str | Path, output: str | Path) -> list[str]:
    """Write the archive of a finished study; returns the names of its files.

    Parameters
    ----------
    root : str or Path
        The working tree, with results/, resources/ and paper/.
    study_file : str or Path
        The study, relative to `root` or absolute.
    output : str or Path
        The tar file; it appears when it is whole.

    Raises
    ------
    ArchiveError
        If the study has results that are missing, or a metrics file is none of this version.
    """
    root, output = Path(root), Path(output)
    if not (root / "Snakefile").is_file():
        raise ArchiveError(f"{root.resolve()} holds no Snakefile: go to the folder of the project, whose study it is")
    study, text = read_study(root / study_file), (root / study_file).read_bytes()
    paths = sorted(members(root, study))
    if missing := sorted(required(study) - {path.relative_to(root).as_posix() for path in paths}):
        raise ArchiveError(
            f"the study {study.name} is not finished: {len(missing)} of its files are missing, {missing[0]} first. "
            "Run make paper, then make archive"
        )
    files = {"study.yaml": text} | {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    try:
        files[crate.NAME] = crate.metadata(study, files)
    except ValueError as error:
        raise ArchiveError(f"{error}. Remove it, run make paper, then make archive") from None
    _check_specs(study, files)
    index = {"schema": SCHEMA, "study": study.name, "files": {name: _digest(files[name]) for name in files}}
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    with tarfile.open(partial, "w") as tar:
        for name, content in {INDEX: _json(index), **files}.items():
            member = tarfile.TarInfo(f"specpress-{study.name}/{name}")
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    os.replace(partial, output)
    return list(files)


def _check_specs(study: Study, files: Mapping[str, bytes]) -> None:
    """Raise ArchiveError if an experiment was measured by another version of the study than the one archived."""
    for name, spec in study.experiments.items():
        path = f"results/{study.name}/metrics/{name}.json"
        measured = _parsed(files[path])
        if not isinstance(measured, dict) or measured.get("spec") != json.loads(json.dumps(spec)):
            raise ArchiveError(
                f"{path} is not of the study as it is now: it was measured with other settings. Run make paper, then "
                "make archive"
            )


def _parsed(content: bytes):
    """What a JSON file says; None if it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def load(archive: str | Path) -> tuple[str, dict[str, bytes]]:
    """The study of an archive, and its files by path, checked against the index.

    Raises
    ------
    ArchiveError
        If it is not an archive of a study, is of another schema, or is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            content = {_inner(member.name): tar.extractfile(member).read() for member in tar if member.isfile()}
    except FileNotFoundError:
        raise ArchiveError(
            f"{archive} does not exist: give results/<study>, which make paper makes, or a file that make archive wrote"
        ) from None
    except (tarfile.TarError, EOFError, OSError) as error:
        why = " ".join(str(error).split())
        raise ArchiveError(f"{archive} cannot be read as a tar file ({why}): it is damaged or something else") from None
    if INDEX not in content:
        raise ArchiveError(f"{archive} is not the archive of a study: it lacks {INDEX}. make archive writes one")
    index = _parsed(content.pop(INDEX))
    if not isinstance(index, dict) or not isinstance(index.get("files", {}), dict):
        raise ArchiveError(f"{archive} is damaged: {INDEX} is not what make archive wrote. Get it again")
    if index.get("schema") != SCHEMA:
        raise ArchiveError(
            f"{archive} has schema {index.get('schema')!r}, this version reads {SCHEMA}: use the one that wrote it"
            f"{_commit(content)}"
        )
    if not {"study", "files"} <= index.keys():
        raise ArchiveError(f"{archive} is damaged: {INDEX} lacks its study or its files. Get it again")
    for name, digest in index["files"].items():
        if _digest(content.get(name, b"")) != digest:
            raise ArchiveError(f"{archive} is damaged: {name} is missing or not what was archived. Get it again")
    return index["study"], {name: content[name] for name in index["files"]}


def _commit(content: dict[str, bytes]) -> str:
    """Which commit measured what an archive holds, in brackets; nothing if no file says it."""
    for name, data in content.items():
        if name.endswith(".json"):
            found = _parsed(data)
            environment = found.get("environment") if isinstance(found, dict) else None
            if isinstance(environment, dict) and (commit := environment.get("commit")):
                return f" (commit {commit})"
    return ""


def unpack(archive: str | Path, folder: str | Path) -> str:
    """Lay out what a paper is rebuilt from: study, metrics, manifests, sources and the graph of the rules.

    Nothing else: what is computed from them is computed anew, and rules and scripts are the checkout's. The sources of
    a paper are templates and LaTeX, which run what they say: an archive is to be trusted like a program.

    Returns
    -------
    str
        The name of the study.

    Raises
    ------
    ArchiveError
        As `load`, or if a name in the archive leads out of the folder.
    """
    study, files = load(archive)
    results = f"results/{study}/"
    parts = ("metrics/", "rounding/", "drafts/", "machine.json", "figures/rule-graph.")
    wanted = ("study.yaml", "paper/", f"resources/{study}/", *(f"{results}{part}" for part in parts))
    for name, content in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ArchiveError(f"{archive} names a file outside its folder, {name}: nothing of it is to be trusted")
        if not name.startswith(wanted):
            continue
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return study


def open_results(path: str | Path) -> Stored:
    """The results in a folder results/<study>, or in an archive.

    Raises
    ------
    ArchiveError
        If there are none, or the results of several studies to choose from.
    """
    path = Path(path)
    if not path.is_dir():
        study, files = load(path)
        return Stored(str(path), study, lambda name: files.get(f"results/{study}/{name}"))
    if not (path / "analysis").is_dir():
        studies = sorted(str(folder.parent) for folder in path.glob("*/analysis"))
        if len(studies) != 1:
            known = f"name one: {', '.join(studies)}" if studies else "expected results/<study> or an archive"
            raise ArchiveError(f"{path} is not the results of one study; {known}")
        path = Path(studies[0])
    return Stored(str(path), path.resolve().name, lambda name: _read(path / name))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _inner(name: str) -> str:
    return name.partition("/")[2]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: dict) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "--study", default="config/config.yaml", metavar="FILE", help="the study file (default: %(default)s)"
    )
    parser.add_argument("--output", metavar="TAR", help="default: archives/<study>.tar")


def run(args: argparse.Namespace) -> int:
    """Archive the study whose results are in this directory."""
    output = args.output or f"archives/{read_study(args.study).name}.tar"
    names = pack(Path.cwd(), args.study, output)
    print(f"{output}: {len(names)} files, {Path(output).stat().st_size / 1e6:.1f} MB")
    return 0
