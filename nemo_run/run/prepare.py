"""From a task to the files and the command with which an engine runs it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nemo_run.config.home import USE_WITH_RAY_CLUSTER_KEY, get_nemorun_home
from nemo_run.config.masking import is_masked
from nemo_run.config.script import Script
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.base import Executor, TaskRequest, backend_class
from nemo_run.core.execution.jobs import Command, Plan, backend_key
from nemo_run.core.execution.shared import environments
from nemo_run.core.execution.shared.checks import check_length
from nemo_run.core.execution.shared.inherited import write_environment
from nemo_run.core.execution.shared.units import parse_duration
from nemo_run.core.files import folder_name, make_folder, write_json, write_text
from nemo_run.core.images import images_of, named
from nemo_run.core.masking import MASK, is_secret, masked
from nemo_run.core.runners.bundle import RUNNER, runner_bundle
from nemo_run.core.runners.interpreter import import_environment
from nemo_run.core.storage import absolute
from nemo_run.errors import ExecutorError, ExperimentError, NestedLaunchError, SerializationError
from nemo_run.run import catalog, code
from nemo_run.run.inputs import jobs_read_by
from nemo_run.run.job import Job, JobGroup
from nemo_run.run.provenance import collect
from nemo_run.run.records import Definition, JobDefinition, TaskDefinition
from nemo_run.run.scripts import check_script
from nemo_run.run.store import ExperimentStore, job_folder_name
from nemo_run.run.tasks import WAITS_FOR, check_graph, folder_of_task
from nemo_run.run.terminal import say

_PYTHONS = ("python", "python3")
_ANCESTORS = "NEMO_RUN_ANCESTORS"
"""Environment variable of every task: titles of the experiments it is part of, as a JSON list."""


@dataclass(frozen=True)
class StoredTask:
    """A task as it is stored: a document that names what it needs, and the pickled rest.

    Attributes:
        document: The configuration as a plain document.
        main: What it refers to in the launching script itself, pickled by value; empty where there is nothing.
    """

    document: Any
    main: bytes = b""


def encode(value: Any) -> StoredTask:
    """Return a task, or anything with configurations in it, as it is stored.

    Functions and classes of the launching script itself (``__main__``) are stored by value: in the task's process
    another program is ``__main__``, and the script is never run again there.

    Raises:
        SerializationError: Something in it cannot be stored; the message has the path to it.
    """
    from nemo_run.config.document import symbols, to_document

    own: dict[str, Any] = {}

    def reference(symbol: Any) -> str:
        name = symbols.name_in_task(symbol)
        if name.startswith("__main__.") and own.setdefault(name, symbol) is not symbol:
            raise SerializationError(f"the task has two different things named {name!r}; rename one of them")
        return name

    document = to_document(value, reference=reference)
    if not own:
        return StoredTask(document)
    from nemo_run.run import pickling  # it imports cloudpickle

    return StoredTask(document, pickling.dumps(own))


def prepare_experiment(
    store: ExperimentStore, title: str, jobs: Sequence[Job | JobGroup], max_parallel: int | None, backends: Backends
) -> Definition:
    """Write all that a controller needs: the plan of every task, and last of all what the experiment is."""
    check_graph(jobs)
    write_environment(store.path / "environment.json", _environment(title))
    packages = code.Packages(store)
    prepared = tuple(
        _prepare_job(
            store, job, packages, backends, is_first=not job.dependencies and (max_parallel != 1 or job is jobs[0])
        )
        for job in jobs
    )
    scripts = [task.path for job in jobs for task, _ in job.members if isinstance(task, Script) and not task.inline]
    store.write_provenance({**collect(), "code": code.record(store, map(os.path.abspath, scripts))})
    definition = Definition(store.id, title, time.time(), prepared, max_parallel)
    store.write_definition(definition)
    return definition


def _prepare_job(
    store: ExperimentStore, job: Job | JobGroup, packages: code.Packages, backends: Backends, *, is_first: bool
) -> JobDefinition:
    directory, group = job_folder_name(job.id), isinstance(job, JobGroup)
    end_group_on = job.end_group_on if isinstance(job, JobGroup) else "failure"
    tasks, requests = [], []
    launch = catalog.launch_text(store.id)
    for index, (task, given) in enumerate(job.members):
        executor = named(given)
        name = f"{job.id}/{index}" if group else job.id
        where = folder_of_task(job.id, index, group=group)
        folder = store.folder(where)
        backend = backends.of_executor(executor)  # one that runs no tasks says so here, and says what to use instead
        executor.assign(store.id, str(store.path), job.id, where)
        archive = packages.archive(executor)
        executor.note_package(archive, name.replace("/", "-"))
        if isinstance(task, Script):
            check_script(task, name, executor, archive, is_first=is_first)
        write_requirements(packages.environment(executor, archive), name, folder, executor.engine)
        request = TaskRequest(
            experiment_id=store.id,
            job_id=name,
            directory=str(folder),
            executor=executor,
            command=prepare(task, name, folder, executor, packaged=bool(archive)),
            cwd=str(Path.cwd()),
            environment_file=str(store.path / "environment.json"),
            lease_dir=str(Path(get_nemorun_home(), "leases")),
            code_archive=archive,
            group=job.id if group else "",
            member=index,
            members=len(job.members),
            end_group_on=end_group_on,
            mapped="" if isinstance(job, JobGroup) else job.mapped,
            in_environment=bool(executor.environment),
            launch=launch,
        )
        retries = 0 if backend.can.retries_itself else executor.retries
        limit = 0.0 if backend.can.limits_time else parse_duration("timeout", executor.timeout) or 0.0
        definition = TaskDefinition(
            name, where, executor.info(), retries, executor.retry_delay, tuple(job.artifacts), limit,
            absolute(executor.artifacts_to) if executor.artifacts_to else "", gpus=executor.gpus_in_all,
        )  # fmt: skip
        tasks.append(_with_restarts(definition, job, executor))
        requests.append(request)
    for definition, plan in zip(tasks, _render(requests, backends), strict=True):
        store.write_plan(definition, plan)
    return JobDefinition(
        id=job.id,
        name=job.name,
        directory=directory,
        tasks=tuple(tasks),
        dependencies=tuple(job.dependencies),
        group=group,
        end_group_on=end_group_on,
        tail_logs=job.tail_logs,
        waits_for=WAITS_FOR.get(job.when) or job.members[0][1].waits_for,
        inputs=tuple(jobs_read_by(task for task, _ in job.members)),
        mapped="" if isinstance(job, JobGroup) else job.mapped,
    )


def _with_restarts(task: TaskDefinition, job: Job | JobGroup, executor: Executor) -> TaskDefinition:
    restarts = executor.restarts
    if restarts is None:
        return task
    if isinstance(job, JobGroup):
        raise ExecutorError(f"task {task.name!r}: members of a group are not restarted; leave out restarts=")
    return replace(
        task,
        restart_on=tuple(restarts.on),
        restart_max=restarts.max,
        restart_within=restarts.seconds_within,
        restart_delay=restarts.seconds_before,
    )


def _render(requests: Sequence[TaskRequest], backends: Backends) -> list[Plan]:
    """Return the plans of the tasks of a job, which is one job of the engine if that can run them as one."""
    first = requests[0].executor
    backend = backends.of_executor(first)
    where = (first.engine, first.connection())
    if backend.can.runs_groups and all((r.executor.engine, r.executor.connection()) == where for r in requests):
        return backend.render(requests)
    return [plan for request in requests for plan in backends.of_executor(request.executor).render([request])]


def build_images(jobs: Sequence[Job | JobGroup], backends: Backends) -> None:
    """Build the images of executors, each once: on their own Docker engine, or on that of this machine.

    Raises:
        ExecutorError: One cannot be built or pushed; the message says why.
    """
    wanted = ((executor, image) for job in jobs for _, executor in job.members for image in images_of(executor))
    built = set()
    for executor, image in wanted:
        connection = executor.connection() if executor.engine == "docker" else {}
        key = (backend_key("docker", connection), image.name)
        if key not in built:
            backends.of_engine("docker", connection).provide_image(image)
        built.add(key)


def show_plans(store: ExperimentStore, definition: Definition, backends: Backends, *, log: bool, keep: bool) -> None:
    """Print what would be launched, or keep it beside the plans; of many tasks that are alike, the first is printed."""
    shown: set[str] = set()
    for job in definition.jobs:
        is_alike = job.mapped in shown
        shown |= {job.mapped} - {""}
        after = f", after {', '.join(job.dependencies)}" if job.dependencies else ""
        for task in job.tasks:
            plan = store.read_plan(task)
            description = backends.of(plan).describe(plan)
            if log:
                text = f"# as the first of {job.mapped!r}, with its own configuration" if is_alike else description
                say(f"\n# {task.name} on {task.executor}{after}\n{text}", sys.stdout)
            if keep:
                store.write_description(task, description)


def preflight(store: ExperimentStore, definition: Definition, backends: Backends) -> None:
    """Check that all engines can run what was prepared, before any of it is started.

    Raises:
        ExecutorError: One cannot; the message says why.
    """
    plans = (store.read_plan(task) for job in definition.jobs for task in job.tasks)
    for backend, its_plans in backends.group((plan, plan) for plan in plans):
        backend.preflight(its_plans)


def _environment(title: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("NEMO_RUN_")}
    env["NEMORUN_HOME"] = get_nemorun_home()
    env[_ANCESTORS] = json.dumps([*ancestors(), title])
    return env


def ancestors() -> list[str]:
    """Return the titles of the experiments that this process is a task of."""
    return list(json.loads(os.environ.get(_ANCESTORS, "[]")))


def check_launch(title: str, max_parallel: int | None) -> None:
    """Check that an experiment can be launched here.

    Raises:
        ExperimentError: ``max_parallel`` is no number of tasks.
        NestedLaunchError: This process is a task of the same experiment.
    """
    if max_parallel is not None and (not isinstance(max_parallel, int) or max_parallel < 1):
        raise ExperimentError(f"max_parallel={max_parallel!r}, but it must be a number of tasks, at least 1")
    if title in ancestors():
        raise NestedLaunchError(
            f"a task of experiment {title!r} tried to launch {title!r} again. Code that launches "
            "belongs under `if __name__ == '__main__':`, or the inner experiment needs a title of its own"
        )


def prepare(task: Any, name: str, folder: Path, executor: Executor, *, packaged: bool = False) -> Command:
    """Write the files of a task and give the command that runs it.

    Args:
        task: A Partial or a Script.
        name: Name of the task.
        folder: Its folder, which must exist.
        executor: Where it will run.
        packaged: Its code was packaged, and is what it runs in.

    Raises:
        SerializationError: The task cannot be stored.
    """
    stored = encode({"config": _shown(task), "executor": _without_secrets(executor)})
    document = {**stored.document, "sys_path": _import_paths(executor, packaged)}
    if stored.main:
        write_text(folder / "main.pkl", stored.main)
        document |= {"main": "main.pkl", "python": ".".join(map(str, sys.version_info[:2]))}
    write_json(folder / "task.json", document)
    env = task_environment(folder, name, executor)
    _check_values(name, {**env, **(task.env if isinstance(task, Script) else {})})
    if isinstance(task, Script):
        return _script_command(task, name, folder, env)
    shares_files = backend_class(executor.engine).can.shares_files
    if shares_files and executor.environment:  # which has none of this package
        bundle = runner_bundle(Path(get_nemorun_home(), "runners"))
        return Command((sys.executable, str(bundle), f"--name={name}", str(folder / "task.json")), env, python=True)
    argv = (sys.executable, "-m", RUNNER, f"--name={name}", str(folder / "task.json"))
    return Command(argv, {**(import_environment() if shares_files else {}), **env}, python=True)


def write_requirements(environment: environments.Environment | None, name: str, folder: Path, engine: str) -> None:
    """Write the files that make the environment of a task, where it is to have one."""
    if environment is None:
        return
    if not backend_class(engine).can.makes_environments:
        raise ExecutorError(
            f"job {name!r}: the {engine} engine makes no environments; leave environment= out, and use an "
            "image that has what the task depends on"
        )
    for file, text in environment.files().items():
        write_text(make_folder((folder / file).parent) / Path(file).name, text)


def _check_values(name: str, env: Mapping[str, str]) -> None:
    lost = [key for key, value in env.items() if is_masked(key, value)]
    if lost:
        raise ExecutorError(f"task {name!r}: {', '.join(lost)} stands for a secret that was not stored; give it again")
    for key, value in env.items():
        check_length(f"task {name!r}", key, value)


def task_environment(folder: Path, name: str, executor: Executor) -> dict[str, str]:
    """Return the variables that every task finds set, wherever it runs."""
    return {
        "NEMO_RUN_EXPERIMENT_ID": executor.experiment_id or "",
        "NEMO_RUN_TASK": name,
        "NEMO_RUN_ARTIFACTS": str(make_folder(folder / "artifacts")),
        "NEMO_RUN_METRICS": str(folder / "artifacts" / "metrics.jsonl"),
        "NEMO_RUN_SERVICES": str(make_folder(folder / "services")),
        **_checkpoints(folder, executor),
        **({} if "PYTHONUNBUFFERED" in os.environ else {"PYTHONUNBUFFERED": "1"}),  # logs are to be seen as they come
        **executor.env_vars,
    }


def _checkpoints(folder: Path, executor: Executor) -> dict[str, str]:
    """Return the variable that names the task's folder for checkpoints, where the engine keeps one."""
    keeps = bool(executor.engine) and backend_class(executor.engine).can.keeps_folders
    return {"NEMO_RUN_CHECKPOINTS": str(make_folder(folder / "checkpoints"))} if keeps else {}


