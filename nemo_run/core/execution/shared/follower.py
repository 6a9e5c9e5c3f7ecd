"""Following a log that a service sends over a connection: a thread receives it, a bounded queue keeps it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

_LARGEST = 1 << 16  # bytes of a piece in the queue
_ENOUGH = 1 << 18  # bytes of one answer
_LOOK = 0.2  # seconds after which a thread that has to wait sees whether it is still wanted


class Follower:
    """Bytes that a thread receives, no faster than they are read.

    Attributes:
        closed: Set when nobody reads any more.
        error: What ended the thread; ``None`` while it runs, and where it ended as it should.
    """

    def __init__(
        self, receive: Callable[[threading.Event], Generator[bytes, Any, Any]], name: str, at_most: int = 64
    ) -> None:
        """Start to follow.

        Args:
            receive: Gives the pieces; is given the event that says that nobody reads any more.
            name: Name of the thread.
            at_most: How many pieces wait to be read.
        """
        self.closed = threading.Event()
        self.error: Exception | None = None
        self._pieces: queue.Queue[bytes | None] = queue.Queue(at_most)
        self._is_over = False
        threading.Thread(target=self._run, args=(receive,), name=f"nemo-run {name}", daemon=True).start()

    def read(self, wait: float) -> bytes:
        """Return what has come; empty where nothing comes in so many seconds, or nothing more will."""
        found: list[bytes] = []
        size = 0
        while not self._is_over and size < _ENOUGH:
            try:
                piece = self._pieces.get(block=not found and wait > 0, timeout=wait)
            except queue.Empty:
                break
            self._is_over = piece is None
            found.append(piece or b"")
            size += len(found[-1])
        return b"".join(found)

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended, and all was read."""
        return self._is_over

    def close(self) -> None:
        """Follow no longer; the thread ends when it next has something."""
        self.closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._pieces.get_nowait()

    # in the thread

    def _run(self, receive: Callable[[threading.Event], Generator[bytes, Any, Any]]) -> None:
        try:
            with contextlib.closing(receive(self.closed)) as pieces:
                for piece in pieces:
                    for start in range(0, len(piece), _LARGEST):
                        self._put(piece[start : start + _LARGEST])
                    if self.closed.is_set():
                        return
        except Exception as e:  # noqa: BLE001  the reader raises it
            self.error = e
        self._put(None)

    def _put(self, piece: bytes | None) -> None:
        """Hand something over once there is room, unless nobody reads any more."""
        while not self.closed.is_set():
            try:
                self._pieces.put(piece, timeout=_LOOK)
            except queue.Full:
                continue
            return
