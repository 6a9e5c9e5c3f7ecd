"""What many tests need: to wait for something, and to see which processes an experiment left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nemo_run.config.script import Script
from nemo_run.core.execution.local import supervisor, system
from nemo_run.run.experiment import Experiment

T = TypeVar("T")


def value_id(value: object) -> str:
    """Return a text for the name of a test with this value, the same in every process: no address, sets in order."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({', '.join(sorted(map(value_id, value)))})"
    return re.sub(r" at 0x[0-9a-f]+", "", str(value)).encode("ascii", "backslashreplace").decode()[:60]


def eventually(condition: Callable[[], T], what: str = "", within: float = 60.0) -> T:
    """Wait until the condition holds, and return its value. The deadline is generous: it only bounds a failure."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"not within {within:g} s: {what or condition}")
        time.sleep(0.01)


def own_processes(root: Path) -> dict[int, str]:
    """Living processes that belong to experiments below a folder: tasks, their supervisors, detached controllers."""
    mark, path = f"{supervisor.MARKER}={root}".encode(), str(root).encode()
    found = {}
    for name in (path.name for path in Path("/proc").iterdir() if path.name.isdigit()):
        with contextlib.suppress(OSError):
            environment = Path("/proc", name, "environ").read_bytes()
            arguments = Path("/proc", name, "cmdline").read_bytes()
            if system.start_time(int(name)) is not None and (
                any(entry.startswith(mark) for entry in environment.split(b"\0")) or path in arguments
            ):
                found[int(name)] = arguments.replace(b"\0", b" ").decode(errors="replace")[:200]
    for claim in root.glob("**/supervisor.json"):
        with contextlib.suppress(OSError, ValueError):
            owner = json.loads(claim.read_bytes())
            start = owner.get("start") if isinstance(owner, dict) else None
            if start is not None and start == system.start_time(owner["pid"]):
                found[owner["pid"]] = f"supervisor of {claim.parent}"
    return {pid: what for pid, what in found.items() if pid != os.getpid()}


def kill_all(root: Path) -> None:
    """Kill what belongs to experiments below a folder."""
    while pids := own_processes(root):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def no_process_left(tmp_path: Path) -> Iterator[None]:
    """Every test ends what it started."""
    yield
    end = time.monotonic() + 20
    while (left := own_processes(tmp_path)) and time.monotonic() < end:
        time.sleep(0.02)
    kill_all(tmp_path)
    assert not left, f"left behind: {left}"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Experiments are launched from a folder of their own."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def bash(text: str, *args: str, **options: Any) -> Script:
    """A script task."""
    return Script(inline=text, args=list(args), **options)


def states(experiment: Experiment) -> dict[str, str]:
    """The state of every job, by its id."""
    document = experiment.status(return_dict=True)
    assert document is not None
    return {name: str(job["status"]) for name, job in document.items()}


def attempts(folder: Path) -> list[str]:
    """The lines of ``ran`` in a folder, to which tasks append when they begin."""
    return (folder / "ran").read_text().split("\n")[:-1] if (folder / "ran").exists() else []
