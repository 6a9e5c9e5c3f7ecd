"""Reads the code blocks of a Markdown file, and the comments that say how a block is to be treated.

A comment stands right before its block and is invisible to the reader::

    <!-- file: train.py -->            keep the block as this file, and do not run it: a later block will. The paragraph
                                       before or after the block names the file, too
    <!-- output -->                    the lines of this ``text`` block are printed by the block before; ``...`` stands
                                       for any text within a line
    <!-- not run here: WHY -->         nothing is run

A page whose blocks need something that not every machine has says so in a comment of its own::

    <!-- needs: ray -->                as in ``@pytest.mark.needs("ray")``
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_FENCED = re.compile(
    r"(?:^<!--\s*(?P<comment>(?:(?!-->).)*?)\s*-->\n+)?"
    r"^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_NEEDS = re.compile(r"^<!--\s*needs:\s*(?P<things>[^>]*?)\s*-->$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    code: str
    line: int
    file: str | None = None
    beside: str = field(default="", compare=False)  # the text before and after
    is_output: bool = False
    not_run: str | None = None


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown text, in order."""
    for match in _FENCED.finditer(text):
        comment = match["comment"] or ""
        yield Block(
            language=match["language"].strip(),
            code=match["code"],
            line=text.count("\n", 0, match.start("code")) + 1,
            file=_after("file:", comment),
            beside=f"{_paragraph_before(text, match.start())}\n{_paragraph_after(text, match.end())}",
            is_output=comment == "output",
            not_run=_after("not run here:", comment),
        )


def _paragraph_before(text: str, position: int) -> str:
    return text[:position].rstrip("\n").rpartition("\n\n")[2]


def _paragraph_after(text: str, position: int) -> str:
    return text[position:].lstrip("\n").partition("\n\n")[0]


def needs(text: str) -> list[str]:
    """Return the things that the blocks of a page need, as the mark ``needs`` names them."""
    return [thing.strip() for match in _NEEDS.finditer(text) for thing in match["things"].split(",")]


def links(text: str) -> list[str]:
    """The targets of all links outside of code blocks."""
    return [match["target"] for match in _LINK.finditer(_FENCED.sub("", text))]


def prints(expected: str, printed: str) -> bool:
    """Does ``printed`` contain the lines of ``expected``, in order?"""
    lines = iter(printed.splitlines())
    wanted = [_pattern(line) for line in expected.splitlines() if line.strip()]
    return all(any(pattern.fullmatch(line.rstrip()) for line in lines) for pattern in wanted)


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in line.rstrip().split("...")))


def unbound(code: str) -> set[str]:
    """Return the names that a piece of Python uses and nothing in it defines or imports."""
    bound, used = {*dir(builtins), "__name__", "__file__"}, set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names) | ast.ImportFrom(_, names):
                bound |= {(name.asname or name.name).partition(".")[0] for name in names}
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name) | ast.arg(name):
                bound.add(name)
            case ast.ExceptHandler(_, str(name)):
                bound.add(name)
            case ast.Name(name, ast.Load()):
                used.add(name)
            case ast.Name(name):
                bound.add(name)
    return used - bound


def _after(keyword: str, comment: str) -> str | None:
    return comment.removeprefix(keyword).strip() if comment.startswith(keyword) else None
