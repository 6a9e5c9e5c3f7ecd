"""Whether a script will be found where it runs: judged at the launch, when the executor and its packager are known."""

from __future__ import annotations

import logging
import posixpath
import shlex
import shutil
from pathlib import Path

from nemo_run.config.home import USE_WITH_RAY_CLUSTER_KEY
from nemo_run.config.script import Script
from nemo_run.core.execution.base import Executor, backend_class
from nemo_run.errors import ScriptError

logger = logging.getLogger(__name__)

_SHELLS, _PYTHONS = frozenset({"bash", "sh", "dash", "ksh", "zsh"}), frozenset({"python", "python3"})
_NO_FILE = frozenset({"-m", "-c"})  # options after which the next word is no file


def check_script(script: Script, name: str, executor: Executor, archive: str, *, is_first: bool) -> None:
    """Check that a script's file will be there, as far as that can be known here.

    Args:
        script: The script.
        name: Name of its task, for messages.
        executor: Where it will run.
        archive: The package of its code; empty where none goes along.
        is_first: Whether no other task runs before it, which could make the file.

    Raises:
        ScriptError: It certainly cannot run. Where that is only likely, a warning names the places.
    """
    if script.metadata.get(USE_WITH_RAY_CLUSTER_KEY):
        _check_starts_ray(executor, name)
    if script.inline or script.m or script.remote:
        return
    here = backend_class(executor.engine).can.shares_files
    problem = _problem_here(script, archive) if here else _problem_elsewhere(script, archive)
    if not problem:
        return
    message = f"task {name!r}: there is no script {script.path!r} {problem}"
    if here and is_first and _reads_file(script):
        raise ScriptError(f"{message}; correct the path, or package the file")
    logger.warning("%s; it runs only where something else provides the file (remote=True says so)", message)


def _check_starts_ray(executor: Executor, name: str) -> None:
    if not backend_class(executor.engine).can.starts_ray:
        message = (
            "task %r: the engine %r does not heed the metadata %s: no Ray cluster is started around the script; %s"
        )
        logger.warning(message, name, executor.engine, USE_WITH_RAY_CLUSTER_KEY, "RayJob runs it in one")


def _problem_here(script: Script, archive: str) -> str:
    """Return say where on this machine a file is missing; empty where it is not."""
    folder = Path(script.working_dir)
    if archive and not Path(folder, script.path).is_absolute():
        return _missing_in_package(script, archive)
    if Path(folder, script.path).exists() or _is_on_path(script):
        return ""
    return f"in {str(Path.cwd() / folder)!r}"


def _problem_elsewhere(script: Script, archive: str) -> str:
    """Return say why a file may be missing in a container or on a cluster, to which absolute paths belong."""
    if posixpath.isabs(posixpath.join(script.working_dir, script.path)):
        return ""
    if archive:
        return _missing_in_package(script, archive)
    return "where it runs, as its path is relative and no code is packaged: give a packager, or an absolute path"


def _missing_in_package(script: Script, archive: str) -> str:
    from nemo_run.core.packaging.archive import LINK, read_archive

    wanted = posixpath.normpath(posixpath.join(script.working_dir, script.path))
    alike = []
    for entry in read_archive(archive):
        if entry.name == wanted or (entry.kind == LINK and wanted.startswith(f"{entry.name}/")):
            return ""
        if posixpath.basename(entry.name) == posixpath.basename(wanted):
            alike.append(entry.name)
    where = f"in the package, whose top is what the packager's subpath or pattern says ({posixpath.basename(archive)})"
    return f"{where}; it has {', '.join(map(repr, alike[:5]))}" if alike else where


def _is_on_path(script: Script) -> bool:
    """Check whether a shell finds the script as it finds a command."""
    return "/" not in script.path and _program(script) in _SHELLS and shutil.which(script.path) is not None


def _reads_file(script: Script) -> bool:
    """Check whether the entrypoint is a program that takes its next word for a file, and for nothing else."""
    return _program(script) in _SHELLS | _PYTHONS and _NO_FILE.isdisjoint(shlex.split(script.entrypoint))


def _program(script: Script) -> str:
    return posixpath.basename(shlex.split(script.entrypoint)[0])
