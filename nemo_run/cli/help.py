"""What can be set: tables of arguments with their types and defaults, and of the factories for them.

Drawn with Rich in a terminal, plain lines anywhere else.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import fiddle as fdl
import typer

from nemo_run.cli import registry
from nemo_run.cli.overriding import making, wanted
from nemo_run.cli.overriding.place import Place, Unresolved
from nemo_run.cli.show import in_terminal
from nemo_run.config.convert import dataclasses_to_configs
from nemo_run.config.kinds import kind_for
from nemo_run.config.names import get_type_namespace
from nemo_run.config.target import MISSING, Target, target_of
from nemo_run.config.typecheck import hint_name

if TYPE_CHECKING:
    from rich.console import Console

_DEEPEST = 2  # arguments of arguments of arguments are left for `--help` of the class itself
_LONGEST = 60
_SECTION = re.compile(r"(Args|Arguments|Parameters|Attributes):\s*\Z")
_ENTRY = re.compile(r"(?P<indent>\s+)(?P<name>\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)")


@dataclass(frozen=True)
class Row:
    """One argument.

    Attributes:
        path: How it is written in an override.
        type: The type that it takes.
        default: What it is where nothing is said; empty where something must be said.
        doc: What it is for.
    """

    path: str
    type: str
    default: str
    doc: str


@dataclass(frozen=True)
class FactoryRow:
    """One factory.

    Attributes:
        argument: The argument that it is for.
        call: How it is written.
        doc: What it makes.
    """

    argument: str
    call: str
    doc: str


def help(  # noqa: A001  (its public name)
    entity: Callable[..., Any], with_docs: bool = True, console: Console | None = None, namespace: str | None = None
) -> None:
    """Print the arguments of a function or class, those inside of them too, and the factories for them.

    Args:
        entity: The function or class.
        with_docs: Print what they are for, from docstrings.
        console: A Rich console to draw on; standard output by default.
        namespace: Only factories that are registered under this name.

    Example:
        >>> import nemo_run as run
        >>> def train(rate: float = 0.1):
        ...     '''Train it.
        ...
        ...     Args:
        ...         rate: How fast.
        ...     '''
        >>> run.help(train)  # doctest: +ELLIPSIS
        A...
          rate  float  0.1  How fast.
    """
    if console is None and not in_terminal(sys.stdout):
        typer.echo(help_text(entity, with_docs, namespace))
    else:
        _draw(_sections(entity, with_docs, namespace), console)


def help_text(entity: Callable[..., Any], with_docs: bool = True, namespace: str | None = None) -> str:
    """Return what :func:`help` prints where nothing can be drawn."""
    sections = _sections(entity, with_docs, namespace)
    return "\n\n".join(_plain(title, rows) for title, rows in sections.items() if rows)


def run_help() -> str:
    """What can be said of where it runs: the factories for ``run.executor=`` and ``run.plugins=``."""
    from nemo_run.core.execution.base import Executor
    from nemo_run.run.plugin import ExperimentPlugin

    hints = {"run.executor": Executor, "run.plugins": list[ExperimentPlugin] | ExperimentPlugin}
    rows = [
        (row.argument, row.call, row.doc)
        for name, hint in hints.items()
        for entry in making.factories_for(Place(name, hint))
        for row in _factory_row(name, entry, set())
    ]
    rows = rows or [("run.executor", "NAME", "All there are: nemorun executors")]
    return _plain("Where it runs", [*rows, ("run.executor.ARGUMENT", "VALUE", "Change one argument of it.")])


Sections = dict[str, list[tuple[str, ...]]]


def _sections(entity: Callable[..., Any], with_docs: bool, namespace: str | None) -> Sections:
    registry.load_workspace()
    return {
        "Arguments": [(row.path, row.type, row.default, row.doc if with_docs else "") for row in argument_rows(entity)],
        "Factories": [
            (row.argument, row.call, row.doc if with_docs else "") for row in factory_rows(entity, namespace)
        ],
    }


def _plain(title: str, rows: list[tuple[str, ...]]) -> str:
    from nemo_run.run.terminal import plain_table

    keep = _kept(rows)
    first, *others = [[row[i] for i in keep] for row in rows]
    return title + "\n" + "\n".join(f"  {line}" for line in plain_table(first, others).splitlines())


def _draw(sections: Sections, console: Console | None) -> None:
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    styles = {"Arguments": ("bold cyan", "yellow", "green", ""), "Factories": ("bold cyan", "yellow", "")}
    console = console or Console()
    for title, rows in sections.items():
        if not rows:
            continue
        table = Table(box=None, show_header=False, pad_edge=False, expand=True)
        keep = _kept(rows)
        for i in keep:
            most, ratio = (max(20, console.width * 2 // 5), None) if i == 0 else (None, i + 1)  # names may be long
            table.add_column(style=styles[title][i], overflow="fold", max_width=most, ratio=ratio)
        for row in rows:
            table.add_row(*(Text(row[i]) for i in keep))
        console.print(Panel(table, title=title, title_align="left", border_style="dim"))


def _kept(rows: list[tuple[str, ...]]) -> list[int]:
    """Return the columns that are not empty throughout."""
    return [i for i in range(len(rows[0])) if any(row[i] for row in rows)]


# ---------------------------------------------------------------- arguments
def argument_rows(
    entity: Any, prefix: str = "", depth: int = 0, given: Mapping[Any, Any] = MappingProxyType({})
) -> Iterator[Row]:
    """Yield the arguments of a function or class, and below each those of the class that it takes.

    Args:
        entity: The function or class.
        prefix: What comes before the arguments in an override.
        depth: How deep inside another one it is.
        given: What arguments are there, in place of their defaults.
    """
    target = _signature(entity)
    if target is None:
        return
    docs = argument_docs(entity)
    for name, parameter in target.parameters.items():
        if not _can_be_set(parameter, depth):
            continue
        hint = wanted.hint_of(entity, name)
        shown = f"**{name}" if parameter.kind is parameter.VAR_KEYWORD else name
        default = _short(given[name]) if name in given else _default(target, name)
        yield Row(prefix + shown, _type(hint, parameter), default, docs.get(name, ""))
        value = given.get(name, target.default_values.get(name))
        inner = _class_in(hint, value)
        if inner is not None and depth < _DEEPEST:
            yield from argument_rows(inner, f"{prefix}{name}.", depth + 1, _given(value))


def _given(value: Any) -> Mapping[Any, Any]:
    """Return the arguments of a configuration, or of an object of a dataclass that is a default."""
    node = dataclasses_to_configs(value, kind_for(partial=False))
    return node.__arguments__ if isinstance(node, fdl.Buildable) else {}


def _can_be_set(parameter: inspect.Parameter, depth: int) -> bool:
    is_context = parameter.name == "ctx" and depth == 0
    return not is_context and parameter.kind is not parameter.VAR_POSITIONAL


def _signature(entity: Any) -> Target | None:
    try:
        return target_of(entity)
    except (TypeError, ValueError):  # it does not tell its arguments
        return None


def _type(hint: Any, parameter: inspect.Parameter) -> str:
    if hint is Unresolved:
        return str(parameter.annotation).strip("'\"")
    return "" if parameter.annotation is parameter.empty else hint_name(hint)


def _default(target: Target, name: str) -> str:
    if name in target.factories:
        return _short(target.factories[name]())
    value = target.default_values.get(name, MISSING)
    return "" if value is MISSING else _short(value)


def _short(value: Any) -> str:
    if isinstance(value, fdl.Buildable):
        inner = ", ".join(f"{name}={_short(item)}" for name, item in value.__arguments__.items())
        text = f"{hint_name(value.__fn_or_cls__)}({inner})"
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _class_in(hint: Any, default: Any) -> Any:
    """Return the class whose arguments can be set inside an argument: that of its default, or the one that it takes."""
    if isinstance(default, fdl.Buildable):
        return default.__fn_or_cls__
    classes = wanted.classes_of(hint)
    if type(default) in classes:
        return type(default)
    return classes[0] if len(classes) == 1 and not inspect.isabstract(classes[0]) else None


# ---------------------------------------------------------------- factories
def factory_rows(entity: Any, namespace: str | None = None) -> Iterator[FactoryRow]:
    """Yield the factories of a function or class as a whole, and of each of its arguments."""
    own = get_type_namespace(entity)
    seen: set[int] = set()
    for entry in registry.factories().values():
        if entry.namespace == own and namespace in (None, own):
            yield from _factory_row("--factory", entry, seen)
    for name in getattr(_signature(entity), "parameters", ()):
        place = Place(name, wanted.hint_of(entity, name), entity, name)
        if place.hint is Unresolved:
            continue
        for entry in making.factories_for(place):
            if namespace in (None, entry.namespace):
                yield from _factory_row(name, entry, set())


def _factory_row(argument: str, entry: registry.Factory, seen: set[int]) -> Iterator[FactoryRow]:
    if id(entry) in seen:
        return
    seen.add(id(entry))
    target = _signature(entry.function)
    arguments = [] if target is None else [_argument(target, name) for name in target.parameters]
    summary = (inspect.getdoc(entry.function) or "").partition("\n")[0]
    yield FactoryRow(argument, f"{entry.name}({', '.join(arguments)})" if arguments else entry.name, summary)


def _argument(target: Target, name: str) -> str:
    default = _default(target, name)
    return f"{name}={default}" if default else name


# ---------------------------------------------------------------- docstrings
def argument_docs(entity: Any) -> dict[str, str]:
    """Return what the docstring says of each argument; of a class also those of its bases and of ``__init__``.

    Example:
        >>> def train(rate):
        ...     '''Train.
        ...
        ...     Args:
        ...         rate (float): How fast,
        ...             per step.
        ...     '''
        >>> argument_docs(train)
        {'rate': 'How fast, per step.'}
    """
    found: dict[str, str] = {}
    is_class = isinstance(entity, type)
    for holder in [getattr(entity, "__init__", None), *reversed(entity.__mro__)] if is_class else [entity]:
        found.update(_docs_in(inspect.getdoc(holder) or ""))
    return found


def _docs_in(docstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in _sections_of_arguments(docstring):
        name, indent = "", 0
        for line in section:
            entry = _ENTRY.fullmatch(line)
            if entry and (not name or len(entry["indent"]) <= indent):
                name, indent = entry["name"].lstrip("*"), len(entry["indent"])
                found[name] = entry["text"]
            elif name:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _sections_of_arguments(docstring: str) -> Iterator[list[str]]:
    """Yield the lines below each heading such as ``Args:``, without empty ones."""
    section: list[str] | None = None
    for line in filter(str.strip, docstring.splitlines()):
        if _SECTION.match(line):
            yield section or []
            section = []
        elif section is not None and line[0].isspace():
            section.append(line)
        else:
            yield section or []
            section = None
    yield section or []
