"""Artifacts at the end of a task's own log, where no second container of its pod can hand them over. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_BEGIN = b"\n\x1enemo-run "
_LEAVE = """\
if cd "$folder"/artifacts 2>/dev/null && [ -n "$(ls -A)" ]; then
printf '\\n\\036nemo-run %s artifacts\\n' {name}
{pack}
echo end
fi
"""


def leaving(name: str, pack: str) -> str:
    """Return the shell script that ends a log with the artifacts in ``$folder``.

    Args:
        name: The attempt.
        pack: Script that writes them, packed, as words.
    """
    return _LEAVE.format(name=shlex.quote(name), pack=pack)


def mark_of(name: str) -> bytes:
    """Return what the artifacts of an attempt begin with."""
    return _BEGIN + f"{name} artifacts\n".encode()


def parted(log: bytes, name: str) -> tuple[bytes, Sequence[bytes]]:
    r"""Return what the task wrote, and the words in which its artifacts follow; none if there are none.

    >>> parted(b"loss 3\n\n\x1enemo-run nr-a-1 artifacts\n+\nend\n", "nr-a-1")
    (b'loss 3\n', [b'+', b'end'])
    """
    text, mark, rest = log.partition(mark_of(name))
    return text, rest.split() if mark else ()


class OwnText:
    r"""Passes on what the task wrote, while it comes, and nothing of the artifacts that follow.

    Example:
        >>> text = OwnText("nr-a-1")
        >>> text.of(b"loss 3\n\n\x1enemo-run nr"), text.of(b"-a-1 artifacts\n+\n"), text.of(b"end\n")
        (b'loss 3\n', b'', b'')
    """

    def __init__(self, name: str) -> None:
        self._mark = mark_of(name)
        self._held = b""  # what may be the beginning of the mark
        self._over = False

    def of(self, piece: bytes) -> bytes:
        """Return what of a piece, and of what was held back before, is the task's own; of no piece, a line's end."""
        if self._over:
            return b""
        data = self._held + piece
        if not piece and len(self._held) == 1:
            self._held = b""
            return data
        text, mark, _ = data.partition(self._mark)
        self._over = bool(mark)
        if mark:
            return text
        begun = next((n for n in range(len(self._mark) - 1, 0, -1) if data.endswith(self._mark[:n])), 0)
        self._held = data[len(data) - begun :]
        return data[: len(data) - begun]
