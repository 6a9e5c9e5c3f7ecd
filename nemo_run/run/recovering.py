"""Tasks whose attempts an earlier controller may have submitted, or whose engine did not answer: are they there?"""

from __future__ import annotations

import time

from nemo_run.errors import ExecutorError
from nemo_run.run import outages
from nemo_run.run.ending import Endings
from nemo_run.run.engines import Engines
from nemo_run.run.ledger import Ledger
from nemo_run.run.phases import DrivenTask, Phase


class Recovery:
    """Asks engines for attempts that may have been submitted, so that none is submitted twice."""

    def __init__(self, ledger: Ledger, engines: Engines, endings: Endings) -> None:
        self._ledger = ledger
        self._engines = engines
        self._endings = endings

    def take_up(self) -> None:
        """Find the phase of every task from what is stored of it."""
        for task in self._ledger.schedule.having(Phase.WAITING):
            progress = task.progress
            if progress.state.is_final:
                self._ledger.schedule.move(task, Phase.DONE)
            elif progress.retry_at is not None:
                self._ledger.schedule.retry(task, time.monotonic() + task.seconds_to_retry(time.time()))
            elif progress.attempt:
                self._recover(task)

    def settle(self) -> None:
        """Ask again for what may have been submitted, where an engine may answer by now."""
        for task in self._ledger.schedule.having(Phase.UNSURE):
            if self._engines.outage(task):
                continue
            self._recover(task)
            if task.phase is Phase.UNSURE:
                continue
            if task.phase is Phase.WAITING:
                self._ledger.schedule.move(task, Phase.READY)
            if task.job.is_cancelled:
                self._endings.cancel(task.job, "cancelled")
            else:
                self._ledger.changed(task.job)

    def _recover(self, task: DrivenTask) -> None:
        try:
            handle = self._engines.recover(task)
        except ExecutorError as e:
            self._ledger.schedule.move(task, Phase.UNSURE)
            self._ledger.note(task, outages.reason(e))
            return
        if handle is None:
            task.forget_attempt()
            self._ledger.schedule.move(task, Phase.WAITING)
        else:
            task.progress.handle = handle
            self._ledger.schedule.move(task, Phase.RUNNING)
