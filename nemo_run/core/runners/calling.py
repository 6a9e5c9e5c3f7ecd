"""Calling a task's function."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any


def call(function: Callable[[], Any]) -> Any:
    """Call a function; wait for what it returns where that is to be awaited, and run a generator function to its end.

    >>> async def main():
    ...     return 3
    >>> call(main)
    3
    """
    result = function()
    if inspect.isgeneratorfunction(function):
        return _exhaust(result)
    if inspect.isasyncgenfunction(function):
        return _wait_for(_exhaust_later(result))
    return _wait_for(result) if inspect.isawaitable(result) else result


def _exhaust(generator: Iterable[Any]) -> None:
    for _ in generator:
        pass


async def _exhaust_later(generator: AsyncIterable[Any]) -> None:
    async for _ in generator:
        pass


def _wait_for(awaitable: Awaitable[Any]) -> Any:
    import asyncio

    async def main() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    return _in_thread(lambda: asyncio.run(main()))  # a notebook has a loop of its own


def _in_thread(function: Callable[[], Any]) -> Any:
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.extend((function(), None))
        except BaseException as error:  # noqa: BLE001  (it is raised where it was asked for)
            outcome.extend((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    result, error = outcome
    if error is not None:
        raise error
    return result
