"""Copying a folder to another machine with ``rsync``, as existing code does with a tunnel's ``session``."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable
from typing import Any

from nemo_run.core.tunnel.result import RunResult
from nemo_run.errors import CommandError


def rsync(
    c: Any,
    source: str,
    target: str,
    exclude: str | Iterable[str] = (),
    delete: bool = False,
    strict_host_keys: bool = True,
    rsync_opts: str = "",
    ssh_opts: str = "",
    hide_output: bool = True,
) -> RunResult:
    """Copy files to a folder of another machine.

    Args:
        c: What leads there: an ``SSHTunnel``, or anything else with a ``host``, a ``user`` and a ``port``.
        source: The file or folder here; with a slash at its end, what is in it.
        target: The folder there; it is made where it is missing.
        exclude: Patterns of what is left out.
        delete: Delete what is there and not here.
        strict_host_keys: Refuse a host whose key is not known.
        rsync_opts: More options of ``rsync``.
        ssh_opts: More options of ``ssh``.
        hide_output: Do not show what it says.

    Raises:
        CommandError: It failed; the message has what it said.
    """
    command = [
        *("rsync", "--recursive", "--links", "--perms", "--times", "--compress", "--verbose"),
        *(["--delete"] if delete else []),
        *(f"--exclude={pattern}" for pattern in ([exclude] if isinstance(exclude, str) else exclude)),
        *("--rsh", shlex.join(_ssh(c, strict_host_keys=strict_host_keys) + shlex.split(ssh_opts))),
        *("--rsync-path", f"mkdir -p -- {shlex.quote(target)} && rsync"),
        *shlex.split(rsync_opts),
        *("--", source, f"{f'{c.user}@' if c.user else ''}{c.host}:{target}"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    result = RunResult(shlex.join(command), done.returncode, done.stdout, done.stderr)
    if not hide_output:
        print(done.stdout, end="")  # noqa: T201  what was asked for
    if result.failed:
        said = done.stderr.strip()
        raise CommandError(f"rsync to {c.host}:{target} ended with exit code {done.returncode}: {said}", result)
    return result


def _ssh(c: Any, *, strict_host_keys: bool) -> list[str]:
    """Return the ``ssh`` that leads there; hosts, keys and jump hosts are those of its own configuration."""
    keys = getattr(c, "identity", None) or getattr(c, "connect_kwargs", {}).get("key_filename") or []
    return [
        *("ssh", "-o", "BatchMode=yes"),
        *(["-p", str(c.port)] if c.port else []),
        *(option for key in ([keys] if isinstance(keys, str) else keys) for option in ("-i", key)),
        *([] if strict_host_keys else ["-o", "StrictHostKeyChecking=no"]),
    ]
