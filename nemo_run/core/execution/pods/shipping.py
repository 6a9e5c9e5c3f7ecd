"""Files to pods and back: in Secrets if they are small, else through a volume.

Nothing has to be installed on the cluster. A package is sent once: its name identifies its content.
"""

from __future__ import annotations

import base64
import contextlib
import shlex
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from nemo_run.core.execution.jobs import JobState, Plan
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, KubernetesClient, Object
from nemo_run.core.execution.pods.objects import field_of
from nemo_run.core.execution.pods.options import PodOptions
from nemo_run.core.execution.pods.spec import container_security, package_placeholder, placement
from nemo_run.core.execution.pods.status import broken, pod_status
from nemo_run.core.execution.pods.streams import copy_in, copy_out, execute
from nemo_run.core.execution.shared import leftovers
from nemo_run.core.execution.shared.attempt_files import copy_matching
from nemo_run.core.execution.shared.manifests import overlaid
from nemo_run.core.execution.shared.pauses import Pauses
from nemo_run.core.execution.shared.shipping import job_packages
from nemo_run.errors import CommandError, ExecutorError

_PIECE = 768 << 10
"""Bytes of one Secret; a cluster takes up to 1 MiB."""

LARGEST = 8 * _PIECE
"""Bytes of all packages of a job that may go in Secrets."""

_MOVER = "mover"
MOVER_LABEL = f"{MANAGER}/mover"
"""Label of the pods that copy."""

_SHARED_WITH_TASK = (
    "tolerations", "affinity", "nodeSelector", "nodeName", "serviceAccountName", "automountServiceAccountToken",
    "priorityClassName", "schedulerName", "runtimeClassName", "securityContext", "imagePullSecrets",
)  # fmt: skip
_PATIENCE = 300.0  # seconds in which a pod that copies must start


@dataclass(frozen=True)
class VolumeClaim:
    """The claim of a volume that pods share.

    Attributes:
        namespace: Namespace of its claim.
        claim: Its claim.
        path: Path at which it is mounted.
        image: Image of the pod that copies.
        image_pull_secrets: Names of the Secrets with which the image is pulled.
        pod: Merged into the specification of the pod that copies, which may run where the task does.
    """

    namespace: str
    claim: str
    path: str
    image: str
    image_pull_secrets: tuple[str, ...] = ()
    pod: Object = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {**asdict(self), "image_pull_secrets": list(self.image_pull_secrets)}

    @classmethod
    def of(cls, executor: PodOptions, namespace: str) -> VolumeClaim | None:
        """Return the volume that an executor names; ``None`` if it names none."""
        if not executor.workdir_pvc:
            return None
        image = executor.data_mover_image or str(executor.image)
        secrets = tuple(executor.image_pull_secrets)
        return cls(namespace, executor.workdir_pvc, executor.workdir_pvc_path, image, secrets, _like_the_task(executor))

    @classmethod
    def from_json(cls, doc: Mapping[str, object]) -> VolumeClaim:
        """Return the volume from the result of :meth:`to_json`."""
        secrets = doc["image_pull_secrets"]
        return cls(**{**doc, "image_pull_secrets": tuple(secrets)})  # type: ignore[arg-type]


def _like_the_task(executor: PodOptions) -> Object:
    """Return what a pod that copies has in common with those of the task: where it runs, as whom, on whose behalf."""
    pod = overlaid({k: v for k, v in placement(executor).items() if v}, executor.pod_spec_overrides)
    shared = {name: pod[name] for name in _SHARED_WITH_TASK if name in pod}
    given = executor.container_kwargs.get("securityContext")
    own = container_security(executor) | ({"securityContext": given} if given else {})
    return {**shared, **({"containers": [{"name": _MOVER, **own}]} if own else {})}


def contents(plan: Plan) -> dict[str, tuple[str, bytes]]:
    """Return the packages of a job: for each purpose (job, code, runner) the name and the bytes."""
    return {what: (package.name, package.content) for what, package in job_packages(plan).items()}


def for_volumes(plans: Iterable[Plan]) -> dict[VolumeClaim, dict[str, bytes]]:
    """Return the packages that go by volumes.

    Raises:
        ExecutorError: Packages of a job without a volume are too large to go in Secrets.
    """
    by_volume: dict[VolumeClaim, dict[str, bytes]] = {}
    for plan in plans:
        found = contents(plan)
        if plan.spec["volume"]:
            by_volume.setdefault(VolumeClaim.from_json(plan.spec["volume"]), {}).update(found.values())
        else:
            check_size(plan.job_id, found)
    return by_volume


