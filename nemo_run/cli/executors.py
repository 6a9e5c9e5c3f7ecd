"""The executors that can be named: ``local`` for ``LocalExecutor``, and so on; and which of them work here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import nemo_run
from nemo_run.errors import ExecutorError, NemoRunError

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
    """Return the executor of a name, such as ``local`` or ``LocalExecutor``; None if there is none."""
    short = name.removesuffix(_ENDING).lower()
    if short not in executor_names():
        return third_party_class(name)
    class_name, module = executor_names()[short]
    if name not in (short, class_name):
        return None
    found: type[Executor] = getattr(importlib.import_module(module), class_name)
    return found


def why_not_usable(name: str) -> str:
    """Return why an executor does not work here as it is; empty if it does."""
    cls = executor_class(name)
    if cls is None:
        return "there is no such executor"
    try:
        return str(_behind(cls.engine).why_not_usable())
    except NemoRunError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  (whatever it is, the executor does not work, and the others are shown)
        return f"{type(error).__name__}: {error}"


def _behind(engine: str) -> Any:
    """Return the backend's class, or what makes the Ray clusters of an engine that runs nothing else."""
    from nemo_run.core.execution.base import backend_class
    from nemo_run.core.ray.engine import get_engine

    try:
        return backend_class(engine)
    except ExecutorError:
        return get_engine(engine)


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
    """Return the executor of such an engine, where its backend has it as ``executor``."""
    from importlib.metadata import entry_points

    found = entry_points(group=_ENTRY_POINTS, name=name)
    return getattr(found[name].load(), "executor", None) if found else None
