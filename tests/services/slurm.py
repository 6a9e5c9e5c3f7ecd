"""A Slurm cluster on this machine: a controller and a few nodes, with pretended GPUs, on the loopback interface.

It needs root, so that jobs can run as any user. Its configuration is its own: ``SLURM_CONF`` leads to it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.services import installed

USER = "nemorun-test"
"""An ordinary user, for jobs and logins."""
_PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins")
NODES, GPUS = 4, 8


def available() -> bool:
    """Can this machine run a cluster?"""
    if os.geteuid() != 0:
        return False
    return installed(("munged", "slurmctld", "slurmd", "sbatch"), _PACKAGES)


class SlurmCluster:
    """The cluster. ``SLURM_CONF`` of whoever uses it has to be :attr:`configuration`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nr-slurm-"))
        self.folder.chmod(0o755)
        self.configuration = self.folder / "slurm.conf"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        _make_user()
        self._configure()

    def _configure(self) -> None:
        for name in ("state", "log"):
            (self.folder / name).mkdir()
        for i in range(GPUS):
            os.mknod(self.folder / f"nvidia{i}", 0o20666, os.makedev(1, 3))  # copies of /dev/null
        ports = _free_ports(NODES + 1)
        nodes = "\n".join(
            f"NodeName=node{i} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={ports[i]} Sockets=2 "
            f"CoresPerSocket=16 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:h100:{GPUS} State=UNKNOWN"
            for i in range(1, NODES + 1)
        )
        (self.folder / "gres.conf").write_text(
            f"NodeName=node[1-{NODES}] AutoDetect=off Name=gpu Type=h100 File={self.folder}/nvidia[0-{GPUS - 1}]\n"
        )
        self.configuration.write_text(f"""
ClusterName=test
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={self.folder}/munge.socket
CredType=cred/munge
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool-%n
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd-%n.pid
SlurmctldLogFile={self.folder}/log/slurmctld
SlurmdLogFile={self.folder}/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=3
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=4
MinJobAge=600
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,batch_sched_delay=0,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=01:00:00 State=UP
""")

    # its processes

    def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        self._start_munge()
        self.start_controller()
        for i in range(1, NODES + 1):
            self.start_node(f"node{i}")
        _wait(
            lambda: (
                self.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()
                == [f"node{i}" for i in range(1, NODES + 1)]
            ),
            self,
        )

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        paths = {name: f"{self.folder}/munge.{name}" for name in ("socket", "pid", "seed", "log")}
        options = [
            f"--{'pid-file' if n == 'pid' else 'seed-file' if n == 'seed' else 'log-file' if n == 'log' else n}={p}"
            for n, p in paths.items()
        ]
        self._run("munged", ["munged", "--foreground", "--force", f"--key-file={key}", *options])
        _wait(Path(paths["socket"]).exists, self)

    def start_controller(self) -> None:
        """Start the controller."""
        self._run("slurmctld", ["slurmctld", "-D"])
        _wait(lambda: "is UP" in self.ask("scontrol", "ping"), self)

    def start_node(self, name: str) -> None:
        """Start a node."""
        self._run(name, ["slurmd", "-D", "-N", name])

    def _run(self, name: str, argv: list[str]) -> None:
        argv[0] = shutil.which(argv[0]) or f"/usr/sbin/{argv[0]}"
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment(), start_new_session=True
            )

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the controller (``"slurmctld"``) or a node."""
        self._processes[name].send_signal(number)

    def kill_node(self, name: str) -> None:
        """End a node and all that runs on it at once."""
        slurmd = self._processes.pop(name)
        slurmd.kill()
        slurmd.wait()
        marks = f"SLURMD_NODENAME={name}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                ours = str(self.folder).encode() in (path / "environ").read_bytes()
                step = f"{self.folder}/spool-{name}".encode() in (path / "cmdline").read_bytes()
                if step or (ours and marks in (path / "environ").read_bytes().split(b"\0")):
                    os.kill(int(path.name), signal.SIGKILL)
            except OSError:
                continue

    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands use this cluster."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return {**clean, "SLURM_CONF": str(self.configuration)}

    def ask(self, *argv: str) -> str:
        """Output of one of Slurm's commands."""
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=self.environment()).stdout

    def stop(self) -> None:
        """End everything and remove its files."""
        self.ask("scancel", "--user", USER)
        self.ask("scancel", "--user", "root")
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _wait(condition: object, cluster: SlurmCluster) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in (cluster.folder / "log").iterdir())
            raise AssertionError(f"the cluster did not start\n{logs}")
        time.sleep(0.05)


def _make_user() -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", USER], check=True)
        subprocess.run(["usermod", "--password", "*", USER], check=True)  # not locked: sshd refuses locked accounts


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()
