"""Copies of the working tree in which the real Snakefile runs: as it is, or with stubs in place of the scripts."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import yaml

ROOT = Path(__file__).resolve().parents[2]
PARTS = [
    "Snakefile",
    "Makefile",
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "workflow",
    "profiles",
    "config",
    "src",
    "scripts",
    "paper",
    "tests/study.yaml",
    "tests/data",
]

# Put before a script's own text: the script ends here, but what it imports can still be read from its source. Every
# output argument is written, a folder with its two JSON files; then the script would have begun.
STUB = """import sys
from pathlib import Path
arguments = dict(zip(sys.argv[1:], sys.argv[2:]))
outputs = [flag for flag in arguments if flag.startswith("--output")]
if "collect_results" in sys.argv[0]:
    outputs = ["--observations", "--summary", "--environment"]
for path in (Path(arguments[flag]) for flag in outputs):
    for file in [path] if path.suffix else [path / "manifest.json", path / "metrics.json"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(" ".join(sys.argv))
sys.exit()
"""
LATEXMK = """#!/usr/bin/env bash
for argument; do
    case "$argument" in -outdir=*) folder="${argument#-outdir=}" ;; esac
done
mkdir -p "$folder" && echo > "$folder/main.pdf"
"""


class Tree:
    """A copy of the working tree at `path`, and the commands a user would type there."""

    timeout: float | None = None  # seconds of a snakemake, after which it is killed and the test fails

    def __init__(self, path: Path):
        self.path = path
        for part in PARTS:
            source, target = ROOT / part, path / part
            target.parent.mkdir(parents=True, exist_ok=True)
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "main.pdf")
            (shutil.copytree if source.is_dir() else shutil.copy)(
                source, target, **({"ignore": ignored} if source.is_dir() else {})
            )

    def environment(self) -> dict[str, str]:
        """The copied package comes before the installed one; fake tools, if any, before the system's."""
        paths = [self.path / "bin", Path(sys.executable).parent, os.environ["PATH"]]
        own = {"PYTHONPATH": str(self.path / "src"), "PATH": os.pathsep.join(map(str, paths))}
        inherited = {key: value for key, value in os.environ.items() if key != "SPECPRESS_RUN"}
        return {**inherited, **own, "XDG_CACHE_HOME": str(self.path / ".cache")}

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        """Run snakemake; its output, both streams together."""
        try:
            status, out = forked.snakemake(self.path, self.environment(), arguments, self.timeout)
        except TimeoutError as late:
            raise AssertionError(f"snakemake {' '.join(arguments)} took {self.timeout} s:\n{late}") from late
        if check and status:
            raise AssertionError(f"snakemake {' '.join(arguments)} exited with {status}:\n{out}")
        return out

    def recover(self) -> subprocess.CompletedProcess:
        """What `make paper` does before it runs snakemake."""
        command = [sys.executable, "workflow/recover.py"]
        return subprocess.run(command, cwd=self.path, env=self.environment(), capture_output=True, text=True)

    def jobs(self, *arguments: str) -> set[str]:
        """What a dry run would make, one name a job: its rule, and its wildcards if it has any."""
        text = self.snakemake("-n", *arguments)
        found = set()
        for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", text, re.MULTILINE):
            wildcards = re.search(r"^    wildcards: (.*)$", body, re.MULTILINE)
            values = [part.split("=", 1)[1] for part in wildcards[1].split(", ")] if wildcards else []
            found.add(" ".join([rule, *values]))
        return found - {"all"}

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace `old`, which must be there, by `new` in a file."""
        text = (self.path / file).read_text()
        assert old in text, f"{file} does not contain {old!r}"
        (self.path / file).write_text(text.replace(old, new))

    def append(self, file: str, text: str) -> None:
        """Add text at the end of a file."""
        with (self.path / file).open("a") as stream:
            stream.write(text)

    def write_study(self, study: dict, file: str = "config/config.yaml") -> None:
        """Write a study file."""
        (self.path / file).write_text(yaml.safe_dump(study, sort_keys=False))

    def stub_scripts(self) -> None:
        """Make every script write its outputs and end; latexmk likewise."""
        for script in (self.path / "scripts").glob("*.py"):
            script.write_text(STUB + script.read_text())
        fake = self.path / "bin" / "latexmk"
        fake.parent.mkdir()
        fake.write_text(LATEXMK)
        fake.chmod(0o755)