def _shown(task: Any) -> Any:
    """Return the task as it may be shown; secrets of a script stand in the engine's own file only."""
    if not isinstance(task, Script):
        return task
    config = task.to_config()
    config.env = masked(task.env)
    return config


def _without_secrets(executor: Executor) -> Any:
    """Return the executor's configuration; secrets stand in the engine's own file only."""
    config = executor.to_config()
    config.env_vars = masked(executor.env_vars)
    for name, value in vars(executor).items():
        if is_secret(name) and isinstance(value, str) and value:
            setattr(config, name, MASK)
    return config


def _script_command(script: Script, name: str, folder: Path, env: dict[str, str]) -> Command:
    program, *arguments = script.argv(write_inline(script, name, folder))
    has_options = bool(arguments) and arguments[0].startswith("-") and arguments[0] != "-m"
    is_python = Path(program).name in _PYTHONS and not has_options
    argv = (own_interpreter(program), *arguments)
    with_ray = bool(script.metadata.get(USE_WITH_RAY_CLUSTER_KEY))
    return Command(argv, {**env, **script.env}, cwd=script.working_dir, python=is_python, with_ray=with_ray)


def write_inline(script: Script, name: str, folder: Path) -> str:
    """Write the text of an inline script into a task's folder; the file's path, empty for any other script."""
    if not script.inline:
        return ""
    file = make_folder(folder / "scripts") / f"{folder_name(name)}.sh"
    write_text(file, script.inline)
    return str(file)


def own_interpreter(program: str) -> str:
    """Return the program; for a bare ``python`` the interpreter that launches, not the first on the PATH."""
    return sys.executable if program in _PYTHONS else program


def _import_paths(executor: Executor, packaged: bool) -> list[str]:
    if packaged:
        return _paths_inside()
    return code.own_paths() if backend_class(executor.engine).can.shares_files else []


def _paths_inside() -> list[str]:
    """Return where this process imports from inside the repository it works in, relative to the root of that."""
    from nemo_run.core.packaging.repository import find_top

    root = find_top(Path.cwd()) or Path.cwd()
    return [os.path.relpath(path, root) for path in code.own_paths() if Path(path).is_relative_to(root)]
