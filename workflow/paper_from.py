"""Rebuild the paper of an archive from its metrics, in a folder of its own, and say whether it is the archived one.

Metrics, manifests, study and paper sources come from the archive; scripts, library and rules from this checkout.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from specpress.provenance.archive import INDEX, ArchiveError, load, unpack

ROOT = Path(__file__).resolve().parents[1]
CODE = ("scripts", "src", "workflow")


def main() -> None:
    """Unpack, run the analysis and what follows from it, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, help="what make archive wrote")
    parser.add_argument("--cores", default="all")
    arguments = parser.parse_args()
    try:
        study, archived = load(arguments.archive)
        folder = ROOT / "archives" / arguments.archive.name.removesuffix(".tar")
        lay_out(arguments.archive, folder)
    except ArchiveError as error:
        sys.exit(f"error: {error}")
    command = ["-m", "snakemake", "--snakefile", "workflow/from_results.smk", "--configfile", "study.yaml"]
    command += ["--cores", arguments.cores, "--show-failed-logs", "--quiet", "rules", "--workflow-profile", "none"]
    if status := subprocess.run([sys.executable, *command], cwd=folder, check=False).returncode:
        sys.exit(status)
    paper = folder / "paper" / "main.pdf"
    same = paper.read_bytes() == archived[f"results/{study}/paper/main.pdf"]
    print(
        f"{paper.relative_to(ROOT)}: {'the archived paper, byte for byte' if same else 'differs from the archived one'}"
    )


def lay_out(archive: Path, folder: Path) -> None:
    """The archive's sources and metrics in `folder`, and this checkout's code beside them.

    Raises
    ------
    ArchiveError
        If the archive cannot be used, or `folder` is something else than an archive laid out before.
    """
    if folder.exists() and not (folder / INDEX).is_file():
        raise ArchiveError(f"{folder} is in the way: move it, or rename the archive")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / INDEX).touch()
    unpack(archive, folder)
    for name in CODE:
        (folder / name).symlink_to(ROOT / name, target_is_directory=True)


if __name__ == "__main__":
    main()
