"""Checks of what users say that several executors make."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nemo_run.core.images import Image
from nemo_run.errors import ExecutorError

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
LONGEST_VARIABLE = (128 << 10) - 1
"""Bytes of a variable with its name that Linux gives a program; it would not start with more."""


def check_variables(where: str, env: Mapping[str, str]) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where a program could not be given these variables."""
    for name, value in env.items():
        if not isinstance(name, str) or not _ENV_NAME.match(name):
            raise ExecutorError(
                f"{where}: {name!r} is not a name for an environment variable; "
                "use letters, digits and underscores, not beginning with a digit"
            )
        if not isinstance(value, str) or "\0" in value:
            raise ExecutorError(f"{where}[{name!r}] must be a string without a null byte")
        check_length(where, name, value)


def check_length(where: str, name: str, value: str) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where a variable is longer than a program can be given."""
    size = len(f"{name}={value}".encode("utf-8", "surrogateescape"))
    if size > LONGEST_VARIABLE:
        raise ExecutorError(
            f"{where}: the value of {name!r} is too large for a variable ({size >> 10} KiB; Linux takes up to "
            "128 KiB): write it to a file, and give the task the path"
        )


def check_is_list(where: str, value: object) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` for a text in place of a list, whose letters would be taken."""
    if isinstance(value, str):
        raise ExecutorError(f"{where}={value!r} must be a list, such as [{value!r}]")


def check_image(where: str, image: object, *, pulled: bool = True) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where a value is not the name of an image, or one to be built.

    Args:
        where: The field.
        image: Its value.
        pulled: The engine gets it from a registry.
    """
    if isinstance(image, Image):
        image.check(where)
        if pulled and not image.push_to:
            raise ExecutorError(f"{where}: name a repository from which the image can be pulled, with push_to=")
    elif not isinstance(image, str) or not re.fullmatch(r"[A-Za-z0-9]\S*", image):
        raise ExecutorError(f"{where}: {image!r} is not the name of an image")


def check_at_least(where: str, value: int, least: int) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where a number is too small."""
    if value < least:
        raise ExecutorError(f"{where} must be at least {least}, but is {value}")


def check_json(where: str, value: Any) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where JSON cannot hold a value."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as e:
        raise ExecutorError(f"{where} must be values that JSON can hold: {e}") from None
