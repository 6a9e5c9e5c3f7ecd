"""A shell, or another program, where a job of the cluster runs: in a step of its allocation."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.shared.terminals import is_terminal
from nemo_run.core.execution.slurm import commands, script
from nemo_run.core.execution.slurm.handle import Handle
from nemo_run.core.tunnel.answers import posix
from nemo_run.core.tunnel.client import Tunnel

_INSIDE = r"""
. "$1/environment.sh"; cd -- "$2" 2>/dev/null; shift 2
[ $# -gt 0 ] || set -- "$(command -v bash || command -v sh)"
exec "$@"
"""


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
