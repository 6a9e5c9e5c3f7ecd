"""Configurations as Python source."""

from __future__ import annotations

import builtins
import dataclasses
import enum
import functools
import keyword
import math
import re
import sys
from collections.abc import Iterable
from typing import Any, TypeAlias

import fiddle as fdl

from nemo_run.config.checking import is_mistake
from nemo_run.config.document import to_document
from nemo_run.config.document.symbols import name_of
from nemo_run.config.document.values import MUTABLE, in_order, is_torch_dtype, value_type
from nemo_run.config.document.writing import call_arguments, own_tags
from nemo_run.config.kinds import registered
from nemo_run.config.target import target_of

_LINE_LENGTH = 100
_RESULT = "config"
_TAKEN = frozenset({*dir(builtins), *keyword.kwlist, *keyword.softkwlist, "run", "fdl", _RESULT})
_CONSTRUCTOR_ARGUMENTS = frozenset(
    {"fn_or_cls", "bind_args"}
)  # an argument of the target cannot be given by these names


def source(config: Any) -> str:
    """Write the source of a module that makes an equal configuration; see :func:`nemo_run.config.export.to_python`."""
    to_document(config)  # refuses what cannot be stored, with its path
    writer = _Writer(_repeated(config))
    result = _assignment(_RESULT, writer.expression(config))
    return "\n\n".join(["\n".join(writer.imports.lines()), *writer.statements, result]) + "\n"


def _repeated(config: Any) -> set[int]:
    """Return the nodes that are in the configuration more than once, by identity."""
    seen: set[int] = set()
    repeated: set[int] = set()

    def visit(value: Any) -> None:
        if not _is_node(value):
            return
        if id(value) in seen:
            repeated.add(id(value))
            return
        seen.add(id(value))
        for child in _children(value):
            visit(child)

    visit(config)
    return repeated


def _is_node(value: Any) -> bool:
    """Check whether it matters that two places have the same object, rather than equal ones."""
    if isinstance(value, tuple):
        return any(_is_node(item) for item in value)
    return isinstance(value, (fdl.Buildable, functools.partial, *MUTABLE)) or _is_instance(value)


def _is_instance(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, functools.partial):
        return [*value.args, *value.keywords.values()]
    if isinstance(value, fdl.Buildable):
        value = value.__arguments__
    elif _is_instance(value):
        value = vars(value) if hasattr(value, "__dict__") else {}
    return value.values() if isinstance(value, dict) else iter(value)


# ---------------------------------------------------------------- expressions, and lines of them
@dataclasses.dataclass
class _Group:
    """A call or a display: broken into lines where it does not fit on one."""

    start: str
    items: list[tuple[str, _Expression]]
    end: str
    tail: str = ""

    def __post_init__(self) -> None:
        inner = sum(len(prefix) + _width(item) + 2 for prefix, item in self.items)
        self.width = len(self.start) + inner + len(self.end) + len(self.tail)


_Expression: TypeAlias = "str | _Group"


def _width(expression: _Expression) -> int:
    return len(expression) if isinstance(expression, str) else expression.width


def _flat(expression: _Expression) -> str:
    if isinstance(expression, str):
        return expression
    items = ", ".join(prefix + _flat(item) for prefix, item in expression.items)
    return f"{expression.start}{items}{expression.tail}{expression.end}"


def _lines(expression: _Expression, indent: str, used: int) -> str:
    """Return the text of an expression, the first line of which has ``used`` columns already."""
    if isinstance(expression, str) or used + expression.width <= _LINE_LENGTH or not expression.items:
        return _flat(expression)
    deeper = indent + "    "
    items = [
        f"{deeper}{prefix}{_lines(item, deeper, len(deeper) + len(prefix) + 1)},\n" for prefix, item in expression.items
    ]
    return f"{expression.start}\n{''.join(items)}{indent}{expression.end}"


def _assignment(name: str, expression: _Expression) -> str:
    return f"{name} = {_lines(expression, '', len(name) + 3)}"


def _text(value: str) -> str:
    text = repr(value)
    if text[0] == "'" and '"' not in text:
        return '"' + text[1:-1].replace("\\'", "'") + '"'
    return text


# ---------------------------------------------------------------- names
class _Imports:
    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # what is imported: "module:name" to the name it has here
        self.modules: set[str] = {"import nemo_run as run"}
        self.taken = set(_TAKEN)

    def symbol(self, dotted: str) -> str:
        """Return the expression for a dotted name, which is imported."""
        parts = dotted.split(".")
        loaded = (count for count in range(len(parts) - 1, 0, -1) if ".".join(parts[:count]) in sys.modules)
        split = next(loaded, len(parts) - 1)  # of what is not imported here, all but the last
        module, name, rest = ".".join(parts[:split]), parts[split], parts[split + 1 :]
        if module == "builtins" and hasattr(builtins, name):
            return ".".join([name, *rest])
        key = f"{module}:{name}"
        if key not in self.names:
            self.names[key] = self.unused(name, f"{parts[split - 1]}_{name}")
        return ".".join([self.names[key], *rest])

    def unused(self, name: str, second: str) -> str:
        """Take a name that nothing has here yet."""
        for candidate in (name, second, *(f"{second}_{count}" for count in range(2, len(self.taken) + 3))):
            if candidate not in self.taken:
                self.taken.add(candidate)
                return candidate
        raise AssertionError  # there are more candidates than taken names

    def lines(self) -> list[str]:
        found: dict[str, list[str]] = {}
        for key, alias in self.names.items():
            module, _, name = key.partition(":")
            found.setdefault(module, []).append(name if alias == name else f"{name} as {alias}")
        return [*sorted(self.modules), *map(_import_line, sorted(found.items()))]


