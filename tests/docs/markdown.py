"""Reads the code blocks of a Markdown file, and the comments that say how a block is to be treated.

A comment stands right before its block and is invisible to the reader::

    <!-- file: train.py -->            keep the block as this file and do not run it: a later block will
    <!-- before:                       run these lines first, e.g. to define names that the text takes as given
    CODE
    -->
    <!-- output -->                    the lines of this ``text`` block are printed by the block before; ``...`` stands
                                       for any text within a line
    <!-- not run here: WHY -->         nothing is run

A page whose blocks need something that not every machine has says so in a comment of its own::

    <!-- needs: ray -->                as in ``@pytest.mark.needs("ray")``
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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
    before: str = ""
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
            before=_after("before:", comment) or "",
            is_output=comment == "output",
            not_run=_after("not run here:", comment),
        )


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


def _after(keyword: str, comment: str) -> str | None:
    return comment.removeprefix(keyword).strip() if comment.startswith(keyword) else None
