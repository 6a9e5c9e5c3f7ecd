"""A fault campaign: launchers, controllers and supervisors are killed at random moments, and nothing is lost.

Every experiment is a random graph of jobs. While it is launched, driven and resumed, random processes of it get
SIGKILL or SIGTERM. In between its state is asked for, and compared with what the tasks themselves wrote down. At the
end it is resumed once more in peace. The seeds are fixed; the moments are what the machine makes of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.local import system
from nemo_run.errors import ExperimentBusyError, StoreError
from nemo_run.run import catalog
from nemo_run.run.experiment import Experiment
from nemo_run.run.records import JobProgress, TaskProgress
from nemo_run.run.store import ExperimentStore
from tests.support import eventually, own_processes

SEEDS = range(24)
KILLS = 10  # for every experiment, at least: 240 in all

DRIVER = """
import random, sys
import nemo_run as run

seed, detach, work = int(sys.argv[1]), sys.argv[2] == "detach", sys.argv[3]
rng = random.Random(seed)
executor = run.LocalExecutor(retries=100, retry_delay=0.05)
text = 'it="$NEMO_RUN_TASK $NEMO_RUN_ATTEMPT"; echo "begin $it" >> "$1"; sleep "$2"; echo "end $it" >> "$1"'
with run.Experiment("campaign", executor=executor, clean_mode=True) as exp:
    for i in range(rng.randint(5, 30)):
        before = [f"j{k}" for k in rng.sample(range(i), min(i, rng.choice((0, 0, 1, 2))))]
        scripts = [
            run.Script(inline=text, args=[work + "/journal", f"{rng.random() * 0.3:.2f}"])
            for _ in range(rng.choice((1, 1, 1, 2, 3)))
        ]
        exp.add(scripts if len(scripts) > 1 else scripts[0], name=f"j{i}", dependencies=before)
    exp.run(detach=detach, max_parallel=rng.choice((None, 4)))
"""

RESUME = """
import sys
import nemo_run as run

