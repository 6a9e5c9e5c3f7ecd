"""What a job becomes on Kubernetes: the pod of each of its nodes. Pure; shared by all engines that run in pods.

What differs from attempt to attempt and from node to node stands as a placeholder in it, which :func:`filled` replaces.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, ClassVar, TypeVar

from nemo_run.config.home import RUNDIR_NAME
from nemo_run.core.execution.base import Executor, ExecutorMacros, JobRequest
from nemo_run.core.execution.jobs import Command
from nemo_run.core.execution.launcher import Layout
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, Object
from nemo_run.core.execution.shared.shipping import layout_script, needs_runner, relocated
from nemo_run.core.masking import is_secret
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.errors import ExecutorError

T = TypeVar("T")

NAME, ATTEMPT, RANK = "\0name\0", "\0attempt\0", "\0rank\0"
"""Placeholders for the name of an attempt, its number, and the rank of a node."""

ATTEMPT_LABEL, NODE_LABEL, NET_LABEL = (f"{MANAGER}/{what}" for what in ("attempt", "node", "net"))
TASK, KEEPER = "task", "keeper"
"""Containers of a pod: that of the task, and the one that keeps its artifacts."""

RUN_FOLDER = f"/{RUNDIR_NAME}"
INBOX = f"{RUN_FOLDER}-in"
"""Where packages arrive in a pod, each in one or several pieces."""

INBOX_VOLUME = "nemo-run-in"
LARGEST_ARTIFACTS = 5 << 20
"""Bytes of packed artifacts that a pod without a volume can hand over."""

_BOOT = """\
mkdir -p "$folder" || exit 125
{begin}
(
set -e
{layout}) || exit 125
cd {cwd} || exit 126
{path}{start}
"""

# Kubernetes before 1.22 may start a container again whose pod is deleted right after its end, on the same volume.
_ONCE = """\
if ! (set -C; echo $$ > "$folder"/.pid) 2>/dev/null; then
  [ -e "$folder"/.pid ] && echo "this attempt has run before, and does not run again" >&2
  exit 125
