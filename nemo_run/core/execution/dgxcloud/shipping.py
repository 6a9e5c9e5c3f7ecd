"""The persistent volume on which jobs run: mounted on this machine, or reached through short helper workloads."""

from __future__ import annotations

import base64
import io
import os
import shutil
import tarfile
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from nemo_run.core.execution.dgxcloud import spec as bodies
from nemo_run.core.execution.dgxcloud.client import DGXCloudClient, in_parallel
from nemo_run.core.execution.dgxcloud.spec import WORKSPACES, Blob
from nemo_run.core.packaging.archive import unpack
from nemo_run.errors import ExecutorError

_AT_ONCE = 4  # helper workloads at the same time
_SOON, _LATE = 0.2, 5.0  # seconds between two looks at a helper: when it is new, and when it takes long
_PIECE = 4_000_000  # bytes that a helper prints; a cluster keeps the last ten million or so of a log
_PATIENCE = 900.0  # seconds in which a helper has to be scheduled and to end


class VolumeTransfer(Protocol):
    """Where the files of jobs lie, as the jobs see it."""

    def provide(self, base: str, blobs: Sequence[Blob]) -> None:
        """See to it that these blobs are there; what is there already is not sent again."""
        ...

    def unpack(self, base: str, blob: Blob, folder: str) -> None:
        """Unpack an archive in a folder of the volume."""
        ...

    def inline(self, base: str, blobs: Sequence[Blob]) -> str:
        """A shell command with which a job can bring these small blobs itself; empty where they have to be sent."""
        ...

    def names(self, folder: str) -> list[str]:
        """The files below a folder of the volume."""
        ...

    def fetch(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Copy files and folders, as far as they are there, from a folder of the volume into one of this machine."""
        ...


class MountedTransfer:
    """A volume that is mounted on this machine, at the same path as in the jobs."""

    def provide(self, base: str, blobs: Sequence[Blob]) -> None:
        """Write the blobs that are not there."""
        folder = Path(bodies.packages_folder(base))
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for blob in blobs:
                _write(folder / blob.name, blob.content)
        except OSError as e:
            raise ExecutorError(
                f"{folder}: cannot be written ({e.strerror}); with launched_from_cluster=True, the volume has to be "
                "mounted on this machine at the path that pvcs gives it"
            ) from e

    def unpack(self, base: str, blob: Blob, folder: str) -> None:
        """Unpack it here."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(blob.content), mode="r:gz") as tar:
            unpack(tar, Path(folder), Path(blob.name))

    def inline(self, base: str, blobs: Sequence[Blob]) -> str:
        """Writing them here is quicker."""
        return ""

    def names(self, folder: str) -> list[str]:
        """List them."""
        return [str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()]

    def fetch(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Copy them, unless they are where they shall be."""
        for name in names:
            source, copy = Path(folder, name), target / name
            if not source.exists() or (copy.exists() and copy.samefile(source)):
                continue
            if source.is_dir():
                shutil.copytree(source, copy, dirs_exist_ok=True, symlinks=True)
            else:
                copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                shutil.copy2(source, copy)


def _write(path: Path, content: bytes) -> None:
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    temporary.replace(path)


class HelperTransfer:
    """A volume that only workloads can reach: small workspaces write what they are told, and print what they read."""

    def __init__(self, client: DGXCloudClient, pvcs: Sequence[Mapping[str, Any]], longest_command: int) -> None:
        self._client, self._pvcs, self._limit = client, pvcs, longest_command
        self._there: set[str] = set()

    def provide(self, base: str, blobs: Sequence[Blob]) -> None:
        """Send what is not there; large blobs in pieces, several at once."""
        for blob in blobs:
            if f"{base} {blob.name}" not in self._there:
                self._send(bodies.packages_folder(base), blob)
                self._there.add(f"{base} {blob.name}")

    def _send(self, folder: str, blob: Blob) -> None:
        whole = bodies.put(folder, blob) if len(blob.content) < self._limit else ""
        if 0 < len(whole) <= self._limit:
            self._run(whole)
            return
        join = bodies.join(folder, blob)
        if self._succeeds(join):
            return
        in_parallel(self._run, bodies.pieces(folder, blob, self._limit), _AT_ONCE)
        self._run(join)

    def unpack(self, base: str, blob: Blob, folder: str) -> None:
        """Unpack it by a helper."""
        self.provide(base, [blob])
        self._run(f"mkdir -p {folder} && tar -xzf {bodies.packages_folder(base)}/{blob.name} -C {folder}")

    def inline(self, base: str, blobs: Sequence[Blob]) -> str:
        """What writes those blobs that are not known to be there, if that is short enough."""
        missing = [blob for blob in blobs if f"{base} {blob.name}" not in self._there]
        if sum(len(blob.content) for blob in missing) > self._limit:
            return ""
        command = " && ".join(bodies.put(bodies.packages_folder(base), blob) for blob in missing)
        return command if len(command) <= self._limit - 500 else ""

    def names(self, folder: str) -> list[str]:
        """List them by a helper."""
        listing = self._run(f"cd {folder} 2>/dev/null && find . -type f -follow | base64; echo .", read=True)
        found = base64.b64decode(_whole(listing, folder)).decode("utf-8", "surrogateescape").splitlines()
        return [name.removeprefix("./") for name in found]

    def fetch(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Fetch them as an archive that a helper prints, as much of it at a time as the service keeps of a log."""
        archive = f"{folder}/.fetch-{uuid.uuid4().hex[:12]}.tar.gz"
        wanted = base64.b64encode("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")).decode()
        pack = (
            f"cd {folder} 2>/dev/null || exit 0; umask 077; echo {wanted} | base64 -d | "
            f'while read -r n; do [ ! -e "$n" ] || echo "$n"; done | tar -chzf {archive} -T - || exit 0; '
            f"wc -c < {archive}; head -c {_PIECE} {archive} | base64; echo ."
        )
        size, _, first = self._run(pack, read=True).partition(b"\n")
        if not size.strip():
            return  # there is no such folder, or nothing in it that is wanted
        starts = range(_PIECE, int(size), _PIECE)
        rest = (f"tail -c +{at + 1} {archive} | head -c {_PIECE} | base64; echo ." for at in starts)
        printed = [first, *in_parallel(partial(self._run, read=True), rest, _AT_ONCE)]
        self._run(f"rm -f {archive}")
        content = b"".join(base64.b64decode(_whole(text, folder)) for text in printed)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            unpack(tar, target, Path(folder))

    # helpers

    def _succeeds(self, script: str) -> bool:
        return self._helper(script)[0] == "Completed"

    def _run(self, script: str, *, read: bool = False) -> bytes:
        phase, why, output = self._helper(script, read=read)
        if phase != "Completed":
            raise ExecutorError(
                f"a helper workload that moves files to the volume ended as {phase}{why and f': {why}'}; see that pvcs "
                "of the DGXCloudExecutor can be mounted and written to, and that its project may run workspaces"
            )
        return output

    def _helper(self, script: str, *, read: bool = False) -> tuple[str, str, bytes]:
        """Run a helper: its last phase, a word on it, and, where wanted, what it printed."""
        client = self._client
        name = bodies.helper_name("data", uuid.uuid4().hex[:12])
        made = client.create(WORKSPACES, bodies.helper(name, client.project(), self._pvcs, script))
        workload_id = str(made.get("workloadId") or made["id"])
        try:
            workload = self._ended(name, workload_id)
            phase, why = bodies.phase_name(workload), str(workload.get("phaseMessage") or "")
            output = self._output(workload_id) if read and phase == "Completed" else b""
        finally:
            client.delete(WORKSPACES, workload_id)
        return phase, why, output

    def _ended(self, name: str, workload_id: str) -> dict[str, Any]:
        begun = time.monotonic()
        while True:
            workload = self._client.get(WORKSPACES, workload_id)
            if workload is None:
                raise ExecutorError(f"the helper workload {name} was deleted by somebody else; try again")
            if bodies.phase_name(workload) in ("Completed", "Failed", "Stopped"):
                return workload
            waited = time.monotonic() - begun
            if waited > _PATIENCE:
                raise ExecutorError(
                    f"the helper workload {name} is still {bodies.phase_name(workload)} after {_PATIENCE:g} s; see why "
                    "in the user interface of DGX Cloud: its project may be out of CPUs"
                )
            time.sleep(min(_LATE, max(_SOON, waited / 4)))

    def _output(self, workload_id: str) -> bytes:
        namespace = self._client.namespace(workload_id)
        return b"".join(self._client.whole_log(namespace, pod["name"]) for pod in self._client.pods(workload_id))


def _whole(printed: bytes, folder: str) -> bytes:
    """What a helper printed, less the dot that says that it is all."""
    text, dot, _ = printed.rpartition(b".")
    if not dot:
        raise ExecutorError(f"what lies in {folder} on the volume came incompletely; try again")
    return text
