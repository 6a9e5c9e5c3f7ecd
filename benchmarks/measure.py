"""Inside the process of a subject: how work is timed, and how its figures are handed back. Standard library only."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """How much there is to do.

    Attributes:
        leaves: Values in a configuration: name of the size to blocks, and width and depth of a tree.
        tasks: Numbers of tasks in one experiment.
        chain: Length of a chain of tasks.
        files: Files in a repository.
        experiments: Experiments in a home.
        jobs: Jobs of an experiment whose status is shown.
        lines: Lines of a log.
        sbatch: Slurm jobs.
        limit: Seconds after which an operation is given up.
        skip: Figures that were given up before.
    """

    leaves: dict[str, tuple[int, int, int]] = field(default_factory=lambda: {"1k": (6, 3, 5), "10k": (60, 4, 6)})
    tasks: tuple[int, ...] = (16, 64, 256)
    chain: int = 10
    files: int = 20_000
    experiments: int = 2_000
    jobs: int = 64
    lines: int = 1_000_000
    sbatch: int = 1_000
    limit: float = 20.0
    skip: tuple[str, ...] = ()


SMALL = Sizes({"tiny": (1, 2, 2)}, (3,), 3, 20, 3, 3, 1000, 3)

Figures = Iterator[tuple[str, float]]
"""Names and values: seconds, or megabytes where the name begins with ``memory``."""
Work = Mapping[str, Callable[[Sizes], Figures]]


class TooLongError(Exception):
    """An operation was given up."""


class WrongError(Exception):
    """An operation did not do what it was to do."""


def main(work: Work) -> None:
    """Do one piece of work, and print a line of JSON for each of its figures: ``python -m MODULE NAME SIZES``."""
    name, sizes = sys.argv[1], Sizes(**json.loads(sys.argv[2]))
    answers = os.fdopen(os.dup(1), "w")
    with Path("output").open("ab") as output:  # of the subject, which may print what it likes
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    try:
        for figure, value in work[name](sizes):
            print(json.dumps({"name": figure, "value": value}), file=answers, flush=True)
    except Exception as e:  # noqa: BLE001  # whatever it is, it stands in the table
        traceback.print_exc()
        print(json.dumps({"name": "", "failed": f"{type(e).__name__}: {e}"}), file=answers)
    answers.close()
    sys.stdout.flush()


def arguments(name: str, sizes: Sizes) -> list[str]:
    """What :func:`main` is called with."""
    return [name, json.dumps(asdict(sizes))]


def seconds(work: Callable[..., Any], prepare: Callable[[], Any] | None = None, limit: float = 60.0) -> float:
    """Seconds that an operation takes; the median of up to five runs of a quick one.

    Args:
        work: The operation; given what ``prepare`` returned.
        prepare: Called before each run; its time does not count.
        limit: Seconds after which it is given up, with a :class:`TooLongError`.
    """

    def give_up(*_: object) -> None:
        raise TooLongError

    times: list[float] = []
    before = signal.signal(signal.SIGALRM, give_up)
    try:
        while not times or (len(times) < 5 and sum(times) < 0.5):
            given = () if prepare is None else (prepare(),)
            signal.setitimer(signal.ITIMER_REAL, limit)
            begin = time.perf_counter()
            work(*given)
            times.append(time.perf_counter() - begin)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return statistics.median(times)


def process(command: Iterable[str], shows: str = "", times: int = 3) -> tuple[float, float]:
    """Seconds that a program takes, the least of several runs; and megabytes of memory that it has at its most.

    Args:
        command: The program.
        shows: What must be in its output.
        times: How often it is run.
    """
    runs = [_process(list(command), shows) for _ in range(times)]
    return min(took for took, _ in runs), max(used for _, used in runs)


def _process(command: list[str], shows: str) -> tuple[float, float]:
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        took = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if child.returncode or shows not in text:
        raise WrongError(f"exit code {child.returncode}, expected {shows!r}: {text.strip()[-200:]}")
    return took, usage.ru_maxrss / 1024


def memory() -> float:
    """Megabytes of memory that this process had at its most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def program(name: str, text: str) -> list[str]:
    """The command that runs a Python program, which is written into the current folder."""
    Path(f"{name}.py").write_text(text)
    return [sys.executable, f"{name}.py"]


def check_ran(mark: Path, count: int, *, in_order: bool = False) -> None:
    """See that every one of so many tasks left its number in a file, once."""
    ran = mark.read_text().split() if mark.exists() else []
    mark.unlink(missing_ok=True)
    wanted = [str(i) for i in range(count)]
    if (ran if in_order else sorted(ran, key=int)) != wanted:
        raise WrongError(f"{len(ran)} of {count} tasks ran")


def talk(lines: int) -> str:
    """A command that prints so many lines of a hundred characters."""
    return f"seq -f 'line %08.0f {'x' * 85}' 1 {lines}"


def repository(files: int) -> Path:
    """A git repository with so many Python files of about two kilobytes."""
    folder = Path("..", f"repository-{files}").absolute()
    if folder.exists():
        return folder
    chance = random.Random(7)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 9))) for _ in range(2000)]
    for i in range(files):
        file = folder / "src" / f"d{i // 50:03}" / f"f{i}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(" ".join(chance.choices(words, k=6)) for _ in range(50)))
    git = ("git", "-C", str(folder), "-c", "user.name=b", "-c", "user.email=b@localhost", "-c", "gc.auto=0")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all"), ("repack", "-a", "-d", "-q")):
        subprocess.run([*git, *command], check=True)
    return folder