run.Experiment.from_id(sys.argv[1]).resume(detach=sys.argv[2] == "detach")
"""

counts: Counter[str] = Counter()


def tasks_of(experiment: Experiment, progress: dict[str, JobProgress]) -> dict[str, TaskProgress]:
    """How far every task is, by its name."""
    return {
        task.name: state
        for job in experiment._prepared.jobs
        for task, state in zip(job.tasks, progress[job.id].tasks, strict=True)
    }


class Campaign:
    """One experiment under fire."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(f"kill {seed}")
        self.seed, self.folder = seed, folder
        self.journal = folder / "journal"
        self.process: subprocess.Popen[bytes] | None = None
        self.store: ExperimentStore | None = None

    def start(self, code: str, *args: str) -> None:
        """Run Python code that launches or resumes; in this process's group of nobody else."""
        command = [sys.executable, "-c", code, *args]
        with (self.folder / "output").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )

    def mode(self) -> str:
        return self.rng.choice(("detach", "stay"))

    def launched(self) -> bool:
        """Whether there is an experiment that can be resumed; a launcher may die before it has written one."""
        found = catalog.ids("campaign")
        if found:
            self.store = catalog.find(found[-1])
        return bool(found)

    def victims(self) -> dict[str, int]:
        """Processes of the experiment that may be killed, by their kind."""
        found: dict[str, int] = {}
        if self.process is not None and self.process.poll() is None:
            found["launcher"] = self.process.pid
        if self.store is None:
            return found
        with contextlib.suppress(StoreError):
            if self.store.is_driven() and "pid" in (controller := self.store.controller()):
                found["controller"] = controller["pid"]
        supervisors = []
        for claim in self.store.path.glob("**/attempts/*/supervisor.json"):
            owner = json.loads(claim.read_bytes())
            if "pid" in owner and system.start_time(owner["pid"]) == owner["start"]:
                supervisors.append(owner["pid"])
        if supervisors:
            found["supervisor"] = self.rng.choice(supervisors)
        return found

    def kill_somebody(self) -> None:
        time.sleep(self.rng.random() * 0.25)
        victims = self.victims()
        if not victims:
            return
        kind = self.rng.choice(sorted(victims))
        signum = self.rng.choice((signal.SIGKILL, signal.SIGTERM))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victims[kind], signum)
            counts[f"{kind} {signum.name}"] += 1
            counts["kills"] += 1

    def events(self) -> list[tuple[str, str, int]]:
        """What the tasks wrote: begin or end, the task, the attempt."""
        if not self.journal.exists():
            return []
        lines = self.journal.read_text().split("\n")[:-1]
        return [(what, name, int(attempt)) for what, name, attempt in (line.split() for line in lines)]

    def look(self) -> None:
        """No state may say more than what has happened."""
        if self.store is None:
            return
        experiment = Experiment.from_id(self.store.id)
        progress = experiment.progress()
        ended = {(name, attempt) for what, name, attempt in self.events() if what == "end"}
        for name, task in tasks_of(experiment, progress).items():
            if task.state is JobState.SUCCEEDED:
                assert (name, task.attempt) in ended, f"seed {self.seed}: {name} is said to have succeeded, and has not"
            assert task.state is not JobState.UNKNOWN
            counts["states looked at"] += 1

    def over(self) -> bool:
        """Whether every job has ended."""
        return self.store is not None and self.store.read_summary() is not None

    def storm(self) -> None:
        """Kill, look, and start again what has been killed, until enough has been killed or all is over."""
        killed = counts["kills"]
        for _ in range(6 * KILLS):
            if counts["kills"] - killed >= KILLS or self.over():
                break
            self.kill_somebody()
            self.look()
            if self.process is None or self.process.poll() is None:
                continue
            if self.launched() and self.store is not None and not self.over():
                self.start(RESUME, self.store.id, self.mode())
                counts["resumes"] += 1

    def finish(self) -> Experiment:
        """Resume once more, in peace, once nobody drives the experiment any more."""
        if self.process is not None:
            self.process.wait(60)
        if not self.launched():  # the launcher died first of all: nothing was asked for, nothing may have run
            assert self.events() == []
            self.start(DRIVER, str(self.seed), "stay", str(self.folder))
            assert self.process is not None
            assert self.process.wait(120) == 0
            assert self.launched()
        assert self.store is not None
        experiment = Experiment.from_id(self.store.id)
        experiment._quiet = True
        try:
            experiment.resume()
        except ExperimentBusyError:  # a detached controller has survived, and goes on
            counts["survivors"] += 1
            experiment.wait()
        return experiment

    def check(self, experiment: Experiment) -> None:
        """Every job ran to its end, every attempt once at most, none too early, and nothing is left."""
        where = f"seed {self.seed}: "
        events = self.events()
        begun = Counter((job, attempt) for what, job, attempt in events if what == "begin")
        ended = Counter((job, attempt) for what, job, attempt in events if what == "end")
        assert set(begun.values()) | set(ended.values()) <= {1}, f"{where}an attempt ran twice: {begun} {ended}"
        tasks = tasks_of(experiment, experiment.progress())
        position = {event: index for index, event in enumerate(events)}
        members = {job.id: [task.name for task in job.tasks] for job in experiment._prepared.jobs}
        for job in experiment._prepared.jobs:
            before = [name for dependency in job.dependencies for name in members[dependency]]
            for name in members[job.id]:
                task, last = tasks[name], (name, tasks[name].attempt)
                assert task.state is JobState.SUCCEEDED, f"{where}{name} is {task.state}: {task.reason}"
                assert begun[last] == ended[last] == 1, f"{where}{name}: attempt {task.attempt} did not run to its end"
                ran = {attempt for one, attempt in begun if one == name}
                assert max(ran) == task.attempt, f"{where}{name} ran after its success"
                assert task.tries == len(task.history) + 1
                unknown = ran - {entry["attempt"] for entry in task.history} - {task.attempt}
                assert not unknown, f"{where}{name}: attempts {unknown} ran that nobody meant to run"
                for one in before:
                    done = position["end", one, tasks[one].attempt]
                    assert done < position[("begin", *last)], f"{where}{name} began before {one} had ended"
                counts["tasks"] += 1
                counts["attempts"] += task.tries
            counts["jobs"] += 1
        counts["experiments"] += 1
        eventually(lambda: not own_processes(self.folder.parent), f"{where}all processes have ended", within=30)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_and_nothing_runs_twice(seed: int, work: Path) -> None:
    campaign = Campaign(seed, work)
    campaign.start(DRIVER, str(seed), campaign.mode(), str(work))
    try:
        eventually(lambda: campaign.launched() or campaign.process is None or campaign.process.poll() is not None)
        campaign.storm()
        campaign.check(campaign.finish())
    finally:
        if campaign.process is not None:
            campaign.process.kill()
            campaign.process.wait()


def test_the_campaign_was_one() -> None:
    """Runs last in this module; its output is the report."""
    print("fault campaign:", ", ".join(f"{what} {number}" for what, number in sorted(counts.items())))
    if counts["experiments"] == len(SEEDS):  # not so where single tests were picked
        assert counts["kills"] >= 200
        assert {
            f"{kind} {signum}" for kind in ("launcher", "controller", "supervisor") for signum in ("SIGKILL", "SIGTERM")
        } <= set(counts)
