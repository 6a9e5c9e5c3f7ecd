"""What a function task leaves of its end, beside its artifacts: the value that it returned, or its exception.

The files lie in ``$NEMO_RUN_ARTIFACTS/.nemo_run``, so that every engine brings them where it brings artifacts.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nemo_run.core.runners.calling import call

if TYPE_CHECKING:
    import traceback

FOLDER = ".nemo_run"
"""The folder of these files, below the artifacts of a task."""
LARGEST_VALUE = 16 << 20
"""Bytes that a returned value may take."""

_LARGEST_TEXT = 64 << 10  # bytes of a message or a traceback
_MOST_FRAMES = 100


def run_recorded(make: Callable[[], Callable[[], Any]]) -> Any:
    """Make a task's function and call it; leave what it returns, or raises, where the experiment finds it."""
    try:
        value = call(make())
    except Exception as error:
        _leave(_write_exception, error)
        raise
    _leave(_write_value, value)
    return value


def _leave(write: Callable[[Path, Any], None], what: Any) -> None:
    """Write files, where there is a place for them; a task never fails because of them."""
    artifacts = os.environ.get("NEMO_RUN_ARTIFACTS")
    if not artifacts:
        return
    try:
        write(Path(artifacts, FOLDER), what)
    except Exception as e:  # noqa: BLE001  (such as a disk that is full, or an odd object's own error)
        _say(f"what this task returned or raised is not kept: {type(e).__name__}: {e}")


def _say(text: str) -> None:
    sys.stderr.write(f"nemo-run: {text}\n")


def own_rank() -> int:
    """Return the rank of this process in its task."""
    for name in ("RANK", "SLURM_PROCID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def _number() -> str:
    """Return what files of this task of an array are told apart by; empty outside of an array."""
    index = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    return f".{index}" if index.isdigit() else ""


def _attempt() -> int:
    attempt = os.environ.get("NEMO_RUN_ATTEMPT", "")
    return int(attempt) if attempt.isdigit() else 0


def _write(folder: Path, name: str, content: str | bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}"
    temporary.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace"))
    temporary.replace(folder / name)


# --- values ----------------------------------------------------------------------------------------------------


def _write_value(folder: Path, value: Any) -> None:
    """Write what rank 0 returned; an earlier attempt's value does not stay."""
    if own_rank() != 0:
        return
    name = f"value{_number()}"
    for kind in ("json", "pkl"):
        with contextlib.suppress(FileNotFoundError):
            (folder / f"{name}.{kind}").unlink()
    if value is None:
        return
    document: dict[str, Any] = {"format": 1, "attempt": _attempt()}
    pickled = b""
    try:
        text = _described(value)
    except Exception as e:  # noqa: BLE001  (no plain data)
        document["type"] = f"{type(value).__module__}.{type(value).__qualname__}"
        pickled, document["problem"] = _pickled(value, str(e))
        text = ""
    size = len(pickled or text)
    if size > LARGEST_VALUE:
        document["problem"] = (
            f"what the task returned takes {size / (1 << 20):.1f} MiB, and at most {LARGEST_VALUE >> 20} MiB are kept; "
            "write it to a file in $NEMO_RUN_ARTIFACTS and return its name"
        )
        text, pickled = "", b""
    if document.get("problem"):
        _say(document["problem"])
    if pickled:
        _write(folder, f"{name}.pkl", pickled)
    head = json.dumps({**document, "is_pickled": bool(pickled)})
    _write(folder, f"{name}.json", f'{head[:-1]}, "value": {text}}}\n' if text else head)


def _described(value: Any) -> str:
    from nemo_run.core.values import encode

    return json.dumps(encode(value))


def _pickled(value: Any, why: str) -> tuple[bytes, str]:
    """Return a value pickled, or why it cannot be."""
    import cloudpickle

    try:
        return cloudpickle.dumps(value), ""
    except Exception as e:  # noqa: BLE001  (an object may raise anything)
        return b"", f"what the task returned cannot be stored: {why}, and it cannot be pickled: {e}"


# --- exceptions ------------------------------------------------------------------------------------------------


def _write_exception(folder: Path, error: BaseException) -> None:
    import traceback

    rank = own_rank()
    own = own_part(error.__traceback__)
    frames = traceback.extract_tb(own)[-_MOST_FRAMES:]
    document = {
        "format": 1,
        "attempt": _attempt(),
        "rank": rank,
        "time": time.time(),
        "type": type(error).__qualname__,
        "module": type(error).__module__,
        "message": _cut(_text(error)),
        "notes": [_cut(str(note)) for note in getattr(error, "__notes__", ())],
        "frames": [_frame(frame) for frame in frames],
        "traceback": _cut("".join(traceback.format_exception(type(error), error, own))),
    }
    _write(folder, f"exception{_number()}.{rank}.json", json.dumps(document))


def own_part(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins where the task's function is called."""
    here = (f"{Path(__file__).parents[2]}{os.sep}", f"{os.sep}fiddle{os.sep}", f"{os.sep}asyncio{os.sep}")
    found = trace
    while found is not None and any(part in found.tb_frame.f_code.co_filename for part in here):
        found = found.tb_next
    return found or trace


def _frame(frame: traceback.FrameSummary) -> dict[str, Any]:
    import sysconfig

    libraries = [path for name in ("stdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))]
    own = not frame.filename.startswith(("<", *libraries))
    return {"file": frame.filename, "line": frame.lineno, "function": frame.name, "source": frame.line, "own": own}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as e:  # noqa: BLE001  (an exception's own __str__ may fail)
        return f"(its message cannot be shown: {type(e).__name__})"


def _cut(text: str) -> str:
    return text if len(text) <= _LARGEST_TEXT else f"{text[: _LARGEST_TEXT // 2]}\n…\n{text[-_LARGEST_TEXT // 2 :]}"
