"""The door at which answers of services come in: what they are not is told, and ends no controller."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from nemo_run.config.escaping import escaped
from nemo_run.errors import ExecutorError, NemoRunError

_ODD = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
_QUESTIONS = ("submit", "recover", "states", "cancel", "ranks", "open_log", "fetch_artifacts")

C = TypeVar("C", bound=type)


def door(service: str) -> Callable[[C], C]:
    """Let a backend's questions end in our own error where a service's answers are not what they should be.

    A service changes, and another program may answer in its place: that must not end a controller.
    """

    def decorate(cls: C) -> C:
        for name in _QUESTIONS:
            if name in vars(cls):
                setattr(cls, name, _checked(service, vars(cls)[name]))
        return cls

    return decorate


def _checked(service: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except NemoRunError:
            raise
        except _ODD as e:
            what = escaped(f"{type(e).__name__}: {e}"[:200])
            raise ExecutorError(
                f"{service} answered with something else than its API says ({what}); see that the address is that of "
                "its API"
            ) from e

    return checked
