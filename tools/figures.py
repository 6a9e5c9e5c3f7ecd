"""Figures of the architecture: ``python tools/figures.py`` prints them; tests/test_architecture.py holds their bounds.

Complexity counts the ways through a function: one, and one more for each branch, loop, handler, clause of a
comprehension, and operand of ``and`` and ``or``. A function inside of a function counts for both. A boolean parameter
is one with the type ``bool`` or a default of True or False. Public are the names that the packages export, what their
classes inherit, and the functions behind the commands, whose parameters are options.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nemo_run"
ENGINES = PACKAGE / "core" / "execution"
COMMANDS = PACKAGE / "cli" / "commands"
EXPORTING = ("nemo_run", "nemo_run.config", "nemo_run.cli", "nemo_run.run.ray.cluster", "nemo_run.run.ray.job")

_BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case, ast.comprehension),
    ast.Assert,
)


@dataclass(frozen=True)
class Function:
    """A function of the source.

    Attributes:
        path: The file.
        line: The first line, that of a decorator if it has one.
        name: The name.
        complexity: The ways through it.
        booleans: The names of its boolean parameters.
    """

    path: Path
    line: int
    name: str
    complexity: int
    booleans: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.path.relative_to(ROOT)}:{self.line} {self.name}"


def main() -> None:
    """Print the figures."""
    for name, figure in figures().items():
        print(f"{name:<48} {figure}")


def figures() -> dict[str, Any]:
    """Return all figures by what they tell."""
    found = functions()
    worst = max(found, key=lambda function: function.complexity)
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    longest = max(lines, key=lines.__getitem__)
    folders = modules_by_engine()
    fullest = max(folders, key=folders.__getitem__)
    graph = import_graph()
    return {
        "functions": len(found),
        "complexity, 95th percentile": percentile([function.complexity for function in found], 95),
        "complexity, largest": f"{worst.complexity} ({worst.place})",
        "lines of the largest file": f"{lines[longest]} ({longest.relative_to(ROOT)})",
        "modules of the fullest engine folder": f"{folders[fullest]} ({fullest})",
        "boolean parameters per 100 functions, not public": f"{booleans_per_100(found):.1f}",
        "imports that close a circle": len(circles(graph)),
        "modules analysed / files": f"{len(graph.modules)} / {len(files())}",
        "class names used twice": " ".join(sorted(repeated_class_names())) or "none",
    }


def files() -> list[Path]:
    """Return the Python files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def functions() -> list[Function]:
    """Return the functions of the package, without overloads."""
    return [function for path in files() for function in _functions_in(path)]


def _functions_in(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_overload(node):
            line = min(decorator.lineno for decorator in [*node.decorator_list, node])
            yield Function(path, line, node.name, complexity(node), tuple(_booleans(node)))


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "overload" for one in node.decorator_list)


def complexity(function: ast.AST) -> int:
    """Return the number of ways through a function.

    Example:
        >>> complexity(ast.parse("def f(x): return [y for y in x if y and x]"))
        4
    """
    ways = 1
    for node in ast.walk(function):
        ways += isinstance(node, _BRANCHES)
        if isinstance(node, ast.BoolOp):
            ways += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            ways += len(node.ifs)
    return ways


def _booleans(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    pairs = [
        *zip(positional, [*defaults, *node.args.defaults], strict=True),
        *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
    ]
    for parameter, default in pairs:
        hint = ast.unparse(parameter.annotation) if parameter.annotation else ""
        if hint == "bool" or (isinstance(default, ast.Constant) and isinstance(default.value, bool)):
            yield parameter.arg


def percentile(numbers: Iterable[int], share: int) -> int:
    """Return the number that so many percent of all numbers do not exceed.

    Example:
        >>> percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 90)
        9
    """
    ordered = sorted(numbers)
    return ordered[max(-(-len(ordered) * share // 100) - 1, 0)]


def booleans_per_100(found: list[Function]) -> float:
    """Return the boolean parameters for each 100 functions, without the public ones."""
    public = _public_places()
    own = [one for one in found if (str(one.path), one.line) not in public and not _is_command(one)]
    return 100 * sum(len(function.booleans) for function in own) / len(own)


def _is_command(function: Function) -> bool:
    return function.path.parent == COMMANDS and not function.name.startswith("_")


def _public_places() -> set[tuple[str, int]]:
    """The files and lines of the functions that are public."""
    exported = [
        getattr(module, name)
        for module in map(importlib.import_module, EXPORTING)
        for name in getattr(module, "__all__", vars(module))
        if not name.startswith("_")
    ]
    found = [one for one in exported if inspect.isfunction(one)]
    classes = {base for one in exported if isinstance(one, type) for base in one.__mro__}
    for cls in classes:
        found += [one for name, one in vars(cls).items() if not name.startswith("_") or name == "__init__"]
    codes = [getattr(_unwrapped(one), "__code__", None) for one in found]
    return {(code.co_filename, code.co_firstlineno) for code in codes if code is not None}


def _unwrapped(member: Any) -> Any:
    while (inner := getattr(member, "__func__", None) or getattr(member, "__wrapped__", None)) is not None:
        member = inner
    return getattr(member, "method", member)


def modules_by_engine() -> dict[str, int]:
    """Return the number of modules in the folder of each engine; what all engines share is in none of these."""
    return dict(Counter(path.parent.name for path in ENGINES.glob("*/*.py") if path.parent.name != "shared"))


def import_graph() -> grimp.ImportGraph:
    """Return the imports of the package, those in functions and for type checkers included."""
    return grimp.build_graph("nemo_run", cache_dir=None)


def circles(graph: grimp.ImportGraph) -> set[tuple[str, str]]:
    """Return imports without which no package would have a circle among its modules and packages."""
    packages = {module for module in graph.modules if graph.find_children(module)}
    return {edge for package in packages for edge in graph.nominate_cycle_breakers(package)}


def repeated_class_names() -> set[str]:
    """Return the names that several classes have."""
    names = Counter(
        node.name
        for path in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    return {name for name, count in names.items() if count > 1}


if __name__ == "__main__":
    main()
