"""What the page can ask for: commands of the command line, run as a person would, with their words as the answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nemo_run.errors import CommandLineError
from nemo_run.run import catalog

PATIENCE = 120
"""Seconds that a command may take."""
_LONGEST = 10_000  # characters of an answer, of a note

Words = list[str]


def _texts(request: Mapping[str, Any], name: str) -> Words:
    found = request.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, str) and len(one) <= _LONGEST for one in found):
        raise CommandLineError(f"{name}: a list of texts is expected")
    return found


def _text(request: Mapping[str, Any], name: str) -> str:
    return _texts({name: [request.get(name, "")]}, name)[0]


_COMMANDS: Mapping[str, Callable[[str, Mapping[str, Any]], Words]] = {
    "cancel": lambda one, request: ["cancel", "--", one, *_texts(request, "jobs")[:1]],
    "resume": lambda one, _: ["resume", "--detach", "--", one],
    "rerun": lambda one, _: ["rerun", "--detach", "--", one],
    "rerun-failed": lambda one, _: ["rerun", "--detach", "--failed", "--", one],
    "tag": lambda one, request: ["tag", "--", one, *_texts(request, "tags")],
    "untag": lambda one, request: ["tag", "--remove", "--", one, *_texts(request, "tags")],
    "note": lambda one, request: ["note", "--", one, _text(request, "note")],
    "archive": lambda one, _: ["archive", "--", one],
    "unarchive": lambda one, _: ["archive", "--undo", "--", one],
    "delete": lambda one, _: ["delete", "--yes", "--", one],
}
NAMES = tuple(_COMMANDS)
"""What can be asked for."""


def command(action: str, experiment_id: str, request: Mapping[str, Any]) -> Words:
    """Return the words of the command that does what is asked.

    Raises:
        CommandLineError: There is no such action, or its request is of the wrong form.
        ExperimentNotFoundError: There is no such experiment.
    """
    if action not in _COMMANDS:
        raise CommandLineError(f"{action!r} is no action; there are: {', '.join(NAMES)}")
    catalog.find(experiment_id)
    return [sys.executable, "-m", "nemo_run", "experiment", *_COMMANDS[action](experiment_id, request)]


def act(words: Sequence[str]) -> tuple[bool, str]:
    """Run a command; whether it succeeded, and what it said."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE, text=True,
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"no end after {PATIENCE} s; see: nemorun experiment list"
    return done.returncode == 0, f"{done.stdout}{done.stderr}".strip()[-_LONGEST:]
