"""Text from elsewhere as it may be shown: nothing in it acts on the terminal."""

from __future__ import annotations

import re

_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""Return a text whose control characters, marks that turn the direction of writing, and stray bytes are escapes.

    Ends of lines and tabs stay.

    >>> escaped("a\x1b[2J\tb")
    'a\\x1b[2J\tb'
    """
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
