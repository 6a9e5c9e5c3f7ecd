"""Files to and from the mount of Lepton jobs.

The service has no way to send or fetch files, so short jobs of ours write what is in their command, and print what is
on the mount. Where the mount is on this machine, too, files are copied.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import secrets
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import JobState
from nemo_run.core.execution.lepton import spec as bodies
from nemo_run.core.execution.lepton.client import LeptonClient
from nemo_run.core.execution.lepton.options import LeptonOptions
from nemo_run.core.execution.lepton.script import Output, ReplicaEnd, packages_folder, part_name
from nemo_run.core.execution.shared import leftovers
from nemo_run.core.execution.shared.attempt_files import copy_matching
from nemo_run.core.execution.shared.pauses import wait_until
from nemo_run.core.execution.shared.service_names import digest
from nemo_run.core.execution.shared.shipping import Package
from nemo_run.core.execution.shared.small_tar import folder_archive
from nemo_run.core.files import write_once
from nemo_run.core.packaging.archive import unpack
from nemo_run.core.packaging.globs import Patterns
from nemo_run.errors import ExecutorError

_PATIENCE = 600.0  # seconds for a job that moves files, most of which it spends in the queue
_LONGEST_PAUSE = 5.0
_TRIES = 5


class MountTransfer:
    """The mount that the jobs of one plan write to."""

    def __init__(self, client: LeptonClient, spec: Mapping[str, Any], node_group_id: str) -> None:
        """Describe the mount; nothing is sent.

        Args:
            client: The workspace that it belongs to.
            spec: Of a plan: ``base``, ``is_on_mount``, ``is_here``, and the ``helper`` that jobs are made from.
            node_group_id: Id of the node group.
        """
        self._client = client
        self._spec = spec
        self._group = node_group_id
        self._packages = packages_folder(spec["base"])

    @classmethod
    def of_options(cls, client: LeptonClient, options: LeptonOptions) -> MountTransfer:
        """Return the mount that the options name."""
        spec = {
            "base": options.nemo_run_dir.rstrip("/"),
            "is_on_mount": options.is_on_mount(),
            "is_here": options.launched_from_cluster,
            "helper": bodies.helper_spec(options),
        }
        return cls(client, spec, client.node_group_id(options.node_group) if options.node_group else "")

    def key(self, package: str) -> str:
        """Return what is equal for a package on the same mount."""
        return digest(f"{package} {self._packages} {self._group} {self._spec['helper'].get('mounts')}")[:16]

    # to the mount

    def send(self, package: Package) -> None:
        """Send a package that is not there.

        What a job has written is not written again; so the jobs are left for the service to tidy up.
        """
        content = package.content
        if self._spec["is_here"]:
            write_once(Path(self._packages, package.name), content)
            return
        if not self._spec["is_on_mount"]:
            raise ExecutorError(
                f"LeptonExecutor.nemo_run_dir={self._spec['base']!r} is on none of the mounts, but {len(content):,} "
                "bytes have to be sent there; give mounts= one with a mount_path above it"
            )
        parts = [content[start : start + bodies.PART] for start in range(0, len(content), bodies.PART)]
        mark = f"nr-put-{self.key(package.name)}"
        there = self._client.jobs(mark)
        commands = {}
        for number, part in enumerate(parts):
            name = _next_name(f"{mark}-{number}", there)
            commands[name] = bodies.put_command(self._packages, part_name(package.name, number), part)
        self._run(mark, {name: command for name, command in commands.items() if name not in there}, list(commands))

    def send_folder(self, source: Path, target: str, patience: float) -> None:
        """Copy a small folder of this machine to a folder on the mount."""
        name = f"nr-dir-{secrets.token_hex(8)}"
        self._run(name, {name: bodies.unpack_command(target, folder_archive(source))}, [name], patience)
        self._client.delete(name)

    # from the mount

    def fetch(self, source: str, patterns: Sequence[str], target: Path) -> None:
        """Fetch the files of a folder that match one of the patterns."""
        if self._spec["is_here"]:
            copy_matching(Path(source), patterns, target)
            return
        wanted = Patterns(patterns, descend=True)
        listing = self._output(source, None).split(b"\0")
        names = [name.decode("utf-8", "surrogateescape").removeprefix("./") for name in listing if name]
        names = [name for name in names if wanted.match(name)]
        if names:
            data = self._output(source, names)
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                unpack(tar, target, target, foreign=True)

    def fetch_left(self, source: str, target: Path) -> dict[str, str]:
        """Fetch all files below a folder of artifacts, and return what is no file or could not be read."""
        if self._spec["is_here"]:
            return leftovers.copy_left(Path(source), target)
        name = f"nr-get-{secrets.token_hex(8)}"
        packed = self._output_of(name, bodies.get_left_command(name, source), source)
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        return leftovers.unpack_all(gzip.decompress(packed), target, source)

    def _output(self, source: str, names: Sequence[str] | None) -> bytes:
        """Return the names of all files below a folder, or an archive of some, as a job prints it."""
        name = f"nr-get-{secrets.token_hex(8)}"
        listing = bodies.list_command(name, source)
        return self._output_of(name, listing if names is None else bodies.get_command(name, source, names), source)

    def _output_of(self, name: str, command: Sequence[str], source: str) -> bytes:
        self._run(name, {name: command}, [name])
        text, end = self._printed(name)
        self._client.delete(name)
        try:
            if end and end.exit_code == 0:
                return base64.b64decode(b"".join(text.split()), validate=True)
        except binascii.Error:
            pass
        said = " ".join(text[-300:].decode(errors="replace").split()) or "nothing"
        raise ExecutorError(
            f"{source} on the mount could not be fetched: {said}; up to {bodies.LARGEST_OUTPUT >> 20} MiB at a time "
            "come through a log; larger files can be had where the mount is (launched_from_cluster=True)"
        )

    # jobs of ours

    def _run(
        self, mark: str, commands: Mapping[str, Sequence[str]], names: Sequence[str], patience: float = _PATIENCE
    ) -> None:
        """Create jobs, and wait until all of these have succeeded."""
        for name, command in commands.items():
            self._client.create(bodies.creation(name, self._spec["helper"], command, [], self._group))
        wait_until(
            lambda: not self._unfinished(mark, names),
            lambda within: self._why_late(self._unfinished(mark, names), within),
            within=patience,
            pause=_LONGEST_PAUSE,
        )

    def _why_late(self, waiting: Sequence[str], within: float) -> str:
        why = self._client.warnings(waiting[0]) if waiting else ""
        return f"the job {', '.join(waiting[:1])}, which moves files, has not ended in {within:g} s: {why}"

    def _unfinished(self, mark: str, names: Sequence[str]) -> list[str]:
        jobs = self._client.jobs(mark)
        states = {name: bodies.job_state(jobs[name])[0] if name in jobs else JobState.SUBMITTED for name in names}
        for name, state in states.items():
            if state in (JobState.FAILED, JobState.CANCELLED):
                raise ExecutorError(f"the job {name}, which moves files, ended as {state}: {self._last_words(name)}")
        return [name for name, state in states.items() if not state.is_final]

    def _printed(self, name: str) -> tuple[bytes, ReplicaEnd | None]:
        """Return what a job of ours has printed, and how it ended."""
        output = Output(name)
        pieces = self._client.whole_log(name, 0, lambda: output.end is not None)
        return b"".join([*map(output.feed, pieces), output.rest()]), output.end

    def _last_words(self, name: str) -> str:
        said = " ".join(self._printed(name)[0][-300:].decode(errors="replace").split())
        return said or self._client.warnings(name) or "it said nothing; look for it on Lepton"


def _next_name(base: str, there: Mapping[str, Any]) -> str:
    """Return the name of the job that has, or is to have, done something: the first that has not failed."""
    for number in range(_TRIES):
        name = f"{base}-{number}"
        if name not in there or bodies.job_state(there[name])[0] not in (JobState.FAILED, JobState.CANCELLED):
            return name
    raise ExecutorError(
        f"the jobs {base}-*, which move files, have failed {_TRIES} times; see why, and delete them on Lepton"
    )
