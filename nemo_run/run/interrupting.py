"""Ctrl-C: cancels what has not ended, or leaves it to itself, and ends in one sentence."""

from __future__ import annotations

import contextlib
import sys
from types import TracebackType

from nemo_run.core.execution.jobs import JobState
from nemo_run.run.display import counts
from nemo_run.run.progress import current_progress
from nemo_run.run.records import Definition
from nemo_run.run.store import ExperimentStore
from nemo_run.run.terminal import say


class Interruption:
    """What happens to an experiment whose launching process gets Ctrl-C."""

    def __init__(self, store: ExperimentStore, definition: Definition) -> None:
        self._store = store
        self._definition = definition

    def handle(self) -> None:
        """Cancel what has not ended and wait for it; a second Ctrl-C leaves at once, and what runs goes on."""
        try:
            if _asks() and not _agrees("Interrupted. Cancel the jobs that have not ended? [Y/n] "):
                self._leave()
                return
            _print("Interrupted: cancelling (Ctrl-C again leaves at once, and what runs goes on) ... ")
            self._cancel()
        except KeyboardInterrupt:
            _print("\n")
            self._leave()

    def _cancel(self) -> None:
        for job in self._definition.jobs:
            self._store.request_cancel(job)
        from nemo_run.run.controller import Controller  # one who only looks needs none

        progress = Controller(self._store).run()
        say(counts(job.state for job in progress.values()), sys.stderr)

    def _leave(self) -> None:
        """Say what goes on without this process, what does not, and what can be done."""
        states = [job.state for job in current_progress(self._store, self._definition).values()]
        running = sum(state in (JobState.RUNNING, JobState.PENDING) for state in states)
        waiting = sum(state in (JobState.UNSUBMITTED, JobState.SUBMITTED) for state in states)
        parts = [f"{running} of {len(states)} jobs still run"]
        parts += [f"{waiting} do not start before: nemorun experiment resume {self._store.id}"] if waiting else []
        say(f"Interrupted: {', '.join(parts)}; cancel them: nemorun experiment cancel {self._store.id}", sys.stderr)


def _asks() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _agrees(question: str) -> bool:
    _print(f"\n{question}")
    answer = sys.stdin.readline()
    return bool(answer) and not answer.strip().lower().startswith("n")  # the terminal is gone: that is no agreement


def _print(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(text)
        sys.stderr.flush()


def without_traceback(stop: BaseException) -> None:
    """Let the interpreter end by this exception without printing it: all that there is to say was said."""
    before = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        if value is not stop:
            before(kind, value, traceback)

    sys.excepthook = hook
