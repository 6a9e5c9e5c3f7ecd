"""A Slurm cluster on this machine: a controller and a few nodes, with pretended GPUs, on the loopback interface.

It has accounting in a database of its own, if that is asked for, and a stand-in for Pyxis' containers. It needs root,
so that jobs can run as any user. Its configuration is its own: ``SLURM_CONF`` leads to it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.services import installed, processes_with

USER = "nemorun-test"
"""An ordinary user, for jobs and logins."""
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd", "gcc")
_PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins")
_PACKAGES += ("slurmdbd", "mariadb-server", "gcc", "libc6-dev", "libslurm-dev")
NODES, GPUS = 4, 8
_CONTAINERS = Path(__file__).with_name("slurm_containers.c")


def available() -> bool:
    """Can this machine run a cluster?"""
    if os.geteuid() != 0:
        return False
    return installed(_PROGRAMS, _PACKAGES) and Path("/usr/include/slurm/spank.h").exists()


class SlurmCluster:
    """The cluster. ``SLURM_CONF`` of whoever uses it has to be :attr:`configuration`.

    Args:
        nodes: Number of nodes.
        accounting: Keep accounts of jobs, for ``sacct``.
        enforced: What of the accounts is enforced, such as ``"limits"``.
        settings: Further lines of its configuration.
    """

    def __init__(self, nodes: int = NODES, *, accounting: bool = True, enforced: str = "", settings: str = "") -> None:
        self.nodes, self.accounting, self.enforced, self.settings = nodes, accounting, enforced, settings
        self.folder = Path(tempfile.mkdtemp(prefix="nr-slurm-"))
        self.folder.chmod(0o755)
        self.configuration = self.folder / "slurm.conf"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        _make_user()
        self._configure()

    def _configure(self) -> None:
        for name in ("state", "log", "images"):
            (self.folder / name).mkdir()
        for i in range(GPUS):
            os.mknod(self.folder / f"nvidia{i}", 0o20666, os.makedev(1, 3))  # copies of /dev/null
        ports = _free_ports(self.nodes + 3)
        self._database_port, bookkeeper_port = ports[-2:]
        nodes = "\n".join(
            f"NodeName=node{i} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={ports[i]} Sockets=2 "
            f"CoresPerSocket=16 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:h100:{GPUS} State=UNKNOWN"
            for i in range(1, self.nodes + 1)
        )
        (self.folder / "gres.conf").write_text(
            f"NodeName=node[1-{self.nodes}] AutoDetect=off Name=gpu Type=h100 File={self.folder}/nvidia[0-{GPUS - 1}]\n"
        )
        accounting = f"""
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={bookkeeper_port}
AccountingStoragePass={self.folder}/munge.socket
{f"AccountingStorageEnforce={self.enforced}" if self.enforced else ""}"""
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
{accounting if self.accounting else "AccountingStorageType=accounting_storage/none"}
PlugStackConfig={self.folder}/plugstack.conf
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
{self.settings}
GresTypes=gpu
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=01:00:00 State=UP
""")
        bookkeeper = self.folder / "slurmdbd.conf"
        bookkeeper.write_text(f"""
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={bookkeeper_port}
SlurmUser=root
PidFile={self.folder}/slurmdbd.pid
LogFile={self.folder}/log/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={self._database_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
""")
        bookkeeper.chmod(0o600)
        plugin = self.folder / "containers.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", plugin, _CONTAINERS], check=True)
        (self.folder / "plugstack.conf").write_text(f"required {plugin} images={self.folder}/images\n")

    # its processes

    def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        self._start_munge()
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        for i in range(1, self.nodes + 1):
            self.start_node(f"node{i}")
        _wait(
            lambda: (
                self.ask("sinfo", "-h", "-N", "-p", "gpu", "-t", "idle", "-o", "%N").split()
                == [f"node{i}" for i in range(1, self.nodes + 1)]
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

    def _start_accounting(self) -> None:
        data, port = self.folder / "database", self._database_port
        options = ["--no-defaults", f"--datadir={data}", "--user=root", "--innodb-log-file-size=16M"]
        install = ["mariadb-install-db", *options, "--skip-test-db", "--auth-root-authentication-method=normal"]
        subprocess.run(install, check=True, capture_output=True)
        options += [f"--socket={self.folder}/db.socket", "--bind-address=127.0.0.1", f"--port={port}"]
        options += [f"--pid-file={self.folder}/db.pid", "--innodb-flush-log-at-trx-commit=0"]
        first = data / "first.sql"
        first.write_text(
            "create database slurm;\ncreate user slurm@'%' identified by 'slurm';\ngrant all on slurm.* to slurm@'%';\n"
        )
        self._run("mariadbd", ["mariadbd", *options, f"--init-file={first}"])
        _wait(lambda: _listens(port), self)
        self.start_bookkeeper()
        self.ask("sacctmgr", "-i", "add", "cluster", "test")
        self.ask("sacctmgr", "-i", "add", "account", "research")
        for user in (USER, "root"):
            self.ask("sacctmgr", "-i", "add", "user", user, "account=research")

    def start_bookkeeper(self) -> None:
        """Start what keeps accounts."""
        self._run("slurmdbd", ["slurmdbd", "-D"])
        _wait(lambda: self.call("sacctmgr", "-n", "list", "cluster").returncode == 0, self)

    def start_controller(self, *options: str) -> None:
        """Start the controller."""
        self._run("slurmctld", ["slurmctld", "-D", *options])
        _wait(lambda: "is UP" in self.ask("scontrol", "ping"), self)

    def start_node(self, name: str) -> None:
        """Start a node; as on a real cluster, the names of nodes are known there."""
        hosts = self.folder / "hosts"
        names = " ".join(f"node{i}" for i in range(1, self.nodes + 1))
        hosts.write_text(f"{Path('/etc/hosts').read_text()}\n127.0.0.1 {names}\n")
        known = 'mount --bind "$0" /etc/hosts && exec "$@"'
        there = ["unshare", "--mount", "--propagation", "slave", "/bin/sh", "-c", known, str(hosts)]
        self._run(name, [*there, _program("slurmd"), "-D", "-N", name])

    def _run(self, name: str, argv: list[str]) -> None:
        argv[0] = _program(argv[0])
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
        found = self._processes_of(name)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # none may still tell of the end of another
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _processes_of(self, name: str) -> list[int]:
        marks = f"SLURMD_NODENAME={name}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                ours = str(self.folder).encode() in (path / "environ").read_bytes()
                step = f"{self.folder}/spool-{name}".encode() in (path / "cmdline").read_bytes()
                if step or (ours and marks in (path / "environ").read_bytes().split(b"\0")):
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands use this cluster."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return {**clean, "SLURM_CONF": str(self.configuration)}

    def call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Call one of Slurm's commands."""
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=self.environment())

    def ask(self, *argv: str) -> str:
        """Output of one of Slurm's commands."""
        return self.call(*argv).stdout

    def forget_jobs(self) -> None:
        """Let the controller lose its memory of all jobs, ended ones too; accounting keeps its own."""
        self.stop_controller()
        self.start_controller("-c")

    def stop_controller(self) -> None:
        """End the controller, in an orderly way."""
        controller = self._processes.pop("slurmctld")
        controller.terminate()
        controller.wait()

    def kill(self, name: str) -> None:
        """End the controller (``"slurmctld"``) or the keeper of accounts (``"slurmdbd"``) at once."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

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
        self._end_steps()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_steps(self) -> None:
        """End the processes that still try to tell the controller how their steps ended."""
        for pid in processes_with(f"SLURM_CONF={self.configuration}"):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"slurmstepd"):
                    os.kill(pid, signal.SIGKILL)


def _wait(condition: object, cluster: SlurmCluster) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in (cluster.folder / "log").iterdir())
            raise AssertionError(f"the cluster did not start\n{logs}")
        time.sleep(0.05)


def _program(name: str) -> str:
    return shutil.which(name) or f"/usr/sbin/{name}"


def _listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


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
