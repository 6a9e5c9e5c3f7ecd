"""Configurations as drawings."""

from __future__ import annotations

import dataclasses
import functools
import html
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.config.outline import Branch, Leaf, Step, brief, outline
from nemo_run.errors import ConfigError

if TYPE_CHECKING:
    import graphviz

    from nemo_run.config.parts import Part

_HEADS = {"Config": "#dbeafe", "Partial": "#fef3c7"}
_OTHER_HEAD = "#e5e7eb"
_MARKS = {"added": "#dcfce7", "removed": "#fee2e2", "changed": "#fef9c3"}
_MOST_BOXES = 100  # in a notebook
_HINT = (
    "drawing needs the program `dot` of Graphviz, which is not on the PATH; install it (`apt install graphviz`, "
    "`brew install graphviz` or `conda install graphviz`)"
)


def visualize(config: Any, *, max_depth: int | None = None, max_str_length: int | None = None) -> graphviz.Graph:
    """Draw a configuration: a box for each node, one that is shared only once.

    The result is shown in a notebook; its ``render`` writes a file, and its ``source`` is the drawing as text.

    Args:
        config: The configuration, or a document of one.
        max_depth: How many levels to draw; the rest is written in one line.
        max_str_length: The longest text of a value, 40 if not given.

    Example:
        >>> import nemo_run as run
        >>> "complex" in visualize(run.Config(complex, real=1)).source
        True
    """
    return _drawn(_Boxes(max_depth, max_str_length or 40).of(config), lambda: repr_svg(config))


def save_config_img(config: Any, path_str: str) -> None:
    """Saves the drawing of a configuration as a file.

    Args:
        config: The configuration.
        path_str: The file; its suffix says what it is, PNG if it has none.

    Raises:
        ConfigError: If Graphviz is not there, or cannot write the file.
    """
    import graphviz

    if shutil.which("dot") is None:
        raise ConfigError(f"{_HINT}. The drawing as text is visualize().source")
    path = Path(path_str)
    try:
        image = visualize(config).pipe(format=path.suffix[1:].lower() or "png")
        path.write_bytes(image)
    except (OSError, ValueError, graphviz.CalledProcessError) as error:
        raise ConfigError(f"cannot save a drawing as {path_str!r}: {error}") from error


def repr_svg(config: Any) -> str:
    """Return the drawing of a configuration as SVG, for a notebook; of a large one, its upper levels.

    Where Graphviz is not there, it is a list of lines instead.
    """
    if shutil.which("dot") is None:
        return _text_svg([*_text_lines(config), "", _HINT])
    depth = next((depth for depth in range(1, 20) if _Boxes(depth, 40).count(config) > _MOST_BOXES), None)
    graph = visualize(config, max_depth=depth and max(depth - 1, 1))
    svg: str = graph.pipe(format="svg", encoding="utf-8")
    return svg[svg.index("<svg") :]


def draw_diff(root: Part, *, trim: bool) -> graphviz.Graph:
    """Draw the differences between two configurations, with ``trim`` without what is the same."""
    return _drawn(_diff_boxes(root, trim), lambda: _text_svg([_HINT]))


# ---------------------------------------------------------------- boxes
@dataclasses.dataclass
class _Row:
    name: str
    text: str = ""
    box: _Box | None = None
    mark: str = ""


@dataclasses.dataclass
class _Box:
    title: str
    kind: str
    rows: list[_Row]
    mark: str = ""


class _Boxes:
    """Makes the boxes of a configuration."""

    def __init__(self, max_depth: int | None, max_text: int) -> None:
        self.max_depth = max_depth
        self.max_text = max_text
        self.done: dict[int, _Box] = {}

    def of(self, value: Any, depth: int = 1) -> _Box:
        if id(value) not in self.done:
            found = outline(value)
            if isinstance(found, Leaf):
                return _Box(brief(value, self.max_text), "", [])
            box = self.done[id(value)] = _Box(found.name, found.kind, [])
            box.rows += [self.row(step, item, found, depth) for step, item in found.items.items()]
        return self.done[id(value)]

    def row(self, step: Step, value: Any, node: Branch, depth: int) -> _Row:
        name = _step_text(step, node)
        if (self.max_depth is None or depth < self.max_depth) and _has_configurations(value):
            return _Row(name, box=self.of(value, depth + 1))
        return _Row(name, brief(value, self.max_text))

    def count(self, value: Any) -> int:
        self.of(value)
        return len(self.done)


def _step_text(step: Step, node: Branch) -> str:
    return f"[{step!r}]" if node.is_container else str(step)


def _has_configurations(value: Any) -> bool:
    found = outline(value)
    if isinstance(found, Leaf):
        return False
    return not found.is_container or any(map(_has_configurations, found.items.values()))


