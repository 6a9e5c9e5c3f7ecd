"""Working on a Slurm cluster in the terminal: allocations, commands, shells, and editors that connect to a job."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.shared.findings import Finding, Load
from nemo_run.core.execution.shared.terminals import is_terminal
from nemo_run.core.execution.slurm import commands, script
from nemo_run.core.execution.slurm.handle import Handle
from nemo_run.core.execution.slurm.options import SlurmOptions, container_options, flag, sbatch_options
from nemo_run.core.tunnel.answers import posix
from nemo_run.core.tunnel.client import Callback, LocalTunnel, SSHTunnel, Tunnel
from nemo_run.core.tunnel.result import RunResult
from nemo_run.errors import CommandError, ExecutorError, NemoRunError

SPACE_FILE = "devspace.json"
"""In the folder of a development space: what it is called."""
_NO_EDITOR = 127
_EDITOR = """\
command -v code > /dev/null || exit 127
exec code tunnel --accept-server-license-terms --name "$1"
"""

# Of a task: the folder of its attempt, the folder that it runs in, and then a program.
_INSIDE = r"""
. "$1/environment.sh"; cd -- "$2" 2>/dev/null; shift 2
[ $# -gt 0 ] || set -- "$(command -v bash || command -v sh)"
exec "$@"
"""

_PLACE = ("account", "partition", "qos", "constraint", "exclude", "mem", "mem_per_cpu", "gres", "gpus_per_node")
_CLOCKS = 30  # seconds by which they may differ
_PATIENCE = 30  # seconds in which a node is to be free for a look at it
_LITTLE = 1 << 20  # KiB that should be free

# A line for everything: its name, and what was found.
_LOOK = r"""
say() { printf '%s %s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"; }
say shell "$(getent passwd "$(id -un)" | cut -d: -f7)"
for c in sbatch squeue scancel; do command -v "$c" >/dev/null || say lacks "$c"; done
say variables "$(env | sed -n 's/^\(\(SBATCH\|SQUEUE\|SLURM\|SACCT\)_[A-Za-z0-9_]*\)=.*/\1/p' | grep -v '^SLURM_CONF')"
say banner "$(sbatch --version 2>/dev/null | grep -v '^slurm')"
say version "$(sbatch --version 2>/dev/null | grep '^slurm')"
say clock "$(date +%s)"
if mkdir -p -- "$1" 2>/dev/null && [ -w "$1" ]; then
  say free "$(df -Pk -- "$1" | awk 'END {print $4}')"
  say mode "$(stat -c %a -- "$1")"
fi
say quota "$(timeout 5 quota -w 2>/dev/null | awk '$2 ~ /\*/ || $5 ~ /\*/ {print $1}')"
sacct=$(timeout 10 sacct -n -X -o JobID 2>&1 >/dev/null) && say accounting yes || say accounting "no: $sacct"
say limits "$(timeout 5 sacctmgr -nP show assoc where "user=$(id -un)" format=MaxSubmitJobs,MaxJobs 2>/dev/null)"
"""

# A line for every node: its name, its state, the GPUs that it has, and those in use; then what sbatch says.
_LOAD = (
    commands.PLAIN
    + r"""
export SLURM_TIME_FORMAT=%s
partition=$1; shift
sinfo -h -N ${partition:+-p "$partition"} -O 'NodeList:|,StateLong:|,Gres:|,GresUsed:|' | sed 's/^/node /'
sbatch --test-only "$@" --wrap true 2>&1 | sed 's/^/said /'
"""
)
_USABLE = ("idle", "mixed", "allocated", "completing")

_ON_NODE = r"""
printf 'node %s\nclock %s\n' "$(hostname)" "$(date +%s)"
[ ! -e "$1" ] || echo sees
printf 'python %s\n' "$("$2" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
"""


class Space(Protocol):
    """What is asked of a development space."""

    name: str


class InteractiveSlurm(SlurmOptions):
    """What :class:`~nemo_run.core.execution.slurm.SlurmExecutor` offers for work in the terminal."""

    @property
    def local(self) -> LocalTunnel:
        """This machine."""
        return LocalTunnel(job_dir=self.tunnel.job_dir)

    @property
    def local_is_slurm(self) -> bool:
        """Whether this machine is part of a Slurm cluster."""
        return self.local.run("command -v srun", warn=True).ok

    @property
    def slurm(self) -> Tunnel:
        """The way to the cluster."""
        return self.tunnel if isinstance(self.tunnel, SSHTunnel) else self.local

    def alloc(self, job_name: str = "interactive") -> RunResult:
        """Allocate nodes and work on them in this terminal, by ``salloc``."""
        return self.slurm.run(shlex.join(["salloc", *self._interactive_options(job_name)]), hide=False, pty=True)

    def srun(
        self,
        cmd: str,
        job_name: str = "interactive",
        flags: list[str] | None = None,
        env_vars: dict[str, str] | None = None,
        arg_dict: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> RunResult:
        """Run a command on the cluster by ``srun`` and wait for it.

        Args:
            cmd: The command, as a shell takes it.
            job_name: Name of the job.
            flags: Further options of ``srun``.
            env_vars: Environment variables.
            arg_dict: Further options of ``srun`` by name, in place of those of this executor.
            **kwargs: For :meth:`Tunnel.run`.
        """
        options = self._interactive_options(job_name)
        options += container_options(self, [*(env_vars or {})], self.container_mounts or [])
        options += [f"--{name}={value}" for name, value in (arg_dict or {}).items()]
        return self.slurm.run(f"{shlex.join(['srun', *options, *(flags or [])])} {cmd}", env=env_vars, **kwargs)

    def bash(self, job_name: str = "interactive") -> RunResult:
        """Work in a shell on the cluster, in this terminal."""
        return self.srun("bash", job_name=job_name, flags=["--pty"], hide=False, pty=True)

    def load(self) -> Load:
        """Return the free nodes and GPUs of the partition, and when ``sbatch --test-only`` expects a job to start."""
        partition, options = self.partition or "", self._interactive_options("estimate")
        return load_in(self.slurm.execute(posix(_LOAD, partition, *options)).decode("utf-8", "replace"))

    def _interactive_options(self, job_name: str) -> list[str]:
        options = {**sbatch_options(self), "job_name": f"{self.job_name_prefix or ''}{job_name}"}
        for name in ("open_mode", "array", "signal"):
            options.pop(name, None)
        flags = [flag(name, value).removeprefix("#SBATCH ") for name, value in options.items()]
        return [word for text in flags for word in shlex.split(text)]

    # development spaces

    def launch_devspace(
        self,
        space: Space,
        job_name: str = "interactive",
        env_vars: dict[str, str] | None = None,
        add_workspace_to_pythonpath: bool = True,
    ) -> RunResult:
        """Run a VS Code tunnel in a job; it is shown in this terminal how to connect, until Ctrl-C.

        Args:
            space: The development space.
            job_name: Name of the job.
            env_vars: Environment variables of what is started in the space.
            add_workspace_to_pythonpath: Code in the space is imported from its folder.

        Raises:
            ExecutorError: There is no ``code`` command where the job runs.
        """
        folder = space_folder(self.tunnel, self.job_dir, space.name)
        inside = f"/workspaces/{space.name}" if self.container_image else folder
        note_space(self.slurm, folder, space.name, f"{self.job_name_prefix or ''}{job_name}")
        env = {"NEMO_DEVSPACE": space.name, **(env_vars or {})}
        if add_workspace_to_pythonpath:
            env["PYTHONPATH"] = ":".join(filter(None, [inside, env.get("PYTHONPATH", "")]))
        where = {"chdir": folder}
        if self.container_image:
            mounts = ",".join([*(self.container_mounts or []), f"{folder}:{inside}"])
            where = {"container-mounts": mounts, "container-workdir": inside, "container-env": ",".join(env)}
        command = posix(_EDITOR, space_name(space.name))
        result = self.srun(command, job_name=job_name, env_vars=env, arg_dict=where, hide=False, warn=True)
        if result.exited == _NO_EDITOR:
            raise ExecutorError(
                f"development space {space.name!r}: there is no 'code' command where the job runs "
                f"({self.container_image or self.slurm.key}); install VS Code's CLI there, or use an image with it"
            )
        if result.failed:
            raise CommandError(f"development space {space.name!r} ended with exit code {result.exited}", result)
        return result

    def connect_devspace(self, space: Space, tunnel_dir: str | Path | None = None) -> Callback:
        """Something to keep a tunnel open with: it says how to connect, and ends when the space does.

        Args:
            space: The development space.
            tunnel_dir: Its folder on the cluster; the one that it was launched in by default.
        """
        folder = str(tunnel_dir or space_folder(self.tunnel, self.job_dir, space.name))
        return _SpaceWatch(space.name, folder)


class _SpaceWatch(Callback):
    """Looks whether the job of a development space is there."""

    def __init__(self, name: str, folder: str) -> None:
        self._name, self._folder = name, folder

    def on_start(self) -> None:
        """Say how to connect."""
        print(  # noqa: T201  (for the user who connects)
            f"open https://vscode.dev/tunnel/{space_name(self._name)}{self._folder}"
        )

    def on_interval(self) -> None:
        """Look at the queue.

        Raises:
            ExecutorError: The space has ended.
        """
        job = read_space(self.tunnel, self._folder)["job_name"]
        if not self.tunnel.run(f"squeue --me -h -t R,PD -o %i --name {shlex.quote(job)}").stdout.strip():
            raise ExecutorError(f"development space {self._name!r}: its job {job!r} has ended")

    def on_error(self, error: Exception) -> None:
        """Pass it on."""
        raise error


def space_name(name: str) -> str:
    """Return the name of a tunnel of VS Code, which takes letters, digits and ``-``, 20 at most.

    >>> space_name("my space_1")
    'my-space-1'
    """
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)[:20].strip("-") or "devspace"


def space_folder(tunnel: Tunnel, job_dir: str, name: str) -> str:
    """Return the folder of a development space on the cluster."""
    return posixpath.join(tunnel.job_dir or job_dir or str(Path.cwd()), "devspaces", space_name(name))


def note_space(tunnel: Tunnel, folder: str, name: str, job_name: str) -> None:
    """Note in the folder of a development space which one it is, and the job that it runs in."""
    note = json.dumps({"name": name, "job_name": job_name})
    tunnel.execute(posix('umask 077; mkdir -p -- "$1" && cat > "$1/$2"', folder, SPACE_FILE), note.encode())


def read_space(tunnel: Tunnel, folder: str) -> dict[str, str]:
    """Return what is noted in the folder of a development space.

    Raises:
        ExecutorError: There is none.
    """
    try:
        return dict(json.loads(tunnel.execute(shlex.join(["cat", "--", f"{folder}/{SPACE_FILE}"]))))
    except (CommandError, ValueError) as e:
        raise ExecutorError(f"there is no development space in {folder} on {tunnel.key}: {e}") from e


def shell_command(plan: Plan, handle: Handle, argv: Sequence[str], rank: int, options: Sequence[str] = ()) -> str:
    """Return the command that runs a program beside a task, with the variables and in the folder of that. Pure.

    Args:
        plan: Plan of the task.
        handle: Its attempt.
        argv: The program; a shell where it is empty.
        rank: The process on whose node it runs.
        options: Further options of ``srun``.
    """
    step = script.Step(**(plan.spec.get("step") or plan.spec["batch"]["steps"][0]))
    kept = [option for option in step.options if option.startswith(("--container", "--het-group"))]
    node = rank // max(plan.spec.get("per_node", 1), 1)
    place = [f"--jobid={handle.job}", "--overlap", "--nodes=1", "--ntasks=1", f"--relative={node}"]
    attempt = f"{step.inside}/attempts/{handle.folder.rpartition('/')[2]}"
    shell = "/bin/bash" if step.inside == step.folder else "/bin/sh"
    program = [shell, "-c", _INSIDE, "sh", attempt, step.cwd, *argv]
    return posix(commands.CALL, "srun", *place, *options, *kept, *program)


def run_beside(tunnel: Tunnel, plan: Plan, handle: Handle, argv: Sequence[str], rank: int) -> int:
    """Run a program beside a task, with this terminal where there is one, and return its exit code."""
    pty = is_terminal()
    command = shell_command(plan, handle, argv, rank, ["--pty"] if pty else [])
    return tunnel.run(command, hide=False, warn=True, pty=pty).exited


# --- a look at a cluster before the first job: what often goes wrong there, and the mend of each ---


def examine(executor: SlurmOptions, tunnel: Tunnel) -> Iterator[Finding]:
    """Yield what is found on a cluster, and on a node of it."""
    folder = tunnel.job_dir or get_nemorun_home()
    try:
        yield _noise(tunnel)
        said = _lines(tunnel.execute(posix(_LOOK, folder)))
    except NemoRunError as e:
        yield Finding("connection", "broken", str(e))
        return
    if "lacks" in said:
        text = f"there is no {said['lacks']} on {tunnel.key}: name a login node, or pre_command='module load slurm'"
        yield Finding("Slurm", "broken", text)
        return
    yield Finding("Slurm", "ok", f"{said.get('version', '')} on {tunnel.key}")
    yield from _login(said, folder)
    yield from _node(executor, tunnel, folder)


def _noise(tunnel: Tunnel) -> Finding:
    """Find out whether the login shell prints, which every command would have in its answer."""
    tunnel.connect()
    done = subprocess.run(tunnel.argv("true"), capture_output=True, check=False, timeout=60)
    said = done.stdout.decode(errors="replace")
    if said.strip():
        text = f"it prints {said.strip()[:60]!r}, which is left out; better: only where there is a terminal ([ -t 1 ])"
        return Finding("login shell", "note", text)
    return Finding("login shell", "ok", "prints nothing")


def _login(said: Mapping[str, str], folder: str) -> Iterator[Finding]:
    if variables := said.get("variables"):
        yield Finding("variables", "note", f"{variables} are set there; jobs are submitted and looked for without them")
    if banner := said.get("banner"):
        yield Finding("sbatch", "note", f"it prints {banner[:60]!r} besides its answer, which is left out")
    yield _clock("clock", said)
    yield _folder(said, folder)
    if quota := said.get("quota"):
        yield Finding("quota", "broken", f"the quota is used up on {quota}: remove files, or set job_dir elsewhere")
    has_accounts = said.get("accounting", "").startswith("yes")
    text = "sacct answers" if has_accounts else f"{said.get('accounting')}; ends are read from the files of jobs"
    yield Finding("accounting", "ok" if has_accounts else "note", text)
    submit, _, run = said.get("limits", "").split(" ")[0].partition("|")
    limits = [f"{count} may {what}" for count, what in ((submit, "be submitted"), (run, "run")) if count]
    text = f"of your jobs, {' and '.join(limits)}" if limits else "none for you"
    yield Finding("limits", "note" if limits else "ok", text)


def _clock(what: str, said: Mapping[str, str]) -> Finding:
    clock = said.get("clock", "")
    off = int(clock) - time.time() if clock.isdigit() else 0.0
    if abs(off) > _CLOCKS:
        side = "ahead of" if off > 0 else "behind"
        return Finding(what, "note", f"{abs(off):.0f} s {side} this machine: times of jobs are wrong by that; use NTP")
    return Finding(what, "ok", "as here")


def _folder(said: Mapping[str, str], folder: str) -> Finding:
    if "free" not in said:
        text = f"{folder} cannot be made or written to: name a folder of yours on a shared disk"
        return Finding("job_dir", "broken", text)
    free = int(said["free"] or 0)
    state = "ok" if free > _LITTLE else "note"
    return Finding("job_dir", state, f"{folder}, {free >> 10:,} MB free, mode {said.get('mode', '')}")


def _node(executor: SlurmOptions, tunnel: Tunnel, folder: str) -> Iterator[Finding]:
    """Look at a node, as a job of the executor would be placed, and for no longer than it takes."""
    options = {name: value for name, value in sbatch_options(executor).items() if name in _PLACE}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    python = getattr(executor, "python", None) or "python3"
    marker = f"{folder.rstrip('/')}/.nemo-run-doctor-{time.time_ns()}"
    ask = ["srun", "--nodes=1", "--ntasks=1", "--time=2", f"--immediate={_PATIENCE}", *flags]
    try:
        tunnel.execute(posix(': > "$1"', marker))
        command = posix(commands.CALL, *ask, "/bin/sh", "-c", _ON_NODE, "sh", marker, python)
        said = _lines(tunnel.execute(command, timeout=_PATIENCE + 60))
    except CommandError as e:
        yield Finding("node", "note", f"none could be looked at: {str(e).strip().splitlines()[-1]}")
        return
    except NemoRunError as e:
        yield Finding("node", "note", f"none could be looked at: {e}")
        return
    finally:
        _remove(tunnel, marker)
    sees = "sees" in said
    text = "seen by the nodes" if sees else f"{said.get('node')} does not see {folder}: name a shared one"
    yield Finding("job_dir on nodes", "ok" if sees else "broken", text)
    yield _clock("clock of nodes", said)
    yield _python(said.get("python", ""), python)


def _python(version: str, python: str) -> Finding:
    major, _, minor = version.partition(".")
    is_usable = major == "3" and minor.isdigit() and int(minor) >= 9
    if not is_usable:
        text = f"{python} is {version or 'missing'}; functions need 3.9: set python=, or container_image="
        return Finding("python on nodes", "broken", text)
    return Finding("python on nodes", "ok", f"{python} is {version}")


def _remove(tunnel: Tunnel, marker: str) -> None:
    try:
        tunnel.execute(posix('rm -f -- "$1"', marker))
    except NemoRunError:
        return


def _lines(answer: bytes) -> dict[str, Any]:
    pairs = (line.partition(" ") for line in answer.decode("utf-8", "replace").splitlines())
    return {name: text.strip() for name, _, text in pairs if name in ("sees", "free", "lacks", "node") or text.strip()}


def load_in(answer: str) -> Load:
    r"""Return how busy a cluster is, from its own words. Pure.

    >>> load_in("node n1|idle|gpu:h100:8(S:0)|gpu:h100:2(IDX:0-1)|\nsaid sbatch: Job 5 to start at 1700000000 using 1")
    Load(free_nodes=1, free_gpus=6, start=1700000000.0, why='', is_broken=False)
    """
    said = [line.removeprefix("said ") for line in answer.splitlines() if line.startswith("said ")]
    lines = [line.removeprefix("node ").split("|") for line in answer.splitlines() if line.startswith("node ")]
    nodes = {name: parts for name, *parts in lines if len(parts) > 2}
    usable = [parts for parts in nodes.values() if parts[0] in _USABLE]
    free = sum(_gpus(parts[1]) - _gpus(parts[2]) for parts in usable)
    start = re.search(r" to start at (\d+) ", "\n".join(said))
    why = "" if start else next((line for line in said if line.strip()), "sbatch says nothing")
    idle = sum(parts[0] == "idle" for parts in usable)
    return Load(idle, free, float(start[1]) if start else None, why, is_broken=not start)


def _gpus(text: str) -> int:
    return sum(map(int, re.findall(r"(?:^|,)gpu(?::[^:(,]+)?:(\d+)", text)))
