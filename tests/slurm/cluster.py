"""A SLURM of one node on the loopback interface, with two partitions and two GPUs that are not there.

It needs root, the programs of Debian's slurm-wlm and munge, and /etc/slurm/slurm.conf, which must not exist yet: srun
inside a job reads no other. Everything else is in a folder of its own; daemons are stopped by their own process IDs and
end with the process that started them. The node's cores and memory are what the file says, whatever the machine has.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CONF = Path("/etc/slurm")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "squeue", "sbatch", "scancel", "setpriv")
_OURS = "ClusterName=loopback\n"
_SLURM = (
    _OURS
    + """SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=300
KillWait=5
SlurmdParameters=config_overrides
GresTypes=gpu
{listening}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SchedulerParameters=sched_interval=1,batch_sched_delay=1
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=localhost CPUs=2 RealMemory=16000 Gres=gpu:fake:2
PartitionName=cpu Nodes=n1 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=gpu Nodes=n1 MaxTime=INFINITE State=UP OverSubscribe=NO
"""
)
_GRES = "AutoDetect=off\nNodeName=n1 Name=gpu Type=fake File={folder}/gpu[0-1]\n"


def why_not() -> str | None:
    """Why no cluster can be started here; None if it can."""
    missing = [program for program in _PROGRAMS if not _which(program)]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install --no-install-recommends slurm-wlm munge)"
    if os.geteuid() != 0:
        return "starting the daemons of SLURM needs root"
    conf = CONF / "slurm.conf"
    if conf.exists() and not conf.read_text().startswith(_OURS):
        return f"{conf} exists: this machine belongs to a cluster"
    return None


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class NotUp(RuntimeError):
    """The daemons start but do not become a cluster: in a sandbox that forbids what they need, for one."""


@contextmanager
def running() -> Iterator[Path]:
    """The cluster; yields the folder of its files. A second run on the machine waits for the first to end.

    Raises
    ------
    NotUp
        With the daemons' logs.
    """
    with ExitStack() as stack:
        # a killed test run takes the cluster with it
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)))
        lock = stack.enter_context(open("/tmp/specpress-slurm.lock", "w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        # the path of a socket has room for 100 characters
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp")))
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        for name in ("gpu0", "gpu1"):
            (folder / name).symlink_to("/dev/null")  # SLURM wants a device
        _start_munge(folder, stack)
        CONF.mkdir(exist_ok=True)
        ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
        settings = {"folder": folder, **ports, "listening": _listening()}
        files = {"slurm.conf": _SLURM, "gres.conf": _GRES}
        if _version() >= (24, 5):  # whose slurmd sets up control groups even where nothing uses them
            files["cgroup.conf"] = "CgroupPlugin=disabled\n"
        for name, text in files.items():
            stack.callback((CONF / name).unlink, missing_ok=True)
            (CONF / name).write_text(text.format(**settings))
        for daemon, options in (("slurmctld", ["-D"]), ("slurmd", ["-D", "-N", "n1"])):
            _start(stack, [_which(daemon), *options], folder / f"{daemon}.out")
        _wait(_is_idle, folder, NotUp)
        stack.callback(_cancel_all, folder)  # jobs outlive slurmd
        yield folder


def logs(folder: Path) -> str:
    """The end of each daemon's log, and the jobs and the node as the controller sees them."""
    files = sorted([*folder.glob("*.log"), *folder.glob("*.out")])
    texts = [f"{path.name}:\n{path.read_text()[-4000:]}" for path in files]
    return "\n".join([*texts, _output("scontrol", "show", "nodes"), jobs()])


def queue() -> list[str]:
    """Names of the jobs that wait or run."""
    return _output("squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING", "--format=%j").split()


def jobs() -> str:
    """All jobs of the last minutes, finished ones too, in detail."""
    return _output("scontrol", "show", "jobs")


def _cancel_all(folder: Path) -> None:
    subprocess.run(["scancel", f"--user={os.getuid()}"], check=False, timeout=60)
    _wait(lambda: not queue(), folder, TimeoutError)


def _start_munge(folder: Path, stack: ExitStack) -> None:
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    files = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
    command = [_which("munged"), "--foreground", "--force", f"--key-file={folder / 'munge.key'}", *options]
    _start(stack, command, folder / "munged.out")
    _wait(files["socket"].exists, folder, NotUp)


def _start(stack: ExitStack, command: list[str], log: Path) -> None:
    output = stack.enter_context(log.open("w"))
    command = ["setpriv", "--pdeathsig", "TERM", *command]
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_idle() -> bool:
    try:
        return "idle" in _output("sinfo", "--noheader", "--format=%T")
    except subprocess.TimeoutExpired:
        return False


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def _version() -> tuple[int, ...]:
    """(year, month) of SLURM's release."""
    return tuple(int(part) for part in re.findall(r"\d+", _output(_which("slurmd"), "-V"))[:2])


def _listening() -> str:
    """The setting that keeps SLURM to the loopback interface, which works only if this machine's name stands for it.

    Elsewhere it listens on all interfaces: only who has munge's key, made for this cluster, is heard.
    """
    try:
        own = socket.gethostbyname(socket.gethostname())
    except OSError:
        own = None
    return "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" if own == "127.0.0.1" else ""


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(condition, folder: Path, error: type[Exception], seconds: float = 180) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise error(logs(folder))
        time.sleep(0.2)
