"""A shell, or another program, in a container that runs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from nemo_run.core.execution.docker.client import DockerClient
from nemo_run.core.execution.shared.terminals import SHELL, handed_over, is_terminal, show


def run_inside(engine: DockerClient, container: str, argv: Sequence[str]) -> int:
    """Run a program in a container, with this terminal where there is one, and return its exit code."""
    with engine.asking() as client:
        api, tty = client.api, is_terminal()
        made = api.exec_create(container, list(argv or SHELL), tty=tty, stdin=tty)["Id"]
        if tty:
            _converse(api, made)
        else:
            for piece in api.exec_start(made, stream=True):
                show(piece)
        return int(api.exec_inspect(made)["ExitCode"] or 0)


def _converse(api: Any, made: str) -> None:
    opened = api.exec_start(made, tty=True, socket=True)
    connection: socket.socket = getattr(opened, "_sock", opened)

    def resize(columns: int, lines: int) -> None:
        with contextlib.suppress(Exception):  # it has ended meanwhile
            api.exec_resize(made, height=lines, width=columns)

    connection.settimeout(None)
    with contextlib.closing(opened), handed_over(connection.sendall, resize):
        while data := connection.recv(1 << 14):
            show(data)
