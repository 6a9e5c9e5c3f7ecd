"""Words of shell commands that engines write, with variables that only the node knows."""

from __future__ import annotations

import re
import shlex

_VARIABLE = re.compile("\0([A-Za-z_][A-Za-z0-9_]*)\0")


def word(text: str) -> str:
    r"""Return a word of a shell command; the variables that zero bytes stand around are expanded, and nothing else.

    >>> word("a $b"), word("\0head_node_ip\0:29500")
    ("'a $b'", '"$head_node_ip":29500')
    """
    if not text:
        return "''"
    pieces = _VARIABLE.split(text)
    return "".join(f'"${piece}"' if i % 2 else shlex.quote(piece) if piece else "" for i, piece in enumerate(pieces))
