"""What a job runs on a service where its folder lies on a volume: what the plans of such engines have in common."""

from __future__ import annotations

import posixpath
from typing import Any, Protocol

from nemo_run.core.execution.jobs import Command
from nemo_run.core.execution.launcher import Launcher, Layout
from nemo_run.core.execution.shared.shipping import needs_runner, relocated

HEAD = "\0head\0"
"""Stands, in a word of a command, for the address of the first node."""
RANK = "\0rank\0"
"""Stands, in a word of a command, for the rank of the node that it runs on."""


class Nodes(Protocol):
    """What is asked of the options of an executor."""

    def nnodes(self) -> int:
        """Return the number of nodes."""
        ...

    def nproc_per_node(self) -> int:
        """Return the number of processes on each node."""
        ...

    @property
    def restarts(self) -> object:
        """When a task is restarted; ``None`` for never."""
        ...

    def get_launcher(self) -> Launcher:
        """Return the launcher."""
        ...


class Request(Protocol):
    """What is asked of a request."""

    @property
    def experiment_id(self) -> str:
        """The experiment."""
        ...

    @property
    def job_id(self) -> str:
        """The job."""
        ...

    @property
    def directory(self) -> str:
        """The job's folder in the store."""
        ...

    @property
    def command(self) -> Command:
        """The command."""
        ...

    @property
    def code_archive(self) -> str:
        """The archive with its code; empty where none was packaged."""
        ...


def program(options: Nodes, request: Request, folder: str, log_dir: str = "") -> dict[str, Any]:
    """Describe what a job runs: its command as it is there, with its paths, its Python and its launcher. Pure.

    Args:
        options: Where it runs.
        request: What it runs.
        folder: Its folder there.
        log_dir: Folder there for the logs of ranks; empty where a launcher writes none.
    """
    nodes = options.nnodes()
    layout = Layout(
        nodes=nodes,
        processes_per_node=options.nproc_per_node(),
        head_node=HEAD if nodes > 1 else "localhost",
        node_rank=RANK if nodes > 1 else "0",
        log_dir=log_dir,
        profile_dir=folder,
        python="python3",
        restarts=options.restarts is not None,
    )
    command = options.get_launcher().wrap(relocated(request.command, request.directory, folder), layout)
    return {
        "title": f"job {request.job_id} of {request.experiment_id}",
        "folder": folder,
        "nodes": nodes,
        "argv": list(command.argv),
        "cwd": posixpath.join(folder, "code", command.cwd),
        "code_archive": request.code_archive,
        "runner": needs_runner(request.command),
        "env": {"PYTHONUNBUFFERED": "1", **command.env},
    }
