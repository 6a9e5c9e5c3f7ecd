"""Times this package beside NeMo-Run, beside submitit, and beside bare commands; prints a table in Markdown.

``python -m benchmarks`` in the project's folder. Every piece of work runs in a process of its own, the subjects taking
turns, and is checked for its effect.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import bare_subject, nemo_run_subject, submitit_subject
from benchmarks.environments import PEER, SUBMITIT, interpreter
from benchmarks.measure import SMALL, Sizes, arguments
from benchmarks.table import Measured, rows, table


def _module(subject: str) -> ModuleType:
    return {"bare": bare_subject, "submitit": submitit_subject}.get(subject, nemo_run_subject)


@dataclass
class Benchmark:
    """What is measured, where, and what has been found.

    Attributes:
        subjects: Name to interpreter, in the order of the columns.
        folder: Everything happens in here.
        sizes: How much there is to do.
        found: Name of the figure, then subject, to values.
        failures: What went wrong, in words.
        noise: Seconds that the same short piece of work took, over and over.
        patience: Seconds to wait for a quiet machine before each run, at most.
        results: Where to keep what was found, after each run.
    """

    subjects: dict[str, str]
    folder: Path
    sizes: Sizes
    found: Measured = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    patience: float = 0.0
    results: Path | None = None

    def measure(self, work: str, repeats: int) -> None:
        """One piece of work, so many times for each subject that can do it."""
        subjects = [name for name in self.subjects if work in _module(name).WORK]
        for subject in subjects if repeats > 1 else ():
            self._run(work, subject, SMALL, "warm-up")  # bytecode is compiled, files are in memory
        for turn in range(repeats):
            for subject in subjects:
                print(f"{work} {turn + 1}/{repeats}: {subject}", file=sys.stderr, flush=True)
                _wait_for_quiet(self.patience)
                self.noise.append(_same_work())
                given_up = [name for name, values in self.found.items() if float("inf") in values.get(subject, [])]
                for answer in self._run(work, subject, replace(self.sizes, skip=tuple(given_up)), work):
                    if "failed" in answer:
                        self.failures.append(f"{work}, {subject}: {answer['failed']}")
                    else:
                        self.found.setdefault(answer["name"], {}).setdefault(subject, []).append(answer["value"])
                if self.results:
                    self.results.write_text(json.dumps([self.found, self.noise]))

    def _run(self, work: str, subject: str, sizes: Sizes, folder_name: str) -> list[dict[str, Any]]:
        folder = self.folder / f"{subject}-{folder_name}"
        folder.mkdir(exist_ok=True)
        command = [self.subjects[subject], "-m", _module(subject).__name__, *arguments(work, sizes)]
        done = subprocess.run(
            command, cwd=folder, env=self._environment(subject, folder), stdout=subprocess.PIPE, text=True, check=False
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        return answers or [{"name": "", "failed": f"exit code {done.returncode} without a figure"}]

    def _environment(self, subject: str, folder: Path) -> dict[str, str]:
        """The same for all: a home and a search path of its own, and nothing of whoever runs this."""
        bin_folder = str(Path(self.subjects[subject]).parent)
        return {
            "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", os.defpath)]),
            "HOME": str(folder), "NEMORUN_HOME": str(folder / "home"), "PYTHONPATH": str(self.folder / "code"),
            "PYTHONPYCACHEPREFIX": str(self.folder / f"bytecode-{subject}"), "LC_ALL": "C.UTF-8", "TERM": "dumb",
        }  # fmt: skip


def _wait_for_quiet(patience: float) -> None:
    """Wait until hardly anything else runs on the machine, but not for long."""
    end = time.monotonic() + patience
    while time.monotonic() < end and _busy_share() > 0.2:
        pass


def _busy_share() -> float:
    """Share of all cores that is in use, over a moment."""

    def read() -> tuple[int, int]:
        numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return sum(numbers[:8]), numbers[3] + numbers[4]

    (all_before, idle_before), _ = read(), time.sleep(0.3)
    all_now, idle_now = read()
    return 1 - (idle_now - idle_before) / max(all_now - all_before, 1)


def _same_work() -> float:
    """Seconds that a fixed piece of work takes: how they differ is the noise of the machine."""
    begin = time.perf_counter()
    sum(i * i for i in range(300_000))
    return time.perf_counter() - begin


def about(benchmark: Benchmark) -> str:
    """What stands above the table: the machine, and how quiet it was."""
    noise = sorted(benchmark.noise)
    repeats = max(len(values) for by_subject in benchmark.found.values() for values in by_subject.values())
    low, middle, high = noise[0], statistics.median(noise), noise[int(0.9 * len(noise))]
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}; the least of {repeats} runs.\nNoise: the same {low * 1000:.0f} ms of work, done "
        f"{len(noise)} times in between, took {middle / low:.2f} times that in the median,\nand {high / low:.2f} times "
        "that or more in every tenth case."
    )


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    every = ", ".join(nemo_run_subject.WORK)
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: {every}")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of everything (default: 3)")
    parser.add_argument("--small", action="store_true", help="hardly any work, once: does it run at all?")
    parser.add_argument("--alone", action="store_true", help="only this package and bare commands: installs nothing")
    parser.add_argument("--peer", metavar="PYTHON", help=f"interpreter that has {', '.join(PEER)}; else installed")
    parser.add_argument("--submitit", metavar="PYTHON", help=f"interpreter that has {', '.join(SUBMITIT)}; the same")
    parser.add_argument("--patience", type=float, default=15, metavar="S", help="wait so long for a quiet machine")
    parser.add_argument("--results", type=Path, metavar="FILE", help="add to what is in this file, and show all of it")
    options = parser.parse_args()
    subjects = {"this": sys.executable}
    if not options.alone:
        subjects["NeMo-Run"] = options.peer or interpreter(PEER)
        subjects["submitit"] = options.submitit or interpreter(SUBMITIT)
    subjects["bare"] = sys.executable
    repeats = 1 if options.small else options.repeats
    works = options.only.split(",") if options.only else list(nemo_run_subject.WORK)
    if unknown := set(works) - set(nemo_run_subject.WORK):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {every}")

    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        code = Path(folder, "code", "benchmarks")  # a copy, so that no repository is around it
        shutil.copytree(Path(__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
        benchmark = Benchmark(subjects, Path(folder), SMALL if options.small else Sizes())
        benchmark.patience, benchmark.results = 0 if options.small else options.patience, options.results
        if options.results and options.results.exists():
            benchmark.found, benchmark.noise = json.loads(options.results.read_text())
        try:
            for work in works:
                benchmark.measure(work, repeats)
        except KeyboardInterrupt:
            print("interrupted: this is what was measured", file=sys.stderr)
    print(about(benchmark), end="\n\n")
    print(table(list(subjects), rows(benchmark.sizes), benchmark.found, benchmark.sizes.limit))
    for failure in benchmark.failures:
        print(f"failed: {failure}", file=sys.stderr)
    sys.exit(1 if benchmark.failures else 0)


if __name__ == "__main__":
    main()