# --- Secrets -----------------------------------------------------------------------------------------------------


def check_size(job_id: str, found: Mapping[str, tuple[str, bytes]]) -> None:
    """Check the size of packages; raise :class:`ExecutorError` if they are too large for Secrets."""
    sizes = {name: len(content) for name, (_, content) in found.items()}
    if sum(sizes.values()) > LARGEST:
        what = ", ".join(f"{name} {size / (1 << 20):.1f} MiB" for name, size in sizes.items())
        raise ExecutorError(
            f"job {job_id!r}: what goes with it is too large to be sent through the cluster's API ({what}; at most "
            f"{LARGEST >> 20} MiB): name a volume claim with workdir_pvc=, have the packager take less, or build the "
            "code into the image"
        )


def piece_secrets(namespace: str, found: Mapping[str, tuple[str, bytes]]) -> list[tuple[str, Object]]:
    """Return the Secrets that hold the packages, each with the path of its piece in the inbox."""
    made = []
    for what, (name, content) in found.items():
        for number, start in enumerate(range(0, len(content), _PIECE)):
            piece = base64.b64encode(content[start : start + _PIECE]).decode()
            metadata = {
                "name": f"nr-{name.partition('.')[0].lower()}-{number:02d}",
                "namespace": namespace,
                "labels": {MANAGED_BY: MANAGER},
            }
            secret = {
                "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "immutable": True, "data": {"piece": piece},
            }  # fmt: skip
            made.append((f"{what}.{number:02d}", secret))
    return made


def inbox(pieces: Sequence[tuple[str, Object]]) -> list[Object]:
    """Return the sources of the projected volume in which the pieces arrive."""
    return [
        {"secret": {"name": secret["metadata"]["name"], "items": [{"key": "piece", "path": path}]}}
        for path, secret in pieces
    ]


def adopt(client: KubernetesClient, obj: Object, owner: Object) -> None:
    """Add an owner to a Secret or a Service, and create it again if it was deleted meanwhile."""
    metadata = obj["metadata"]
    owned = {"metadata": {"ownerReferences": [owner]}}
    whole = {**obj, "metadata": {**metadata, **owned["metadata"]}}
    while client.patch("v1", obj["kind"], metadata["namespace"], metadata["name"], owned) is None:
        if client.provide(whole):
            return


def discard(client: KubernetesClient, objects: Iterable[Object]) -> None:
    """Delete objects that no other one owns."""
    for obj in objects:
        found = client.get("v1", obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
        if found and not found["metadata"].get("ownerReferences"):
            client.delete_unchanged({**found, "apiVersion": "v1", "kind": obj["kind"]})


def release(client: KubernetesClient, namespace: str, shared: Iterable[tuple[str, str]], uid: str) -> None:
    """Remove an owner that is about to be deleted from objects, and delete those that have no other one.

    If the cluster's garbage collector did this, it could delete an object that another job, or the next attempt, has
    adopted at that moment.
    """
    without = {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": uid}]}}
    for kind, name in shared:
        obj = client.patch("v1", kind, namespace, name, without)
        if obj and not obj["metadata"].get("ownerReferences"):
            client.delete_unchanged({**obj, "apiVersion": "v1", "kind": kind})


# --- a volume ----------------------------------------------------------------------------------------------------


def paths_on(volume: VolumeClaim, found: Mapping[str, tuple[str, bytes]]) -> dict[str, str]:
    """Return the paths of the packages on a volume, by their placeholders."""
    return {package_placeholder(what): f"{volume.path}/.packages/{name}" for what, (name, _) in found.items()}


def send(client: KubernetesClient, volume: VolumeClaim, files: Mapping[str, bytes]) -> None:
    """Copy those packages to a volume whose names are not there yet."""
    folder = f"{volume.path}/.packages"
    with mover(client, volume) as pod:
        listed = execute(client, volume.namespace, pod, ("sh", "-c", f"ls {shlex.quote(folder)} 2>/dev/null"))
        there = set(listed.stdout.decode(errors="replace").split())
        for name, content in files.items():
            if name not in there:
                _send_one(client, volume, pod, f"{folder}/{name}", content)


def _send_one(client: KubernetesClient, volume: VolumeClaim, pod: str, target: str, content: bytes) -> None:
    part = f"{target}.{uuid.uuid4().hex[:8]}.part"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, PurePosixPath(part).name)
        file.write_bytes(content)
        copy_in(client, volume.namespace, pod, _MOVER, file, part)
    moved = execute(client, volume.namespace, pod, ("mv", part, target))
    if moved.exit_code:
        raise CommandError(f"{target} could not be written: {moved.stderr.decode(errors='replace').strip()}", moved)


@contextlib.contextmanager
def mover(client: KubernetesClient, volume: VolumeClaim) -> Iterator[str]:
    """Yield the name of a pod that has the volume, which exists until the block ends.

    Raises:
        ExecutorError: It did not start.
    """
    name = f"nr-mover-{uuid.uuid4().hex[:12]}"
    container = {
        "name": _MOVER,
        "image": volume.image,
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"],
        "volumeMounts": [{"name": "work", "mountPath": volume.path}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
    }
    spec = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 3600,  # in case this process is killed
        "containers": [container],
        "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": volume.claim}}],
        "imagePullSecrets": [{"name": secret} for secret in volume.image_pull_secrets],
    }
    metadata = {"name": name, "namespace": volume.namespace, "labels": {MANAGED_BY: MANAGER, MOVER_LABEL: ""}}
    try:
        client.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": overlaid(spec, volume.pod)})
        _await(client, volume, name)
        yield name
    finally:
        client.delete("v1", "Pod", volume.namespace, name, grace=0)
        _sweep(client, volume.namespace)


