"""Telling somebody that an experiment has ended: a request to an address, or a command."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from nemo_run.core.files import parse_json, write_json
from nemo_run.errors import ExperimentError, NemoRunError, StoreError
from nemo_run.run.records import Definition, JobProgress, summary
from nemo_run.run.store import ExperimentStore

logger = logging.getLogger(__name__)

FILE = "notify.json"
_DONE = "notified.json"
WHEN = ("end", "failure")
_TRIES = (0.0, 2.0, 10.0)  # seconds before each try
_PATIENCE = 30.0  # seconds for one try
_LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Notification:
    """Who is told, and when.

    Attributes:
        url: Address that gets a POST request with JSON; empty for a command.
        command: Program and arguments; it has the same JSON on its standard input.
        when: ``"end"``, or ``"failure"`` for an end that is no success.
    """

    url: str = ""
    command: tuple[str, ...] = ()
    when: str = "end"


def notification(to: str | Sequence[str], when: str) -> Notification:
    """Return who is told, from an address or a command.

    Raises:
        ExperimentError: It is neither, or the address is not encrypted and not of this machine.
    """
    if when not in WHEN:
        raise ExperimentError(f"when={when!r}; it is 'end' or 'failure'")
    if isinstance(to, str):
        parts = urlsplit(to)
        if (parts.scheme == "https" and parts.hostname) or (parts.scheme == "http" and parts.hostname in _LOCAL):
            return Notification(url=to, when=when)
        raise ExperimentError(
            "a notification goes to an address that begins with https:// (http:// only on this machine), or to a "
            'command as a list: ["mail", "-s", "done", "me@example.org"]'
        )
    if not to or not all(isinstance(part, str) for part in to):
        raise ExperimentError(f"a command is a list of texts, not {to!r}")
    return Notification(command=tuple(to), when=when)


def write_notifications(store: ExperimentStore, notifications: Sequence[Notification]) -> None:
    """Store who is told, if anybody is; an address can be a secret."""
    if notifications:
        write_json(store.path / FILE, [asdict(one) for one in notifications])


def read_notifications(store: ExperimentStore) -> list[Notification]:
    """Return who is told.

    Raises:
        StoreError: The file is damaged.
        ReceivedExperimentError: It is not what this user launched.
    """
    try:
        documents = parse_json(store.path / FILE, store.ownership.read(FILE))
    except FileNotFoundError:
        return []
    try:
        return [notification(one["url"] or list(one["command"]), one["when"]) for one in documents]
    except (TypeError, KeyError, ExperimentError) as e:
        raise StoreError(f"{store.path / FILE}: the file is damaged ({e!r})") from e


def notify(store: ExperimentStore, definition: Definition, progress: dict[str, JobProgress]) -> None:
    """Tell everybody that an experiment of this user has ended; what fails is logged, and changes nothing."""
    try:
        notifications = read_notifications(store)
    except NemoRunError as e:
        logger.warning("experiment %s: nobody is told: %s", store.id, e)
        return
    if not notifications or (store.path / _DONE).exists():
        return
    found = summary(definition, progress)
    for one in notifications:
        if one.when == "failure" and found["state"] == "SUCCEEDED":
            continue
        if problem := _told(one, json.dumps(_message(store, definition, progress, found)).encode()):
            logger.warning("experiment %s: a notification was not delivered: %s", store.id, problem)
    write_json(store.path / _DONE, {"at": time.time()})


def _message(
    store: ExperimentStore, definition: Definition, progress: Mapping[str, JobProgress], found: Mapping[str, Any]
) -> dict[str, Any]:
    counts = ", ".join(f"{count} {state.lower()}" for state, count in found["counts"].items())
    return {
        "text": f"experiment {definition.title} {found['state']}: {counts} ({store.id})",
        "id": store.id,
        "title": definition.title,
        "state": found["state"],
        "created": definition.created,
        "ended": found["ended"],
        "jobs": {
            name: {"state": one.state.name, "exit_code": one.exit_code, "reason": one.reason}
            for name, one in progress.items()
        },
    }


def _told(one: Notification, message: bytes) -> str:
    """Try several times; why it was not delivered, without the address, or empty."""
    problem = ""
    for pause in _TRIES:
        time.sleep(pause)
        problem = _posted(one.url, message) if one.url else _ran(one.command, message)
        if not problem:
            return ""
    return problem


def _opener() -> Any:
    """Return what sends a request, and follows no answer to another address."""
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    return urllib.request.build_opener(NoRedirects)


def _posted(url: str, message: bytes) -> str:
    import urllib.error
    import urllib.request

    headers = {"Content-Type": "application/json", "User-Agent": "nemo-run"}
    request = urllib.request.Request(url, message, headers, method="POST")  # noqa: S310  (checked where it was given)
    host = urlsplit(url).hostname
    try:
        with _opener().open(request, timeout=_PATIENCE):
            return ""
    except urllib.error.HTTPError as e:
        return f"{host} answered with {e.code}"
    except OSError as e:
        return f"{host}: {getattr(e, 'reason', e)}"
    except ValueError:
        return f"{host}: no acceptable address"


def _ran(command: Sequence[str], message: bytes) -> str:
    try:
        done = subprocess.run(
            command, input=message, capture_output=True, timeout=_PATIENCE, check=False, env=dict(os.environ)
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"{command[0]}: {e.strerror if isinstance(e, OSError) else 'it takes too long'}"
    return f"{command[0]} ended with exit code {done.returncode}" if done.returncode else ""
