"""An SSH server for a development space, inside of its job."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import NoReturn

from nemo_run.core.tunnel.client import LocalTunnel, SSHTunnel
from nemo_run.devspace.base import DevSpace
from nemo_run.errors import ExecutorError

_SSHD = "/usr/sbin/sshd"


def serve(space_zlib: str, *, verbose: bool = False) -> NoReturn:
    """Become an SSH server.

    Args:
        space_zlib: The development space, as ``ZlibJSONSerializer`` writes it.
        verbose: Show what the server says.

    Raises:
        ExecutorError: It is no development space, or there is no server.
    """
    from nemo_run.core.execution.slurm import note_space, space_folder

    space = _space(space_zlib)
    if shutil.which(_SSHD) is None:
        raise ExecutorError(f"there is no {_SSHD} here; install openssh-server in the image")
    tunnel = getattr(space.executor, "tunnel", LocalTunnel(job_dir=""))
    folder = space_folder(tunnel, space.executor.job_dir, space.name)
    note_space(LocalTunnel(job_dir=""), folder, space.name, os.environ.get("SLURM_JOB_NAME", space.name))
    where = f"{tunnel.user}@{tunnel.host}" if isinstance(tunnel, SSHTunnel) else socket.gethostname()
    port = _free_port()
    print(f"an SSH server listens on {socket.gethostname()}, port {port}", flush=True)  # noqa: T201
    print(f"on your machine: nemorun devspace connect {where} {folder}", flush=True)  # noqa: T201
    Path("/run/sshd").mkdir(parents=True, exist_ok=True)
    log = ["-e", "-o", "LogLevel=DEBUG3"] if verbose else []
    os.execv(_SSHD, [_SSHD, "-D", "-p", str(port), *log])  # noqa: S606  (ending this process ends the server)


def _space(space_zlib: str) -> DevSpace:
    import fiddle as fdl

    from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer

    space = fdl.build(ZlibJSONSerializer().deserialize(space_zlib))
    if not isinstance(space, DevSpace):
        raise ExecutorError(f"this is no development space, but a {type(space).__name__}; give a run.DevSpace")
    return space


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