def _import_line(item: tuple[str, list[str]]) -> str:
    module, names = item
    line = f"from {module} import {', '.join(sorted(names))}"
    if len(line) <= _LINE_LENGTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in sorted(names)) + ")"


# ---------------------------------------------------------------- values
class _Writer:
    def __init__(self, repeated: set[int]) -> None:
        self.repeated = repeated
        self.imports = _Imports()
        self.statements: list[str] = []
        self.variables: dict[int, str] = {}

    def expression(self, value: Any, hint: str = "shared") -> _Expression:
        """Return the expression that makes a value; of one that is used twice, the variable that holds it."""
        key = id(value)
        if key not in self.repeated:
            return self.display(value)
        if key not in self.variables:
            expression = self.display(value)
            self.variables[key] = name = self.imports.unused(hint, f"{hint}_2")
            self.statements.append(_assignment(name, expression))
        return self.variables[key]

    def display(self, value: Any) -> _Expression:
        kind = type(value)
        if kind in (type(None), bool, int, bytes):
            return repr(value)
        if kind is str:
            return _text(value)
        if kind is float:
            return repr(value) if math.isfinite(value) else f'float("{value!r}")'
        if kind in (list, tuple, set, dict):
            return self.container(value)
        return self.buildable(value) if isinstance(value, fdl.Buildable) else self.other(value)

    def container(self, value: Any) -> _Expression:
        if isinstance(value, dict):
            return _Group("{", [(f"{_flat(self.expression(k))}: ", self.expression(v)) for k, v in value.items()], "}")
        if isinstance(value, set):
            return _Group("{", self.items(in_order(value)), "}") if value else "set()"
        if isinstance(value, tuple):
            return _Group("(", self.items(value), ")", "," if len(value) == 1 else "")
        return _Group("[", self.items(value), "]")

    def items(self, values: Iterable[Any]) -> list[tuple[str, _Expression]]:
        return [("", self.expression(value)) for value in values]

    def keywords(self, values: dict[str, Any]) -> list[tuple[str, _Expression]]:
        plain = {name: value for name, value in values.items() if name.isidentifier() and not keyword.iskeyword(name)}
        found = [(f"{name}=", self.expression(value, _variable(name))) for name, value in plain.items()]
        others = {name: value for name, value in values.items() if name not in plain}
        return [*found, ("**", self.container(others))] if others else found

    def buildable(self, config: fdl.Buildable[Any]) -> _Expression:
        target = config.__fn_or_cls__
        positional, named = call_arguments(config)
        head = _head(type(config))
        if not head or _needs_document(config) or _CONSTRUCTOR_ARGUMENTS & named.keys():
            return self.from_document(config)
        if head.startswith("fdl."):
            self.imports.modules.add("import fiddle as fdl")
        checked = [] if _is_accepted(config) else [("validate=", "False")]
        arguments = [("", self.symbol(target)), *self.items(positional), *checked, *self.keywords(named)]
        return _Group(f"{head}(", arguments, ")")

    def other(self, value: Any) -> _Expression:
        entry = value_type(value)
        if entry is not None:
            return _Group(f"{self.imports.symbol(entry.target)}(", self.items(entry.arguments(value)), ")")
        if is_torch_dtype(value):
            return self.imports.symbol(str(value))
        if isinstance(value, (enum.Enum, functools.partial, tuple)):
            return self.call(value)
        if _is_instance(value):
            return self.from_document(value)
        return self.symbol(value)

    def call(self, value: Any) -> _Expression:
        """Return what makes an enum member, a partial or a named tuple."""
        start = f"{self.symbol(type(value))}("
        if isinstance(value, functools.partial):
            return _Group(start, [*self.items([value.func, *value.args]), *self.keywords(value.keywords)], ")")
        if isinstance(value, tuple):
            return _Group(start, self.items(value), ")")
        if value.name in type(value).__members__:
            return f"{start[:-1]}.{value.name}"
        return _Group(start, self.items([value.value]), ")")

    def symbol(self, value: Any) -> str:
        return self.imports.symbol(name_of(value))

    def from_document(self, value: Any) -> _Expression:
        """Return what has no short form in Python, such as tags, or an object made without its constructor."""
        read = self.imports.symbol("nemo_run.config.document.from_document")
        return _Group(f"{read}(", self.items([to_document(value)]), ")")


def _is_accepted(config: fdl.Buildable[Any]) -> bool:
    """Check whether its constructor accepts its arguments."""
    if not getattr(config, "__validate__", True):
        return False
    return not any(is_mistake(config, key, config.__arguments__[key]) for key in getattr(config, "__accepted__", ()))


def _needs_document(config: fdl.Buildable[Any]) -> bool:
    """Check whether a call of ``run.Config`` or the like cannot say all of a configuration."""
    target = config.__fn_or_cls__
    if own_tags(config) or isinstance(target, functools.partial):
        return True
    return "validate" in target_of(target).keywords and not _is_accepted(config)


def _head(kind: type) -> str:
    """Return the name of a class of configurations in the source; empty for one that has no short name there."""
    module = "run" if kind in registered() else "fdl" if kind in (fdl.Config, fdl.Partial, fdl.ArgFactory) else ""
    return module and f"{module}.{kind.__name__}"


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name)
