"""Conditions on the parameters of jobs, such as ``model.layers > 8 and lr in (0.1, 0.01)``; no code is run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from nemo_run.errors import CommandLineError

Condition = Callable[[Mapping[str, Any]], Any]

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}
_NOTHING = object()  # a parameter that a job does not have: no comparison with it holds


def condition(text: str) -> Condition:
    """Return a condition on the parameters of a job, by their paths.

    Args:
        text: Comparisons of paths and plain values, with ``and``, ``or``, ``not`` and brackets.

    Raises:
        CommandLineError: It is something else; the message says where.

    Example:
        >>> condition("model.layers > 8 and kind == 'a'")({"model.layers": 16, "kind": "a"})
        True
    """
    try:
        return _ConditionReader(text).read(ast.parse(text.strip(), mode="eval").body)
    except CommandLineError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise CommandLineError(f"{text!r} is no condition; write one like: model.layers > 8 and kind == 'a'") from e


class _ConditionReader:
    def __init__(self, text: str) -> None:
        self.text = text

    def read(self, node: ast.expr) -> Condition:
        if isinstance(node, ast.BoolOp):
            parts = [self.read(part) for part in node.values]
            together = all if isinstance(node.op, ast.And) else any
            return lambda parameters: together(part(parameters) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.read(node.operand)
            return lambda parameters: not inner(parameters)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        value = self._value(node)
        return lambda parameters: _known(value(parameters))

    def _comparison(self, node: ast.Compare) -> Condition:
        values = [self._value(part) for part in (node.left, *node.comparators)]
        try:
            operators = [_COMPARISONS[type(op)] for op in node.ops]
        except KeyError:
            raise self._refusal(node) from None

        def holds(parameters: Mapping[str, Any]) -> bool:
            found = [value(parameters) for value in values]
            pairs = zip(operators, found, found[1:], strict=False)
            return all(_compare(compare, left, right) for compare, left, right in pairs)

        return holds

    def _value(self, node: ast.expr) -> Condition:
        path = self._path(node)
        if path:
            return lambda parameters: parameters.get(path, _NOTHING)
        try:
            value = ast.literal_eval(node)
        except ValueError:
            raise self._refusal(node) from None
        return lambda _: value

    def _path(self, node: ast.expr) -> str:
        """Return the path that an expression writes; empty for anything else."""
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute) and (path := self._path(node.value)):
            return f"{path}.{node.attr}"
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            path = self._path(node.value)
            return f"{path}[{node.slice.value!r}]" if path else ""
        return ""

    def _refusal(self, node: ast.expr) -> CommandLineError:
        part = ast.get_source_segment(self.text.strip(), node) or self.text
        return CommandLineError(
            f"{part!r} in a condition is neither a parameter nor a plain value nor a comparison of them"
        )


def _known(value: Any) -> Any:
    return value is not _NOTHING and value


def _compare(compare: Callable[[Any, Any], Any], left: Any, right: Any) -> bool:
    if _NOTHING in (left, right):
        return False
    try:
        return bool(compare(left, right))
    except TypeError:  # such as a text and a number
        return False
