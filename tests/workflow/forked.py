"""Snakemake in a fork of a process that has imported it: of the three seconds of a dry run, half.

The project's own modules, and the plugins Snakemake looks for, are not imported beforehand: they are those of the
folder it runs in. Tests that are about the process itself (which is killed, or finds another library) start a real one.
"""

import multiprocessing
import os
import runpy
import sys
import sysconfig
import tempfile
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from unittest import mock

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["preloaded"])


def snakemake(folder: Path, environment: dict[str, str], arguments, timeout: float | None = None) -> tuple[int, str]:
    """`python -m snakemake` in a folder: its exit status, and both its streams together.

    Raises
    ------
    TimeoutError
        It was killed after `timeout` seconds; what it had written is the message.
    """
    with mock.patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent)):  # where it finds what it begins with
        ensure_running()
    with tempfile.NamedTemporaryFile("w+") as streams:
        process = FORKS.Process(target=_run, args=(str(folder), environment, list(arguments), streams.name))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(streams.read())
        return process.exitcode, streams.read()


def _run(folder: str, environment: dict[str, str], arguments: list[str], streams: str) -> None:
    """What a new interpreter would do: its folder, environment, module path and streams, then the module."""
    assert not {"specpress", "snakemake_logger_plugin_specpress"} & set(sys.modules)
    target = os.open(streams, os.O_WRONLY | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    installed = {*sysconfig.get_paths().values(), sysconfig.get_config_var("DESTSHARED")}
    given = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [folder, *filter(None, given), *(path for path in sys.path if path in installed)]
    sys.argv = ["snakemake", *arguments]
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
