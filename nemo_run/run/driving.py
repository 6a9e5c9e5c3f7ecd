"""Driving an experiment from the process that holds it: to its end, or so far that another process goes on."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator

from nemo_run.errors import ExecutorError, ExperimentBusyError, ExperimentError, NemoRunError
from nemo_run.run.controller import Controller
from nemo_run.run.detached import spawn
from nemo_run.run.interrupting import Interruption, without_traceback
from nemo_run.run.live import ProgressView
from nemo_run.run.logs import LogFollower, LogRequest
from nemo_run.run.records import Definition
from nemo_run.run.screen import Screen
from nemo_run.run.store import ExperimentStore
from nemo_run.run.terminal import say


def drive(store: ExperimentStore, definition: Definition, tailed: tuple[str, ...], *, quiet: bool) -> None:
    """Drive an experiment until all jobs have ended or the user interrupts.

    Args:
        store: The experiment.
        definition: Its jobs.
        tailed: Ids of the jobs whose logs are shown.
        quiet: Show no progress.
    """
    screen = Screen()
    with ProgressView(definition, live=not tailed, screen=screen) as view, following(store, definition, tailed, screen):
        try:
            Controller(store, None if quiet else view.update).run()
        except KeyboardInterrupt as stop:
            view.stop_drawing()
            with screen.held():
                Interruption(store, definition).handle()
            without_traceback(stop)
            raise


def submit(store: ExperimentStore) -> list[NemoRunError]:
    """Submit what can be submitted now, and return why tasks were refused; a controller of its own does the rest."""
    return Controller(store).start(functools.partial(spawn, store))


def check_submitted(store: ExperimentStore, refused: list[NemoRunError]) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where an engine refused a task."""
    if refused:
        raise ExecutorError(
            f"experiment {store.id!r}: {len(refused)} of its tasks could not be submitted, beginning with: "
            f"{refused[0]}; see the others: nemorun experiment status {store.id}"
        ) from refused[0]


def tell_submitted(store: ExperimentStore, definition: Definition) -> None:
    """Print the engine's id of every task that was submitted."""
    for job in definition.jobs:
        tasks = zip(job.tasks, store.read_progress(job).tasks, strict=True)
        for task, progress in tasks:
            if progress.handle:
                say(f"submitted {task.name}: {progress.handle}", sys.stderr)


def hand_over(store: ExperimentStore) -> None:
    """Let a controller of its own go on with an experiment, unless there is one."""
    try:
        spawn(store)
    except ExperimentError:
        if not store.is_driven():  # by another one that was faster
            raise


def collect(store: ExperimentStore) -> None:
    """Note how jobs ended that were left to their engines, and collect what they left."""
    with contextlib.suppress(ExperimentBusyError):
        Controller(store).run()


def finish_cancelled(store: ExperimentStore) -> None:
    """End the jobs that are to be cancelled, of an experiment without a controller."""
    with contextlib.suppress(ExperimentBusyError):  # another controller has started: it obeys
        Controller(store).finish_cancelled()


@contextlib.contextmanager
def following(store: ExperimentStore, definition: Definition, jobs: tuple[str, ...], screen: Screen) -> Iterator[None]:
    """Show the logs of jobs as they grow."""
    if not jobs:
        yield
        return
    stop = threading.Event()
    follower = LogFollower(store, definition, LogRequest(jobs, follow=True), screen=screen)

    def show() -> None:
        try:
            follower.show(stop)
        except BrokenPipeError:  # their reader is gone
            pass
        except NemoRunError as e:
            say(str(e), sys.stderr)

    thread = threading.Thread(target=show, name="nemo-run logs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
