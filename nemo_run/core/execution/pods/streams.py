"""Data in both directions between this machine and a pod: commands, files, and ports."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import socket
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nemo_run.core.execution.pods.client import KubernetesClient, websocket_sdk
from nemo_run.core.execution.shared import terminals
from nemo_run.core.packaging.archive import unpack as unpack_safely
from nemo_run.errors import CommandError, EngineUnreachableError, ExecutorError, PackagingError

_STDIN, _STDOUT, _STDERR, _STATUS, _SIZE = range(5)
_PIECE = 1 << 16


@dataclass(frozen=True)
class Executed:
    """The result of a command in a container.

    Attributes:
        exit_code: Its exit code.
        stdout: Its output, unless that was redirected.
        stderr: Its error output.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


# --- commands ----------------------------------------------------------------------------------------------------


def execute(
    client: KubernetesClient,
    namespace: str,
    pod: str,
    argv: Sequence[str],
    *,
    container: str = "",
    stdin: IO[bytes] | bytes | None = None,
    stdout: IO[bytes] | None = None,
) -> Executed:
    """Run a command in a container of a running pod.

    Args:
        client: The client of its cluster.
        namespace: Namespace of the pod.
        pod: The pod.
        argv: The command; no shell interprets it.
        container: The container; the first one by default.
        stdin: Input of the command. Older clusters cannot signal its end to the command.
        stdout: File for its output.

    Raises:
        ExecutorError: The command could not be started.
        EngineUnreachableError: The connection was lost; whether the command goes on is not known.
    """
    flags = [("stdout", "true"), ("stderr", "true"), ("stdin", "true" if stdin is not None else "false")]
    params = [("command", word) for word in argv] + flags + ([("container", container)] if container else [])
    ws = client.websocket(f"{client.path('v1', 'Pod', namespace, pod)}/exec", params)
    out = stdout if stdout is not None else io.BytesIO()
    errors, status = io.BytesIO(), io.BytesIO()
    sinks = {_STDOUT: out, _STDERR: errors, _STATUS: status}
    source = io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin
    try:
        _converse(ws, source, sinks)
    except (OSError, websocket_sdk().WebSocketException) as e:
        raise EngineUnreachableError(f"the connection to pod {pod!r} broke: {e}") from e
    finally:
        ws.shutdown()
    if not status.getvalue():
        raise EngineUnreachableError(f"the connection to pod {pod!r} ended before the command {argv[0]!r} did")
    code = _exit_code(json.loads(status.getvalue()), argv)
    return Executed(code, out.getvalue() if isinstance(out, io.BytesIO) and stdout is None else b"", errors.getvalue())


def execute_in_terminal(client: KubernetesClient, namespace: str, pod: str, argv: Sequence[str], container: str) -> int:
    """Run a command in a container with this terminal, and return its exit code."""
    flags = [(name, "true") for name in ("stdin", "stdout", "tty")]
    params = [("command", word) for word in argv] + flags + [("container", container)]
    ws = client.websocket(f"{client.path('v1', 'Pod', namespace, pod)}/exec", params)

    def send(channel: int, data: bytes) -> None:
        with contextlib.suppress(OSError, websocket_sdk().WebSocketException):  # the other direction reports it
            ws.send(bytes([channel]) + data, opcode=websocket_sdk().ABNF.OPCODE_BINARY)

    def resize(columns: int, lines: int) -> None:
        send(_SIZE, json.dumps({"Width": columns, "Height": lines}).encode())

    try:
        with terminals.handed_over(lambda typed: send(_STDIN, typed), resize):
            for channel, data in _messages(ws):
                if channel == _STATUS:
                    return _exit_code(json.loads(data), argv)
                terminals.show(data)
    except (OSError, websocket_sdk().WebSocketException) as e:
        raise EngineUnreachableError(f"the connection to pod {pod!r} broke: {e}") from e
    finally:
        ws.shutdown()
    raise EngineUnreachableError(f"the connection to pod {pod!r} ended before the command {argv[0]!r} did")


def _converse(ws: Any, source: IO[bytes] | None, sinks: dict[int, IO[bytes]]) -> None:
    """Send the source from a thread of its own, and write what arrives to the sinks until the command has ended."""
    if source:
        threading.Thread(target=_send, args=(ws, source), daemon=True).start()
    for channel, data in _messages(ws):
        if channel in sinks:
            sinks[channel].write(data)
        if channel == _STATUS and data:
            break


def _send(ws: Any, source: IO[bytes]) -> None:
    websocket = websocket_sdk()
    with contextlib.suppress(OSError, websocket.WebSocketException):  # the other direction reports it
        while piece := source.read(_PIECE):
            ws.send(bytes([_STDIN]) + piece, opcode=websocket.ABNF.OPCODE_BINARY)
        if ws.subprotocol == "v5.channel.k8s.io":
            ws.send(bytes([255, _STDIN]), opcode=websocket.ABNF.OPCODE_BINARY)