fi"""
_AGAIN = 'echo $$ > "$folder"/.pid'

# The first process of a container passes on the request to end, and ends a little later than the task: a container
# runtime may drop what it has not read of the output by then. A shell ignores SIGINT for what it starts in this way;
# env restores it where it can (coreutils 8.31 and later). Some shells say what killed a child; that is not read.
_START = """\
if env --default-signal=INT,QUIT true 2>/dev/null; then set -- env --default-signal=INT,QUIT "$@"; fi
"$@" 2>&1 &
task=$!
exec 2>/dev/null
trap 'kill -TERM $task 2>/dev/null' TERM
wait $task
code=$?
while kill -0 $task 2>/dev/null; do wait $task; code=$?; done
sleep 0.5
exit $code"""

# Waits for the task's process to end, however it does, and writes what it left where it can be read when the pod has
# ended: to its own log.
_KEEP = """\
trap '' TERM
n=0
while [ ! -s {folder}/.pid ] && [ $n -lt 100 ]; do sleep 0.2; n=$((n+1)); done
read -r pid < {folder}/.pid || exit 0
while [ -d "/proc/$pid" ]; do sleep 0.2; done
cd {folder}/artifacts 2>/dev/null && if [ -n "$(ls -A)" ]; then
{pack}
fi
echo end
"""
_PACK = """\
  tar -czf ../.artifacts.tar.gz . && size=$(wc -c < ../.artifacts.tar.gz)
  if [ "$size" -le {largest} ]; then base64 < ../.artifacts.tar.gz | tr -d '\\n'; echo; else echo "! $size"; fi"""


@dataclass(kw_only=True)
class PodExecutor(Executor):
    """What is said of pods, whatever it is that makes them.

    Attributes:
        image: The image. It needs ``sh`` and ``tar``, and for functions and Python scripts Python 3.10 or newer.
        num_nodes: Pods over which one task spans.
        nprocs_per_node: Processes that a launcher such as torchrun starts in each pod; by default one for each GPU.
        gpus_per_node: GPUs of each pod.
        cpu_requests: CPU that is kept free for each pod, e.g. ``"500m"`` or ``"8"``.
        memory_requests: Memory that is kept free for each pod, e.g. ``"64Gi"``.
        cpu_limits: CPU that each pod may use.
        memory_limits: Memory that each pod may use; a task that needs more is killed.
        extra_resource_requests: Further resources that are kept free.
        extra_resource_limits: Further limits.
        volume_mounts: Where volumes are mounted, as Kubernetes takes it.
        volumes: Volumes of the pod, as Kubernetes takes them.
        labels: Labels of the job.
        annotations: Annotations of the job.
        pod_annotations: Annotations of the pods.
        pod_labels: Labels of the pods.
        tolerations: Taints that do not matter, as Kubernetes takes them.
        affinity: Where the pods should run, as Kubernetes takes it.
        env_list: Environment variables as Kubernetes takes them, e.g. from a Secret or from a field of the pod.
        pod_spec_overrides: Merged into the specification of the pods.
        image_pull_secrets: Names of the Secrets with which the image is pulled.
        container_kwargs: Merged into the container of the task.
        workdir_pvc: Volume claim through which code and files of any size reach the pods, and artifacts come back.
        workdir_pvc_path: Where that is mounted.
        data_mover_image: Image of the pod that copies to that volume and from it; by default the task's own.
        context: Context of the kubeconfig; by default the current one, or the cluster that this process runs in.
        kubeconfig: The kubeconfig; by default ``$KUBECONFIG`` or ``~/.kube/config``.
    """

    needs_image: ClassVar[bool] = True
    may_restart: ClassVar[bool] = False
    """Whether a pod may be started again within an attempt."""

    namespace: str | None = None
    image: str = ""
    num_nodes: int = 1
    nprocs_per_node: int | None = None
    gpus_per_node: int | None = None
    cpu_requests: str | None = None
    memory_requests: str | None = None
    cpu_limits: str | None = None
    memory_limits: str | None = None
    extra_resource_requests: dict[str, str] = field(default_factory=dict)
    extra_resource_limits: dict[str, str] = field(default_factory=dict)
    volume_mounts: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    pod_annotations: dict[str, Any] = field(default_factory=dict)
    pod_labels: dict[str, Any] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    affinity: dict[str, Any] = field(default_factory=dict)
    env_list: list[dict[str, Any]] = field(default_factory=list)
    pod_spec_overrides: dict[str, Any] = field(default_factory=dict)
    image_pull_secrets: list[str] = field(default_factory=list)
    container_kwargs: dict[str, Any] = field(default_factory=dict)
    workdir_pvc: str | None = None
    workdir_pvc_path: str = RUN_FOLDER
    data_mover_image: str = ""
    context: str | None = None
    kubeconfig: str | None = None
    gpu_resource_name: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = field(default_factory=dict)
    service_account: str | None = None
    priority_class: str | None = None
    shm_size: str | None = None
    working_dir: str = ""
    grace: int = 30
    packager: Packager = field(default_factory=GitArchivePackager)

    def nnodes(self) -> int:
        """Number of pods over which a task spans."""
        return self.num_nodes

    def nproc_per_node(self) -> int:
        """Processes in each pod."""
        return self.nprocs_per_node or self.gpus_per_node or 1

    def macro_values(self) -> ExecutorMacros:
        """Variables in which a pod is told of the others."""
        return ExecutorMacros(
            head_node_ip_var="MASTER_ADDR",
            nproc_per_node_var="NPROC_PER_NODE",
            num_nodes_var="NNODES",
            node_rank_var="NODE_RANK",
            het_group_host_var="het_group_host",
        )

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        where = type(self).__name__
        if (self.image or self.needs_image) and not re.fullmatch(r"[A-Za-z0-9]\S*", self.image):
            raise ExecutorError(f"{where}.image: {self.image!r} is not the name of an image")
        for name in ("num_nodes", "nprocs_per_node"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ExecutorError(f"{where}.{name} must be 1 or more, but is {getattr(self, name)}")
        if not self.workdir_pvc_path.startswith("/"):
            raise ExecutorError(f"{where}.workdir_pvc_path: {self.workdir_pvc_path!r} must begin with '/'")
        mounted = {volume.get("name") for volume in self.volumes}
        for mount in self.volume_mounts:
            if mount.get("name") not in mounted:
                raise ExecutorError(f"{where}.volume_mounts: there is no volume {mount.get('name')!r} in volumes")
        for name in ("volumes", "volume_mounts", "tolerations", "affinity", "env_list", "pod_spec_overrides",
                     "container_kwargs", "labels", "annotations", "pod_labels", "pod_annotations"):  # fmt: skip
            try:
                json.dumps(getattr(self, name))
            except (TypeError, ValueError) as e:
                raise ExecutorError(f"{where}.{name} must be values that JSON can hold: {e}") from None


# --- packages ----------------------------------------------------------------------------------------------------


def package_paths(executor: PodExecutor, request: JobRequest) -> dict[str, str]:
    """Where what a job needs arrives in its pods, by name: in the inbox, or on the volume."""
    names = ["job", *(["code"] if request.code_archive else []), *(["runner"] if needs_runner(request.command) else [])]
    return {name: package_place(name) if executor.workdir_pvc else f"{INBOX}/{name}" for name in names}


def package_place(name: str) -> str:
    """Placeholder for the path of a package on a volume."""
    return f"\0{name}\0"


# --- names -------------------------------------------------------------------------------------------------------


def attempt_name(request: JobRequest) -> str:
    """Name of the attempts of a job, less their number: the same whenever it is asked for, and no other job's."""
    digest = hashlib.sha256(request.directory.encode()).hexdigest()[:10]
    return f"nr-{_slug(request.job_id)[:30].strip('-')}-{digest}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "job"


