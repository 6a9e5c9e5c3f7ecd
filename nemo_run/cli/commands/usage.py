"""What ``nemorun experiment status --usage`` shows: hours of tasks and of GPUs, and what they cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from nemo_run.run.records import Definition, JobProgress
from nemo_run.run.store import ExperimentStore
from nemo_run.run.usage import Usage, total, usage


def usage_document(
    store: ExperimentStore, definition: Definition, progress: Mapping[str, JobProgress], price: float
) -> dict[str, Any]:
    """Return what every job has used, and all of them together, for programs."""
    found = usage(store, definition, progress)
    return {"jobs": {job: _entry(one, price) for job, one in found.items()}, "total": _entry(total(found), price)}


def _entry(one: Usage, price: float) -> dict[str, Any]:
    return {**dataclasses.asdict(one), "cost": one.gpu_hours * price}


def print_usage(
    store: ExperimentStore, definition: Definition, progress: Mapping[str, JobProgress], price: float
) -> None:
    """Print what every job has used; of many tasks of one map, their sum."""
    from nemo_run.cli.show import print_table

    found = usage(store, definition, progress)
    sums: dict[str, Usage] = {}
    for job in definition.jobs:
        name = job.mapped or job.id
        sums[name] = sums[name] + found[job.id] if name in sums else found[job.id]
    rows = [_row(name, one, price) for name, one in sums.items()]
    if len(rows) > 1:
        rows.append(_row("total", total(found), price))
    columns = ("job", "hours", "GPU hours", *(["cost"] if price else []), "from")
    print_table(columns, rows, right=("hours", "GPU hours", "cost"))


def _row(name: str, one: Usage, price: float) -> tuple[str, ...]:
    cost = [f"{one.gpu_hours * price:.2f}"] if price else []
    return (name, f"{one.hours:.3f}", f"{one.gpu_hours:.3f}", *cost, "accounts" if one.accounted else "times")
