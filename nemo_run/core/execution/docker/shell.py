"""A shell, or another program, in a container that runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from nemo_run.core.execution.docker.client import DockerClient
from nemo_run.core.execution.shared.terminals import SHELL, handed_over, is_terminal, show


def run_inside(engine: DockerClient, container: str, argv: Sequence[str]) -> int:
    """Run a program in a container, with this terminal where there is one, and return its exit code."""
    with engine.asking() as client:
        api, tty = client.api, is_terminal()
        made = api.exec_create(container, list(argv or SHELL), tty=tty, stdin=tty)["Id"]
        with _conversation(api, made, tty=tty) as opened:
            if tty:
                _converse(api, made, getattr(opened, "_sock", opened))
            else:
                _listen(opened)
        return int(api.exec_inspect(made)["ExitCode"] or 0)


@contextlib.contextmanager
def _conversation(api: Any, made: str, *, tty: bool) -> Iterator[Any]:
    """Yield the socket of a program, and leave nothing of it open."""
    opened = api.exec_start(made, tty=tty, socket=True)
    try:
        yield opened
    finally:
        for part in (getattr(opened, "_response", None), opened, getattr(opened, "_sock", None)):
            with contextlib.suppress(OSError, ValueError):  # one may have closed another
                if part is not None:
                    part.close()


def _listen(opened: Any) -> None:
    from docker.utils.socket import frames_iter

    for _, data in frames_iter(opened, tty=False):  # type: ignore[no-untyped-call]
        show(data)


def _converse(api: Any, made: str, connection: Any) -> None:
    def resize(columns: int, lines: int) -> None:
        with contextlib.suppress(Exception):  # it has ended meanwhile
            api.exec_resize(made, height=lines, width=columns)

    connection.settimeout(None)
    with handed_over(connection.sendall, resize):
        while data := connection.recv(1 << 14):
            show(data)
