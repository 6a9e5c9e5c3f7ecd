"""What all tunnels have: commands are run, and files moved, in the same way on every machine."""

from __future__ import annotations

import posixpath
import re
import secrets
import shlex
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.core.tunnel import copying
from nemo_run.core.tunnel.answers import AnswerFrame, export, posix
from nemo_run.core.tunnel.result import RunResult, as_text, run_shown
from nemo_run.errors import CommandError, ExecutorError, TunnelError

_DISCONNECTED = 255  # exit code of ssh where the connection failed; the command's own may be the same


@dataclass(kw_only=True)
class PackagingJob(ConfigurableMixin):
    """Code that lies on the cluster already and is linked into a job's folder.

    Attributes:
        symlink: Whether it is to be linked.
        src_path: Where the code is.
        dst_path: Where the link goes.
    """

    __module__ = "nemo_run.core.tunnel.client"  # the public name

    symlink: bool = False
    src_path: str | None = None
    dst_path: str | None = None

    def symlink_cmd(self) -> str:
        """Return the shell command that makes the link.

        >>> PackagingJob(src_path="/a b", dst_path="/c").symlink_cmd()
        "ln -s -- '/a b' /c"
        """
        return shlex.join(["ln", "-s", "--", self.src_path or "", self.dst_path or ""])


class Callback:
    """Something to do while a tunnel is kept open; see :meth:`Tunnel.keep_alive`."""

    __module__ = "nemo_run.core.tunnel.client"  # the public name

    tunnel: Tunnel

    def setup(self, tunnel: Tunnel) -> None:
        """Called first."""
        self.tunnel = tunnel

    def on_start(self) -> None:
        """Called when the loop starts."""

    def on_interval(self) -> None:
        """Called again and again."""

    def on_stop(self) -> None:
        """Called when the loop ends."""

    def on_error(self, error: Exception) -> None:
        """Called when something was raised in the loop."""


