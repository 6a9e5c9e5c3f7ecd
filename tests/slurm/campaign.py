"""A fault campaign on a real cluster: what tasks wrote themselves is compared with what we say of them.

``python -m tests.slurm.campaign --experiments 40 --faults 300`` runs it as root, in a store of its own. Faults hit at
random moments: controllers are killed, connections cut, slurmctld is stopped or killed, nodes are killed, sbatch
answers late or wrongly, scancel fails, the keeper of accounts is down. The seed is fixed; the moments are those of the
machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nemo_run as run
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.execution.local import system
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.packaging.base import Packager
from nemo_run.core.tunnel.client import SSHTunnel
from nemo_run.errors import NemoRunError
from nemo_run.run import catalog
from tests.services.slurm import NODES, USER, SlurmCluster
from tests.services.sshd import Sshd

AGAIN = "abcdefgh"  # endings of the titles of launches that are tried again
AT_ONCE = 6  # experiments that run at a time
TASK = """
say() {
  echo "$1 $NEMO_RUN_TASK ${SLURM_ARRAY_TASK_ID:-0} $NEMO_RUN_ATTEMPT ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} \
${SLURM_RESTART_COUNT:-0} $2" >> "$TRUTH"
}
say begin -
sleep "$1"
code=$2
if [ "$3" = once ] && [ "$(grep -c "^begin $NEMO_RUN_TASK " "$TRUTH")" -gt 1 ]; then code=0; fi
if [ "$3" = one ] && [ "$SLURM_ARRAY_TASK_ID" != 2 ]; then code=0; fi
say end "$code"
exit "$code"
"""
WRAPPER = """#!/bin/bash
name=${0##*/} faults=${0%/*}/..
real=$(PATH=${PATH//"${0%/*}:"/} command -v "$name")
if [ -z "$SLURM_JOB_ID" ] && rm "$faults/$name.late" 2>/dev/null; then
  "$real" "$@" >/dev/null 2>&1; sleep 1
  echo "$name: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1
fi
if [ -z "$SLURM_JOB_ID" ] && rm "$faults/$name.refused" 2>/dev/null; then
  echo "$name: error: Unable to contact slurm controller (connect failure)" >&2; exit 1
fi
if [ -z "$SLURM_JOB_ID" ] && rm "$faults/$name.slow" 2>/dev/null; then sleep 8; fi
exec "$real" "$@"
"""


class Run(NamedTuple):
    """One run of a task, as it told itself."""

    attempt: int
    job: str
    restart: int


class Campaign:
    """A cluster, its login node, and experiments on it under fire."""

    cluster: SlurmCluster
    login: Sshd

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.notes: Counter[str] = Counter()
        self.titles: list[str] = []
        self.launchers: list[subprocess.Popen[bytes]] = []
        (folder / "bin").mkdir()
        for name in ("sbatch", "scancel"):
            (folder / "bin" / name).write_text(WRAPPER)
            (folder / "bin" / name).chmod(0o755)
        folder.chmod(0o777)
        self.faults: dict[str, Callable[[], None]] = {
            "controller killed": self.kill_driver,
            "ssh cut": self.cut_ssh,
            "slurmctld stopped": lambda: self.pause("slurmctld", self.rng.uniform(1, 12)),
            "slurmctld killed": self.restart_slurmctld,
            "node killed": self.kill_node,
            "sbatch late": lambda: self.trip("sbatch.late"),
            "sbatch slow": lambda: self.trip("sbatch.slow"),
            "sbatch refused": lambda: self.trip("sbatch.refused"),
            "scancel failing": self.fail_scancel,
            "slurmdbd down": self.stop_bookkeeper,
        }

    # faults

    def trip(self, name: str) -> None:
        """Let the next call of a command go wrong."""
        (self.folder / name).touch()
        (self.folder / name).chmod(0o666)

    def fail_scancel(self) -> None:
        """Cancel a job of an experiment that is there for it, while scancel fails once."""
        self.trip("scancel.refused")
        for experiment in self.rng.sample(self.open_experiments(), k=min(1, len(self.open_experiments()))):
            with contextlib.suppress(NemoRunError):
                experiment.cancel("cancelled")

    def kill_driver(self) -> None:
        """Kill a controller of ours, or a launcher, and go on with the experiment."""
        experiments = self.open_experiments()
        self.rng.shuffle(experiments)
        for experiment in experiments:
            pid = experiment._its_store.controller().get("pid") if experiment._its_store.is_driven() else None
            if pid and pid != os.getpid() and system.start_time(pid) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(self.rng.uniform(0, 1))
                self.go_on(experiment)
                return

    def go_on(self, experiment: run.Experiment) -> None:
        code = f"import nemo_run as run; run.Experiment.from_id({experiment.id!r}).resume(detach=True)"
        self.start(code)

    def cut_ssh(self) -> None:
        """Cut all connections; the server is back after a while."""
        self.login.kill()
        time.sleep(self.rng.uniform(0, 2))
        self.login.start()

    def pause(self, name: str, seconds: float) -> None:
        """Stop a daemon for a while."""
        self.cluster.signal(name, signal.SIGSTOP)
        time.sleep(seconds)
        self.cluster.signal(name, signal.SIGCONT)

    def restart_slurmctld(self) -> None:
        """Kill slurmctld; it is back after a while."""
        self.cluster.kill("slurmctld")
        time.sleep(self.rng.uniform(0, 3))
        self.cluster.start_controller()

    def kill_node(self) -> None:
        """Kill a node and all that runs on it; it is back after a while."""
        name = f"node{self.rng.randint(1, NODES)}"
        self.cluster.kill_node(name)
        time.sleep(self.rng.uniform(0, 3))
        self.cluster.start_node(name)
        self.cluster.ask("scontrol", "update", f"NodeName={name}", "State=RESUME")

    def stop_bookkeeper(self) -> None:
        """End slurmdbd; it is back after a while."""
        self.cluster.kill("slurmdbd")
        time.sleep(self.rng.uniform(0, 4))
        self.cluster.start_bookkeeper()

    def mend(self) -> None:
        """Do what administrators do: take nodes back into service, and let jobs go on that Slurm holds."""
        for line in self.cluster.ask("sinfo", "-h", "-N", "-o", "%N %T").splitlines():
            name, state = line.split()
            if state.startswith(("drain", "down")):
                self.cluster.ask("scontrol", "update", f"NodeName={name}", "State=RESUME")
        for line in self.cluster.ask("squeue", "-h", "-t", "PD", "-o", "%A %r").splitlines():
            job, _, reason = line.partition(" ")
            if "held" in reason:
                self.counts["jobs released by hand"] += 1
                self.cluster.ask("scontrol", "release", job)

    # experiments

    def start(self, code: str) -> None:
        """Run code of a launcher in a process of its own."""
        with (self.folder / "launchers").open("ab") as log:
            self.launchers.append(
                subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def launch(self, title: str) -> None:
        """Launch an experiment."""
        self.titles += [f"{title}{again}" for again in AGAIN]
        seed = self.rng.randrange(1 << 30)
        self.start(f"from tests.slurm.campaign import insist; insist({title!r}, {str(self.folder)!r}, {seed})")

    def open_experiments(self) -> list[run.Experiment]:
        """Return the experiments that have not ended."""
        found = []
        for title in self.titles:
            for name in catalog.ids(title):
                experiment = run.Experiment.from_id(name)
                if not all(job.state.is_final for job in experiment.progress().values()):
                    found.append(experiment)
        return found

    def run(self, experiments: int, faults: int) -> None:
        """Run so many experiments under so many faults, then bring them to their ends in peace."""
        names = [f"e{i}" for i in range(experiments)]
        for _ in range(faults):
            if names and len(self.open_experiments()) < AT_ONCE:
                self.launch(names.pop(0))
            what = self.rng.choice(list(self.faults))
            self.faults[what]()
            self.counts[what] += 1
            self.mend()
            time.sleep(self.rng.uniform(0, 1.5))
        while names:
            self.launch(names.pop(0))
        for launcher in self.launchers:
            launcher.wait(600)
        for name in ("sbatch.late", "sbatch.slow", "sbatch.refused", "scancel.refused"):
            (self.folder / name).unlink(missing_ok=True)
        for title in self.titles:
            for name in catalog.ids(title):
                self.finish(name)

    def finish(self, name: str) -> None:
        """Go on with an experiment until it has ended, and compare."""
        experiment = run.Experiment.from_id(name)
        deadline = time.monotonic() + 300
        while not all(job.state.is_final for job in experiment.progress().values()) and time.monotonic() < deadline:
            with contextlib.suppress(NemoRunError):
                experiment.resume(detach=True)
            self.mend()
            time.sleep(1)
        self.compare(experiment)

    # comparing

    def compare(self, experiment: run.Experiment) -> None:
        """Compare what tasks wrote with what is said of them."""
        runs, ends = self.read_truth(self.folder / f"{experiment.id.rsplit('_', 3)[0]}.truth")
        definition = experiment._prepared
        progress = experiment.progress()
        for job in definition.jobs:
            for task, said in zip(job.tasks, progress[job.id].tasks, strict=True):
                mine = {
                    element: list(dict.fromkeys(all_)) for (name, element), all_ in runs.items() if name == task.name
                }
                where = f"{experiment.id} {task.name}: {said.state.name} ({said.reason}) {said.handle}"
                self.counts["tasks"] += 1
                for element, all_ in mine.items():
                    self.check_doubled(where, element, all_, runs[task.name, element])
                last = {element: ends.get((task.name, element, all_[-1])) for element, all_ in mine.items()}
                self.check_end(where, said.state, said.reason, last)

    def check_doubled(self, where: str, element: str, distinct: list[Run], every: list[Run]) -> None:
        """Check that nothing ran twice."""
        self.notes["killed and started again by Slurm"] += len(every) - len(distinct)
        jobs: dict[int, set[str]] = defaultdict(set)
        for one in distinct:
            jobs[one.attempt].add(one.job)
        if any(len(of_attempt) > 1 for of_attempt in jobs.values()):
            self.problems.append(f"DOUBLED {where}: {element}: {distinct}")

    def check_end(self, where: str, state: JobState, reason: str, last: dict[str, int | None]) -> None:
        """Check that the state is what the last runs of the task's elements tell."""
        self.notes[state.name] += 1
        infrastructure = any(word in reason for word in ("node", "could not be launched", "preempted"))
        if not state.is_final:
            self.problems.append(f"LOST {where}")
        elif (state is JobState.SUCCEEDED and (not last or any(code != 0 for code in last.values()))) or (
            state is JobState.FAILED and last and all(code == 0 for code in last.values()) and not infrastructure
        ):
            self.problems.append(f"WRONG {where}: {last}")
        elif state is JobState.FAILED and not last and not infrastructure:
            self.problems.append(f"LOST {where}: never ran")
        elif state is JobState.CANCELLED and last and all(code is not None for code in last.values()):
            self.notes["cancelled, and had ended by itself"] += 1
        if state is JobState.FAILED and infrastructure:
            self.notes["failed with its node"] += 1
        if state is JobState.FAILED and ".retried" in where and not infrastructure:
            self.problems.append(f"LOST RETRY {where}: {last}")

    @staticmethod
    def read_truth(path: Path) -> tuple[dict[tuple[str, str], list[Run]], dict[tuple[str, str, Run], int]]:
        """Return the runs of every task, and their exit codes."""
        runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
        ends: dict[tuple[str, str, Run], int] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            kind, task, element, attempt, job, restart, code = line.split()
            one = Run(int(attempt), job, int(restart))
            if kind == "begin" and (task, element, one) in ends:
                runs[task, element].append(one._replace(job=f"{job}, which had ended"))
            elif kind == "begin":
                runs[task, element].append(one)
            else:
                ends[task, element, one] = int(code)
        return runs, ends


def insist(title: str, folder: str, seed: int) -> None:
    """Launch an experiment; another one where the first could not be begun, as the cluster was not to be reached."""
    for again in AGAIN:
        try:
            launch(f"{title}{again}", folder, seed)
        except NemoRunError as e:
            sys.stderr.write(f"{title}{again}: {e}\n")
            time.sleep(1)
        else:
            return


def launch(title: str, folder: str, seed: int) -> None:
    """Launch an experiment: an array, a chain, a group, a task with retries, and one to be cancelled."""
    rng = random.Random(seed)
    truth = Path(folder, f"{title}.truth")
    truth.touch()
    truth.chmod(0o666)
    tunnel = SSHTunnel(
        host="cluster", user=USER, job_dir=f"{folder}/jobs", pre_command=f"export PATH={folder}/bin:$PATH"
    )
    executor = SlurmExecutor(
        tunnel=tunnel, packager=Packager(), mem="100M", wait_time_for_group_job=0, env_vars={"TRUTH": str(truth)}
    )

    def task(code: int = 0, how: str = "-", longest: float = 4) -> run.Script:
        return run.Script(inline=TASK, args=[f"{rng.uniform(0.2, longest):.1f}", str(code), how])

    def other(**options: Any) -> SlurmExecutor:
        one = executor.clone()
        assert isinstance(one, SlurmExecutor)
        for name, value in options.items():
            setattr(one, name, value)
        return one

    with run.Experiment(title, executor=executor, clean_mode=True) as experiment:
        experiment.add(task(rng.choice((0, 5)), "one"), name="array", executor=other(array="1-3"))
        before = ""
        for i in range(3):
            artifacts = ["*.none"] if rng.random() < 0.3 else []
            dependencies = [before] if before else []
            before = experiment.add(task(), name=f"chain{i}", dependencies=dependencies, artifacts=artifacts)
        experiment.add([task(), task(rng.choice((0, 0, 4)))], name="group")
        experiment.add(task(3, "once"), name="a.retried", executor=other(retries=3))
        experiment.add(task(longest=20), name="cancelled")
        experiment.run(detach=True)


def main() -> int:
    """Run the campaign and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("experiments", 40), ("faults", 300), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nr-campaign-"))
    os.environ["NEMORUN_HOME"] = str(folder / "home")
    begun = time.monotonic()
    campaign = under_fire(options.seed, folder, options.experiments, options.faults)
    print(f"{options.experiments} experiments, {options.faults} faults, {time.monotonic() - begun:.0f} s")
    for name, count in [*sorted(campaign.counts.items()), *sorted(campaign.notes.items())]:
        print(f"{count:6} {name}")
    print(*campaign.problems or ["nothing lost, doubled or wrong"], sep="\n")
    if not campaign.problems:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(campaign.problems)


def under_fire(seed: int, folder: Path, experiments: int, faults: int, without: Sequence[str] = ()) -> Campaign:
    """Start a cluster and a login node, and run a campaign on them, without some kinds of faults."""
    cluster = SlurmCluster()
    login = Sshd((USER,), {"SLURM_CONF": str(cluster.configuration)})
    before = dict(os.environ)
    try:
        cluster.start()
        login.start()
        os.environ.update(login.client_environment(), SLURM_CONF=str(cluster.configuration))
        campaign = Campaign(seed, folder)
        campaign.cluster, campaign.login = cluster, login
        for kind in without:
            del campaign.faults[kind]
        campaign.run(experiments, faults)
        return campaign
    finally:
        os.environ.clear()
        os.environ.update(before)
        cluster.stop()
        login.stop()


if __name__ == "__main__":
    sys.exit(main())
