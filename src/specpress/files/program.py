"""How every program of the project ends: the command `specpress` and each script, by one rule.

Done: 0. Something the user can mend, a lack of memory too: one line that says what was wrong and what to do, 2. Ctrl-C:
one line, 130. Anything else is a bug: its traceback, and a line that says so, 1.
"""

import codecs
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
NO_MEMORY = (
    "there was not enough memory: end other programs, or take a smaller model, batch or context, then run it again"
)


def run_program(main: Callable[[], int | None], name: str = "error") -> int:
    """Run `main`; returns the exit status. `name` leads the line of an error.

    What the user can mend comes as an OSError, or as a ValueError that our own code has raised: one from inside another
    library was not meant for the user.
    """
    _print_anything()
    try:
        _refuse_another_checkout()
        try:
            status = main() or 0
        except SystemExit:  # of --help
            _flush()
            raise
        _flush()
        return status
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _drop_output()
        return 0
    except KeyboardInterrupt:
        return _end(f"{name}: interrupted", 130)
    except Exception as error:
        if is_lack_of_memory(error):
            return _end(f"{name}: {NO_MEMORY} ({_first_line(error)})", 2)
        if isinstance(error, OSError) or (isinstance(error, ValueError) and _is_told(error)):
            return _end(f"{name}: {error}", 2)
        traceback.print_exc()
        return _end(f"{name}: this is a bug of specpress: please report it, with the lines above", 1)


def _end(line: str, status: int) -> int:
    try:
        _flush()
    except OSError:  # it may be what the line tells of
        _drop_output()
    print(line, file=sys.stderr, flush=True)
    return status


def _print_anything() -> None:
    """Let no text fail for want of a character in the terminal's encoding; bytes of paths stay as they are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def _flush() -> None:
    """Write now what Python would write at its end, where an error has no line of its own."""
    if sys.stdout is not None:  # closed
        sys.stdout.flush()


def _drop_output() -> None:
    """Let what is still to be written go nowhere."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_lack_of_memory(error: Exception) -> bool:
    """Python's own error, that of torch for a GPU, or that of its allocator on a CPU, which has no type of its own."""
    told = isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or told


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _is_told(error: Exception) -> bool:
    """Whether an error was raised by a file of this checkout, and so is a message to the user."""
    frames = traceback.extract_tb(error.__traceback__)
    raised = Path(frames[-1].filename).resolve()
    return PACKAGE in raised.parents or raised.parent == _program().parent


def _program() -> Path:
    return Path(sys.argv[0]).resolve()


def _refuse_another_checkout() -> None:
    """Refuse to run a script of one checkout with the library of another: its results would name the wrong code.

    It happens where a checkout was copied or moved with its virtual environment, which leads to the old place.
    """
    folder = _program().parent
    own = folder.parent / "src" / PACKAGE.name
    if folder.name == "scripts" and own.is_dir() and own != PACKAGE:
        raise ValueError(
            f"{_program()} would run with the library of another place, {PACKAGE}, for which the virtual environment "
            f"was made. Run `make setup` in {folder.parent}, or set PYTHONPATH={own.parent}"
        )
