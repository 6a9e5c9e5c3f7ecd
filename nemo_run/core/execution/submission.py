"""What a backend is given to start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nemo_run.core.execution.jobs import Plan
from nemo_run.errors import ExecutorError


@dataclass(frozen=True)
class Submission:
    """One attempt to start.

    Attributes:
        plan: What to run.
        attempt: Number of the attempt, from 1.
        after: Handles of the attempts that it waits for; only for an engine that ``holds_dependencies``.
    """

    plan: Plan
    attempt: int
    after: Sequence[str] = ()


def one_by_one(submissions: Sequence[Submission], start: Callable[[Plan, int], str]) -> list[str | ExecutorError]:
    """Start attempts one after the other, for an engine that takes no more than one at a time."""
    answers: list[str | ExecutorError] = []
    for submission in submissions:
        try:
            answers.append(start(submission.plan, submission.attempt))
        except ExecutorError as e:
            answers.append(e)
    return answers