def _sweep(client: KubernetesClient, namespace: str) -> None:
    """Delete pods that copied for a process that was killed: their time is over."""
    with contextlib.suppress(ExecutorError):
        for pod in client.pods(namespace, MOVER_LABEL):
            if field_of(pod, "status", "phase") in ("Succeeded", "Failed"):
                client.delete("v1", "Pod", namespace, pod["metadata"]["name"], grace=0)


def _await(client: KubernetesClient, volume: VolumeClaim, name: str) -> None:
    pauses = Pauses(until=time.monotonic() + _PATIENCE)
    what = f"the pod that copies to the volume {volume.claim!r} in namespace {volume.namespace!r}"
    while True:
        pod = client.get("v1", "Pod", volume.namespace, name)
        if pod is None:
            raise ExecutorError(f"{what} was deleted")
        status = pod_status(pod)
        if status.state is JobState.RUNNING:
            return
        if status.state.is_final or broken(pod) or pauses.over:
            raise ExecutorError(
                f"{what} did not start: {status.reason or status.state}; correct workdir_pvc= or data_mover_image="
            )
        pauses.sleep()


def copy_to_volume(client: KubernetesClient, volume: VolumeClaim, source: Path, target: str) -> None:
    """Copy a file or folder of this machine to a volume; a folder's content goes into the folder."""
    with mover(client, volume) as pod:
        copy_in(client, volume.namespace, pod, _MOVER, source, target)


def copy_from_volume(client: KubernetesClient, volume: VolumeClaim, source: str, target: Path) -> None:
    """Copy a file or folder of a volume to this machine; a folder's content goes into the folder."""
    with mover(client, volume) as pod:
        copy_out(client, volume.namespace, pod, _MOVER, source, target)


def collect(
    client: KubernetesClient, volume: VolumeClaim, folders: Sequence[str], patterns: Sequence[str], target: Path
) -> None:
    """Copy from folders of jobs on a volume the artifacts, and the files of their code that match a pattern."""
    with mover(client, volume) as pod, tempfile.TemporaryDirectory() as temporary, leftovers.gathered() as left:
        for number, folder in enumerate(folders):
            copy = Path(temporary, str(number))
            left.update(_copy_artifacts(client, volume, pod, f"{folder}/artifacts", target))
            if patterns:
                copy_out(client, volume.namespace, pod, _MOVER, f"{folder}/code", copy)
                copy_matching(copy, patterns, target)


def _copy_artifacts(
    client: KubernetesClient, volume: VolumeClaim, pod: str, source: str, target: Path
) -> dict[str, str]:
    """Copy the files below a folder on a volume, and return what is no file or could not be read."""
    script = f"cd {shlex.quote(source)} && {leftovers.PACK}"
    with tempfile.TemporaryFile() as archive:
        done = execute(client, volume.namespace, pod, ("sh", "-c", script), container=_MOVER, stdout=archive)
        archive.seek(0)
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        return leftovers.unpack(archive, target, source) | leftovers.complaints(done.stderr)
