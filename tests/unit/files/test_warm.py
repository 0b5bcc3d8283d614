"""Jobs as forks of a warm process: as if they had started by themselves, whatever befalls either."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from waiting import wait_for

PACKAGE = Path(__file__).resolve().parents[3] / "src" / "specpress"
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from specpress.files import warm

def main():
    what = sys.argv[1]
    if what == "who":
        print(warm._is_fork, os.getpid(), os.getppid() if warm._is_fork else 0)
    elif what == "wait":
        Path("pid.new").write_text(f"{os.getpid()} {warm._is_fork}")
        os.replace("pid.new", "pid")
        while not Path("go").exists():
            time.sleep(0.02)
        print("done")
    else:
        return eval(sys.argv[2])

def fail(error):
    raise error

if __name__ == "__main__":
    sys.exit(warm.run_warm(main, *os.environ["MODULES"].split()))
"""


class Run:
    """A folder with a script and a small library, and a process that stands for snakemake."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / ".snakemake").mkdir()
        (folder / "job.py").write_text(SCRIPT)
        shutil.copytree(PACKAGE / "files", folder / "src/specpress/files")
        shutil.copy(PACKAGE / "__init__.py", folder / "src/specpress")
        self.snakemake = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def environment(self, warm: bool = True, modules: str = "colorsys") -> dict[str, str]:
        run = {"SPECPRESS_RUN": str(self.snakemake.pid), "SPECPRESS_WARM": str(int(warm))}
        return {**os.environ, "PYTHONPATH": str(self.folder / "src"), **run, "MODULES": modules}

    def start(self, *arguments: str, limits=None, **environment) -> subprocess.Popen:
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        env = self.environment(**environment)
        command = [sys.executable, "job.py", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=env, text=True, preexec_fn=partial(begin, limits), **streams
        )

    def ends(self, *arguments: str, given: str = "", **how) -> tuple[int, str, str]:
        """Status, output and errors of a script that ends by itself."""
        process = self.start(*arguments, **how)
        out, err = process.communicate(given, timeout=60)
        return process.returncode, out, err

    def who(self, **how) -> tuple[bool, int]:
        """Whether a script ran as a fork, and of which process."""
        status, out, err = self.ends("who", **how)
        assert (status, err) == (0, "")
        fork, _, parent = out.split()
        return fork == "True", int(parent)

    def waiting(self, **how) -> tuple[subprocess.Popen, psutil.Process]:
        """A script that waits until there is a file `go`, and the process that does so for it."""
        script = self.start("wait", **how)
        wait_for((self.folder / "pid").exists)
        pid, fork = (self.folder / "pid").read_text().split()
        assert fork == "True"
        (self.folder / "pid").unlink()
        return script, psutil.Process(int(pid))

    def go(self) -> None:
        (self.folder / "go").touch()


def begin(limits=None) -> None:
    """As a job begins: SIGINT is not ignored, as it is inherited where tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if limits:
        limits()


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path)
    yield made
    made.go()
    made.snakemake.kill()
    made.snakemake.communicate()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(tmp_path):
                process.kill()


def memory_limit(size: int) -> partial:
    return partial(resource.setrlimit, resource.RLIMIT_AS, (size, size))


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_fork_ends_as_a_script_does(run):
    bodies = {
        "print(sys.argv, sys.stdin.read()) or print('e', file=sys.stderr)": 0,
        "print(os.getcwd(), sorted(os.environ.items()), __name__, sys.path[0])": 0,
        "7": 7,
        "sys.exit('said')": 1,
        "os._exit(5)": 5,
        "fail(OSError('nothing there'))": 2,
        "fail(KeyError('x'))": 1,
        "fail(MemoryError())": 2,
        "os.kill(os.getpid(), signal.SIGKILL)": -signal.SIGKILL,
        "os.kill(os.getpid(), signal.SIGTERM)": -signal.SIGTERM,
        "os.abort()": -signal.SIGABRT,
        "os.kill(os.getpid(), signal.SIGINT)": 130,
    }
    for body, status in bodies.items():
        warm, cold = (run.ends("do", body, given="some text", warm=how) for how in (True, False))
        lines = [[line for line in end[2].splitlines() if not line.startswith(" ")] for end in (warm, cold)]
        same = [end[1].replace("('SPECPRESS_WARM', '1')", "('SPECPRESS_WARM', '0')") for end in (warm, cold)]
        assert warm[0] == cold[0] == status, body
        assert lines[0] == lines[1], body
        assert same[0] == same[1], body
    assert run.who()[0]


