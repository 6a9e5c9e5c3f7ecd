"""Times a map of many tasks on a Slurm cluster through SSH, beside a bare job array of the same size.

::

    python -m benchmarks.slurm_grid [TASKS]       on a test cluster of this machine; as root

Prints how long either took, from the first command to the last task's end, and the memory of the controller.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections import Counter

import nemo_run as run
from benchmarks.slurm import cluster
from tests.services.slurm import SlurmCluster

_LARGEST = 1000  # elements of an array, as Slurm has it by default
_MEMORY = "16G"  # of 64 that each node pretends to have: as many tasks run at once as this machine stands


def bare(slurm: SlurmCluster, tasks: int, command: str) -> tuple[float, float]:
    """Seconds until bare arrays are submitted, and until all their tasks have ended."""
    begin = time.time()
    for start in range(0, tasks, _LARGEST):
        size = min(_LARGEST, tasks - start)
        slurm.ask("sbatch", f"--mem={_MEMORY}", "--output=/dev/null", f"--array=0-{size - 1}", f"--wrap={command}")
    submitted = time.time() - begin
    while slurm.ask("squeue", "-h", "-t", "PENDING,RUNNING,COMPLETING").strip():
        time.sleep(0.5)
    return submitted, time.time() - begin


def ours(executor: run.SlurmExecutor, tasks: int) -> tuple[float, float, Counter[str]]:
    """Seconds until all is submitted, and until all states are stored; the states. This process is the controller."""
    experiment = run.Experiment("grid", executor=executor, clean_mode=True)
    experiment.map([run.Script(inline="true") for _ in range(tasks)], name="t")
    begin = time.time()
    experiment.run()
    took = time.time() - begin
    jobs = experiment.progress().values()
    last = max(job.tasks[0].submitted or 0 for job in jobs)
    return last - begin, took, Counter(job.state.name for job in jobs)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(tasks: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="nemo-run-benchmark-") as folder, cluster() as (slurm, tunnel, sent):
        os.environ["NEMORUN_HOME"] = f"{folder}/home"
        os.environ["SLURM_CONF"] = str(slurm.configuration)
        os.chdir(folder)
        executor = run.SlurmExecutor(tunnel=tunnel, packager=run.Packager(), mem=_MEMORY)
        sent.write_text("")
        before = _memory()
        last, took, states = ours(executor, tasks)
        commands = len(sent.read_text().split())
        print(
            f"{tasks} tasks: the last one submitted after {last:.1f} s, all ended and known after {took:.1f} s "
            f"{dict(states)}, {commands} commands, controller {_memory():.0f} MiB at most, {before:.0f} before",
            flush=True,
        )
        for command in ("srun true", "true"):
            submitted, ended = bare(slurm, tasks, command)
            print(f"bare arrays of {command!r}: submitted {submitted:.1f} s, ended {ended:.1f} s", flush=True)


if __name__ == "__main__":
    main(*[int(text) for text in sys.argv[1:]] or [1000])
