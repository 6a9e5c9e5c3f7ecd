"""``run.run``: one task, launched and waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    import fiddle as fdl

    from nemo_run.config import Script
    from nemo_run.core.execution.base import Executor
    from nemo_run.run.job import JobResult
    from nemo_run.run.plugin import ExperimentPlugin


@overload
def run(
    fn_or_script: fdl.Buildable[Any] | Script,
    executor: Executor | None = ...,
    plugins: ExperimentPlugin | list[ExperimentPlugin] | None = ...,
    name: str = ...,
    dryrun: Literal[False] = ...,
    direct: bool = ...,
    detach: bool = ...,
    tail_logs: bool = ...,
    log_level: str = ...,
    *,
    check: bool = ...,
) -> JobResult: ...
@overload
def run(
    fn_or_script: fdl.Buildable[Any] | Script,
    executor: Executor | None = ...,
    plugins: ExperimentPlugin | list[ExperimentPlugin] | None = ...,
    name: str = ...,
    dryrun: bool = ...,
    direct: bool = ...,
    detach: bool = ...,
    tail_logs: bool = ...,
    log_level: str = ...,
    *,
    check: bool = ...,
) -> JobResult | None: ...
def run(
    fn_or_script: fdl.Buildable[Any] | Script,
    executor: Executor | None = None,
    plugins: ExperimentPlugin | list[ExperimentPlugin] | None = None,
    name: str = "",
    dryrun: bool = False,
    direct: bool = False,
    detach: bool = False,
    tail_logs: bool = True,
    log_level: str = "INFO",
    *,
    check: bool = True,
) -> JobResult | None:
    """Run one task, show its log, and wait for it.

    Args:
        fn_or_script: A Partial or a Script.
        executor: Where; without one the task runs in this process.
        plugins: Plugins that may change the task and the executor.
        name: Name of the task and title of its experiment; made from the task by default.
        dryrun: Only show what would be launched.
        direct: Run it in this process, whatever the executor.
        detach: Return once it is launched.
        tail_logs: Show its log.
        log_level: Level of this package's log messages.
        check: Raise an error where the task does not succeed.

    Returns:
        How the task ended, and in its ``value`` what the function returned; ``None`` after a dry run.

    Raises:
        JobFailedError: The task did not succeed, and ``check`` is set.
        InvalidJobError: It is neither a Partial nor a Script.

    Example:
        >>> import nemo_run as run
        >>> run.run(run.Script(inline="exit 0"), executor=run.LocalExecutor(), check=False).exit_code   # doctest: +SKIP
        0
    """
    if getattr(fn_or_script, "is_lazy", False):
        fn_or_script = fn_or_script.resolve()  # type: ignore[union-attr]
    _check_is_task(fn_or_script)
    if direct or executor is None:
        return _run_here(fn_or_script, plugins, name, dryrun=dryrun, check=check)
    from nemo_run.run.experiment import Experiment
    from nemo_run.run.tasks import default_name

    name = name or default_name(fn_or_script)
    with Experiment(name, executor=executor, log_level=log_level, skip_status_at_exit=not detach) as exp:
        job = exp.add(fn_or_script, name=name, plugins=_as_list(plugins), tail_logs=tail_logs)
        if dryrun:
            exp.dryrun()
            return None
        exp.run(detach=detach)
        if check:
            exp.raise_for_failure()
        return exp.results()[job]


def _check_is_task(task: Any) -> None:
    import fiddle as fdl

    from nemo_run.config.script import Script
    from nemo_run.errors import InvalidJobError

    if not isinstance(task, (Script, fdl.Buildable)):
        raise InvalidJobError(
            f"run.run() needs a run.Partial or a run.Script, not {task!r}; wrap it: run.Partial(function, ...)"
        )


def _as_list(plugins: ExperimentPlugin | list[ExperimentPlugin] | None) -> list[ExperimentPlugin]:
    return plugins if isinstance(plugins, list) else [plugins] if plugins else []


def _set_up_here(task: Any, plugins: list[ExperimentPlugin]) -> None:
    from nemo_run.core.execution.local import LocalExecutor

    for plugin in plugins:
        plugin.setup(task, LocalExecutor())


def _run_here(
    task: Any, plugins: ExperimentPlugin | list[ExperimentPlugin] | None, name: str, *, dryrun: bool, check: bool
) -> JobResult | None:
    """Run a task in this process. An exception of a function is raised as it is."""
    if plugins:
        _set_up_here(task, _as_list(plugins))
    if dryrun:
        print(f"# nothing is run; in this process this would be\n{task!r}")
        return None
    from nemo_run.config.script import Script
    from nemo_run.core.execution.jobs import JobState
    from nemo_run.run.job import JobResult

    if not isinstance(task, Script):
        import fiddle as fdl

        from nemo_run.config import Partial
        from nemo_run.core.runners.calling import call

        value = call(fdl.build(fdl.cast(Partial, task)))
        return JobResult("", name, JobState.SUCCEEDED, 0, _read_value=lambda: value)
    from nemo_run.errors import JobFailedError
    from nemo_run.run.direct import run_task

    code = run_task(task).code
    state = JobState.FAILED if code else JobState.SUCCEEDED
    if code and check:
        raise JobFailedError(name or task.get_name(), "(this process)", state.name, code)
    return JobResult("", name, state, code)
