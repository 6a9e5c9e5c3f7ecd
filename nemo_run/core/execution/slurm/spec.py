"""What a job becomes on Slurm: from requests to the plan of a batch job. Pure."""

from __future__ import annotations

import itertools
import math
import posixpath
import re
import shlex
import sys
from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Command, Plan
from nemo_run.core.execution.launcher import ATTEMPT_FOLDER, Launcher, Layout, SlurmRay
from nemo_run.core.execution.shared import environments
from nemo_run.core.execution.shared.shipping import needs_runner, run_by_bundle
from nemo_run.core.execution.slurm import script
from nemo_run.core.execution.slurm.options import SlurmJobDetails, SlurmOptions, container_options, sbatch_options
from nemo_run.core.tunnel.client import LocalTunnel
from nemo_run.errors import ExecutorError

RUN_DIR = "/nemo_run"
"""The job's own folder, as a task in a container sees it; elsewhere the same path stands for it in arguments."""
_RUN_DIR_ON_HOST = "/$nemo_run"  # in a mount: the job's own folder on the cluster
_FOR_ONE = ("--nodes=1", "--ntasks=1", "--ntasks-per-node=1")
_SLURM_VARIABLE = re.compile(r"\$(?:(SLURM_[A-Z0-9_]+)|\{(SLURM_[A-Z0-9_]+)\})")
_QUESTION = re.compile(r"\$\((?:scontrol|hostname)(?:[ \t][^\n\r`]*)?\)")
_RUN_DIR_IN_WORD = re.compile(rf"(?:^|(?<=[=:,])){RUN_DIR}(?=/|$)")


def render(requests: list[TaskRequest]) -> list[Plan]:
    """Plans of the tasks of one Slurm job: a single task, or those of a job group, of which the first leads. Pure."""
    executors = [_executor_of(request) for request in requests]
    first, leader = executors[0], requests[0]
    steps = [_step(request, executor, len(requests)) for request, executor in zip(requests, executors, strict=True)]
    base = _base(leader, first)
    if len(requests) > 1 and first.heterogeneous:
        components = first.component_indices(len(requests))
        steps = [
            replace(
                step,
                options=[f"--het-group={index}", *step.options],
                making=[f"--het-group={index}", *step.making] if step.making else [],
            )
            for step, index in zip(steps, components, strict=True)
        ]
        firsts = [components.index(i) for i in range(components[-1] + 1)]
        sets = [_options(leader, executors[index], steps[0], index) for index in firsts]
    else:
        sets = [_options(leader, first, steps[0])]
    sets[0].update(_dependency(first))
    array = _array_name(leader, first, sets)
    batch = script.Batch(
        title=f"Job {leader.group or leader.job_id!r} of experiment {leader.experiment_id!r}, made by NeMo-Run",
        components=sets,
        steps=steps,
        packages=f"{base}/.packages",
        setup=first.setup_lines or "",
        retries=first.retries,
        end_on=leader.end_group_on if first.monitor_group_job else "never",
        pause=max(first.wait_time_for_group_job, 0),
        measure_memory=first.memory_measure,
        array=array,
    )
    plans = []
    for index, (request, executor, step) in enumerate(zip(requests, executors, steps, strict=True)):
        spec: dict[str, Any] = {
            "base": base,
            "folder": step.folder,
            "leader": steps[0].folder,
            "member": index,
            "members": len(requests),
            "env": dict(request.command.env),
            "code_archive": request.code_archive,
            "python": _known_python(request, executor),
            "environments": _environment(request, executor, "")[0],
            "dependency_type": first.dependency_type,
            "dependencies": first.parse_deps(),
            "cwd": _on_cluster(step.cwd, step),
            "per_node": _processes_per_node(executor),
            "log_folders": _log_folders([step.log, step.error_log, *_files_of(sets)], step.folder),
        }
        if index:
            spec["step"] = vars(step)
        else:
            spec["batch"] = {**vars(batch), "steps": [vars(step) for step in steps]}  # asdict() is slow
        plans.append(Plan("slurm", request.job_id, request.directory, spec, executor.connection()))
    return plans


def _known_python(request: TaskRequest, executor: SlurmOptions) -> str:
    """Return the Python of a function task, where that of the login node tells of it; empty where it does not.

    A container has its own, and what the user runs first, or has in PATH, may bring another one.
    """
    if not needs_runner(request.command) or executor.container_image or executor.setup_lines:
        return ""
    if "PATH" in request.command.env or request.in_environment:
        return ""
    return executor.python or ("" if isinstance(executor.tunnel, LocalTunnel) else "python3")


