"""One loop that looks for changes while a page is open, and tells every open page what it shows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from nemo_run.errors import NemoRunError
from nemo_run.run import catalog
from nemo_run.ui import reading
from nemo_run.ui.listing import Listing
from nemo_run.ui.logs import LogName, Logs

PAUSE = 0.5
"""Seconds between two looks while pages are open."""
_LIST_SHARE = 0.05  # of the time may be spent on looking at the list: of very many experiments, it is done less often
_ASK = 10.0  # seconds between two questions to the engines of an experiment that no controller drives
_MOST_WAITING = 100  # messages; a page that takes none is closed

Message = dict[str, Any]


@dataclass(eq=False)
class Page:
    """One open page.

    Attributes:
        messages: What it is told next; ``None`` ends it.
        experiment: The experiment that it shows.
        log: The log that it follows, and from which byte on.
    """

    messages: asyncio.Queue[Message | None] = field(default_factory=lambda: asyncio.Queue(_MOST_WAITING))
    experiment: str = ""
    log: tuple[LogName, int] | None = None
    told: Message | None = None

    def tell(self, message: Message) -> None:
        """Tell the page something; one that takes nothing is ended."""
        try:
            self.messages.put_nowait(message)
        except asyncio.QueueFull:
            self.tell_end()

    def tell_end(self) -> None:
        """End the page; what it was not told yet is dropped."""
        while not self.messages.empty():
            self.messages.get_nowait()
        self.messages.put_nowait(None)


class Watcher:
    """Looks at files in one place for all open pages; does nothing while none is open."""

    def __init__(self, listing: Listing, logs: Logs) -> None:
        """Look at these experiments."""
        self._listing, self._logs = listing, logs
        self._pages: set[Page] = set()
        self._task: asyncio.Task[None] | None = None
        self._list_due = 0.0
        self._said: dict[str, tuple[float, Message]] = {}

    def open(self) -> Page:
        """Return a new page, which is told what changes."""
        page = Page()
        self._pages.add(page)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())
        return page

    def close(self, page: Page) -> None:
        """Forget a page."""
        self._pages.discard(page)

    async def _watch(self) -> None:
        while self._pages:
            for look in (self._look_at_list, self._look_at_experiments, self._look_at_logs):
                with contextlib.suppress(NemoRunError, OSError):  # such as an experiment that was just deleted
                    await look()
            await asyncio.sleep(PAUSE)

    async def _look_at_list(self) -> None:
        if time.monotonic() < self._list_due:
            return
        start = time.monotonic()
        changed, gone = await asyncio.to_thread(self._listing.refresh)
        took = time.monotonic() - start
        self._list_due = time.monotonic() + took / _LIST_SHARE
        if changed or gone:
            for page in self._pages:
                page.tell({"type": "list", "changed": changed, "gone": gone})

    async def _look_at_experiments(self) -> None:
        for one in {page.experiment for page in self._pages if page.experiment}:
            try:
                document = await asyncio.to_thread(self._experiment, one)
            except NemoRunError as error:
                document = {"id": one, "problem": str(error)}
            for page in self._pages:
                if page.experiment == one and page.told != document:
                    page.told = document
                    page.tell({"type": "experiment", "experiment": document})

    def _experiment(self, one: str) -> Message:
        """Return an experiment as it is; where only engines know how it goes on, as they said some seconds ago."""
        store = catalog.find(one)
        found = self._said.get(one)
        if found is not None and not store.is_driven() and time.monotonic() - found[0] < _ASK:
            return found[1]
        document = reading.experiment(store)
        self._said[one] = (time.monotonic(), document)
        return document

    async def _look_at_logs(self) -> None:
        for page in list(self._pages):
            if page.log is not None:
                await self._look_at_log(page, *page.log)

    async def _look_at_log(self, page: Page, name: LogName, start: int) -> None:
        log = self._logs.get(catalog.find(name.experiment), name)
        piece = await asyncio.to_thread(log.read, start)
        if page.log == (name, start) and (piece.content or piece.size < start):
            page.log = (name, piece.end)
            text = piece.content.decode("utf-8", "replace")
            page.tell({"type": "log", "start": piece.start, "end": piece.end, "size": piece.size, "text": text})
