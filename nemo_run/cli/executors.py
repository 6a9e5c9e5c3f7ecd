"""The executors that can be named: ``local`` for ``LocalExecutor``, and so on."""

from __future__ import annotations

import importlib

import nemo_run

_ENDING = "Executor"


def executor_names() -> dict[str, tuple[str, str]]:
    """Short name to the name of the class and the module that has it. Nothing is imported."""
    return {
        name.removesuffix(_ENDING).lower(): (name, module)
        for name, (module, _) in nemo_run._WHERE.items()  # noqa: SLF001  # the one table of public names
        if name.endswith(_ENDING) and name != _ENDING
    }


def executor_class(name: str) -> type | None:
    """The executor of a name, such as ``local`` or ``LocalExecutor``; None if there is none."""
    wanted = name.removesuffix(_ENDING).lower()
    if wanted not in executor_names() or name not in (wanted, executor_names()[wanted][0]):
        return None
    class_name, module = executor_names()[wanted]
    found: type = getattr(importlib.import_module(module), class_name)
    return found
