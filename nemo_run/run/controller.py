"""The controller: drives the jobs of one experiment to their end.

It knows only what is in the store, and writes down every step before it takes it.  So it can be killed at any moment,
and another one goes on: what may have been submitted is asked for, what was not is submitted, and nothing runs twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from nemo_run.core.execution.jobs import JobState
from nemo_run.errors import NemoRunError
from nemo_run.run.collecting import Collector
from nemo_run.run.ending import Endings
from nemo_run.run.engines import Engines
from nemo_run.run.following import MetricsFollower
from nemo_run.run.ledger import Ledger, Observer
from nemo_run.run.notifying import FILE as NOTIFICATIONS, notify
from nemo_run.run.phases import DrivenTask, Phase
from nemo_run.run.records import JobProgress
from nemo_run.run.recovering import Recovery
from nemo_run.run.store import ExperimentStore
from nemo_run.run.submitting import Submitter
from nemo_run.run.trackers.forwarding import Forwarding
from nemo_run.run.trackers.tracking import FILE as TRACKERS

_TICK = 0.5  # seconds between two looks at requests, and at everything that runs


class Controller:
    """Drives one experiment. One at a time: see :meth:`ExperimentStore.driving`."""

    _ledger: Ledger
    _engines: Engines
    _endings: Endings
    _submitter: Submitter
    _recovery: Recovery
    _follower: MetricsFollower
    _forwarding: Forwarding

    def __init__(self, store: ExperimentStore, observer: Observer | None = None) -> None:
        """Drive what is stored.

        Args:
            store: The experiment.
            observer: Called with every job whose progress changed, after the change is stored.
        """
        self._store = store
        self._observer = observer
        self._last_look = 0.0

    def start(self, go_on: Callable[[int], object]) -> list[NemoRunError]:
        """Submit what can be submitted now, and leave the rest to another controller, unless engines need none.

        Args:
            go_on: Starts the other controller; it is called with the descriptor of the experiment's lock.

        Returns:
            Why engines refused tasks that are not tried again.

        Raises:
            ExperimentBusyError: Another controller drives it.
        """
        with self._driving() as lock:
            self._store.drop_summary()
            self._endings.obey()
            self._submitter.submit_ready()
            if not self._is_left():
                go_on(lock)
            return self._submitter.refusals

    def run(self, on_driving: Callable[[], None] | None = None, lock: int | None = None) -> dict[str, JobProgress]:
        """Drive the experiment until every job has ended.

        Args:
            on_driving: Called once the experiment is ours, and all that is stored of it has been read.
            lock: Descriptor of the experiment's lock that another controller has passed on.

        Returns:
            The progress of every job, by its id.

        Raises:
            ExperimentBusyError: Another controller drives it.
        """
        with self._driving(lock):
            self._store.drop_summary()
            if on_driving:
                on_driving()
            self._forwarding.start()
            while True:
                self._endings.obey()
                self._submitter.submit_ready()
                if self._ledger.graph.is_over:
                    break
                self._look()
                self._forwarding.tell()
            self._ledger.write_summary()
            self._forwarding.finish()
            notify(self._store, self._ledger.definition, self._ledger.progress)
            return self._ledger.progress

    def finish_cancelled(self) -> None:
        """End the jobs that are to be cancelled, and do nothing else: for an experiment without a controller."""
        with self._driving():
            self._endings.obey()
            while self._ledger.is_cancelling:
                self._look()
            self._is_left()

    @contextlib.contextmanager
    def _driving(self, lock: int | None = None) -> Iterator[int]:
        """Hold the experiment, know all that is stored of it, and reach its engines."""
        with self._store.driving(lock) as held, contextlib.ExitStack() as stack:
            self._engines = stack.enter_context(contextlib.closing(Engines(self._store)))
            collector = stack.enter_context(contextlib.closing(Collector(self._store)))
            self._follower = stack.enter_context(contextlib.closing(MetricsFollower(self._store)))
            self._forwarding = Forwarding(self._store)
            self._ledger = Ledger(self._store, self._observer)
            self._endings = Endings(self._ledger, self._engines, collector)
            self._submitter = Submitter(self._ledger, self._engines, self._endings)
            self._recovery = Recovery(self._ledger, self._engines, self._endings)
            self._recovery.take_up()
            self._ledger.start()
            self._submitter.hand_over(self._ledger.schedule.having(Phase.RUNNING))
            yield held

    def _is_left(self) -> bool:
        """Note that no controller is needed, and return whether that is so."""
        ledger = self._ledger
        if ledger.graph.is_over:
            ledger.write_summary()
            return True
        needs_one = any((self._store.path / name).exists() for name in (NOTIFICATIONS, TRACKERS))
        if not needs_one and all(
            ledger.graph.has_ended(job.id) or self._engines.carry(job) for job in ledger.jobs.values()
        ):
            self._store.leave_to_engines()
            return True
        return False

    def _look(self) -> None:
        """Wait for news of the engines, and take them in."""
        self._store.must_be_there()
        tasks = self._wait()
        self._recovery.settle()
        self._endings.tell_engines()
        self._endings.take(self._engines.states(task for task in tasks if task.phase is Phase.RUNNING))
        self._endings.pass_on_collected()
        self._watch_metrics()

    def _watch_metrics(self) -> None:
        """Bring metrics here that are waited for, and cancel the trials of sweeps that are not worth their time."""
        studies, tracked = self._ledger.studies, self._forwarding.jobs
        if not studies.prunes and not tracked:
            return
        running = [task for task in self._ledger.schedule.having(Phase.RUNNING) if not task.job.is_cancelled]
        trials = {task.job.id: task for task in running if studies.may_prune(task.job.id)}
        self._bring(task for task in running if task.job.id in trials or task.job.id in tracked)
        for definition, reason in studies.to_prune(task.job.definition for task in trials.values()):
            self._endings.cancel(trials[definition.id].job, reason)

    def _bring(self, tasks: Iterable[DrivenTask]) -> None:
        """Bring the metrics of tasks here that run elsewhere."""
        elsewhere = [task for task in tasks if not self._engines.shares_files(task)]
        self._follower.follow(
            (task for task in elsewhere if task.progress.state is JobState.RUNNING), self._engines.way
        )

    def _wait(self) -> list[DrivenTask]:
        """Wait for news, and return the tasks that there may be news of."""
        pause = self._ledger.schedule.pause(time.monotonic(), _TICK)
        running = self._ledger.schedule.having(Phase.RUNNING)
        news = self._engines.wait(running, pause)
        if news is None:
            time.sleep(pause)
        if time.monotonic() - self._last_look >= _TICK:
            self._last_look = time.monotonic()
            return running
        return list(dict.fromkeys([*(news or []), *(t for t in running if t.progress.state < JobState.RUNNING)]))