def _diff_boxes(part: Part, trim: bool) -> _Box:
    found = outline(part.new if part.kind != "removed" else part.old)
    if isinstance(found, Leaf) or part.kind:
        return _Box(_part_text(part), "", [], part.kind)
    title, mark = (f"{part.target[0]} → {part.target[1]}", "changed") if part.target else (found.name, "")
    return _Box(title, found.kind, _diff_rows(part, found, trim), mark)


def _diff_rows(part: Part, found: Branch, trim: bool) -> list[_Row]:
    if not part.parts and not trim:
        return [_Row(_step_text(step, found), brief(item, 40)) for step, item in found.items.items()]
    return [_diff_row(inner, found, trim) for inner in part.parts if inner.differs or not trim]


def _diff_row(part: Part, node: Branch, trim: bool) -> _Row:
    name = _step_text(part.step, node)
    if part.kind or not part.differs:
        return _Row(name, _part_text(part), mark=part.kind)
    return _Row(name, box=_diff_boxes(part, trim))


def _part_text(part: Part) -> str:
    texts = [brief(part.old, 40)] if part.kind in ("removed", "changed") else []
    return " → ".join([*texts, brief(part.new, 40)] if part.kind != "removed" else texts)


# ---------------------------------------------------------------- drawing
@functools.cache
def _drawing_class() -> type[graphviz.Graph]:
    import graphviz

    class Drawing(graphviz.Graph):  # type: ignore[misc, unused-ignore]
        """A drawing that a notebook shows in lines where Graphviz is not there."""

        in_lines: Callable[[], str]

        def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **kwargs: Any) -> Any:
            if shutil.which(self.engine) is None:
                return {"image/svg+xml": self.in_lines()}
            return super()._repr_mimebundle_(include, exclude, **kwargs)

    return Drawing


def _drawn(root: _Box, in_lines: Callable[[], str]) -> graphviz.Graph:
    font = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "11"}
    graph = _drawing_class()(
        graph_attr={"rankdir": "LR"}, node_attr={"shape": "plain", **font}, edge_attr={"color": "#6b7280"}
    )
    graph.in_lines = in_lines
    names: dict[int, str] = {}
    todo = [root]
    while todo:
        box = todo.pop()
        name = names.setdefault(id(box), f"n{len(names)}")
        graph.node(name, _label(box))
        for number, row in enumerate(box.rows):
            if row.box is not None:
                if id(row.box) not in names:
                    names[id(row.box)] = f"n{len(names)}"
                    todo.append(row.box)
                graph.edge(f"{name}:r{number}:e", f"{names[id(row.box)]}:head:w")
    return graph


def _label(box: _Box) -> str:
    colour = _MARKS.get(box.mark) or _HEADS.get(box.kind, _OTHER_HEAD)
    head = f'<tr><td colspan="2" port="head" bgcolor="{colour}"><b>{_html(box.title)}</b></td></tr>'
    rows = "".join(_row_label(number, row) for number, row in enumerate(box.rows))
    return f'<<table border="0" cellborder="1" cellspacing="0" cellpadding="4" color="#9ca3af">{head}{rows}</table>>'


def _row_label(number: int, row: _Row) -> str:
    colour = f' bgcolor="{_MARKS[row.mark]}"' if row.mark else ""
    cell = f'<td align="left"{colour}>'
    return f'<tr>{cell}{_html(row.name)}</td><td align="left" port="r{number}"{colour}>{_html(row.text)}</td></tr>'


def _html(text: str) -> str:
    printable = "".join(char if char.isprintable() else "�" for char in text)
    return html.escape(printable) or " "


# ---------------------------------------------------------------- without Graphviz
def _text_lines(value: Any, indent: str = "", name: str = "") -> Iterator[str]:
    found = outline(value)
    start = f"{indent}{name}: " if name else indent
    if not _has_configurations(value) or isinstance(found, Leaf):
        yield f"{start}{brief(value)}"
        return
    yield f"{start}{found.name}"
    for step, item in found.items.items():
        yield from _text_lines(item, f"{indent}    ", _step_text(step, found))


def _text_svg(lines: list[str]) -> str:
    shown = lines if len(lines) <= 3 * _MOST_BOXES else [*lines[: 3 * _MOST_BOXES], "…"]
    width, height = 8 * max(map(len, shown)) + 16, 18 * len(shown) + 12
    texts = "".join(
        f'<text x="8" y="{18 * number + 20}" xml:space="preserve">{_html(line)}</text>'
        for number, line in enumerate(shown)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'style="background:white" font-family="monospace" font-size="13">{texts}</svg>'
    )
