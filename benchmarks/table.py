"""The table: which figures there are, and how they are shown."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.measure import Sizes

Measured = dict[str, dict[str, list[float]]]

_OPERATIONS = {
    "construct": "construct, with type checks",
    "clone": "clone",
    "build": "`cfg.build()`",
    "fdl.build": "`fdl.build(cfg)`",
    "broadcast": "broadcast",
    "walk": "walk",
    "equal": "equal",
    "serialise": "serialise",
    "load": "load",
    "diff": "diff",
    "add": "`exp.add`",
}


def rows(sizes: Sizes) -> dict[str, str]:
    """Name of every figure to what it is, in the order in which they are shown."""
    return {
        "import": "`import nemo_run`",
        "import names": "… with Config, Experiment, LocalExecutor",
        "help": "`nemorun --help`",
        "help script": "`python script.py --help`",
        "dry run": "`python script.py --dryrun`",
        "direct": "`python script.py`, run directly",
        "launch script": "a program that launches `true` and waits",
        "launch function": "… a Python function",
        "launch sleep": "`run.run` of `sleep 0.5`",
        **{f"tasks {count}": f"{count} tasks at once" for count in sizes.tasks},
        "chain": f"a chain of {sizes.chain} tasks",
        **{f"{name} {size}": f"{text}, {size} values" for size in sizes.leaves for name, text in _OPERATIONS.items()},
        "package git": f"package a repository of {sizes.files:,} files",
        "package pattern": "… by pattern",
        "catalog()": f"`Experiment.catalog()` of {sizes.experiments:,}",
        "list": f"`nemorun experiment list`, {sizes.experiments:,}",
        "status()": f"`exp.status()`, {sizes.jobs} jobs",
        "status": f"`nemorun experiment status`, {sizes.jobs} jobs",
        "follow": f"{sizes.lines:,} lines followed live",
        "replay": f"{sizes.lines:,} lines shown again",
        "sbatch": f"Slurm scripts for {sizes.sbatch:,} jobs",
        "memory import names": "memory: the import",
        "memory dry run": "memory: `--dryrun`",
        "memory launch script": "memory: launching `true`",
        "memory tasks": "memory: tasks at once",
        "memory configurations": "memory: configurations",
        "memory status": "memory: `nemorun experiment status`",
        "memory follow": "memory: following",
        "memory sbatch": "memory: Slurm scripts",
    }


def table(subjects: list[str], rows: dict[str, str], found: Measured, limit: float) -> str:
    """The table in Markdown: a column for every subject, and how this package compares with it."""
    others = [name for name in subjects if name != "this"]
    head = ["", "this", *(part for name in others for part in (name, f"this / {name}"))]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for figure, text in rows.items():
        if figure not in found:
            continue
        least = {name: min(values) for name, values in found[figure].items()}  # what else runs here only adds
        show = _megabytes if figure.startswith("memory") else _seconds
        mine = least.get("this")
        cells = [text, "" if mine is None else _bounded(mine, limit, show)]
        for name in others:
            other = least.get(name)
            cells += ["" if other is None else _bounded(other, limit, show), _ratio(mine, other, limit)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _bounded(value: float, limit: float, show: Callable[[float], str]) -> str:
    return f"> {show(limit)}" if math.isinf(value) else show(value)


def _ratio(mine: float | None, other: float | None, limit: float) -> str:
    if mine is None or other is None or math.isinf(mine):
        return ""
    return f"< {mine / limit:.2g}" if math.isinf(other) else f"{mine / other:.2g}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _megabytes(value: float) -> str:
    return f"{value:.0f} MB"
