"""A look at a cluster before the first job: what often goes wrong there, and the mend of each."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.shared.findings import Finding
from nemo_run.core.execution.slurm import commands
from nemo_run.core.execution.slurm.options import SlurmOptions, sbatch_options
from nemo_run.core.tunnel.answers import posix
from nemo_run.core.tunnel.client import Tunnel
from nemo_run.errors import CommandError, NemoRunError

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

_ON_NODE = r"""
printf 'node %s\nclock %s\n' "$(hostname)" "$(date +%s)"
[ ! -e "$1" ] || echo sees
printf 'python %s\n' "$("$2" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
"""


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
