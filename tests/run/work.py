"""Functions that tests run as tasks."""

from __future__ import annotations

import json
from pathlib import Path


def write(path: str, text: str = "written", times: int = 1) -> None:
    Path(path).write_text(text * times)


def report(path: str, **values: object) -> None:
    Path(path).write_text(json.dumps(values))


def fail(message: str) -> None:
    raise ValueError(message)


def leave(code: int) -> None:
    raise SystemExit(code)
