"""Jobs as forks of a warm process, which has imported what they import: they begin at once, not after seconds.

Within a run of snakemake the first script that asks starts the process, and goes on as its first fork. The process
serves only scripts that start as it did itself (environment, folder, limits, priority, cores), and only while no file
of the project has changed since. It sleeps between jobs and ends with its snakemake. Where anything is amiss a script
starts as ever, which SPECPRESS_WARM=0 sees to for all; a text in `PLACE` says why, where forks would lack something.
"""

import ctypes
import gc
import hashlib
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from specpress.files.program import PACKAGE, run_program

PLACE = Path(".snakemake/specpress")  # of the addresses, which may not be long: a relative path is not
LONGEST = 1 << 20  # bytes of a message
# What jobs with models import, whatever they do with them; and what figures and texts import.
KINDS = ("speed", "perplexity", "tasks", "regime", "chain")
MODELS = (
    *("transformers.models.llama.modeling_llama", "kvpress", "specpress.experiments.run"),
    *(f"specpress.experiments.{kind}" for kind in KINDS),
    *("specpress.training.train", "specpress.models.prepare"),
)
PAPER = ("specpress.paper.plotting", "specpress.paper.results", "specpress.paper.tables")
# pyarrow's allocator would tidy up in a thread of its own, which a fork lacks; so it does when it is called. A GPU that
# CUDA was asked for does not work in forks; so the driver is.
FORKABLE = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)

_is_fork = False


def run_warm(main: Callable[[], int | None], *modules: str) -> int:
    """As `run_program(main)`, in a fork of the warm process where there can be one.

    modules : what that process imports; it takes long, is the same for all jobs and starts no thread
    """
    asks = os.environ.get("SPECPRESS_WARM") == "1" and hasattr(os, "pidfd_open") and not _is_fork
    return run_program(partial(_run_there, main, modules) if asks else main)


def _run_there(main: Callable[[], int | None], modules: tuple[str, ...]) -> int | None:
    """Have a fork run this script, and end as it does. `main` runs here if there is none, or it is lost."""
    with suppress(OSError), _connection(modules) as connection:
        socket.send_fds(connection, [json.dumps(sys.argv).encode()], [0, 1, 2])
        if fork := connection.recv(LONGEST):
            with _signals_passed_on(int(fork)) as passed:
                status = connection.recv(LONGEST)
            if status or passed:
                return _end(int(status) if status else -passed[-1])
    return main()


def _connection(modules: tuple[str, ...]) -> socket.socket:
    """A connection to the warm process for scripts that start as this one has; if there is none yet, it is started.

    It listens before it has imported anything: who comes meanwhile waits. The address of one that was killed, or is
    of no use, stays, so that no other is started in vain.
    """
    address = PLACE / hashlib.sha256(repr((_start(), modules)).encode()).hexdigest()[:16]
    PLACE.mkdir(exist_ok=True)
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(address))  # raises if there is one
        listener.listen(64)
        call = "import sys; from specpress.files.warm import serve; serve(*sys.argv[1:])"
        command = [sys.executable, "-P", "-c", call, str(listener.fileno()), str(address), *modules]
        nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.Popen(command, pass_fds=[listener.fileno()], start_new_session=True, **nothing)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(str(address))
    except OSError:
        connection.close()
        raise
    return connection


def _start() -> tuple:
    """What a process starts with, and a library may read when it is imported."""
    mask = os.umask(0o077)
    os.umask(mask)
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    rest = mask, limits, os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))
    return sys.executable, sorted(os.environ.items()), os.getcwd(), rest


