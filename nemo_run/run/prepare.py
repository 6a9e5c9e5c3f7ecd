"""From a task to the files and the command with which an engine runs it."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_run.config.script import Script
from nemo_run.core.execution.base import Command, Executor
from nemo_run.core.execution.masking import masked
from nemo_run.errors import ScriptError, SerializationError
from nemo_run.run.store import folder_name, make_folder, write_json, write_text

RUNNER = "nemo_run.core.runners.fdl_runner"


@dataclass(frozen=True)
class StoredTask:
    """A task as it is stored: a document that names what it needs, and the pickled rest.

    Attributes:
        document: The configuration as a plain document.
        main: What it refers to in the launching script itself, pickled by value; empty where there is nothing.
    """

    document: Any
    main: bytes = b""


def encode(value: Any) -> StoredTask:
    """A task, or anything with configurations in it, as it is stored.

    Functions and classes of the launching script itself (``__main__``) are stored by value: in the task's process
    another program is ``__main__``, and the script is never run again there.

    Raises:
        SerializationError: Something in it cannot be stored; the message has the path to it.
    """
    from nemo_run.config.document import symbols
    from nemo_run.config.document import to_document

    own: dict[str, Any] = {}

    def reference(symbol: Any) -> str:
        name = symbols.name_of(symbol)
        if name.startswith("__main__."):
            own[name] = symbol
        return name

    document = to_document(value, reference=reference)
    return StoredTask(document, _pickle_main(own) if own else b"")


def _pickle_main(symbols: dict[str, Any]) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(symbols)  # type: ignore[no-any-return]
    except Exception as e:
        raise SerializationError(
            f"{', '.join(sorted(symbols))} cannot be sent to the task's process: {e}. They are defined in the script that "
            "launches, and use something there that cannot be copied; move them to a module of their own"
        ) from e


def prepare(task: Any, name: str, folder: Path, executor: Executor) -> Command:
    """Write the files of a task and give the command that runs it.

    Args:
        task: A Partial or a Script.
        name: Name of the task.
        folder: Its folder, which must exist.
        executor: Where it will run.

    Raises:
        SerializationError: The task cannot be stored.
        ScriptError: The script is not there.
    """
    stored = encode({"config": task, "executor": _without_secrets(executor)})
    document = {**stored.document, "sys_path": _own_paths()}
    if stored.main:
        write_text(folder / "main.pkl", stored.main)
        document["main"] = "main.pkl"
    write_json(folder / "task.json", document)
    env = _common_environment(folder, name, executor)
    if isinstance(task, Script):
        return _script_command(task, name, folder, env)
    argv = (sys.executable, "-m", RUNNER, "-n", name, str(folder / "task.json"))
    return Command(argv, {**env, **import_environment()}, python=True)


def _common_environment(folder: Path, name: str, executor: Executor) -> dict[str, str]:
    return {
        "NEMO_RUN_EXPERIMENT_ID": executor.experiment_id or "",
        "NEMO_RUN_TASK": name,
        "NEMO_RUN_ARTIFACTS": str(make_folder(folder / "artifacts")),
        **({} if "PYTHONUNBUFFERED" in os.environ else {"PYTHONUNBUFFERED": "1"}),  # logs are to be seen as they come
    }


def _without_secrets(executor: Executor) -> Any:
    """The executor's configuration; secrets stand in the engine's own file only."""
    config = executor.to_config()
    config.env_vars = masked(executor.env_vars)
    return config


def _script_command(script: Script, name: str, folder: Path, env: dict[str, str]) -> Command:
    path = ""
    if script.inline:
        file = make_folder(folder / "scripts") / f"{folder_name(name)}.sh"
        write_text(file, script.inline)
        path = str(file)
    elif not script.m and not script.remote and not Path(script.working_dir, script.path).exists():
        raise ScriptError(f"task {name!r}: there is no script {script.path!r} in {script.working_dir or Path.cwd()}")
    argv = script.argv(path)
    is_python = Path(argv[0]).name in ("python", "python3")
    if argv[0] in ("python", "python3"):  # the one that launches, not the first on the PATH
        argv[0] = sys.executable
    plain = is_python and not (len(argv) > 1 and argv[1].startswith("-") and argv[1] != "-m")
    return Command(tuple(argv), {**env, **script.env}, cwd=script.working_dir, python=plain)


def _own_paths() -> list[str]:
    """Folders from which this process imports beyond those of its installation, e.g. that of the launching script."""
    installed = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed |= {os.path.join(path, "lib-dynload") for path in set(installed) if path}
    paths = [os.path.abspath(path or os.getcwd()) for path in sys.path]
    return [path for path in dict.fromkeys(paths) if path not in installed and os.path.isdir(path)]


def import_environment() -> dict[str, str]:
    """What a new interpreter needs to import this package, where it is not installed but lies somewhere."""
    home = str(Path(__file__).resolve().parents[2])
    if Path(home).name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), home]))}
