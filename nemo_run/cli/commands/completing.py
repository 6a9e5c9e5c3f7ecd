"""Completion of experiments and of their jobs."""

from __future__ import annotations

import contextlib
from typing import Any

_MOST = 50  # ids, the newest


def experiments(incomplete: str) -> list[str]:
    """Titles and ids of experiments that begin so, the newest first."""
    from nemo_run.run import catalog

    ids = [one for one in reversed(catalog.ids()) if one.startswith(incomplete)][:_MOST]
    return [*(title for title in catalog.titles() if title.startswith(incomplete)), *ids]


def jobs(ctx: Any, incomplete: str) -> list[str]:
    """Names of the jobs of the experiment that was named before."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.errors import NemoRunError

    with contextlib.suppress(NemoRunError):
        definition = find_experiment(ctx.params.get("which")).read_definition()
        return [job.id for job in definition.jobs if job.id.startswith(incomplete)]
    return []
