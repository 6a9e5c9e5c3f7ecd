"""Compares the package with ``api_surface.json``, entry by entry."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conformance import signatures

HERE = Path(__file__).parent
MISSING = HERE / "missing.txt"  # entries and, after a colon, why they are missing

# Dataclasses whose fields may be given by position; those of all others are given by name.
POSITIONAL = {
    "nemo_run.Script",
    "nemo_run.core.execution.kuberay.KubeRayWorkerGroup",
    "nemo_run.run.ray.cluster.RayCluster",
    "nemo_run.run.ray.job.RayJob",
    "nemo_run.run.job.Job",
    "nemo_run.run.job.JobGroup",
}

Problem = tuple[str, str]  # (dotted entry, what is wrong with it)
_NOT_THERE = object()


def surface() -> dict[str, dict[str, Any]]:
    """The expected surface: dotted name -> what is known of it."""
    loaded: dict[str, dict[str, Any]] = json.loads((HERE / "api_surface.json").read_text(encoding="utf-8"))
    return loaded


def commands() -> dict[str, list[str]]:
    """The expected commands of ``nemorun``, and what each takes: arguments by their number, options by their names."""
    loaded: dict[str, list[str]] = json.loads((HERE / "commands.json").read_text(encoding="utf-8"))
    return loaded


def entries(name: str, expected: dict[str, Any]) -> list[str]:
    """All entries that one public name stands for."""
    parts = [f"{name}.{part}" for part in (*expected.get("fields", ()), *expected.get("methods", ()))]
    parts += [f"{name}.__bases__"] if "bases" in expected else []
    parts += [f"{name}.__init__"] if "init" in expected or "fields" in expected else []
    return [name, *([expected["also_at"]] if "also_at" in expected else []), *parts]


def problems() -> dict[str, str]:
    """Every entry that is missing or wrong, and why."""
    found = {entry: why for name, expected in surface().items() for entry, why in _problems_of(name, expected)}
    return found | dict(_problems_of_commands())


def known_missing() -> dict[str, str]:
    """Entries of ``missing.txt``, with the reasons."""
    lines = MISSING.read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines)


def _problems_of_commands() -> Iterator[Problem]:
    for command, wanted in commands().items():
        found = _find_command(command.split())
        arguments = [parameter for parameter in getattr(found, "params", ()) if parameter.param_type_name == "argument"]
        options = {name for parameter in getattr(found, "params", ()) for name in parameter.opts}
        if found is None:
            yield f"nemorun {command}", "is missing"
        elif sum(not name.startswith("--") for name in wanted) > len(arguments):
            yield f"nemorun {command}", f"takes the arguments {[argument.name for argument in arguments]} only"
        elif lacking := {name for name in wanted if name.startswith("--")} - options:
            yield f"nemorun {command}", f"has no {', '.join(sorted(lacking))}"


def _find_command(words: list[str]) -> Any:
    import typer

    from nemo_run.cli import create_cli

    found: Any = typer.main.get_command(create_cli())
    for word in words:
        found = getattr(found, "commands", {}).get(word)
    return found


def find(dotted: str) -> object:
    """The object at a dotted name, or ``_NOT_THERE``."""
    module_name, _, attribute = dotted.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            return _NOT_THERE
        raise
    return getattr(module, attribute, _NOT_THERE)


def _problems_of(name: str, expected: dict[str, Any]) -> Iterator[Problem]:
    found = find(name)
    if found is _NOT_THERE:
        yield from ((entry, "is missing") for entry in entries(name, expected))
        return
    if "same_as" in expected and find(expected["same_as"]) is not found:
        yield name, f"is not the same object as {expected['same_as']}"
    if "name_only" in expected or "same_as" in expected:
        return
    if "also_at" in expected and find(expected["also_at"]) is not found:
        yield expected["also_at"], f"is not the same object as {name}"
    if "signature" in expected:
        yield from _join(name, signatures.mismatches(expected["signature"], inspect.signature(found)))  # type: ignore[arg-type]
    elif not isinstance(found, type):
        yield name, "is not a class"
    else:
        yield from _problems_of_class(name, found, expected)


def _problems_of_class(name: str, cls: type, expected: dict[str, Any]) -> Iterator[Problem]:
    ancestors = [base.__name__ for base in cls.__mro__[1:]]
    if lacking := [base for base in expected.get("bases", ()) if base not in ancestors]:
        yield f"{name}.__bases__", f"does not derive from {', '.join(lacking)}"
    if "init" in expected:
        yield from _join(
            f"{name}.__init__", signatures.mismatches(expected["init"], signatures.of_method(cls.__init__))
        )
    if "fields" in expected:
        yield from _problems_of_fields(name, cls, expected["fields"])
    for method, signature in expected.get("methods", {}).items():
        yield from _join(f"{name}.{method}", _problems_of_method(cls, method, signature))


def _problems_of_method(cls: type, method: str, expected: str) -> Iterator[str]:
    attribute = inspect.getattr_static(cls, method, _NOT_THERE)
    if attribute is _NOT_THERE:
        if expected != "property" or method not in {field.name for field in _fields(cls)}:
            yield "is missing"
    elif not signatures.matches_kind(expected, attribute):
        yield f"is not a {expected.split(' ', 1)[0]}"
    elif expected != "property":
        yield from signatures.mismatches(expected, signatures.of_method(attribute))


def _problems_of_fields(name: str, cls: type, expected: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    real = {field.name: field for field in _fields(cls)}
    for field_name, wanted in expected.items():
        if field_name not in real:
            yield f"{name}.{field_name}", "is not a field"
            continue
        default = _default(real[field_name])
        if wanted["default"] != signatures.REQUIRED and not signatures.same_value(wanted["default"], default):
            yield f"{name}.{field_name}", f"defaults to {default!r}, not {wanted['default']}"
        elif wanted.get("init", True) and not real[field_name].init:
            yield f"{name}.{field_name}", "is not an argument of __init__"
    required = [
        f.name for f in real.values() if f.init and f.name not in expected and _default(f) is inspect.Parameter.empty
    ]
    if required:
        yield f"{name}.__init__", f"fields {required} are additional and required"
    elif name in POSITIONAL:
        by_position = [field_name for field_name, wanted in expected.items() if wanted.get("init", True)]
        really = [field.name for field in real.values() if field.init and not field.kw_only]
        if really[: len(by_position)] != by_position:
            yield f"{name}.__init__", f"positional fields are {really}, not {by_position}"


def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    return inspect.Parameter.empty if field.default_factory is dataclasses.MISSING else field.default_factory()


def _join(entry: str, found: Iterator[str]) -> Iterator[Problem]:
    if reasons := list(found):
        yield entry, "; ".join(reasons)
