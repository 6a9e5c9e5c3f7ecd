"""Times what a user waits for when launching, watching and finding experiments on this machine.

::

    python benchmarks/experiments.py            all of it, in a temporary folder: about two minutes

Prints a Markdown table with, for scale, what the bare operation costs.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXPERIMENTS, TASKS, LINES, REPEATS = 2000, 256, 1_000_000, 5
TALK = f"seq -f 'line %08.0f {'x' * 85}' 1 {LINES}"


def timed(*command: str, output: Path | None = None) -> float:
    """Seconds that a command takes."""
    begin = time.perf_counter()
    with Path(output or os.devnull).open("wb") as out:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def median(*command: str) -> float:
    """The median of several runs."""
    return statistics.median(timed(*command) for _ in range(REPEATS))


def python(code: str) -> tuple[str, ...]:
    """A command that runs Python code."""
    return (sys.executable, "-c", code)


def row(what: str, seconds: float, floor: float | None = None, note: str = "") -> None:
    """Print one line of the table."""
    bare = "" if floor is None else f"{floor * 1000:.0f} ms"
    ratio = "" if floor is None else f"{seconds / floor:.1f}"
    print(f"| {what} | {seconds * 1000:.0f} ms | {bare} | {ratio} | {note} |", flush=True)


def startup() -> None:
    """How long until something happens."""
    empty = median(*python("pass"))
    row("`import nemo_run`", median(*python("import nemo_run")), empty, "bare: `python -c pass`")
    names = "import nemo_run as run; run.Config; run.Experiment; run.LocalExecutor"
    row("… with Config, Experiment, LocalExecutor", median(*python(names)), empty)
    launch = 'import nemo_run as run; run.run(run.Script(inline="true"), executor=run.LocalExecutor(), name="t")'
    row("a script that launches `true` and waits", median(*python(launch)), median("bash", "-c", "true"))


def catalogue() -> None:
    """Finding experiments among many."""
    code = f"""
import nemo_run as run
for i in range({EXPERIMENTS}):
    with run.Experiment("sweep", clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="t")
        exp.dryrun(log=False, delete_exp_dir=False)
with run.Experiment("many", clean_mode=True) as exp:
    for i in range(64):
        exp.add(run.Script(inline="true"), name=f"t{{i}}")
    exp.run()
"""
    timed(*python(code))
    nemorun = str(Path(sys.executable).with_name("nemorun"))
    empty = median(*python("pass"))
    note = f"{EXPERIMENTS + 1} experiments in the home"
    row(
        "`nemorun experiment list --limit 10000`",
        median(nemorun, "experiment", "list", "--limit", "10000"),
        empty,
        note,
    )
    row("`nemorun experiment status many`", median(nemorun, "experiment", "status", "many"), empty, "64 jobs")


def throughput() -> None:
    """Many tasks in one experiment."""
    code = f"""
import nemo_run as run
with run.Experiment("wide", clean_mode=True) as exp:
    for i in range({TASKS}):
        exp.add(run.Script(inline="true"), name=f"t{{i}}")
    exp.run()
exp.raise_for_failure()
"""
    bare = timed("bash", "-c", f"for i in $(seq {TASKS}); do bash -c true & done; wait")
    row(f"{TASKS} tasks of `true` in one experiment", timed(*python(code)), bare)


def logs(folder: Path) -> None:
    """Following a task that talks a lot."""
    bare = timed("bash", "-c", TALK, output=folder / "bare")
    code = f"""
import resource
import nemo_run as run
with run.Experiment("talk", clean_mode=True) as exp:
    exp.add(run.Script(inline={TALK!r}), name="talk", tail_logs=True)
    exp.run()
open({str(folder / "memory")!r}, "w").write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""
    seconds = timed(*python(code), output=folder / "followed")
    with (folder / "followed").open("rb") as followed:
        lines = sum(1 for line in followed if b"line 0" in line)
    memory = int((folder / "memory").read_text()) / 1024
    row(f"{LINES:,} lines followed live", seconds, bare, f"{lines:,} shown; follower's memory {memory:.0f} MB")


def main() -> None:
    """Print the table."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="nemo-run-benchmark-") as folder:
        os.environ["NEMORUN_HOME"] = str(Path(folder, "home"))
        os.chdir(folder)
        print("| what | time | bare | ratio | |\n|---|---|---|---|---|")
        startup()
        throughput()
        logs(Path(folder))
        catalogue()


if __name__ == "__main__":
    main()
