"""The conversation with SkyPilot: its SDK, which speaks to its API server, and its error messages."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nemo_run.config.escaping import escaped
from nemo_run.core import extras
from nemo_run.errors import EngineUnreachableError, ExecutorError, NemoRunError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def sdk() -> Any:
    """Import SkyPilot's SDK, which takes a second."""
    os.environ.setdefault("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    sky = extras.load("sky", "skypilot", "a SkyPilot executor")
    extras.load("sky.jobs", "skypilot", "a SkyPilot executor")
    return sky


@contextlib.contextmanager
def refusals_in_words(what: str) -> Iterator[None]:
    """Raise SkyPilot's errors as ours: it is not reached, or it refuses and says why."""
    try:
        yield
    except NemoRunError:
        raise
    except Exception as e:  # SkyPilot's errors have no common base
        if _is_unreachable(e):
            raise EngineUnreachableError(
                f"SkyPilot's API server does not answer ({plain(e)}); see: sky api info. Another one is named by "
                "SKYPILOT_API_SERVER_ENDPOINT, or by: sky api login"
            ) from e
        raise ExecutorError(f"{what}: SkyPilot refuses: {plain(e)}") from e


def _is_unreachable(error: BaseException) -> bool:
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(
        names
        & {
            "ApiServerConnectionError",
            "RequestException",
            "RequestInterruptedError",
            "ServerTemporarilyUnavailableError",
            "KubeAPIUnreachableError",
        }
    )


def is_a(error: BaseException, *names: str) -> bool:
    """Return whether an error, or what it came from, is one of SkyPilot's errors of these names."""
    while True:
        if {cls.__name__ for cls in type(error).__mro__} & set(names):
            return True
        if error.__cause__ is None:
            return False
        error = error.__cause__


def plain(text: object) -> str:
    r"""Return what SkyPilot says, without colours, in one paragraph.

    >>> plain("Catalog has\x1b[33m nothing\x1b[0m.\nHint: relax")
    'Catalog has nothing. Hint: relax'
    """
    return escaped(" ".join(_COLOUR.sub("", str(text)).split()))


@contextlib.contextmanager
def asking(what: str) -> Iterator[Any]:
    """Give the SDK, silenced, for one request; its errors become ours."""
    sky = sdk()
    with refusals_in_words(what), sky.sky_logging.silent():
        yield sky


def make_task(config: Mapping[str, Any]) -> Any:
    """Return SkyPilot's own object for a task."""
    with refusals_in_words(f"task {config['name']!r}"):
        task = sdk().Task.from_yaml_config(dict(config))
        task.expand_and_validate_file_mounts()
        return task


def optimize(config: Mapping[str, Any]) -> str:
    """Return what SkyPilot's optimiser says of a task: the choices, their prices, the one it takes.

    Raises:
        ExecutorError: It finds nothing; the message has its reasons.
    """
    task = make_task(config)
    said = io.StringIO()
    try:
        with asking(f"task {config['name']!r}") as sky:
            dag = sky.Dag()
            dag.add(task)
            sky.stream_and_get(sky.optimize(dag), output_stream=said)
    except ExecutorError as e:
        if isinstance(e, EngineUnreachableError) or not plain(said.getvalue()):
            raise
        raise ExecutorError(f"{e} {plain(said.getvalue())}") from e
    return _COLOUR.sub("", said.getvalue()).strip()
