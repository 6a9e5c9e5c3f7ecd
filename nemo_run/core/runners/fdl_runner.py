"""Runs a stored function task: ``python -m nemo_run.core.runners.fdl_runner -n NAME TASK``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from nemo_run.core.runners import outputs
from nemo_run.core.runners.outcome import own_part, run_recorded


def load(task: str) -> Any:
    """Return the configured function of a task.

    Args:
        task: A ``task.json``, or a file or text in the form of ``ZlibJSONSerializer``.
    """
    from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer

    path = Path(task)
    if path.suffix != ".json":
        return ZlibJSONSerializer().deserialize(path.read_text() if len(task) < 4096 and path.is_file() else task)
    document = json.loads(path.read_text())
    os.environ[outputs.VARIABLE] = str(path.with_name(outputs.FILE).absolute())
    own = [str(Path(entry).absolute()) for entry in document.get("sys_path", [])]  # relative ones: in the packaged code
    sys.path[:] = dict.fromkeys([*own, *sys.path])
    if "main" not in document:
        return decode(document["config"])
    _check_python(document.get("python", _this_python()))
    return decode(document["config"], (path.parent / document["main"]).read_bytes(), is_task=True)


def _check_python(pickled_by: str) -> None:
    """End with a message where the pickled code of another Python would end in a crash."""
    if pickled_by != _this_python():
        sys.exit(
            f"this task uses functions of the launching script, which were pickled by Python {pickled_by}, but it runs "
            f"on Python {_this_python()} ({sys.executable}). Run it where there is Python {pickled_by}, or move the "
            "functions into a module that is there too"
        )


def _this_python() -> str:
    return ".".join(map(str, sys.version_info[:2]))


def decode(document: Any, main: bytes = b"", *, is_task: bool = False) -> Any:
    """Return the configuration in a document.

    Args:
        document: The document.
        main: What was pickled of the launching script.
        is_task: Whether the script becomes the ``__main__`` of this process. Otherwise, where this process runs the
            same script, what it has now is taken in place of what was pickled.
    """
    from nemo_run.config.document import from_document, symbols

    own: dict[str, Any] = {}
    if main:
        from nemo_run.core.runners import script

        loaded = script.load(main)
        own = loaded.symbols if is_task else script.today(loaded)
        if is_task:
            script.install(loaded)
    return from_document(document, resolve=lambda name: own[name] if name in own else symbols.resolve(name))


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception of a task, without the lines of this package that led to the task's function."""
    traceback.print_exception(kind, error, own_part(trace))


def main() -> None:
    """Load the task, build it and call it."""
    parser = argparse.ArgumentParser(description="Run a stored task.")
    parser.add_argument("-n", "--name", default="run", help="name of the task")
    parser.add_argument("-p", "--package-cfg", help="stored packager whose setup() is run first")
    parser.add_argument("--dryrun", action="store_true", help="build the task, do not call it")
    parser.add_argument("task", help="task.json, or a serialized configuration")
    args, _ = parser.parse_known_args()

    from nemo_run.config import Partial, build  # before fiddle, which is then imported without libcst

    if args.package_cfg:
        build(load(args.package_cfg)).setup()
    import fiddle as fdl

    def make() -> Any:
        task = load(args.task)
        return build(task if isinstance(task, fdl.Partial) else fdl.cast(Partial, task))

    if args.dryrun:
        make()
        return
    sys.excepthook = _show  # unlike the interpreter's own, it finds the lines of the script
    run_recorded(make)


fdl_runner_app = main  # its name in existing code


if __name__ == "__main__":
    main()
