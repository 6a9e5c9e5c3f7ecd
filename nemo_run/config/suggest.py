"""The nearest names to one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 40  # names that a message lists


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that does not exist.

    Example:
        >>> did_you_mean("hiden_size", ["hidden_size", "layers"])
        "; did you mean 'hidden_size'? There are: hidden_size, layers"
        >>> did_you_mean("colour", ["hidden_size", "layers"])
        '. There are: hidden_size, layers'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=2)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{hint} There are: {', '.join(names[:_MOST])}{more}" if names else "; it takes none"
