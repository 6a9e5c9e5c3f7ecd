"""What is different between two configurations, or two plain documents of them."""

from __future__ import annotations

import dataclasses
import difflib
import html
import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nemo_run.config.document import path_text
from nemo_run.config.escaping import escaped
from nemo_run.config.outline import Branch, Leaf, Step, brief, outline
from nemo_run.config.parts import Change, Part

if TYPE_CHECKING:
    import graphviz

_SIGNS = {"added": "+", "removed": "-", "changed": "~", "target": "~"}
_COLOURS = {"+": 32, "-": 31, "~": 33}  # of ANSI terminals
_BACKGROUNDS = {"+": "#e6ffec", "-": "#ffebe9", "~": "#fff8c5"}
_MOST_ALIGNED = 4_000_000  # pairs of elements; larger lists are compared by position
_PLAIN = frozenset({int, float, bool, str, type(None)})
_NOTHING: Any = object()


class ConfigDiff:
    """The differences between two configurations.

    It is printed as text, and shown as a table in a notebook; it is true if there is any difference.

    Attributes:
        changes: The differences, in the order of the new configuration.
        root: The same as a tree.

    Example:
        >>> import nemo_run as run
        >>> difference = diff(run.Config(dict, a=2, b=1), run.Config(dict, a=1))
        >>> print(difference)
        ~ a: 1 -> 2
        + b: 1
        >>> [change.path for change in difference.changes if change.kind == "added"]
        ['b']
    """

    def __init__(self, root: Part, trim: bool = True) -> None:
        self.root = root
        self.trim = trim
        self.changes: list[Change] = list(_changes(root, ()))

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__

    def to_text(self, colour: bool = False) -> str:
        """Write the differences as text, one line for each; with ``trim=False``, among what is the same.

        Args:
            colour: With the colours of a terminal.
        """
        if not self.changes and self.trim:
            return "no differences"
        lines = itertools.chain.from_iterable(map(_lines, self.changes)) if self.trim else _tree_lines(self.root, ())
        return "\n".join(_coloured(line) if colour else line for line in map(escaped, lines))

    def to_graphviz(self) -> graphviz.Graph:
        """Draw the differences, with the configurations that they are in; needs the package ``graphviz``."""
        from nemo_run.config.visualize import draw_diff

        return draw_diff(self.root, trim=self.trim)

    def _repr_html_(self) -> str:
        if not self.changes:
            return "<p>no differences</p>"
        head = "<tr><th></th><th>path</th><th>old</th><th>new</th></tr>"
        rows = "".join(map(_html_row, self.changes))
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"

    def __getattr__(self, name: str) -> Any:
        if name in {"source", "render", "save", "view", "pipe"}:  # of the drawing that NeMo-Run returns here
            return getattr(self.to_graphviz(), name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def diff(new: Any, old: Any, trim: bool = True) -> ConfigDiff:
    """Compare two configurations, or two documents of configurations; imports nothing.

    Args:
        new: The new one.
        old: The old one.
        trim: Leave out what is the same, when it is shown as a text or drawn.

    Example:
        >>> diff({"_target_": "m.Adam", "lr": 0.1}, {"_target_": "m.SGD", "lr": 0.1}).changes
        [Change(path='', kind='target', old='m.SGD', new='m.Adam')]
    """
    return ConfigDiff(_Comparison().part("", old, new), trim)


# ---------------------------------------------------------------- comparing
class _Comparison:
    """Gives equal values equal numbers, so that what is the same is seen at once, at any depth."""

    def __init__(self) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.known: dict[int, int] = {}
        self.seen: set[tuple[int, int]] = set()

    def number(self, value: Any) -> int:
        if type(value) in _PLAIN and value == value:  # noqa: PLR0124  # not NaN
            return self.numbers.setdefault((type(value), value), len(self.numbers))
        key = id(value)
        if key not in self.known:
            self.known[key] = -1  # what something that contains itself finds
            self.known[key] = self.numbers.setdefault(self.content(outline(value)), len(self.numbers))
        return self.known[key]

    def content(self, found: Leaf | Branch) -> Hashable:
        if isinstance(found, Leaf):
            return found.key
        items = [(step, self.number(item)) for step, item in found.items.items()]
        return found.kind, found.target, tuple(items) if found.is_sequence else frozenset(items)

    def part(self, step: Step, old: Any, new: Any) -> Part:
        same = Part(step, "", old, new)
        if self.number(old) == self.number(new) or (id(old), id(new)) in self.seen:
            return same
        before, after = outline(old), outline(new)
        if isinstance(before, Leaf) or isinstance(after, Leaf) or not _comparable(before, after):
            return Part(step, "changed", old, new)
        self.seen.add((id(old), id(new)))
        return dataclasses.replace(same, parts=self.parts(before, after), target=_renamed(before, after))

    def parts(self, before: Branch, after: Branch) -> tuple[Part, ...]:
        """Return what is in two containers or configurations, if any of it is different."""
        parts = self.elements(before, after) if after.is_sequence else self.arguments(before, after)
        return tuple(parts) if any(part.differs for part in parts) else ()

    def arguments(self, before: Branch, after: Branch) -> Sequence[Part]:
        """Return what is in two configurations or dicts, by name; a default stands for what is not given."""
        parts = []
        for step, new in after.items.items():
            old = before.items.get(step, _NOTHING)
            if old is _NOTHING:
                old = before.defaults.get(step, _NOTHING)
            parts.append(Part(step, "added", None, new) if old is _NOTHING else self.part(step, old, new))
        for step, old in before.items.items():
            if step not in after.items:
                new = after.defaults.get(step, _NOTHING)
                parts.append(Part(step, "removed", old, None) if new is _NOTHING else self.part(step, old, new))
        return parts

    def elements(self, before: Branch, after: Branch) -> Sequence[Part]:
        """Return what is in two lists: what is the same is aligned, and between it what is of the same class."""
        old, new = list(before.items.values()), list(after.items.values())
        parts: list[Part] = []
        for same, i, j in _aligned(list(map(self.number, old)), list(map(self.number, new))):
            if same:
                parts += [Part(at, "", old[a], new[at]) for a, at in zip(i, j, strict=True)]
                continue
            parts += self.changed_elements({at: old[at] for at in i}, {at: new[at] for at in j})
        return parts

    def changed_elements(self, old: dict[int, Any], new: dict[int, Any]) -> Iterator[Part]:
        """Yield what is different in a part of two lists, by position: what is of the same class is aligned."""
        i, j = [*old], [*new]
        for alike, k, m in _aligned(list(map(_class, old.values())), list(map(_class, new.values()))):
            if alike:
                yield from (self.part(j[b], old[i[a]], new[j[b]]) for a, b in zip(k, m, strict=True))
            else:
                yield from (Part(i[a], "removed", old[i[a]], None) for a in k)
                yield from (Part(j[b], "added", None, new[j[b]]) for b in m)


def _comparable(before: Branch, after: Branch) -> bool:
    """Check whether it makes sense to compare what is in them."""
    if before.is_container or after.is_container:
        return before.kind == after.kind
    return True


def _renamed(before: Branch, after: Branch) -> tuple[str, str] | None:
    """Return the old and the new target, where they differ."""
    names = _full_name(before), _full_name(after)
    return names if names[0] != names[1] else None


def _full_name(node: Branch) -> str:
    return node.target if node.kind in ("Config", "object") else f"{node.kind}[{node.target}]"


def _class(value: Any) -> Hashable:
    found = outline(value)
    return f"{found.kind} {found.target}" if isinstance(found, Branch) else str(type(found.value))


def _aligned(old: Sequence[Hashable], new: Sequence[Hashable]) -> Iterator[tuple[bool, range, range]]:
    """Yield the runs of two sequences in which they are the same, and those in which they are not."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    middle = old[start : len(old) - end], new[start : len(new) - end]
    yield True, range(start), range(start)
    yield from _middle(*middle, start)
    yield True, range(len(old) - end, len(old)), range(len(new) - end, len(new))


def _middle(old: Sequence[Hashable], new: Sequence[Hashable], start: int) -> Iterator[tuple[bool, range, range]]:
    if len(old) * len(new) > _MOST_ALIGNED:
        yield False, range(start, start + len(old)), range(start, start + len(new))
        return
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        yield tag == "equal", range(start + i1, start + i2), range(start + j1, start + j2)


# ---------------------------------------------------------------- showing
def _changes(part: Part, path: tuple[Step, ...]) -> Iterator[Change]:
    if part.kind:
        yield Change(path_text(path), part.kind, part.old, part.new)
    if part.target:
        yield Change(path_text(path), "target", *part.target)
    for inner in part.parts:
        if inner.differs:
            yield from _changes(inner, (*path, inner.step))


def _lines(change: Change) -> list[str]:
    """Return the lines of one difference; each begins with a sign and a blank."""
    old, new = change.old, change.new
    if change.kind == "changed" and isinstance(old, str) and isinstance(new, str) and "\n" in old and "\n" in new:
        lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1))[2:]
        return [f"~ {change.path}:", *(f"{line[:1]}     {line[1:]}" for line in lines)]
    return [f"{_SIGNS[change.kind]} {change}"]


def _tree_lines(part: Part, path: tuple[Step, ...]) -> Iterator[str]:
    """Yield the lines of what is different, among those of what is not."""
    for change in _changes(dataclasses.replace(part, parts=()), path):
        yield from _lines(change)
    parts = part.parts
    if not part.differs:
        found = outline(part.new)
        if isinstance(found, Leaf) or not found.items:
            yield f"  {path_text(path)}: {brief(part.new)}"
        else:
            parts = tuple(Part(step, "", item, item) for step, item in found.items.items())
    for inner in parts:
        yield from _tree_lines(inner, (*path, inner.step))


def _coloured(line: str) -> str:
    colour = _COLOURS.get(line[0])
    return f"\x1b[{colour}m{line}\x1b[0m" if colour else line


def _html_row(change: Change) -> str:
    sign = _SIGNS[change.kind]
    old = "" if change.kind == "added" else change.old if change.kind == "target" else brief(change.old)
    new = "" if change.kind == "removed" else change.new if change.kind == "target" else brief(change.new)
    cells = "".join(
        f'<td style="text-align:left"><code>{html.escape(text)}</code></td>' for text in (change.path, old, new)
    )
    return f'<tr style="background:{_BACKGROUNDS[sign]};color:#1f2328"><td>{sign}</td>{cells}</tr>'
