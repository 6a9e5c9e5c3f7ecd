"""Times a sweep of many tasks on a Slurm cluster through SSH, and logs that are read there.

::

    python -m benchmarks.slurm_sweep [TASKS] [MEGABYTES]       on a test cluster of this machine; as root

Prints how long after the last task's end all states are right, how many commands it took while tasks ran, and how fast
a log of one task is read, beside ``cat`` through ssh.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nemo_run as run
from benchmarks.slurm import cluster
from tests.services.slurm import SlurmCluster


def sweep(slurm: SlurmCluster, executor: run.SlurmExecutor, tasks: int, sent: Path) -> str:
    """Return what a sweep of many tasks took; they begin when all of them are in the queue."""
    executor.additional_parameters = {"hold": True}
    ends = Path(executor.tunnel.job_dir).parent / "ends"
    ends.mkdir(exist_ok=True)
    ends.chmod(0o777)
    sent.write_text("")
    experiment = run.Experiment("sweep", executor=executor, clean_mode=True)
    for i in range(tasks):
        experiment.add(run.Script(inline=f"touch {ends}/{i}"), name=f"t{i}")
    begin = time.time()
    experiment.run(detach=True)
    submitted, commands = time.time() - begin, len(sent.read_text().split())
    held = slurm.ask("squeue", "-h", "-o", "%A").split()
    for start in range(0, len(held), 200):
        slurm.ask("scontrol", "release", ",".join(held[start : start + 200]))
    while not all(job.state.is_final for job in experiment.progress().values()):
        time.sleep(0.2)
    right = time.time()
    last = max(path.stat().st_mtime for path in ends.iterdir())
    states = {job.state for job in experiment.progress().values()}
    polled = len(sent.read_text().split()) - commands
    names = ", ".join(state.name for state in states)
    return (
        f"{tasks} tasks: submitted {submitted:.1f} s ({commands} commands), last task's end {last - begin:.1f} s, "
        f"all states known {right - last:.1f} s later ({names}), {polled} commands meanwhile, "
        f"{polled / (right - begin - submitted):.2f} a second"
    )


def log(executor: run.SlurmExecutor, megabytes: int) -> str:
    """Return how long a large log takes, beside ``cat``."""
    experiment = run.Experiment("log", executor=executor, clean_mode=True)
    line = "x" * 99
    experiment.add(run.Script(inline=f"yes {line} | head -c {megabytes << 20}"), name="a")
    with contextlib.redirect_stdout(open(os.devnull, "w")):  # noqa: PTH123
        experiment.run()
    (path,) = Path(executor.tunnel.job_dir).glob(f"log/{experiment.id}/a/log-*")
    begin = time.perf_counter()
    subprocess.run(executor.tunnel.argv(f"cat '{path}'"), stdout=subprocess.DEVNULL, check=True)
    plain = time.perf_counter() - begin
    code = f"import nemo_run as run; run.Experiment.from_id({experiment.id!r}).logs('a')"
    begin = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    ours = time.perf_counter() - begin
    assert len(said) >= megabytes << 20, len(said)
    speed = megabytes / ours
    return f"{megabytes} MB of log: {ours:.2f} s ({speed:.0f} MB/s), cat {plain:.2f} s, ratio {ours / plain:.1f}"


def main(tasks: int, megabytes: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="nemo-run-benchmark-") as folder, cluster() as (slurm, tunnel, sent):
        os.environ["NEMORUN_HOME"] = f"{folder}/home"
        os.environ["SLURM_CONF"] = str(slurm.configuration)
        os.chdir(folder)
        executor = run.SlurmExecutor(tunnel=tunnel, packager=run.Packager(), mem="100M")
        print(log(executor, megabytes), flush=True)
        print(sweep(slurm, executor, tasks, sent), flush=True)


if __name__ == "__main__":
    main(*[int(text) for text in sys.argv[1:]] or [1000, 200])
