"""Functions that tests run as tasks."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import nemo_run


def write(path: str, text: str = "written", times: int = 1) -> None:
    Path(path).write_text(text * times)


def report(path: str, **values: object) -> None:
    Path(path).write_text(json.dumps(values))


def fail(message: str) -> None:
    raise ValueError(message)


def write_step_by_step(path: str) -> Iterator[int]:
    for step in range(3):
        with Path(path).open("a") as file:
            file.write(str(step))
        yield step


async def write_step_by_step_later(path: str) -> AsyncIterator[int]:
    for step in write_step_by_step(path):
        yield step


def leave(code: int) -> None:
    raise SystemExit(code)


@dataclasses.dataclass
class Score:
    accuracy: float
    kind: Kind
    more: tuple[Path, ...] = ()


class Kind(enum.Enum):
    GOOD = "good"


class Object:
    x = 3


def gives(kind: str) -> Any:
    """Return a value of this kind."""
    if kind == "array":
        import numpy

        return {"a": numpy.arange(6.0).reshape(2, 3), "b": numpy.float32(0.5)}
    made: dict[str, Callable[[], Any]] = {
        "none": lambda: None,
        "plain": lambda: {"lr": 0.1, "é": (1, 2.5, None, b"x"), 3: {1, 2}, "big": 2**2000},
        "dataclass": lambda: Score(0.5, Kind.GOOD, (Path("/a"), Path("b"))),
        "object": Object,
        "large": lambda: "x" * (17 << 20),
        "unpicklable": lambda: (line for line in ()),
    }
    return made[kind]()


def raises(n: int) -> None:
    """Raise a ValueError with a cause."""
    _check(n)


def _check(n: int) -> None:
    if n > 1000:
        raise ValueError(f"{n} is too large") from KeyError("n")


def gives_at(attempt: int) -> int:
    """Fail before this attempt; return its number."""
    if (now := int(os.environ["NEMO_RUN_ATTEMPT"])) < attempt:
        raise RuntimeError("too early")
    return now


def killed_at(attempt: int) -> None:
    """Raise an exception before this attempt, and be killed in it."""
    if int(os.environ["NEMO_RUN_ATTEMPT"]) < attempt:
        raise RuntimeError("the first one")
    os.kill(os.getpid(), 9)


def logs_metrics(count: int) -> None:
    """Log a metric at every step, and another one that JSON has no numbers for."""
    odd = [float("nan"), float("inf"), float("-inf")]
    for step in range(count):
        nemo_run.log_metrics({"loss": 1 / (step + 1), "odd": odd[step % 3]}, step=step)


def logs_and_restarts() -> None:
    """Log two steps and fail; then log the second one again, and a third one."""
    attempt = int(os.environ["NEMO_RUN_ATTEMPT"])
    for step in (1, 2) if attempt == 1 else (2, 3):
        nemo_run.log_metrics({"x": step * (1 if attempt == 1 else 10)}, step=step)
    if attempt == 1:
        raise RuntimeError("restart")


def scores(lr: float = 0.5, kind: str = "a") -> dict[str, float]:
    """Return a score, unless it is of kind b."""
    nemo_run.log_metrics({"logged": 1 + lr})
    if kind == "b":
        raise ValueError("kind b")
    return {"score": lr, "twice": 2 * lr}


def takes(whole: object, part: float) -> list[str]:
    """Return what it got."""
    return [repr(whole), repr(part)]


def counts() -> int:
    """Return how often it was called in this folder."""
    file = Path("count")
    number = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(number))
    return number


def trial(x: float, kind: str = "flat", slope: float = 1.0, marks: str = "") -> dict[str, float]:
    """A trial of an adaptive sweep; notes that it ran, once for each call."""
    if marks:
        with Path(marks).open("a") as file:
            file.write(f"{os.environ['NEMO_RUN_TASK']} {x!r}\n")
    if kind == "fails":
        raise ValueError("as was to be")
    return {"score": 1 - (x - 0.3) ** 2 if kind == "flat" else slope * x}


def falls_behind(x: float, go: str) -> float:
    """Log a metric; the worse ones wait to be ended."""
    for step in range(5):
        nemo_run.log_metrics({"score": x}, step=step)
    while x < 0.5 and not Path(go).exists():
        time.sleep(0.05)
    return x