def test_scripts_that_start_alike_share_a_process_and_others_do_not(run):
    parents = [run.who(), run.who(), run.who(modules="colorsys chunk")]
    parents += [run.who(limits=partial(os.umask, 0o027)), run.who(limits=memory_limit(2**40))]
    assert all(fork for fork, _ in parents)
    first, second, *others = [parent for _, parent in parents]
    assert first == second
    assert len({first, *others}) == 4


def test_limits_are_those_of_the_script(run):
    limits = memory_limit(2**29)
    assert run.who(limits=limits)[0]
    status, _, err = run.ends("do", "bytearray(2**30)", limits=limits)
    assert status == 2
    assert "not enough memory" in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_to_the_script_reaches_its_fork(run, number, status):
    script, fork = run.waiting()
    script.send_signal(number)
    _, err = script.communicate(timeout=60)
    assert script.returncode == status
    assert err == ("error: interrupted\n" if number == signal.SIGINT else "")
    assert gone(fork)


def test_a_fork_does_not_outlive_its_script(run):
    script, fork = run.waiting()
    script.kill()
    script.communicate()
    wait_for(lambda: gone(fork))
    assert run.who()[0]


def test_a_script_whose_warm_process_is_killed_runs_by_itself(run):
    script, fork = run.waiting()
    fork.parent().kill()
    wait_for(lambda: gone(fork))
    run.go()
    assert script.communicate(timeout=60)[0] == "done\n"
    assert script.returncode == 0
    assert not run.who()[0], "no second one is started"


def test_a_changed_file_is_not_run_from_memory(run):
    fork, old = run.who()
    assert fork
    warm = run.folder / "src/specpress/files/warm.py"
    warm.write_text(warm.read_text() + "\n# edited\n")
    assert not run.who()[0]
    fork, new = run.who()
    assert fork
    assert new != old
    wait_for(lambda: not psutil.pid_exists(old))
    (run.folder / "src/specpress/files/another.py").write_text("")
    assert not run.who()[0]


def test_it_ends_with_snakemake_and_a_fork_goes_on(run):
    script, fork = run.waiting()
    server = fork.parent()
    run.snakemake.communicate(b"\n")
    wait_for(lambda: not list((run.folder / ".snakemake/specpress").iterdir()))
    assert script.poll() is None
    run.go()
    assert script.communicate(timeout=60)[0] == "done\n"
    wait_for(lambda: gone(server))


UNFIT = {
    "cannot be imported": ("", "raise ImportError"),
    "a thread": (
        "threads",
        "import threading, time\nthreading.Thread(target=time.sleep, args=[9], daemon=True).start()",
    ),
    "a GPU in use": (
        "GPU",
        """
import os, sys, types
begun = os.getpid()
def init():
    if os.getpid() != begun:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")
cuda = types.SimpleNamespace(is_available=lambda: True, init=init)
sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
""",
    ),
}


@pytest.mark.parametrize(("lacking", "text"), UNFIT.values(), ids=UNFIT)
def test_what_forks_would_lack_is_not_imported_beforehand(run, lacking, text):
    (run.folder / "src/unfit.py").write_text(text)
    assert run.who(modules="unfit") == (False, 0)
    (address,) = (file for file in (run.folder / ".snakemake/specpress").iterdir() if not file.suffix)
    said = address.with_suffix(".txt")
    assert lacking in (said.read_text() if said.exists() else "")
    assert said.exists() == bool(lacking)
    begun = address.stat().st_ino, address.stat().st_mtime_ns
    assert run.who(modules="unfit") == (False, 0)
    assert (address.stat().st_ino, address.stat().st_mtime_ns) == begun, "no second one is started"


def test_nothing_is_warm_outside_a_run(run):
    assert run.who(warm=False) == (False, 0)
    (run.folder / ".snakemake").rmdir()
    assert run.who() == (False, 0)


def test_it_sleeps_between_jobs(run):
    _, parent = run.who()
    server = psutil.Process(parent)
    assert server.num_threads() == 1
    assert wait_for(lambda: server.status() == psutil.STATUS_SLEEPING)
    assert Path(f"/proc/{parent}/wchan").read_text() in ("ep_poll", "do_epoll_wait", "0")