def label_value(text: str) -> str:
    """A text as the value of a label.

    >>> label_value("my job/0")
    'my_job_0'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:63].strip("_.-")


def net_name(request: JobRequest) -> str:
    """Name of the network in which pods find each other: that of the attempt, or of the job group."""
    if not request.group:
        return NAME
    folder = str(PurePosixPath(request.directory).parent)
    return f"nr-{_slug(request.group)[:30].strip('-')}-{hashlib.sha256(folder.encode()).hexdigest()[:10]}"


def host_name(member: int, rank: int | str) -> str:
    """Host name of a pod in its network."""
    return f"node-{member}-{rank}"


# --- the pod -----------------------------------------------------------------------------------------------------


def job_folder(executor: PodExecutor, request: JobRequest) -> str:
    """The folder in the pod that stands for the job's folder in the store."""
    if not executor.workdir_pvc:
        return RUN_FOLDER
    job = "/".join(_slug(part) for part in request.job_id.split("/"))
    return f"{executor.workdir_pvc_path}/{_slug(request.experiment_id)}/{job}/{ATTEMPT}-{RANK}"


def command_inside(executor: PodExecutor, request: JobRequest) -> Command:
    """The command as it is run in the pod: its paths, its Python, its launcher."""
    command = relocated(request.command, request.directory, job_folder(executor, request))
    layout = Layout(
        nodes=executor.num_nodes,
        processes_per_node=executor.nproc_per_node(),
        head_node=head_address(request),
        node_rank=RANK,
        profile_dir=job_folder(executor, request),
        python="python3",
    )
    return executor.get_launcher().wrap(_without_macros(executor, request, command), layout)


def _without_macros(executor: PodExecutor, request: JobRequest, command: Command) -> Command:
    """The command with the names of nodes in place of macros; no shell need be there to look them up."""
    macros, values = executor.macro_values(), _node_variables(executor, request)

    def replaced(text: str) -> str:
        if "_var}" not in text:
            return text
        return re.sub(rf"\$\{{?({'|'.join(values)})\}}?", lambda match: values[match[1]], macros.substitute(text))

    env = {name: replaced(value) for name, value in command.env.items()}
    return replace(command, argv=tuple(map(replaced, command.argv)), env=env)


def head_address(request: JobRequest) -> str:
    """Address of the first node."""
    return f"{host_name(request.member, 0)}.{net_name(request)}"


def environment(executor: PodExecutor, request: JobRequest, command: Command) -> dict[str, str]:
    """All variables of the task beside those of the image: nothing comes from the launching process by itself."""
    group = {}
    if request.group:
        hosts = (f"{host_name(member, 0)}.{net_name(request)}" for member in range(request.members))
        group = {"NEMO_RUN_GROUP_HOSTS": ",".join(hosts), "NEMO_RUN_GROUP_RANK": str(request.member)}
    own = {"PYTHONUNBUFFERED": "1", "NEMO_RUN_ATTEMPT": ATTEMPT}
    return {**own, **_node_variables(executor, request), **group, **executor.env_vars, **command.env}


