"""Checks of what users say that several executors make."""

from __future__ import annotations

import json
import re
from typing import Any

from nemo_run.errors import ExecutorError


def check_image(where: str, image: object) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where a value is not the name of an image."""
    if not isinstance(image, str) or not re.fullmatch(r"[A-Za-z0-9]\S*", image):
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