@contextmanager
def _signals_passed_on(process: int) -> Iterator[list[int]]:
    """Inside the block the signals that ask for an end go to `process` instead; gives the list of those that came."""
    passed = []

    def pass_on(number, _frame):
        passed.append(number)
        with suppress(ProcessLookupError):
            os.kill(process, number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(status: int) -> int:
    """An exit status; where it stands for a signal, this process ends by that signal."""
    if status < 0:
        with suppress(OSError):  # that of SIGKILL cannot be set, and need not be
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def serve(listener: str, address: str, *modules: str) -> None:
    """Import `modules`, then fork for each script that asks; in a fork, run it.

    listener : the descriptor of a socket that listens at `address`
    """
    global _is_fork
    warm = Warm(socket.socket(fileno=int(listener)), Path(address))
    with _set(FORKABLE):
        for module in modules:
            importlib.import_module(module)
    gc.collect()
    gc.freeze()
    if lacking := _lacking_in_forks():
        warm.address.with_suffix(".txt").write_text(f"no job is a fork here: {lacking}\n", encoding="utf-8")
        return
    if arguments := warm.wait():
        _is_fork = True
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        _begin_streams()
        runpy.run_path(arguments[0], run_name="__main__")


def _lacking_in_forks() -> str | None:
    """What a fork would not have that a script has; None if that is nothing."""
    if os.fork() == 0:  # numpy's BLAS ends its threads at a fork; a fork starts them anew when it uses them
        os._exit(not _gpu_works())
    if os.wait()[1]:
        return "a fork cannot use the GPU, for which a library has looked when it was imported"
    threads = sorted(comm.read_text().strip() for comm in Path("/proc/self/task").glob("*/comm"))
    return None if len(threads) == 1 else f"it would lack threads that imports have started ({', '.join(threads)})"


@contextmanager
def _set(variables: dict[str, str]) -> Iterator[None]:
    """Inside the block those of the variables are in the environment that it lacks."""
    added = variables.keys() - os.environ.keys()
    os.environ.update({name: variables[name] for name in added})
    yield
    for name in added:
        del os.environ[name]


def _begin_streams() -> None:
    """Streams of what the descriptors are now; the old ones take them for what they were."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        old = getattr(sys, name)
        lines = 1 if number == 2 or os.isatty(number) else -1
        how = {"encoding": old.encoding, "errors": old.errors, "closefd": False}
        setattr(sys, name, open(number, mode, lines, **how))  # noqa: SIM115 (open as long as the process)


def _gpu_works() -> bool:
    """Whether this fork can use the GPU, if there is one: it cannot where a library has looked for it before."""
    with suppress(Exception):
        if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
            torch.cuda.init()
        return True
    return False


class Warm:
    """The warm process, which waits for scripts that ask, for the end of any of them, of a fork, and of snakemake."""

    def __init__(self, listener: socket.socket, address: Path):
        self.address = address
        self.imported = _files()
        self.forks: dict[int, socket.socket] = {}  # the connection of each to its script
        self.arguments: list[str] | None = None  # in a fork: its script's
        self.listener, self.run = listener, os.pidfd_open(int(os.environ["SPECPRESS_RUN"]))
        self.events = selectors.DefaultSelector()
        self.events.register(self.listener, selectors.EVENT_READ, self._asked)
        self.events.register(self.run, selectors.EVENT_READ, self._retire)

    def wait(self) -> list[str] | None:
        """In a fork, the arguments of the script to run. None in the warm process itself, when all is done."""
        while self.events.get_map() and not self.arguments:
            key, _ = self.events.select()[0]
            key.data()
        return self.arguments

    def _asked(self) -> None:
        """A script asks. It gets the process ID of its fork; or nothing, and runs by itself."""
        connection, _ = self.listener.accept()
        request, streams, _, _ = socket.recv_fds(connection, LONGEST, 3)
        if request and self._is_as_imported():
            server, fork = os.getpid(), os.fork()
            if fork == 0:
                self._become(streams, server)
                self.arguments = json.loads(request)
                return
            self.forks[fork] = connection
            self._tell(connection, fork)
            self.events.register(connection, selectors.EVENT_READ, partial(self._lost, fork))
            process = os.pidfd_open(fork)
            self.events.register(process, selectors.EVENT_READ, partial(self._ended, fork, process))
        else:
            connection.close()
            if request:
                self._retire()
        for stream in streams:
            os.close(stream)

    def _is_as_imported(self) -> bool:
        """Whether this is still the project's code."""
        try:
            return _files() == self.imported
        except OSError:
            return False

    def _become(self, streams: list[int], server: int) -> None:
        """What is left to do in a fork: take the script's streams, let go of the server's, die when it is killed."""
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        for standard, stream in enumerate(streams):
            os.dup2(stream, standard)
            os.close(stream)
        for file in list(self.events.get_map()):
            os.close(file)
        self.events.close()

    def _lost(self, fork: int) -> None:
        """The script has been killed: so is its fork."""
        os.kill(fork, signal.SIGKILL)
        self.events.unregister(self.forks[fork])

    def _ended(self, fork: int, process: int) -> None:
        """A fork has ended: its script is told how."""
        _, status = os.waitpid(fork, 0)
        connection = self.forks.pop(fork)
        self._tell(connection, os.waitstatus_to_exitcode(status))
        if connection.fileno() in self.events.get_map():
            self.events.unregister(connection)
        self.events.unregister(process)
        os.close(process)
        connection.close()

    def _tell(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError):  # who has gone need not know
            connection.send(str(number).encode())

    def _retire(self) -> None:
        """Snakemake has ended, or files have changed: who asks next finds nobody here. Forks that run go on."""
        self.address.unlink(missing_ok=True)
        self.events.unregister(self.listener)
        self.events.unregister(self.run)
        self.listener.close()


def _files() -> list[tuple]:
    """Every file of the project's library, and the folder that packages are installed into: name, size and time."""
    found = [(path, path.stat()) for path in (*sorted(PACKAGE.rglob("*.py")), Path(sysconfig.get_path("purelib")))]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found]