def _node_variables(executor: PodExecutor, request: JobRequest) -> dict[str, str]:
    return {
        "MASTER_ADDR": head_address(request) if executor.num_nodes > 1 else "localhost",
        "NODE_RANK": RANK,
        "NNODES": str(executor.num_nodes),
        "NPROC_PER_NODE": str(executor.nproc_per_node()),
    }


def literal(text: str) -> str:
    """A text in which Kubernetes expands nothing.

    >>> literal("$(HOME) costs $5")
    '$$(HOME) costs $$5'
    """
    return text.replace("$", "$$")


def variables(env: Mapping[str, str], secret: str) -> list[Object]:
    """Environment variables of a container; those that look like secrets are read from a Secret."""
    entries = []
    for name, value in env.items():
        if is_secret(name):
            entries.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}})
        else:
            entries.append({"name": name, "value": literal(value)})
    return entries


def boot_script(folder: str, cwd: str, packages: Mapping[str, str], *, may_restart: bool = False) -> str:
    """The shell script that lays out the job's folder and runs the task.

    Args:
        folder: The job's folder in the pod.
        cwd: Where the task runs; empty for where the image says.
        packages: Where the packages are in the pod; those of the inbox are in pieces.
        may_restart: It may run more than once in one folder.
    """
    begin, join = [f"folder={shlex.quote(folder)}"], ""
    for name, path in packages.items():
        if path.startswith(f"{INBOX}/"):
            join += f'cat {path}.* > "$folder"/.{name}\n'
            begin.append(f'{name}="$folder"/.{name}')
        else:
            begin.append(f"{name}={shlex.quote(path)}")
    path = 'export PYTHONPATH="$folder/code${PYTHONPATH:+:$PYTHONPATH}"\n' if "code" in packages else ""
    layout = join + layout_script(_variable("folder"), {name: _variable(name) for name in packages})
    cwd = shlex.quote(cwd) if cwd else "."
    boot = _BOOT.format(begin=_AGAIN if may_restart else _ONCE, layout=layout, cwd=cwd, path=path, start=_START)
    return "\n".join([*begin, boot])


def _variable(name: str) -> str:
    """A shell variable, as the layout takes it."""
    return f"\0{name}\0"


def working_dir(executor: PodExecutor, request: JobRequest, command: Command) -> str:
    """Working directory; empty for that of the image."""
    base = f"{job_folder(executor, request)}/code" if request.code_archive else ""
    path = PurePosixPath(base, executor.working_dir, command.cwd)
    return "" if str(path) == "." else str(path)


def resources(executor: PodExecutor) -> Object:
    """What a pod asks for, and what it may use."""
    gpus = {executor.gpu_resource_name: str(executor.gpus_per_node)} if executor.gpus_per_node else {}
    requests = {"cpu": executor.cpu_requests, "memory": executor.memory_requests, **executor.extra_resource_requests}
    limits = {"cpu": executor.cpu_limits, "memory": executor.memory_limits, **gpus, **executor.extra_resource_limits}
    both = {"requests": {k: v for k, v in requests.items() if v}, "limits": {k: v for k, v in limits.items() if v}}
    return {name: values for name, values in both.items() if values}


