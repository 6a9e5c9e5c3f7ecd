"""The experiment and the job that somebody means on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nemo_run.config.suggest import did_you_mean
from nemo_run.errors import CommandLineError, ExperimentNotFoundError, JobNotFoundError
from nemo_run.run import catalog
from nemo_run.run.records import Definition, JobDefinition
from nemo_run.run.store import ExperimentStore

NEWEST = "newest"


def find_experiment(wanted: str | None = None) -> ExperimentStore:
    """Return the experiment with this id, or this title (its newest one), or an id that begins so.

    Args:
        wanted: The id, the title, or the beginning of an id; without one, or with the word "newest" where no
            experiment has that title, the newest of all is meant.

    Raises:
        ExperimentNotFoundError: There is none, or there are several whose ids begin so.
    """
    known = catalog.ids()
    if wanted is None or (wanted == NEWEST and not catalog.ids(NEWEST)):
        if not known:
            raise ExperimentNotFoundError(f"there are no experiments in {catalog.experiments_root()} yet")
        return catalog.find(known[-1])
    if wanted in known:
        return catalog.find(wanted)
    if "…" in wanted:
        return catalog.find(_that_is_cut(wanted, known) or wanted)
    if wanted.strip() and (with_title := catalog.ids(wanted)):
        return catalog.find(with_title[-1])
    return catalog.find(_id_that_begins(wanted, known) if wanted else wanted)


def _id_that_begins(wanted: str, known: Sequence[str]) -> str:
    begin_so = [one for one in known if one.startswith(wanted)]
    if len(begin_so) > 1:
        raise ExperimentNotFoundError(
            f"the ids of {len(begin_so)} experiments begin with {wanted!r}, the newest being "
            f"{', '.join(reversed(begin_so[-3:]))}; write more of the one you mean"
        )
    return begin_so[0] if begin_so else wanted


def _that_is_cut(wanted: str, known: Sequence[str]) -> str:
    """Return the newest name that a table shows so: cut in the middle."""
    begin, _, end = wanted.partition("…")
    return next((one for one in reversed(known) if one.startswith(begin) and one.endswith(end)), "")


def find_job(definition: Definition, wanted: str) -> JobDefinition:
    """Return the job with this name, or this number.

    Raises:
        JobNotFoundError: There is none; the message names similar ones.
    """
    names = [job.id for job in definition.jobs]
    if wanted in names:
        return definition.jobs[names.index(wanted)]
    if "…" in wanted and (whole := _that_is_cut(wanted, names)):
        return definition.jobs[names.index(whole)]
    if wanted.isdecimal() and int(wanted) < len(names):
        return definition.jobs[int(wanted)]
    raise JobNotFoundError(f"experiment {definition.id!r} has no job {wanted!r}{did_you_mean(wanted, names)}")


def parse_age(text: str) -> float:
    """Return the seconds of an age such as ``12h``.

    Example:
        >>> parse_age("2d")
        172800.0

    Raises:
        CommandLineError: This is no age.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if not found:
        raise CommandLineError(f"{text!r} is not an age; write it like 90m, 12h, 30d or 8w")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2]]


def dependencies_of(definition: Definition, job: JobDefinition) -> list[JobDefinition]:
    """Return the jobs that a job depends on, directly or through others."""
    found: dict[str, JobDefinition] = {}
    todo = list(job.dependencies)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = definition.job(name)
            todo.extend(found[name].dependencies)
    return list(found.values())
