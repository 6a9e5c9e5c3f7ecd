"""Running an experiment in this very process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from nemo_run.config.script import Script
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.execution.shared.leftovers import fetch_here
from nemo_run.core.execution.shared.units import parse_duration
from nemo_run.core.files import make_folder
from nemo_run.core.runners.metrics import flush_metrics
from nemo_run.core.runners.outputs import FILE, VARIABLE
from nemo_run.errors import ExecutorError, NemoRunError
from nemo_run.run import artifacts, results
from nemo_run.run.collecting import left_note
from nemo_run.run.inputs import write_inputs
from nemo_run.run.limit import TimeLimitReached, limited
from nemo_run.run.notifying import notify
from nemo_run.run.prepare import own_interpreter, task_environment, write_inline
from nemo_run.run.records import (
    Definition,
    JobDefinition,
    JobProgress,
    TaskDefinition,
    TaskProgress,
    not_run_reason,
    summary,
)
from nemo_run.run.store import IN_PROCESS, ExperimentStore
from nemo_run.run.tee import kept, run_shown
from nemo_run.run.trackers.forwarding import Forwarding


class Ended(NamedTuple):
    """How a task ended: its exit code, why it failed, and what its function raised then."""

    code: int
    reason: str = ""
    error: BaseException | None = None


def run_task(task: Any, folder: Path | None = None, log: Path | None = None) -> Ended:
    """Run a task in this process: a function is called, a script is a child of it.

    Args:
        task: A Partial or a Script.
        folder: Where an inline script is kept.
        log: File that keeps what it prints.
    """
    if isinstance(task, Script):
        return Ended(_run_script(task, folder, log))
    with kept(log) if log else contextlib.nullcontext():
        return _call(task)


def _call(task: Any) -> Ended:
    import fiddle as fdl

    from nemo_run.config import Partial
    from nemo_run.core.runners.outcome import run_recorded

    try:
        run_recorded(lambda: fdl.build(fdl.cast(Partial, task)))
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
        return Ended(code, f"exit code {code}", e) if code else Ended(0)
    except Exception as e:  # noqa: BLE001  (whatever a task raises is how it ended)
        traceback.print_exc()
        return Ended(1, f"{type(e).__name__}: {e}", e)
    return Ended(0)


def _run_script(script: Script, folder: Path | None, log: Path | None) -> int:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="nemo-run-") as scratch:
        inline = write_inline(script, script.get_name() or "script", folder or Path(scratch))
        program, *arguments = script.argv(inline)
        argv = [own_interpreter(program), *arguments]
        env = {**os.environ, **script.env}
        cwd = script.working_dir or None
        code = run_shown(argv, env, cwd, log) if log else subprocess.run(argv, env=env, cwd=cwd, check=False).returncode
    return code if code >= 0 else 128 - code


def run_direct(
    store: ExperimentStore, definition: Definition, members: list[tuple[Any, Executor]], *, raises: bool
) -> None:
    """Run all jobs one after the other, in an order that their dependencies allow; record how they ended.

    Args:
        store: The experiment.
        definition: Its jobs.
        members: The tasks of all jobs, and where they would run.
        raises: What the first function raised that failed is raised, when all have run.
    """
    tasks = iter(members)
    work = {job.id: [next(tasks) for _ in job.tasks] for job in definition.jobs}
    order = list(TopologicalSorter({job.id: job.dependencies for job in definition.jobs}).static_order())
    done: dict[str, JobProgress] = {}
    errors: list[BaseException] = []
    with store.driving():
        for job in sorted(definition.jobs, key=lambda job: order.index(job.id)):
            done[job.id] = _run_job(store, definition, job, work[job.id], done, errors)
            store.write_progress(job, done[job.id])
        store.write_summary(summary(definition, done))
        forwarding = Forwarding(store)
        forwarding.start()
        forwarding.finish()
        notify(store, definition, done)
    if errors and raises:
        raise errors[0]


def _run_job(
    store: ExperimentStore,
    definition: Definition,
    job: JobDefinition,
    work: list[tuple[Any, Executor]],
    done: dict[str, JobProgress],
    errors: list[BaseException],
) -> JobProgress:
    for dependency in job.dependencies:
        if done[dependency].state is not JobState.SUCCEEDED:
            reason = not_run_reason(dependency, done[dependency])
            return JobProgress([TaskProgress(JobState.CANCELLED, reason=reason, ended=time.time()) for _ in work])
    try:
        for where in job.tasks:
            write_inputs(store, where, [definition.job(name) for name in job.inputs])
    except NemoRunError as e:
        return JobProgress([TaskProgress(JobState.FAILED, reason=str(e), ended=time.time()) for _ in work])
    pairs = zip(work, job.tasks, strict=True)
    return JobProgress([_run_member(store, where, task, executor, errors) for (task, executor), where in pairs])


def _run_member(
    store: ExperimentStore, where: TaskDefinition, task: Any, executor: Executor, errors: list[BaseException]
) -> TaskProgress:
    """Run one task with the variables that it has everywhere, and collect its artifacts."""
    begin, folder = time.time(), store.folder(where.directory)
    own = {"NEMO_RUN_ATTEMPT": "1", VARIABLE: str(folder / FILE)}
    with _environment({**task_environment(folder, where.name, executor), **own}):
        code, reason, raised = _run_limited(task, folder, executor)
    flush_metrics()  # this process does not end with the task
    ended = time.time()
    if raised is not None:
        errors.append(raised)
    cwd = Path(task.working_dir if isinstance(task, Script) and task.working_dir else ".")
    try:
        if artifacts.anything_left(store, where):
            artifacts.collect(store, where, lambda to: fetch_here(cwd, where.artifacts, to))
    except (OSError, ExecutorError) as e:
        reason = "; ".join(filter(None, [reason, left_note(e)]))
    if code and (error := results.exception(store, where, 1)):
        reason = str(error)
    state = JobState.FAILED if code else JobState.SUCCEEDED
    return TaskProgress(
        state, 1, f"{IN_PROCESS}{where.name}", exit_code=code, reason=reason, started=begin, ended=ended, tries=1,
        node="this process",
    )  # fmt: skip


def _run_limited(task: Any, folder: Path, executor: Executor) -> Ended:
    limit = parse_duration("timeout", executor.timeout)
    try:
        with limited(limit):
            return run_task(task, folder, make_folder(folder / "attempts" / "1") / "log")
    except TimeLimitReached:
        reason = f"time limit of {limit:g} s reached"
        return Ended(128 + signal.SIGTERM, reason, TimeoutError(reason))


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