def pod_spec(executor: PodExecutor, request: JobRequest) -> Object:
    """The specification of the pods of a job."""
    command = command_inside(executor, request)
    folder = job_folder(executor, request)
    cwd, packages = working_dir(executor, request, command), package_paths(executor, request)
    script = boot_script(folder, cwd, packages, may_restart=executor.may_restart)
    mount_path = executor.workdir_pvc_path if executor.workdir_pvc else RUN_FOLDER
    mounts = [{"name": "nemo-run", "mountPath": mount_path}]
    task = {
        "name": TASK,
        "image": executor.image,
        "command": ["/bin/sh", "-c", literal(script), "sh"],
        "args": [literal(word) for word in command.argv],
        "env": [*variables(environment(executor, request, command), NAME), *executor.env_list],
        "resources": resources(executor),
        "volumeMounts": [
            *mounts,
            {"name": INBOX_VOLUME, "mountPath": INBOX, "readOnly": True},
            *([{"name": "nemo-run-shm", "mountPath": "/dev/shm"}] if executor.shm_size else []),  # noqa: S108
            *executor.volume_mounts,
        ],
    }
    task = merged(task, executor.container_kwargs)
    work = {"persistentVolumeClaim": {"claimName": executor.workdir_pvc}} if executor.workdir_pvc else {"emptyDir": {}}
    shm = {"emptyDir": {"medium": "Memory", "sizeLimit": executor.shm_size}}
    spec = {
        "restartPolicy": "Never",
        "containers": [task, _keeper(executor, folder, mounts)],
        "volumes": [
            {"name": "nemo-run", **work},
            {"name": INBOX_VOLUME, "projected": {"sources": []}},
            *([{"name": "nemo-run-shm", **shm}] if executor.shm_size else []),
            *executor.volumes,
        ],
        "shareProcessNamespace": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": executor.grace,
        **placement(executor),
    }
    if executor.num_nodes > 1 or request.group:
        spec |= {"hostname": host_name(request.member, RANK), "subdomain": net_name(request)}
    given = {name: value for name, value in spec.items() if value not in (None, "", [], {})}
    pod: Object = merged(given, executor.pod_spec_overrides)
    return pod


def placement(executor: PodExecutor) -> Object:
    """Where pods may run, and on whose behalf."""
    return {
        "tolerations": executor.tolerations,
        "affinity": executor.affinity,
        "nodeSelector": executor.node_selector,
        "imagePullSecrets": [{"name": name} for name in executor.image_pull_secrets],
        "serviceAccountName": executor.service_account,
        "priorityClassName": executor.priority_class,
    }


def _keeper(executor: PodExecutor, folder: str, mounts: Sequence[Object]) -> Object:
    pack = "echo +" if executor.workdir_pvc else _PACK.format(largest=LARGEST_ARTIFACTS)
    script = _KEEP.format(folder=shlex.quote(folder), pack=pack)
    keeper: Object = {
        "name": KEEPER,
        "image": executor.image,
        "command": ["/bin/sh", "-c", literal(script)],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "volumeMounts": list(mounts),
    }
    same = ("securityContext", "imagePullPolicy")
    return keeper | {name: executor.container_kwargs[name] for name in same if name in executor.container_kwargs}


def merged(base: Any, changes: Any) -> Any:
    """A specification with changes: dictionaries are merged, lists of things with names by these, all else is replaced.

    >>> merged({"a": {"b": 1}, "l": [{"name": "x", "v": 1}]}, {"a": {"c": 2}, "l": [{"name": "x", "w": 2}]})
    {'a': {'b': 1, 'c': 2}, 'l': [{'name': 'x', 'v': 1, 'w': 2}]}
    """
    if isinstance(base, Mapping) and isinstance(changes, Mapping):
        both = {name: merged(value, changes[name]) if name in changes else value for name, value in base.items()}
        return both | {name: value for name, value in changes.items() if name not in base}
    if _are_named(base) and _are_named(changes):
        by_name = {entry["name"]: entry for entry in base}
        for entry in changes:
            by_name[entry["name"]] = merged(by_name.get(entry["name"], {}), entry)
        return list(by_name.values())
    return changes


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, Mapping) and "name" in e for e in value)


def standard_labels(request: JobRequest) -> dict[str, str]:
    """Labels of every object of an attempt."""
    return {
        MANAGED_BY: MANAGER,
        ATTEMPT_LABEL: NAME,
        f"{MANAGER}/experiment": label_value(request.experiment_id),
        f"{MANAGER}/job": label_value(request.job_id),
        NET_LABEL: net_name(request),
    }


def filled(value: T, places: Mapping[str, str]) -> T:
    """A value, with the placeholders in all its strings replaced.

    >>> filled({"a": [f"{NAME}-1"]}, {NAME: "x"})
    {'a': ['x-1']}
    """
    if isinstance(value, str):
        for place, text in places.items():
            value = value.replace(place, text)  # type: ignore[assignment]
        return value
    if isinstance(value, Mapping):
        return {key: filled(entry, places) for key, entry in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [filled(entry, places) for entry in value]  # type: ignore[return-value]
    return value
