"""Using DGX Cloud without an experiment: the methods of the executor that launch and watch a workload of their own."""

from __future__ import annotations

import base64
import posixpath
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.core.execution.dgxcloud import spec as bodies
from nemo_run.core.execution.dgxcloud.backend import DGXCloudBackend, backend_of
from nemo_run.core.execution.dgxcloud.client import DGXCloudClient
from nemo_run.core.execution.dgxcloud.log import PodLog
from nemo_run.core.execution.dgxcloud.options import PLAIN_PATH, DGXCloudOptions
from nemo_run.core.execution.shared.log_reader import FileLog, LogReader, merged
from nemo_run.core.execution.shared.shipping import Package
from nemo_run.core.execution.shared.small_tar import folder_archive, tar_of, zipped
from nemo_run.core.rest import Pieces
from nemo_run.errors import ExecutorError

if TYPE_CHECKING:
    import httpx

_PAUSE = 1.0  # seconds between two looks at a log


@contextmanager
def opened(options: DGXCloudOptions) -> Iterator[DGXCloudBackend]:
    """Give the backend that options name, for a short while."""
    with closing(backend_of(options)) as backend:
        yield backend


def kind_of(options: DGXCloudOptions) -> str:
    """Return the kind of the workloads that an executor creates."""
    return bodies.DISTRIBUTED if options.nodes > 1 else bodies.TRAININGS


def create(options: DGXCloudOptions, project_id: str, cluster_id: str, name: str, command: str) -> httpx.Response:
    """Create a workload; the service makes its name unique."""
    import httpx

    project = {"id": project_id, "clusterId": cluster_id}
    spec = bodies.workload_spec(options)
    body = bodies.creation(name[: bodies.LONGEST_NAME], project, spec, command, "", options.env_vars)
    del body["spec"]["args"]
    with opened(options) as backend:
        made = backend.client.create(kind_of(options), body)
    return httpx.Response(202, json={"actualPhase": made.get("phase"), "workloadId": made.get("id"), **made})


def launch_script(options: DGXCloudOptions, cmd: list[str]) -> str:
    """Return the script that runs a command in the job's folder on the volume."""
    folder = shlex.quote(options.pvc_job_dir)
    here = options.job_dir or options.pvc_job_dir
    words = [word.replace(here, options.pvc_job_dir) for word in cmd]
    return (
        f"[ -e /nemo_run ] || ln -s {folder} /nemo_run\n"
        f"mkdir -p {folder}/logs {folder}/code\ncd {folder}/code\nset -o pipefail\n"
        f"{shlex.join(words)} 2>&1 | tee -a {folder}/log_$HOSTNAME.out\n"
    )


def copy_command(source: str, target: str) -> str:
    """Return a shell command that makes a folder like one of this machine."""
    text, folder = base64.b64encode(folder_archive(source)).decode(), shlex.quote(target)
    return f"rm -rf {folder} && mkdir -p {folder} && echo {text} | base64 -d | tar -xzf - -C {folder}"


def move_folder(options: DGXCloudOptions, source: str, target: str) -> None:
    """Bring the files of a folder of this machine to a folder on the volume."""
    _unpack(options, folder_archive(source), target)


def move_text(options: DGXCloudOptions, text: str, target: str) -> None:
    """Write an executable file on the volume."""
    archive = zipped(tar_of({posixpath.basename(target): text.encode()}, mode=0o755))
    _unpack(options, archive, posixpath.dirname(target))


def _unpack(options: DGXCloudOptions, archive: bytes, target: str) -> None:
    if not PLAIN_PATH.match(target):
        raise ExecutorError(f"{target!r} must be an absolute path of plain characters")
    with opened(options) as backend:
        backend.volume.unpack(options.pvc_nemo_run_dir, Package.of("files", archive, ".tar.gz"), target)


def lines(options: DGXCloudOptions, workload_id: str) -> Iterator[str]:
    """Give the lines that a workload has written so far."""
    with opened(options) as backend:
        source = _Workload(backend.client, kind_of(options), workload_id)
        yield from _lines(options, source, lambda: True)


def follow(options: DGXCloudOptions, workload_id: str) -> Iterator[str]:
    """Give the lines that a workload writes, until it ends."""
    with opened(options) as backend:
        source = _Workload(backend.client, kind_of(options), workload_id)
        yield from _lines(options, source, source.has_ended)


def _lines(options: DGXCloudOptions, source: _Workload, is_last: Callable[[], bool]) -> Iterator[str]:
    """Give the lines of a log; nothing is waited for once ``is_last`` was true before a read."""
    with closing(_reader(options, source)) as reader:
        rest, last = b"", False
        while not last:
            last = is_last()
            while piece := reader.read():
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") + "\n" for line in whole)
            if not last:
                time.sleep(_PAUSE)
        if rest:
            yield rest.decode(errors="replace")


def _reader(options: DGXCloudOptions, source: _Workload) -> LogReader:
    if source.client.has_cluster_api:
        return merged({node: PodLog(source, node, None) for node in range(options.nodes)})
    if not options.launched_from_cluster:
        raise ExecutorError("logs are read through kube_apiserver_url of the DGXCloudExecutor, which is not given")
    files = sorted(Path(options.pvc_job_dir).glob("log_*.out"))
    return merged({node: FileLog(path) for node, path in enumerate(files)})


class _Workload:
    """A workload whose log is read from its pods."""

    def __init__(self, client: DGXCloudClient, kind: str, workload_id: str) -> None:
        self.client, self._kind, self._id = client, kind, workload_id

    def pod(self, node: int) -> str | None:
        """Return the name of the pod of a node."""
        pods = self.client.pods(self._id)
        return str(pods[node]["name"]) if node < len(pods) else None

    def so_far(self, pod: str) -> AbstractContextManager[Pieces]:
        """Return what a pod has written."""
        return self.client.pod_log(self.client.namespace(self._id), pod)

    def follow(self, pod: str) -> AbstractContextManager[Pieces]:
        """Return what a pod writes, until it ends."""
        return self.client.follow_pod_log(self.client.namespace(self._id), pod)

    def has_ended(self) -> bool:
        """Return whether the workload has ended."""
        workload = self.client.get(self._kind, self._id)
        return workload is None or bodies.phase_state(workload)[0].is_final

    def files(self) -> Path:
        """Return a path where nothing is: no file of it is kept."""
        return Path("/nonexistent")


def token_of(options: DGXCloudOptions) -> str:
    """Return a bearer token."""
    with opened(options) as backend:
        return backend.client.token_source()()


def project_of(options: DGXCloudOptions) -> dict[str, Any]:
    """Return the project."""
    with opened(options) as backend:
        return backend.client.project()
