"""A SLURM of one node on the loopback interface, with two partitions and two GPUs that are not there.

It needs root, the programs of Debian's slurm-wlm and munge, and /etc/slurm/slurm.conf, which must not exist yet: srun
inside a job reads no other. Everything else is in a folder of its own; daemons are stopped by their own process IDs.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CONF = Path("/etc/slurm")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "squeue", "sbatch", "scancel")
_SLURM = """ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
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
GresTypes=gpu
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SchedulerParameters=sched_interval=1,batch_sched_delay=1
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=localhost CPUs={cpus} RealMemory={memory} Gres=gpu:fake:2
PartitionName=cpu Nodes=n1 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=gpu Nodes=n1 MaxTime=INFINITE State=UP OverSubscribe=NO
"""
_GRES = "AutoDetect=off\nNodeName=n1 Name=gpu Type=fake File=/dev/tty[0-1]\n"


def why_not() -> str | None:
    """Why no cluster can be started here; None if it can."""
    missing = [program for program in _PROGRAMS if not _which(program)]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install --no-install-recommends slurm-wlm munge)"
    if os.geteuid() != 0:
        return "starting the daemons of SLURM needs root"
    if (CONF / "slurm.conf").exists():
        return f"{CONF / 'slurm.conf'} exists: this machine belongs to a cluster"
    return None


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """The cluster, its files in `folder` (short: the path of a socket has room for 100 characters)."""
    with ExitStack() as stack:
        # a killed test run takes the cluster with it
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)))
        for name in ("state", "spool"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        _start_munge(folder, stack)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
        CONF.mkdir(exist_ok=True)
        settings = {"folder": folder, "cpus": os.cpu_count(), "memory": memory}
        for name, text in (("slurm.conf", _SLURM.format(**settings)), ("gres.conf", _GRES)):
            stack.callback((CONF / name).unlink, missing_ok=True)
            (CONF / name).write_text(text)
        for daemon, options in (("slurmctld", ["-D"]), ("slurmd", ["-D", "-N", "n1"])):
            _start(stack, [_which(daemon), *options], folder / f"{daemon}.out")
        _wait(lambda: "idle" in _output("sinfo", "--noheader", "--format=%T"), folder)
        stack.callback(_cancel_all, folder)  # jobs outlive slurmd
        yield


def queue() -> list[str]:
    """Names of the jobs that wait or run."""
    return _output("squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING", "--format=%j").split()


def _cancel_all(folder: Path) -> None:
    subprocess.run(["scancel", f"--user={os.getuid()}"], check=False)
    _wait(lambda: not queue(), folder)


def _start_munge(folder: Path, stack: ExitStack) -> None:
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    files = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
    command = [_which("munged"), "--foreground", "--force", f"--key-file={folder / 'munge.key'}", *options]
    _start(stack, command, folder / "munged.out")
    _wait(files["socket"].exists, folder)


def _start(stack: ExitStack, command: list[str], log: Path) -> None:
    output = stack.enter_context(log.open("w"))
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def _wait(condition, folder: Path, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in folder.glob("*.*og"))
            raise RuntimeError(f"the cluster did not come up:\n{logs}")
        time.sleep(0.2)