def _messages(ws: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the channel and the data of each message until the other side closes the connection."""
    abnf = websocket_sdk().ABNF
    while True:
        code, frame = ws.recv_data_frame(True)
        if code == abnf.OPCODE_CLOSE:
            return
        if code in (abnf.OPCODE_BINARY, abnf.OPCODE_TEXT) and frame.data:
            yield frame.data[0], frame.data[1:]


def _exit_code(status: dict[str, Any], argv: Sequence[str]) -> int:
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ExecutorError(f"the command {argv[0]!r} could not be started in the pod: {status.get('message')}")


# --- files -------------------------------------------------------------------------------------------------------


def copy_in(client: KubernetesClient, namespace: str, pod: str, container: str, source: Path, target: str) -> None:
    """Copy a file or folder of this machine to a path in a container; a folder's content goes into the folder.

    Raises:
        CommandError: It could not be written there.
    """
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
            tar.add(source, "." if source.is_dir() else Path(target).name)
        size = archive.tell()
        archive.seek(0)
        folder = shlex.quote(target if source.is_dir() else str(Path(target).parent))
        # `head` finds the end of the archive, which older clusters do not signal.
        script = f"mkdir -p {folder} && head -c {size} | tar -xf - -C {folder}"
        done = execute(client, namespace, pod, ("sh", "-c", script), container=container, stdin=archive)
    if done.exit_code:
        words = done.stderr.decode(errors="replace").strip()
        raise CommandError(f"{source} could not be copied to {target} of pod {pod!r}: {words}", done)


def copy_out(client: KubernetesClient, namespace: str, pod: str, container: str, source: str, target: Path) -> None:
    """Copy a file or folder of a container to a path of this machine; a folder's content goes into the folder.

    Raises:
        CommandError: It could not be read there.
    """
    where = shlex.quote(source)
    parent, name = (shlex.quote(str(part) or ".") for part in (Path(source).parent, Path(source).name))
    script = f"if [ -d {where} ]; then cd {where} && tar -cf - .; else cd {parent} && tar -cf - {name}; fi"
    with tempfile.TemporaryFile() as archive:
        done = execute(client, namespace, pod, ("sh", "-c", script), container=container, stdout=archive)
        if done.exit_code:
            words = done.stderr.decode(errors="replace").strip()
            raise CommandError(f"{source} of pod {pod!r} could not be copied to {target}: {words}", done)
        archive.seek(0)
        unpack(archive, target)


def unpack(archive: IO[bytes], target: Path) -> None:
    """Unpack a tar file: a folder into the target, a single file as the target; nothing is written elsewhere."""
    with tarfile.open(fileobj=archive, mode="r:*") as tar:
        members = tar.getmembers()
        if len(members) == 1 and members[0].isfile():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                _extract(tar, Path(folder))
                Path(folder, members[0].name).replace(target)
            return
        target.mkdir(parents=True, exist_ok=True)
        _extract(tar, target)


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    try:
        unpack_safely(tar, folder, folder, foreign=True)
    except PackagingError as e:
        raise ExecutorError(f"what was copied holds a path that leads outside of its folder: {e}") from e


# --- ports -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def forwarded(client: KubernetesClient, namespace: str, pod: str, port: int, local_port: int = 0) -> Iterator[int]:
    """Yield the number of a port of this machine (127.0.0.1) that leads to a port of a pod until the block ends."""
    path = f"{client.path('v1', 'Pod', namespace, pod)}/portforward"
    with socket.create_server(("127.0.0.1", local_port)) as server:
        stop = threading.Event()
        thread = threading.Thread(target=_serve, args=(server, stop, client, path, port), daemon=True)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            stop.set()
            server.close()
            thread.join()


def _serve(server: socket.socket, stop: threading.Event, client: KubernetesClient, path: str, port: int) -> None:
    """Accept connections until ``stop`` is set."""
    server.settimeout(0.2)
    serving: list[threading.Thread] = []
    while not stop.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        except OSError:
            break
        thread = threading.Thread(target=_carry, args=(connection, stop, client, path, port), daemon=True)
        thread.start()
        serving = [*(other for other in serving if other.is_alive()), thread]
    for thread in serving:
        thread.join(5)


def _carry(connection: socket.socket, stop: threading.Event, client: KubernetesClient, path: str, port: int) -> None:
    """Carry what goes over one connection, in both directions, until either side closes it."""
    with connection:
        try:
            ws = client.websocket(path, [("ports", str(port))])
        except ExecutorError:
            return  # the connection is closed, as where nothing listens
        up = threading.Thread(target=_upwards, args=(connection, stop, ws), daemon=True)
        up.start()
        with contextlib.suppress(OSError, websocket_sdk().WebSocketException):
            _downwards(connection, stop, ws)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        up.join()
        ws.shutdown()


def _downwards(connection: socket.socket, stop: threading.Event, ws: Any) -> None:
    """Carry what the pod's side sends, until either side closes the connection."""
    payload, errors = 0, 1
    greeted = {payload: False, errors: False}  # each channel begins with the number of the port
    for channel, message in _messages(ws):
        data = message if greeted.get(channel, True) else message[2:]
        greeted[channel] = True
        if stop.is_set() or (channel == errors and data):
            return
        if channel == payload and data:
            connection.sendall(data)


def _upwards(connection: socket.socket, stop: threading.Event, ws: Any) -> None:
    """Carry what this machine's side sends; when it stops sending, the whole connection ends."""
    websocket = websocket_sdk()
    connection.settimeout(0.2)
    with contextlib.suppress(OSError, websocket.WebSocketException):
        while not stop.is_set():
            try:
                data = connection.recv(_PIECE)
            except TimeoutError:
                continue
            if not data:
                break
            ws.send(b"\0" + data, opcode=websocket.ABNF.OPCODE_BINARY)
    with contextlib.suppress(OSError, websocket.WebSocketException):
        ws.close(timeout=1)
