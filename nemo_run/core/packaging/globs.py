"""Patterns for paths, as in ``.gitignore``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nemo_run.errors import PackagingError


class Patterns:
    """Patterns of which the last that matches decides; one with a leading ``!`` takes a match back.

    A pattern without a ``/``, but for one at its end, is looked for in every folder, any other from the top. ``*`` and
    ``?`` stay within a name, ``**`` does not; a ``/`` at the end is for folders only.

    Args:
        patterns: The patterns.
        descend: Whether a folder stands for all that is in it.

    Example:
        >>> ignored = Patterns(["*.log", "!keep.log", "build/"])
        >>> [path for path in ("a/b.log", "keep.log", "build", "build/") if ignored.match(path)]
        ['a/b.log', 'build/']
    """

    def __init__(self, patterns: Iterable[str], descend: bool = False) -> None:
        self._rules = [(not text.startswith("!"), _compiled(text.removeprefix("!"), descend)) for text in patterns]

    def match(self, path: str) -> bool:
        """Check whether the path is matched; that of a folder has a ``/`` at its end."""
        return next((wanted for wanted, regex in reversed(self._rules) if regex.fullmatch(path)), False)


def _compiled(pattern: str, descend: bool) -> re.Pattern[str]:
    text = pattern[1:] if pattern.startswith("./") else pattern
    inner = text.removesuffix("/")
    body = inner.removeprefix("/")
    if body in ("", "."):
        raise PackagingError(f"pattern {pattern!r} matches nothing: write '**' for everything")
    above = "" if "/" in inner else "(?:.*/)?"
    below = "/" if inner != text else "" if descend else "/?"
    anything = (".*" if inner != text else "(?:/.*)?") if descend else ""
    try:
        return re.compile(above + "".join(_pieces(body)) + below + anything, re.DOTALL)
    except re.error as error:
        raise PackagingError(f"pattern {pattern!r} cannot be understood: {error}") from error


_TOKEN = re.compile(
    r"""(?P<folders>(?:(?<=/)|^)\*\*/)    # any folders, or none
      | (?P<all>(?:(?<=/)|^)\*\*\Z)       # everything below
      | (?P<star>\*+)
      | (?P<one>\?)
      | \[(?P<not>[!^]?)(?P<set>\]?(?:\\.|[^]\\])*)\]
      | \\(?P<escaped>.)
      | (?P<plain>.)""",
    re.DOTALL | re.VERBOSE,
)
_MEANING = {"folders": "(?:.*/)?", "all": ".+", "star": "[^/]*", "one": "[^/]"}


def _pieces(body: str) -> Iterable[str]:
    for token in _TOKEN.finditer(body):
        kind = token.lastgroup or ""
        if kind in _MEANING:
            yield _MEANING[kind]
        elif kind == "set":
            yield f"(?!/)[{'^' if token['not'] else ''}{_set(token['set'])}]"
        else:
            yield re.escape(token[kind])


def _set(content: str) -> str:
    """Return the inside of ``[…]`` for a regex: only ``-`` keeps a meaning."""
    return "".join(
        part if part in ("-", "\\-") else re.escape(part[-1]) for part in re.findall(r"\\.|[^\\]", content, re.DOTALL)
    )
