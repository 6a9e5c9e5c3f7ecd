"""The persistent volume on which jobs run: mounted on this machine, or reached through short helper workloads."""

from __future__ import annotations

import base64
import gzip
import io
import posixpath
import tarfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nemo_run.core.execution.dgxcloud import spec as bodies
from nemo_run.core.execution.dgxcloud.client import DGXCloudClient, in_parallel
from nemo_run.core.execution.dgxcloud.spec import WORKSPACES
from nemo_run.core.execution.shared import leftovers
from nemo_run.core.execution.shared.pauses import wait_until
from nemo_run.core.execution.shared.shipping import Package
from nemo_run.core.files import write_once
from nemo_run.core.inside import copy_linked, copy_tree_inside
from nemo_run.core.packaging.archive import unpack
from nemo_run.errors import ExecutorError

_AT_ONCE = 4  # helper workloads at the same time
_LATE = 5.0  # seconds between two looks at a helper that takes long
_PIECE = 4_000_000  # bytes that a helper prints; a cluster keeps the last ten million or so of a log
_PATIENCE = 900.0  # seconds in which a helper has to be scheduled and to end


class VolumeTransfer(Protocol):
    """Where the files of jobs lie, as the jobs see it."""

    def provide(self, base: str, packages: Sequence[Package]) -> None:
        """Bring packages that are not there."""
        ...

    def unpack(self, base: str, package: Package, folder: str) -> None:
        """Unpack an archive in a folder of the volume."""
        ...

    def inline(self, base: str, packages: Sequence[Package]) -> str:
        """Return a shell command with which a job brings small packages itself; empty where they have to be sent."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the files below a folder of the volume."""
        ...

    def fetch_left(self, folder: str, target: Path) -> dict[str, str]:
        """Copy all files below a folder of artifacts, and return what is no file or could not be read."""
        ...

    def fetch(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Copy files and folders, as far as they are there, from a folder of the volume into one of this machine."""
        ...


class MountedTransfer:
    """A volume that is mounted on this machine, at the same path as in the jobs."""

    def provide(self, base: str, packages: Sequence[Package]) -> None:
        """Write the packages that are not there."""
        folder = Path(bodies.packages_folder(base))
        try:
            for package in packages:
                write_once(folder / package.name, package.content)
        except OSError as e:
            raise ExecutorError(
                f"{folder}: cannot be written ({e.strerror}); with launched_from_cluster=True, the volume has to be "
                "mounted on this machine at the path that pvcs gives it"
            ) from e

    def unpack(self, base: str, package: Package, folder: str) -> None:
        """Unpack it here."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(package.content), mode="r:gz") as tar:
            unpack(tar, Path(folder), Path(package.name))

    def inline(self, base: str, packages: Sequence[Package]) -> str:
        """Return nothing: writing them here is quicker."""
        return ""

    def names(self, folder: str) -> list[str]:
        """List them."""
        return [str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()]

    def fetch_left(self, folder: str, target: Path) -> dict[str, str]:
        """Copy them, unless source and target are the same."""
        return leftovers.copy_left(Path(folder), target)

    def fetch(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Copy them, unless source and target are the same."""
        for name in names:
            source, copy = Path(folder, name), target / name
            if not source.exists() or (copy.exists() and copy.samefile(source)):
                continue
            if source.is_dir():
                copy_tree_inside(source, copy)
                continue
            try:
                copy_linked(source, Path(folder), target, name)
            except OSError as e:
                raise ExecutorError(f"{source}: {e.strerror}, and was not copied") from e


@dataclass(frozen=True)
class _Helper:
    """A short workload that has ended.

    Attributes:
        phase: Its last phase.
        why: A word on that.
        output: What it printed, where that was asked for.
    """

    phase: str
    why: str
    output: bytes

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where it did not succeed."""
        if self.phase != "Completed":
            why = f": {self.why}" if self.why else ""
            raise ExecutorError(
                f"a helper workload that moves files to the volume ended as {self.phase}{why}; see that pvcs of the "
                "DGXCloudExecutor can be mounted and written to, and that its project may run workspaces"
            )


class HelperTransfer:
    """A volume that only workloads can reach: small workspaces write what they are told, and print what they read."""

    def __init__(self, client: DGXCloudClient, pvcs: Sequence[Mapping[str, Any]], longest_command: int) -> None:
        self._client, self._pvcs, self._limit = client, pvcs, longest_command
        self._there: set[str] = set()

    def provide(self, base: str, packages: Sequence[Package]) -> None:
        """Send what is not there; large packages in pieces, several at once."""
        for package in packages:
            if f"{base} {package.name}" not in self._there:
                self._send(bodies.packages_folder(base), package)
                self._there.add(f"{base} {package.name}")

    def _send(self, folder: str, package: Package) -> None:
        whole = bodies.put(folder, package) if len(package.content) < self._limit else ""
        if 0 < len(whole) <= self._limit:
            self._run(whole)
            return
        join = bodies.join(folder, package)
        if self._succeeds(join):
            return
        in_parallel(self._run, bodies.pieces(folder, package, self._limit), _AT_ONCE)
        self._run(join)

    def unpack(self, base: str, package: Package, folder: str) -> None:
        """Unpack it by a helper."""
        self.provide(base, [package])
        self._run(f"mkdir -p {folder} && tar -xzf {bodies.packages_folder(base)}/{package.name} -C {folder}")

    def inline(self, base: str, packages: Sequence[Package]) -> str:
        """Return what writes those packages that are not known to be there, if that is short enough."""
        missing = [package for package in packages if f"{base} {package.name}" not in self._there]
        if sum(len(package.content) for package in missing) > self._limit:
            return ""
        command = " && ".join(bodies.put(bodies.packages_folder(base), package) for package in missing)
        return command if len(command) <= self._limit - 500 else ""

    def names(self, folder: str) -> list[str]:
        """List them by a helper."""
        listing = self._print(f"cd {folder} 2>/dev/null && find . -type f -follow | base64; echo .")
        found = base64.b64decode(_whole(listing, folder)).decode("utf-8", "surrogateescape").splitlines()
        return [name.removeprefix("./") for name in found]

    def fetch_left(self, folder: str, target: Path) -> dict[str, str]:
        """Fetch them as an archive that a helper prints."""
        archive = f"{posixpath.dirname(folder)}/.fetch-{uuid.uuid4().hex[:12]}.tar.gz"
        packed = self._archive(
            f'cd {folder} 2>/dev/null && [ -n "$(ls -A)" ] || exit 0; umask 077; '
            f"{{ {leftovers.PACK_ALL}; }} | gzip > {archive}",
            archive,
        )
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        return leftovers.unpack_all(gzip.decompress(packed), target, folder) if packed else {}

    def fetch(self, folder: str, names: Sequence[str], target: Path) -> None:
        """Fetch them as an archive that a helper prints, as much of it at a time as the service keeps of a log."""
        archive = f"{folder}/.fetch-{uuid.uuid4().hex[:12]}.tar.gz"
        wanted = base64.b64encode("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")).decode()
        pack = (
            f"cd {folder} 2>/dev/null || exit 0; umask 077; echo {wanted} | base64 -d | "
            f'while read -r n; do [ ! -e "$n" ] || echo "$n"; done | tar -chzf {archive} -T - || exit 0'
        )
        content = self._archive(pack, archive)
        if not content:
            return  # there is no such folder, or nothing in it that is wanted
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            unpack(tar, target, Path(folder), foreign=True)

    def _archive(self, pack: str, archive: str) -> bytes:
        """Return the archive that a helper makes, in pieces that it prints; empty where it makes none."""
        size, _, first = self._print(
            f"{pack}; wc -c < {archive}; head -c {_PIECE} {archive} | base64; echo ."
        ).partition(b"\n")
        if not size.strip():
            return b""
        starts = range(_PIECE, int(size), _PIECE)
        rest = (f"tail -c +{at + 1} {archive} | head -c {_PIECE} | base64; echo ." for at in starts)
        printed = [first, *in_parallel(self._print, rest, _AT_ONCE)]
        self._run(f"rm -f {archive}")
        return b"".join(base64.b64decode(_whole(text, archive)) for text in printed)

    # helpers

    def _succeeds(self, script: str) -> bool:
        return self._helper(script).phase == "Completed"

    def _run(self, script: str) -> None:
        self._helper(script).check()

    def _print(self, script: str) -> bytes:
        """Run a helper, and return what it printed."""
        helper = self._helper(script, self._output)
        helper.check()
        return helper.output

    def _helper(self, script: str, output_of: Callable[[str], bytes] = lambda _: b"") -> _Helper:
        """Run a helper, and delete it."""
        client = self._client
        name = bodies.helper_name("data", uuid.uuid4().hex[:12])
        made = client.create(WORKSPACES, bodies.helper(name, client.project(), self._pvcs, script))
        workload_id = str(made.get("workloadId") or made["id"])
        try:
            workload = self._ended(name, workload_id)
            phase, why = bodies.phase_name(workload), str(workload.get("phaseMessage") or "")
            return _Helper(phase, why, output_of(workload_id) if phase == "Completed" else b"")
        finally:
            client.delete(WORKSPACES, workload_id)

    def _ended(self, name: str, workload_id: str) -> dict[str, Any]:
        """Wait for the end of a helper, and return it as it is then."""

        def late(within: float) -> str:
            phase = bodies.phase_name(self._client.get(WORKSPACES, workload_id) or {})
            return (
                f"the helper workload {name} is still {phase} after {within:g} s; see why in the user interface of "
                "DGX Cloud: its project may be out of CPUs"
            )

        return wait_until(lambda: self._look_at(name, workload_id), late, within=_PATIENCE, pause=_LATE)

    def _look_at(self, name: str, workload_id: str) -> dict[str, Any]:
        """Return a helper that has ended; empty while it has not."""
        workload = self._client.get(WORKSPACES, workload_id)
        if workload is None:
            raise ExecutorError(f"the helper workload {name} was deleted by somebody else; try again")
        return workload if bodies.phase_name(workload) in ("Completed", "Failed", "Stopped") else {}

    def _output(self, workload_id: str) -> bytes:
        namespace = self._client.namespace(workload_id)
        return b"".join(self._client.whole_log(namespace, pod["name"]) for pod in self._client.pods(workload_id))


def _whole(printed: bytes, folder: str) -> bytes:
    """Return what a helper printed, less the dot that says that it is all."""
    text, dot, _ = printed.rpartition(b".")
    if not dot:
        raise ExecutorError(f"what lies in {folder} on the volume came incompletely; try again")
    return text