def _processes_per_node(executor: SlurmOptions) -> int:
    if executor.get_launcher().one_per_node:
        return executor.processes_of_launcher()
    return executor.ntasks_per_node


def batch_of(spec: Mapping[str, Any]) -> script.Batch:
    """Return the batch job in the spec of a plan."""
    doc = spec["batch"]
    return script.Batch(**{**doc, "steps": [script.Step(**step) for step in doc["steps"]]})


def with_variables(spec: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the spec of a plan with further variables for its task, the only one of its job."""
    batch = spec["batch"]
    steps = [{**step, "env": {**step["env"], **variables}} for step in batch["steps"]]
    return {**spec, "batch": {**batch, "steps": steps}}


def _executor_of(request: TaskRequest) -> SlurmOptions:
    if not isinstance(request.executor, SlurmOptions):
        raise ExecutorError(f"job {request.job_id!r}: the slurm engine needs a SlurmExecutor, not {request.executor!r}")
    return _with_ray(request.job_id, request.executor) if request.command.with_ray else request.executor


def _with_ray(job: str, executor: SlurmOptions) -> SlurmOptions:
    """Return the executor, whose launcher starts a Ray cluster over the nodes and the command on the first of them."""
    launcher = executor.get_launcher()
    if isinstance(launcher, SlurmRay):
        return executor
    if type(launcher) is not Launcher:
        raise ExecutorError(
            f"job {job!r}: its script is started once, in a Ray cluster (metadata use_with_ray_cluster), and not by "
            f"launcher={type(launcher).__name__}; leave the launcher out, or that metadata"
        )
    executor = copy(executor)
    executor.launcher = SlurmRay(**{f.name: getattr(launcher, f.name) for f in fields(Launcher)})
    return executor


def _base(request: TaskRequest, executor: SlurmOptions) -> str:
    """Return the folder on the cluster below which the folders of all jobs are."""
    return executor.tunnel.job_dir.rstrip("/") or str(Path(executor.experiment_dir or request.directory).parents[1])


def _folder(request: TaskRequest, executor: SlurmOptions) -> str:
    """Return the job's own folder on the cluster."""
    root = Path(executor.experiment_dir or request.directory).parents[1]
    directory = Path(request.directory)
    inside = directory.relative_to(root) if directory.is_relative_to(root) else Path(directory.name)
    return f"{_base(request, executor)}/{inside}"


def _on_cluster(path: str, step: script.Step) -> str:
    return f"{step.folder}{path.removeprefix(step.inside)}" if path.startswith(f"{step.inside}/") else path


def _step(request: TaskRequest, executor: SlurmOptions, members: int) -> script.Step:
    folder = _folder(request, executor)
    inside = RUN_DIR if executor.container_image else folder
    here = isinstance(executor.tunnel, LocalTunnel) and not executor.container_image
    link = executor.packager.symlink_from_remote_dir or ""
    code = f"{inside}/code"
    has_code = bool(request.code_archive or link)
    base = request.cwd if here and not has_code else code
    launcher = executor.get_launcher()
    kept, making = _environment(request, executor, inside)
    command = _command(request, executor, inside, making)
    env = _variables(command, executor, code if has_code else "")
    container = _in_container(executor, folder, env, kept)
    tasks = 1 if launcher.one_per_node else executor.ntasks_per_node
    details = _details(request, executor, folder)
    return script.Step(
        folder=folder,
        inside=inside,
        options=[*_srun_options(executor, tasks, members), *container, *(executor.srun_args or [])],
        making=_making_step(making, container, members),
        argv=_own_words(command, inside),
        env={name: _with_alias(value, inside) for name, value in env.items()},
        cwd=posixpath.join(base, command.cwd) if command.cwd else base,
        log=posixpath.join(folder, str(details.srun_stdout)),
        ranks=executor.nodes * tasks,
        error_log="" if executor.stderr_to_stdout else posixpath.join(folder, str(details.srun_stderr)),
        code=bool(request.code_archive),
        code_link=link,
        runner=needs_runner(request.command),
    )


def _own_words(command: Command, inside: str) -> list[str]:
    """Return the arguments of a command with the paths of its job and attempt."""
    attempt = f"{inside}/attempts/{script.ATTEMPT}"
    return [_with_alias(arg.replace(ATTEMPT_FOLDER, attempt), inside) for arg in command.argv]


def _command(request: TaskRequest, executor: SlurmOptions, inside: str, making: list[str]) -> Command:
    """Return the command as it is run on the cluster, by its launcher, and in its environment where it has one."""
    python = "python3" if making else _python(executor)
    bundled = run_by_bundle(request.command, f"{inside}/runner.zip")
    command = _Names(request.directory, inside, python).apply(bundled, executor)
    command = executor.get_launcher().wrap(command, _layout(executor, inside, python))
    return replace(command, argv=(*making, *command.argv))


def _environment(request: TaskRequest, executor: SlurmOptions, inside: str) -> tuple[str, list[str]]:
    """Return the folder that keeps environments, and the command that makes that of the task; empty for none."""
    if not request.in_environment:
        return "", []
    kept = f"{_base(request, executor)}/.environments"
    return kept, environments.making(inside, kept, _python(executor))


def _making_step(making: list[str], container: list[str], members: int) -> list[str]:
    """Return the options and command of the srun that makes an environment on one node, in the task's container."""
    overlap = ["--overlap"] if members > 1 else []
    return [*_FOR_ONE, *overlap, *container, *making] if making else []


def _python(executor: SlurmOptions) -> str:
    here = isinstance(executor.tunnel, LocalTunnel) and not executor.container_image
    return executor.python or (sys.executable if here else "python3")


def _variables(command: Command, executor: SlurmOptions, code: str) -> dict[str, str]:
    """Return the variables of the command on a node; the folder of the code, if any, stands first in PYTHONPATH."""
    variables = {name: _for_node(name, value, executor) for name, value in command.env.items()}
    if code:
        variables["PYTHONPATH"] = ":".join(filter(None, [code, variables.get("PYTHONPATH", "")]))
    return variables


def _with_alias(text: str, inside: str) -> str:
    return text if inside == RUN_DIR else _RUN_DIR_IN_WORD.sub(lambda _: inside, text)


def _layout(executor: SlurmOptions, inside: str, python: str) -> Layout:
    processes = executor.processes_of_launcher()
    return Layout(
        nodes=executor.nodes,
        processes_per_node=processes,
        head_node=script.HEAD_NODE,
        node_rank=script.NODE_RANK,
        log_dir=f"{ATTEMPT_FOLDER}/node.{script.NODE_RANK}.{processes}",
        profile_dir=inside,
        python=python,
        restarts=executor.restarts is not None,
    )


@dataclass(frozen=True)
class _Names:
    """What a command of this machine is called on the cluster."""

    directory: str
    inside: str
    python: str

    def apply(self, command: Command, executor: SlurmOptions) -> Command:
        """Return the command, with the job's folder, the Python and the macros of the cluster."""
        argv = [self._word(arg, executor) for arg in command.argv]
        if argv[0] == sys.executable:
            argv[0] = self.python
        env = {name: self._word(value, executor) for name, value in command.env.items()}
        return replace(command, argv=tuple(argv), env=env)

    def _word(self, text: str, executor: SlurmOptions) -> str:
        macros = executor.macro_values()
        expanded = macros.substitute(text) if "_var}" in text else text
        if expanded != text:
            names = rf"{macros.head_node_ip_var}|SLURM_[A-Z_]+|{macros.het_group_host_var}_\d+"
            expanded = re.sub(rf"\$\{{?({names})\}}?", "\0\\1\0", expanded)
        first, *rest = expanded.split(self.directory)
        there = (self.inside if part[:1] in ("", "/") else self.directory for part in rest)
        return first + "".join(folder + part for folder, part in zip(there, rest, strict=True))


def _srun_options(executor: SlurmOptions, tasks: int, members: int) -> list[str]:
    options = ["--kill-on-bad-exit=1", "--wait=60"]
    if executor.cpus_per_task:
        options.append(f"--cpus-per-task={executor.cpus_per_task}")  # srun does not take it over from sbatch
    if members > 1:
        options += ["--overlap", f"--nodes={executor.nodes}", f"--ntasks={executor.nodes * tasks}"]
        options.append(f"--ntasks-per-node={tasks}")
    return options


def _in_container(executor: SlurmOptions, folder: str, env: Mapping[str, str], kept: str) -> list[str]:
    """Return the options of srun for the container of a task; its environment is there under the same path."""
    mounts = [mount.replace(_RUN_DIR_ON_HOST, folder, 1) for mount in executor.container_mounts or []]
    mounts += [f"{kept}:{kept}"] if kept else []
    return container_options(executor, list(env), [*mounts, f"{folder}:{RUN_DIR}"])


def _details(request: TaskRequest, executor: SlurmOptions, folder: str) -> SlurmJobDetails:
    """Return the names of the job's files; in a group that shares a folder, every task has its own."""
    details = deepcopy(executor.job_details)
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", request.job_id)
    if details.job_name and details.folder and request.members > 1:
        details.job_name = f"{details.job_name}-{own}"
    details.job_name = details.job_name or own
    details.folder = details.folder or folder
    return details


def _files_of(sets: list[dict[str, Any]]) -> list[str]:
    return [str(options[name]) for options in sets for name in ("output", "error") if name in options]


def _log_folders(files: list[str], folder: str) -> list[str]:
    """Folders of these files that have to be made: not the job's own, nor those with placeholders in their names."""
    folders = dict.fromkeys(posixpath.dirname(posixpath.join(folder, file)) for file in files if file)
    return [name for name in folders if name != folder and not re.search(r"[%$]", name)]


def _for_node(name: str, value: str, executor: SlurmOptions) -> str:
    """Return the value of a variable, marked where it is one of ``env_vars`` that the node is asked for."""
    if executor.env_vars.get(name) != value:
        return value
    variable = _SLURM_VARIABLE.fullmatch(value)
    if variable:
        return f"\0{variable[1] or variable[2]}\0"
    return f"{script.EVALUATED}{value}" if _is_question(value) else value


def _is_question(value: str) -> bool:
    """Check whether the value is, as a whole, one command that asks for the nodes: nothing stands beside it."""
    if not _QUESTION.fullmatch(value):
        return False
    try:
        shlex.split(value)
    except ValueError:  # a quote without an end
        return False
    depths = list(itertools.accumulate({"(": 1, ")": -1}.get(c, 0) for c in value[1:]))
    return min(depths[:-1]) > 0 and depths[-1] == 0


def _dependency(executor: SlurmOptions) -> dict[str, str]:
    """Return the option of sbatch that makes a job wait for those that its executor names."""
    ids = executor.parse_deps()
    return {"dependency": f"{executor.dependency_type}:{':'.join(ids)}"} if ids else {}


def _job_name(request: TaskRequest, executor: SlurmOptions, component: int | None) -> str:
    """Slurm's name of a job; in a group, it ends in the number of the first of its members."""
    name = executor.job_details.job_name
    if not name:
        prefix = executor.job_name_prefix
        if prefix is None:
            prefix = f"{executor.account}-{executor.account.split('_')[-1]}." if executor.account else ""
        name = f"{prefix}{request.group}-0" if request.group else f"{prefix}{request.job_id}"
    return name if component is None else f"{name.removesuffix('-0')}-{component}"


def _array_name(request: TaskRequest, executor: SlurmOptions, sets: list[dict[str, Any]]) -> str:
    """Slurm's name of the job array that a task may be an element of; empty where it cannot be one."""
    if not request.mapped or request.members > 1 or "array" in sets[0]:
        return ""
    return _job_name(replace(request, job_id=request.mapped), executor, None)


def _options(
    request: TaskRequest, executor: SlurmOptions, step: script.Step, component: int | None = None
) -> dict[str, Any]:
    """Return the options of sbatch for a job, or for one component of a heterogeneous one, as of its first member."""
    options = sbatch_options(executor)
    details = _details(request, executor, step.folder)
    number = "%A_%a" if executor.array else "%j"
    defaults = {
        "job_name": _job_name(request, executor, component),
        "output": str(details.stdout).replace("%j", number).replace("%t", "0"),
        "chdir": step.folder,
    }
    if not executor.stderr_to_stdout:
        defaults["error"] = str(details.stderr).replace("%j", number).replace("%t", "0")
    if executor.retries or executor.restarts:
        options.setdefault("requeue", True)
    if executor.restarts and (notice := executor.restarts.seconds_of_notice):
        options.setdefault("signal", f"USR1@{math.ceil(notice)}")
    if executor.get_launcher().one_per_node:
        options["ntasks_per_node"] = 1
    return {**defaults, **options}