@dataclass(kw_only=True)
class Tunnel(ConfigurableMixin, ABC):
    """The way to a machine's shell. Subclasses say how a command gets there.

    Attributes:
        job_dir: Folder on that machine in which the folders of jobs are made.
        host: The machine.
        user: User on it.
        packaging_jobs: Code that lies there already, by the key of the job; see ``get_packaging_job_key``.
    """

    __module__ = "nemo_run.core.tunnel.client"  # the public name

    job_dir: str
    host: str
    user: str
    packaging_jobs: dict[str, PackagingJob] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the machine, as it is shown."""
        return f"{self.user}@{self.host}" if self.user else self.host

    # what differs

    @abstractmethod
    def argv(self, command: str, *, tty: bool = False) -> list[str]:
        """Return the arguments of a local process that runs a shell command there."""

    @abstractmethod
    def posix_argv(self, command: str) -> list[str]:
        """Return the arguments of a process that runs a command of a POSIX shell there, whatever the login shell."""

    @abstractmethod
    def connect(self) -> None:
        """Connect, unless it is connected.

        Raises:
            TunnelError: The machine cannot be reached, or does not let us in.
        """

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether commands get there now."""

    @abstractmethod
    def forward(self, port: int, host: str = "localhost", local_port: int | None = None) -> AbstractContextManager[int]:
        """Forward a port of this machine to a port there, or to one of a host that can be reached from there.

        Args:
            port: The port there.
            host: Host of that port, as it is called there.
            local_port: The port here; a free one by default.

        Returns:
            A context manager that gives the port here and ends the forwarding.
        """

    @abstractmethod
    def cleanup(self) -> None:
        """Let go of the connection."""

    @abstractmethod
    def connection(self) -> dict[str, Any]:
        """Return how to get there, as plain values; :func:`make_tunnel` makes a tunnel of it."""

    # what is the same everywhere

    def setup(self) -> None:
        """Create :attr:`job_dir`, which only its owner can enter."""
        self.run(f"umask 077 && mkdir -p -- {shlex.quote(self.job_dir)}")

    def run(
        self,
        command: str,
        hide: bool = True,
        warn: bool = False,
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        pty: bool = False,
        echo: bool = False,
        **kwargs: Any,
    ) -> RunResult:
        """Run a shell command and wait for it.

        Args:
            command: The command; words that come from elsewhere are to be quoted with ``shlex.quote``.
            hide: Do not show what it writes.
            warn: Return a result also where it failed.
            timeout: Seconds after which it is given up.
            env: Environment variables to set for it.
            pty: Give it this terminal; what it writes is then shown and not part of the result.
            echo: Print the command first.
            **kwargs: Nothing; ``in_stream`` and ``encoding`` are accepted for compatibility.

        Raises:
            CommandError: Its exit code is not 0, and ``warn`` is not set.
            ExecutorError: A name in ``env`` cannot be the name of a variable; nothing was run.
            TunnelError: The machine cannot be reached, or the connection was lost meanwhile.
        """
        unknown = kwargs.keys() - {"in_stream", "encoding"}
        if unknown:
            raise ExecutorError(f"{type(self).__name__}.run() has no option {', '.join(sorted(unknown))}")
        if echo:
            print(command)  # noqa: T201  (asked for)
        given = export(env).encode() if env else b""
        whole = command
        if given:  # their values may be secrets: a list of processes shows them only where the terminal is its input
            whole = f"{given.decode()}; {command}" if pty else f'eval "$(cat)"; {command}'
        mark = secrets.token_hex(8)  # what the login shell prints before is no part of the result
        argv = self.argv(f"echo {mark} && {whole}" if hide and not pty else whole, tty=pty)
        stdin = b"" if pty else given
        code, out, err = self._communicate(argv, command, stdin=stdin, show=not hide, timeout=timeout, tty=pty)
        out = out.partition(f"{mark}\n".encode())[2] if mark.encode() in out else out
        result = RunResult(command, code, as_text(out), as_text(err))
        if result.failed and not warn:
            raise CommandError(_explain(self.key, result), result)
        return result

    def execute(self, command: str, stdin: bytes = b"", timeout: float | None = None) -> bytes:
        """Run a command of a POSIX shell with bytes on its standard input; the bytes on its standard output.

        What the login shell prints before and after is no part of them.

        Raises:
            CommandError: Its exit code is not 0.
            TunnelError: The machine cannot be reached, or the connection was lost meanwhile.
        """
        frame = AnswerFrame()
        code, out, err = self._communicate(self.posix_argv(frame.around(command)), command, stdin, timeout=timeout)
        found = frame.answer(out)
        if found is None and (code == 0 or frame.has_begun(out)):
            raise TunnelError(_cut(self.key, as_text(out + err), has_begun=frame.has_begun(out)))
        out, code = found or (out, code)
        if code != 0:
            result = RunResult(command, code, as_text(out), as_text(err))
            raise CommandError(_explain(self.key, result), result)
        return out

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a shell command that goes on; it ends at the latest when its standard input is closed.

        Raises:
            TunnelError: The machine cannot be reached.
        """
        self.connect()
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.argv(command), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, start_new_session=True
        )

    def _communicate(
        self,
        argv: list[str],
        command: str,
        stdin: bytes = b"",
        *,
        show: bool = False,
        timeout: float | None = None,
        tty: bool = False,
    ) -> tuple[int, bytes, bytes]:
        self.connect()
        try:
            if tty:
                code, out, err = subprocess.run(argv, check=False, timeout=timeout).returncode, b"", b""
            elif show:
                code, out, err = run_shown(argv, timeout, stdin)
            else:
                done = subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=timeout)
                code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            raise TunnelError(f"{self.key}: no answer within {timeout:g} s to: {command}") from None
        if code == _DISCONNECTED and not self.is_connected:
            said = as_text(err).strip()
            raise TunnelError(f"the connection to {self.key} was lost{f': {said}' if said else ''}")
        return (code if code >= 0 else 128 - code), out, err

    def put(self, local_path: str, remote_path: str) -> None:
        """Copy a file or a folder there, as ``cp -r`` would; a file is seen there when it is complete.

        Args:
            local_path: The file or folder here.
            remote_path: Its new path, or an existing folder to put it in.

        Raises:
            TunnelError: The machine cannot be reached.
            CommandError: The copy failed there.
        """
        source = Path(local_path).expanduser()
        if not source.exists():
            raise ExecutorError(f"put: there is no {str(source)!r} here")
        target = remote_path.rstrip("/") or "/"
        folder, inside = posixpath.dirname(target) or ".", posixpath.join(target, source.name)
        script = (
            'umask 077; mkdir -p -- "$1" && new=$(mktemp -d -- "$1/.put-XXXXXX") || exit; '
            """trap 'rm -rf -- "$new"' EXIT; tar -xpf - -C "$new" || exit; """
            'if [ -d "$2" ]; then mv -f -- "$new/x" "$3"; else mv -f -- "$new/x" "$2"; fi'
        )
        self.connect()
        copying.send(self.posix_argv(posix(script, folder, target, inside)), source, "x")

    def get(self, remote_path: str, local_path: str) -> None:
        """Copy a file or a folder here, as ``cp -r`` would; it is seen here when it is complete.

        Args:
            remote_path: The file or folder there.
            local_path: Its new path here, or an existing folder to put it in.

        Raises:
            TunnelError: The machine cannot be reached.
            CommandError: There is no such file, or it cannot be written here.
        """
        folder, name = posixpath.split(remote_path.rstrip("/"))
        target = Path(local_path).expanduser()
        top = folder or ("/" if remote_path.startswith("/") else ".")
        frame = AnswerFrame()
        self.connect()
        argv = self.posix_argv(frame.begun(shlex.join(["tar", "-cf", "-", "-C", top, "--", name])))
        copying.receive(argv, frame, name, target / name if target.is_dir() else target)

    def get_all(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Copy files below a folder there into a folder here, under the same names; links are followed.

        Raises:
            TunnelError: The machine cannot be reached.
            CommandError: One of them is not there any more, or cannot be written here.
        """
        frame = AnswerFrame()
        self.connect()
        listing = "".join(f"./{name}\0" for name in names).encode("utf-8", "surrogateescape")
        argv = self.posix_argv(frame.begun(posix('tar -chf - -C "$1" --null -T -', folder)))
        copying.receive_into(argv, frame, listing, target)

    def read(self, command: str, take: Callable[[IO[bytes]], None]) -> bytes:
        """Hand the output of a command of a POSIX shell to a function, whatever its exit code; return its errors."""
        frame = AnswerFrame()
        self.connect()
        return copying.receive_leftovers(self.posix_argv(frame.begun(command)), frame, take)

    def keep_alive(self, *callbacks: Callback, interval: int = 1) -> None:
        """Keep the tunnel open until Ctrl-C.

        Args:
            *callbacks: Called in turn, again and again.
            interval: Seconds between two rounds.
        """
        try:
            for callback in callbacks:
                callback.setup(self)
                callback.on_start()
            while True:
                for callback in callbacks:
                    callback.on_interval()
                self.connect()
                time.sleep(interval)
        except KeyboardInterrupt:
            pass
        except Exception as e:
            if not callbacks:
                raise
            for callback in callbacks:
                callback.on_error(e)
        finally:
            for callback in callbacks:
                callback.on_stop()
            self.cleanup()


def _cut(where: str, said: str, *, has_begun: bool) -> str:
    said = said.strip()[-500:]
    if has_begun:
        return f"{where}: the answer was cut off{f': {said}' if said else ''}"
    return (
        f"{where}: the login shell ended before it ran a command: what it starts with (such as ~/.bashrc or ~/.cshrc) "
        f"must neither exit nor exec another shell where there is no terminal{f'. It said: {said}' if said else ''}"
    )


def _explain(where: str, result: RunResult) -> str:
    said = (result.stderr.strip() or result.stdout.strip())[-2000:]
    command = re.sub(r"^/bin/\w+ -c '.*' sh (?=.)", "", result.command, flags=re.DOTALL)  # a script of ours says little
    command = command if len(command) < 500 else f"{command[:500]} …"
    return f"{where}: exit code {result.exited} of: {command}" + (f"\n{said}" if said else "")
