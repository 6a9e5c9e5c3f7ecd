"""An attempt that runs in pods: its handle, its log, and the files that are kept of it when its pods are gone."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, ClassVar

from typing_extensions import Self

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.core.execution.pods.client import KubernetesClient, Object
from nemo_run.core.execution.pods.log import ContainerLog
from nemo_run.core.execution.pods.objects import ATTEMPT_LABEL, NODE_LABEL
from nemo_run.core.execution.pods.spec import KEEPER, TASK
from nemo_run.core.execution.pods.status import Pod
from nemo_run.core.execution.shared import leftovers
from nemo_run.core.execution.shared.attempt_folder import AttemptFolder
from nemo_run.core.execution.shared.leaving import OwnText, parted
from nemo_run.core.execution.shared.log_reader import FileLog, LogReader, merged, split_lines
from nemo_run.core.files import read_object, replacing, write_json, write_text
from nemo_run.errors import ExecutorError

_PIECE = 1 << 18
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 2.0  # seconds between two reads of a log with nothing new
_CONTEXT = 4096  # bytes by which the position in a log is found again


@dataclass(frozen=True)
class PodHandle:
    """The parts of the handle of an attempt.

    Attributes:
        namespace: Its namespace.
        name: Its name there, which is the beginning of the names of its objects.
        nodes: Number of its pods.
        folder: Its folder in the store.
    """

    namespace: str
    name: str
    nodes: int
    folder: Path

    scheme: ClassVar[str] = "kubernetes"
    """Scheme of the handle."""
    container: ClassVar[str] = TASK
    """The container of the task."""

    @property
    def selector(self) -> str:
        """Labels by which its pods are found."""
        return f"{ATTEMPT_LABEL}={self.name}"

    @staticmethod
    def node_of(pod: Pod) -> int:
        """Return the rank of a pod."""
        return int(pod["metadata"]["labels"][NODE_LABEL])

    @property
    def handle(self) -> str:
        """The handle as text.

        >>> PodHandle("ns", "nr-a-1", 2, Path("/job/attempts/1")).handle
        'kubernetes://ns/nr-a-1/2/job/attempts/1'
        """
        return f"{self.scheme}://{self.namespace}/{self.name}/{self.nodes}{self.folder}"

    @classmethod
    def parse(cls, handle: str) -> Self:
        """Return the parts of a handle."""
        namespace, name, nodes, folder = handle.partition("://")[2].split("/", 3)
        return cls(namespace, name, int(nodes), Path("/", folder))

    # files of the attempt

    @property
    def journal(self) -> AttemptFolder:
        """What is written down of the attempt."""
        return AttemptFolder(self.folder)

    def note_shared(self, objects: Iterable[Object]) -> None:
        """Write down which objects it shares with other attempts: Secrets with packages, the Service of a group."""
        shared = [[obj["kind"], obj["metadata"]["name"]] for obj in objects]
        write_json(self.folder / "shared.json", {"shared": shared})

    def shared(self) -> list[tuple[str, str]]:
        """Return kinds and names of the objects that it shares with other attempts."""
        doc = read_object(self.folder / "shared.json") or {"shared": []}
        return [(kind, name) for kind, name in doc["shared"]]

    def log_file(self, node: int) -> Path:
        """Return the file in which the log of a pod is kept."""
        return self.folder / ("log" if self.nodes == 1 else f"log-{node}")

    def artifacts_file(self, node: int) -> Path:
        """Return the file in which the artifacts of a pod are kept."""
        return self.folder / f"artifacts-{node}"

    def complaints_file(self, node: int) -> Path:
        """Return the file with what was said of artifacts of a pod that could not be packed."""
        return self.folder / f"artifacts-{node}.left"


def record(attempt: PodHandle, status: TaskStatus) -> TaskStatus:
    """Write down how an attempt ended. Its log has to be kept before."""
    if attempt.journal.is_cancelled:
        status = replace(status, state=JobState.CANCELLED, reason="cancelled", lost=False)
    return attempt.journal.write_end(status)


def end_pod(client: KubernetesClient, pod: Pod) -> None:
    """End a scheduled pod by a deadline that has passed, which leaves its log and its exit code."""
    if pod["spec"].get("activeDeadlineSeconds") != 1:
        metadata, change = pod["metadata"], {"spec": {"activeDeadlineSeconds": 1}}
        client.patch("v1", "Pod", metadata["namespace"], metadata["name"], change)


def keep_log(client: KubernetesClient, attempt: PodHandle, node: int, pod: Pod, settle: float = 0.0) -> None:
    """Copy the log of a pod into the folder of the attempt, unless more of it is there already.

    Args:
        client: The client of its cluster.
        attempt: The attempt.
        node: Rank of the pod.
        pod: The pod.
        settle: Seconds without news after which the log is complete; a node may write the end of a log a little later
            than it reports that the task has ended.
    """
    metadata = pod["metadata"]
    target = attempt.log_file(node)
    log = ContainerLog(client, metadata["namespace"], metadata["name"], attempt.container)
    with contextlib.suppress(FileExistsError), contextlib.closing(log), replacing(target) as file:
        for piece in _settled(log, settle):
            file.write(piece)
        if target.exists() and target.stat().st_size > file.tell():
            raise FileExistsError(target)
    _part(attempt, node, target)


def _part(attempt: PodHandle, node: int, log: Path) -> None:
    """Take the artifacts of a pod out of the end of its log, if they are there."""
    with contextlib.suppress(FileNotFoundError), log.open("r+b") as file:
        text, words = parted(file.read(), attempt.name)
        if words:
            keep_artifacts(attempt, node, words)
            file.truncate(len(text))


def _settled(reader: ContainerLog, seconds: float) -> Iterator[bytes]:
    while True:
        pieces = list(iter(reader.read, b""))
        yield from pieces
        if not pieces or not seconds:
            return
        time.sleep(seconds)


def has_keeper(pod: Pod) -> bool:
    """Return whether a second container of a pod hands over its artifacts."""
    return any(container["name"] == KEEPER for container in pod["spec"]["containers"])


def keeper_output(client: KubernetesClient, pod: Pod) -> list[bytes]:
    """Return the words that the keeper of a pod has written; the last one is ``end`` when the task has ended."""
    metadata = pod["metadata"]
    if not has_keeper(pod):
        return []
    reader = ContainerLog(client, metadata["namespace"], metadata["name"], KEEPER)
    words = b"".join(iter(reader.read, b"")).split()
    reader.close()
    return words


def keep_artifacts(attempt: PodHandle, node: int, words: Sequence[bytes]) -> None:
    """Store the words of the keeper of a pod: packed artifacts, or ``!`` and their size if they are too large."""
    if len(words) < 2 or words[-1] != b"end":
        return
    said = b"".join(word[1:] for word in words[:-1] if word.startswith(b"~"))
    content = b" ".join(word for word in words[:-1] if not word.startswith(b"~"))
    try:
        if not content.startswith((b"!", b"+")):
            content = base64.b64decode(content, validate=True)
        write_text(attempt.complaints_file(node), base64.b64decode(said, validate=True))
    except binascii.Error:  # the node has kept only a part of them
        content = b"! unknown"
    attempt.artifacts_file(node).write_bytes(content)
    attempt.artifacts_file(node).chmod(0o600)


def unpack_artifacts(attempt: PodHandle, folder: Path, seen_as: str) -> dict[str, str]:
    """Unpack the artifacts that were kept, and return what was left out; files of the first node replace the others'.

    Args:
        attempt: The attempt.
        folder: Where they go.
        seen_as: The folder of artifacts, where the task saw it.

    Raises:
        ExecutorError: They were too large to be kept.
    """
    left: dict[str, str] = {}
    for node in reversed(range(attempt.nodes)):
        try:
            content = attempt.artifacts_file(node).read_bytes()
        except FileNotFoundError:
            continue
        if content.startswith(b"!"):
            size = content[1:].decode().strip()
            raise ExecutorError(
                f"its artifacts (packed, {size} bytes) are more than a pod can hand over without a volume, and are "
                "gone; name a volume claim with workdir_pvc="
            )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        left |= leftovers.unpack(io.BytesIO(content), folder, seen_as)
        with contextlib.suppress(FileNotFoundError):
            left |= leftovers.complaints(attempt.complaints_file(node).read_bytes())
    return left


def unpack_kept(attempt: PodHandle, folder: Path, seen_as: str, patterns: Sequence[str]) -> None:
    """Unpack the artifacts that were kept; say of files elsewhere that these are gone.

    Raises:
        ExecutorError: They were too large to be kept, or some were left out, or files elsewhere were wanted.
    """
    with leftovers.gathered() as left:
        left.update(unpack_artifacts(attempt, folder, seen_as))
        if patterns:
            raise ExecutorError(
                f"files that match {', '.join(patterns)} went with the pod; without a volume (workdir_pvc=) "
                "only what lies in $NEMO_RUN_ARTIFACTS is collected"
            )


# --- logs --------------------------------------------------------------------------------------------------------


def open_log(
    client: KubernetesClient, attempt: PodHandle, rank: int | None = None, tail: int | None = None
) -> LogReader:
    """Return the log of an attempt, or of one of its pods, from its last ``tail`` lines on.

    Raises:
        ExecutorError: There is no such pod.
    """
    if rank is not None and not 0 <= rank < attempt.nodes:
        known = ", ".join(map(str, range(attempt.nodes)))
        raise ExecutorError(f"rank {rank} has no log of its own; nodes that have one: {known}")
    if rank is None and attempt.nodes > 1:
        return merged({node: NodeLog(client, attempt, node, tail) for node in range(attempt.nodes)})
    return NodeLog(client, attempt, rank or 0, tail)


class NodeLog:
    """The log of one pod: from its node while the pod exists, and then from the file in which it was kept."""

    def __init__(self, client: KubernetesClient, attempt: PodHandle, node: int, tail: int | None) -> None:
        """Describe the log; nothing is read yet."""
        self._client = client
        self._attempt = attempt
        self._node = node
        self._tail = tail
        self._live: ContainerLog | None = None
        self._text = OwnText(attempt.name)
        self._kept: IO[bytes] | FileLog | None = None
        self._pending = b""
        self._seen = 0  # bytes of the log that were read
        self._last = b""  # the last of these
        self._pause = _SHORTEST_PAUSE
        self._not_before = 0.0

    def read(self) -> bytes:
        """Return the next piece; empty if there is nothing new now."""
        if self._pending:
            piece, self._pending = self._pending[:_PIECE], self._pending[_PIECE:]
            return piece
        if self._kept is None and self._attempt.journal.has_ended:
            self._kept = self._open_kept()
        if self._kept is not None:
            return self._kept.read(_PIECE) if not isinstance(self._kept, FileLog) else self._kept.read()
        if time.monotonic() < self._not_before:
            return b""
        piece = self._read_live()
        self._pause = _SHORTEST_PAUSE if piece else min(self._pause * 1.5, _LONGEST_PAUSE)
        self._not_before = 0.0 if piece else time.monotonic() + self._pause
        return piece

    def close(self) -> None:
        """Close the log."""
        if self._live is not None:
            self._live.close()
        if self._kept is not None:
            self._kept.close()

    def _read_live(self) -> bytes:
        if self._live is None:
            attempt = self._attempt
            pods = self._client.pods(attempt.namespace, attempt.selector)
            pods = [pod for pod in pods if attempt.node_of(pod) == self._node]
            if not pods:
                return b""
            name = min(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))["metadata"]["name"]
            self._live = ContainerLog(self._client, attempt.namespace, name, attempt.container)
            if self._tail is not None:
                data = self._text.of(b"".join(iter(self._live.read, b"")))
                self._note(data)
                self._pending = _last_lines(data, self._tail)
                return self.read() if self._pending else b""
        piece = self._text.of(self._live.read())
        self._note(piece)
        return piece

    def _note(self, piece: bytes) -> None:
        self._seen += len(piece)
        self._last = (self._last + piece)[-_CONTEXT:]

    def _open_kept(self) -> IO[bytes] | FileLog:
        path = self._attempt.log_file(self._node)
        if not self._seen or not path.exists():
            return FileLog(path, self._tail if self._live is None else None)
        file = path.open("rb")
        file.seek(self._seen - len(self._last))
        if file.read(len(self._last)) != self._last:  # the node has dropped the beginning of a long log
            file.seek(0)
            file.seek(max(file.read().rfind(self._last), 0) + len(self._last))
        return file


def _last_lines(data: bytes, count: int) -> bytes:
    r"""Return the last lines of a log.

    >>> _last_lines(b"a\nb\nc", 2), _last_lines(b"a\n", 0)
    (b'b\nc', b'')
    """
    return b"".join(split_lines(data)[-count:]) if count > 0 else b""
