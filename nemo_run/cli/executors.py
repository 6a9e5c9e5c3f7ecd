"""The executors that can be named: ``local`` for ``LocalExecutor``, and so on; and which of them work here."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import nemo_run
from nemo_run.errors import NemoRunError

if TYPE_CHECKING:
    from nemo_run.core.execution.base import Executor

_ENDING = "Executor"
_ENTRY_POINTS = "nemo_run.executors"


def executor_names() -> dict[str, tuple[str, str]]:
    """Short name to the name of the class and the module that has it. Nothing is imported."""
    return {
        name.removesuffix(_ENDING).lower(): (name, module)
        for name, (module, _) in nemo_run._WHERE.items()  # noqa: SLF001  (the one table of public names)
        if name.endswith(_ENDING) and name != _ENDING
    }


def executor_class(name: str) -> type[Executor] | None:
    """The executor of a name, such as ``local`` or ``LocalExecutor``; None if there is none."""
    short = name.removesuffix(_ENDING).lower()
    if short not in executor_names():
        return third_party_class(name)
    class_name, module = executor_names()[short]
    if name not in (short, class_name):
        return None
    found: type[Executor] = getattr(importlib.import_module(module), class_name)
    return found


def why_not_usable(name: str) -> str:
    """Why an executor does not work here as it is; empty if it does."""
    try:
        cls = executor_class(name)
        if cls is not None:
            _PROBES.get(name, cls)()
    except NemoRunError as error:
        return str(error)
    except TypeError:  # it has arguments that only the user knows
        return ""
    return ""


def third_party_engines() -> Iterator[tuple[str, str]]:
    """Engines that installed packages bring, with the names of their executors where they can be told."""
    from importlib.metadata import entry_points

    for name in sorted(entry_points(group=_ENTRY_POINTS).names):
        try:
            cls = third_party_class(name)
        except Exception as error:  # noqa: BLE001  (whatever is wrong with it, the others are shown)
            yield name, f"(it cannot be loaded: {error})"
        else:
            yield name, f"{cls.__module__}.{cls.__qualname__}" if cls else ""


def third_party_class(name: str) -> type[Executor] | None:
    """The executor of such an engine, where its backend has it as ``executor``."""
    from importlib.metadata import entry_points

    found = entry_points(group=_ENTRY_POINTS, name=name)
    return getattr(found[name].load(), "executor", None) if found else None


def _docker() -> None:
    from nemo_run.core.execution.docker.client import Engine, default_connection

    engine = Engine(default_connection())
    try:
        engine.containers()
    finally:
        engine.close()


def _slurm() -> None:
    if shutil.which("sbatch") is None:
        raise NemoRunError("there is no sbatch on this machine; with tunnel=run.SSHTunnel(...) one elsewhere is used")


def _kubernetes() -> None:
    from nemo_run.core.execution.pods.client import default_connection

    if importlib.util.find_spec("kubernetes") is None:
        raise NemoRunError("it needs the Kubernetes client: pip install 'nemo-run[kubernetes]'")
    connection = default_connection()
    if connection and not connection["context"]:
        raise NemoRunError(f"the kubeconfig {connection['kubeconfig']} names no cluster; see: kubectl config view")


_PROBES: dict[str, Callable[[], object]] = {"docker": _docker, "kubernetes": _kubernetes, "slurm": _slurm}
