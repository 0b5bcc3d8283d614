"""A Python that has imported what jobs import, and of which each job is a fork: it starts in milliseconds, not seconds.

A job's command stays what the rules say, `python scripts/NAME.py ...`; that `python` asks the warm one to run the
script, in the job's folder, with its environment, arguments and streams, and ends with its status. The project's own
modules are not imported beforehand: they are those of the job's checkout. That is why this is not
`specpress.files.warm`, whose process belongs to one checkout and has imported all of it: here one serves many trees.
"""

import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

IMPORTED = (
    *("torch", "kvpress", "datasets", "scipy.stats", "pandas", "matplotlib.pyplot", "seaborn", "jinja2", "jsonschema"),
    *("transformers.models.auto.tokenization_auto", "transformers.models.gpt_neox.modeling_gpt_neox"),
)
SHIM = """#!/bin/sh
case "$1" in
    *.py) exec {python} -S -E {warm} ask {address} "$@" ;;
    *) exec {python} "$@" ;;
esac
"""


@contextmanager
def warm_python(tree):
    """Inside the block the jobs of a tree are forks. What is imported reads the environment as it is at the start."""
    address = tree.path / "warm.socket"
    shim = tree.path / "bin" / "python"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(SHIM.format(python=sys.executable, warm=Path(__file__).resolve(), address=address))
    shim.chmod(0o755)
    tree.edit("workflow/rules/common.smk", '"PATH": Path(sys.executable).parent', '"PATH": checkout / "bin"')
    server = subprocess.Popen([sys.executable, __file__, "serve", address], env=tree.environment())
    try:
        while not address.exists():
            assert server.poll() is None, "the warm Python ended before it was ready"
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()


def serve(address: str) -> None:
    """Import, then fork for each that asks."""
    for module in IMPORTED:
        importlib.import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    while True:
        connection, _ = listener.accept()
        message, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if os.fork() == 0:
            listener.close()
            status = run(json.loads(message), streams)
            connection.sendall(bytes([status]))
            os._exit(status)
        for file in (connection, *map(os.fdopen, streams)):
            file.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def run(job: dict, streams: list[int]) -> int:
    """Run a script as Python would; its exit status."""
    for standard, given in enumerate(streams):
        os.dup2(given, standard)
        mode, stream = "rww"[standard], ("stdin", "stdout", "stderr")[standard]
        setattr(sys, stream, open(standard, mode, closefd=False))  # noqa: SIM115 (open as long as the process)
    os.environ.clear()
    os.environ.update(job["environment"], SPECPRESS_WARM="0")
    os.chdir(job["folder"])
    script = job["arguments"][0]
    sys.argv = job["arguments"]
    sys.path[:0] = [str(Path(script).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    try:
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status & 0xFF


def ask(address: str, arguments: list[str]) -> int:
    """Have a script run by the Python that serves there; its exit status, that of a killed process if there is none."""
    job = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(job).encode()], [0, 1, 2])
        status = connection.recv(1)
    return status[0] if status else 137


if __name__ == "__main__":
    what, address, *arguments = sys.argv[1:]
    sys.exit(serve(address) if what == "serve" else ask(address, arguments))
