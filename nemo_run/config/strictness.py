"""How strictly values are checked that Python code sets, and the warning about those that are accepted."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, cast, get_args

from fiddle.history import Location

from nemo_run.errors import ConfigError, ConfigTypeWarning

Mode = Literal["strict", "default", "off"]

_VARIABLE = "NEMORUN_VALIDATION"


class AsGiven(NamedTuple):
    """A value that is not to be checked: it has been accepted before, or its own class has made it."""

    value: Any


def unwrapped(value: Any) -> Any:
    """Return a value without the mark that it is not to be checked."""
    return value.value if isinstance(value, AsGiven) else value


class _State:
    """The mode of this process, and the places that were warned about.

    Attributes:
        mode: None until it is needed.
        warned: The places.
        filters: The warning filters at that time. Where ``warnings.catch_warnings`` has put others in their place, each
            place is warned about again.
    """

    def __init__(self) -> None:
        self.mode: Mode | None = None
        self.warned: set[tuple[str, ...]] = set()
        self.filters: Any = None


_state = _State()


def validation(mode: Mode) -> AbstractContextManager[None]:
    """Set how values are checked that Python code sets in a configuration.

    It holds from the call on; as a context manager, until the end of the ``with`` block. What is typed on the command
    line or stands in a file is always checked. At the start of a process, ``$NEMORUN_VALIDATION`` says how.

    Args:
        mode: ``"strict"``: a value that does not fit its type hint is an error. ``"default"``: it is an error where it
            cannot be meant, such as text in place of a number, and otherwise one :class:`ConfigTypeWarning`.
            ``"off"``: every value is accepted.

    Example:
        >>> import nemo_run as run
        >>> def train(steps: int = 10): ...
        >>> with run.config.validation("off"):
        ...     task = run.Partial(train, steps="many")
        >>> task.steps
        'many'

    Raises:
        ConfigError: There is no such mode.
    """
    before, _state.mode = _state.mode, _known(mode, "validation()")
    return _Restoring(before)


class _Restoring(AbstractContextManager[None]):
    """Restores a mode at the end of a ``with`` block."""

    def __init__(self, mode: Mode | None) -> None:
        self._mode = mode

    def __exit__(self, *exception: object) -> None:
        _state.mode = self._mode


def current_mode() -> Mode:
    """Return how values are checked."""
    if _state.mode is None:
        _state.mode = _known(os.environ.get(_VARIABLE) or "default", f"${_VARIABLE}")
    return _state.mode


def _known(mode: str, source: str) -> Mode:
    if mode not in get_args(Mode):
        raise ConfigError(f"{source} says {mode!r}; it is one of {', '.join(get_args(Mode))}")
    return cast("Mode", mode)


def warn_once(place: tuple[str, ...], message: str, location: Location | None) -> None:
    """Warn about a place, unless that was done."""
    if _state.filters is not warnings.filters:
        _state.filters, _state.warned = warnings.filters, set()
    if place in _state.warned:
        return
    if location:
        warnings.warn_explicit(message, ConfigTypeWarning, location.filename, location.line_number)
    else:
        warnings.warn(message, ConfigTypeWarning, stacklevel=4)
    _state.warned.add(place)  # not where the warning is an error, which is one every time
