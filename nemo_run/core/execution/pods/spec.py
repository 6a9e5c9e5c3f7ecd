"""The pods of a task. Pure; shared by all engines that run in pods.

Placeholders stand for what differs from attempt to attempt and from node to node; :func:`fill` replaces them.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Command
from nemo_run.core.execution.launcher import Layout
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, Object
from nemo_run.core.execution.pods.objects import ATTEMPT, ATTEMPT_LABEL, NAME, NET_LABEL, RANK
from nemo_run.core.execution.pods.options import RUN_FOLDER, PodOptions
from nemo_run.core.execution.pods.quantities import has_whole_cores, shared
from nemo_run.core.execution.shared.leaving import leaving
from nemo_run.core.execution.shared.leftovers import PACK
from nemo_run.core.execution.shared.manifests import literal, overlaid
from nemo_run.core.execution.shared.shipping import layout_script, needs_runner, relocated
from nemo_run.core.files import folder_name
from nemo_run.core.masking import holds_secret

TASK, KEEPER = "task", "keeper"
"""Containers of a pod: that of the task, and the one that keeps its artifacts."""

INBOX = f"{RUN_FOLDER}-in"
"""Folder of a pod in which packages arrive, each in one or several pieces."""

INBOX_VOLUME = "nemo-run-in"
_ORDINARY = 1000  # a user that is not root
LARGEST_ARTIFACTS, LARGEST_IN_LOG = 5 << 20, 1 << 20
"""Bytes of packed artifacts that a pod without a volume can hand over: by a container of its own, or in its log."""

_BOOT = """\
mkdir -p "$folder" || exit 125
{begin}
(
set -e
{layout}) || exit 125
cd {cwd} || exit 126
{path}{start}
"""

# Kubernetes before 1.22 may start a container again whose pod is deleted right after its end, on the same volume. It
# writes its process number all the same: the one of the first start may be that of another process of this pod, for
# whose end the keeper would wait.
_ONCE = """\
if ! (set -C; echo $$ > "$folder"/.pid) 2>/dev/null; then
  [ -e "$folder"/.pid ] && { echo "this attempt has run before, and does not run again" >&2; echo $$ > "$folder"/.pid; }
  exit 125
fi"""
_AGAIN = 'echo $$ > "$folder"/.pid'

# The first process of a container passes on the request to end, and ends a little later than the task: a container
# runtime may drop what it has not read of the output by then. A shell ignores SIGINT for what it starts in this way;
# env restores it (coreutils 8.31 and later). Some shells print what killed a child; that is dropped.
_START = """\
if env --default-signal=INT,QUIT true 2>/dev/null; then set -- env --default-signal=INT,QUIT "$@"; fi
"$@" 2>&1 &
task=$!
exec 2>/dev/null
trap 'kill -TERM $task 2>/dev/null' TERM
wait $task
code=$?
while kill -0 $task 2>/dev/null; do wait $task; code=$?; done
{leave}sleep 0.5
exit $code"""

# Waits for the task's process to end, and writes its artifacts to a place that can be read when the pod has ended: its
# own log.
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
  {pack} 2>../.left | gzip > ../.artifacts.tar.gz
  size=$(wc -c < ../.artifacts.tar.gz)
  if [ "$size" -le {largest} ]; then base64 < ../.artifacts.tar.gz | tr -d '\\n'; echo; else echo "! $size"; fi
  [ ! -s ../.left ] || {{ printf '~'; head -c 65536 ../.left | base64 | tr -d '\\n'; echo; }}"""


# --- packages ----------------------------------------------------------------------------------------------------


def package_paths(executor: PodOptions, request: TaskRequest) -> dict[str, str]:
    """Return where the packages of a job arrive in its pods, by name: in the inbox, or on the volume."""
    names = ["job", *(["code"] if request.code_archive else []), *(["runner"] if needs_runner(request.command) else [])]
    return {name: package_placeholder(name) if executor.workdir_pvc else f"{INBOX}/{name}" for name in names}


def package_placeholder(name: str) -> str:
    """Return the placeholder for the path of a package on a volume."""
    return f"\0{name}\0"


SHOWN_PACKAGES = {package_placeholder(name): f"<{name}>" for name in ("job", "code", "runner")}
"""Values of the placeholders of packages in a description."""


# --- names -------------------------------------------------------------------------------------------------------


def attempt_name(request: TaskRequest) -> str:
    """Return the name of the attempts of a task without their number; it is stable, and unique to the task."""
    digest = hashlib.sha256(f"{request.directory}{request.launch}".encode()).hexdigest()[:10]
    return f"nr-{_slug(request.job_id)[:30].strip('-')}-{digest}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "job"


def label_value(text: str) -> str:
    """Return a text as the value of a label.

    >>> label_value("my job/0")
    'my_job_0'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:63].strip("_.-")


def net_name(request: TaskRequest) -> str:
    """Return the name of the network in which pods find each other: that of the attempt, or of the job group."""
    if not request.group:
        return NAME
    folder = f"{PurePosixPath(request.directory).parent}{request.launch}"
    return f"nr-{_slug(request.group)[:30].strip('-')}-{hashlib.sha256(folder.encode()).hexdigest()[:10]}"


def host_name(member: int, rank: int | str) -> str:
    """Return the host name of a pod in its network."""
    return f"node-{member}-{rank}"


# --- the pod -----------------------------------------------------------------------------------------------------


def job_folder(executor: PodOptions, request: TaskRequest) -> str:
    """Return the folder in the pod that stands for the job's folder in the store."""
    if not executor.workdir_pvc:
        return RUN_FOLDER
    experiment = "-".join(filter(None, [request.experiment_id, request.launch]))
    parts = [experiment, *request.job_id.split("/")]
    return "/".join([executor.workdir_pvc_path, *map(folder_name, parts), f"{ATTEMPT}-{RANK}"])


def command_inside(executor: PodOptions, request: TaskRequest) -> Command:
    """Return the command as it runs in the pod, with its paths, its Python and its launcher."""
    command = relocated(request.command, request.directory, job_folder(executor, request))
    layout = Layout(
        nodes=executor.num_nodes,
        processes_per_node=executor.nproc_per_node(),
        head_node=head_address(request),
        node_rank=RANK,
        profile_dir=job_folder(executor, request),
        python="python3",
        restarts=executor.restarts is not None,
    )
    return executor.get_launcher().wrap(_without_macros(executor, request, command), layout)


def _without_macros(executor: PodOptions, request: TaskRequest, command: Command) -> Command:
    """Return the command with the values of macros in place of these, so that it needs no shell to expand them."""
    macros, values = executor.macro_values(), _node_variables(executor, request)

    def replaced(text: str) -> str:
        if "_var}" not in text:
            return text
        return re.sub(rf"\$\{{?({'|'.join(values)})\}}?", lambda match: values[match[1]], macros.substitute(text))

    env = {name: replaced(value) for name, value in command.env.items()}
    return replace(command, argv=tuple(map(replaced, command.argv)), env=env)


def head_address(request: TaskRequest) -> str:
    """Return the address of the first node."""
    return f"{host_name(request.member, 0)}.{net_name(request)}"


def environment(executor: PodOptions, request: TaskRequest, command: Command) -> dict[str, str]:
    """Return the variables of the task besides those of the image; none is inherited from the launching process."""
    group = {}
    if request.group:
        hosts = (f"{host_name(member, 0)}.{net_name(request)}" for member in range(request.members))
        group = {"NEMO_RUN_GROUP_HOSTS": ",".join(hosts), "NEMO_RUN_GROUP_RANK": str(request.member)}
    own = {"PYTHONUNBUFFERED": "1", "NEMO_RUN_ATTEMPT": ATTEMPT}
    return {**own, **_node_variables(executor, request), **group, **command.env}


def _node_variables(executor: PodOptions, request: TaskRequest) -> dict[str, str]:
    return {
        "MASTER_ADDR": head_address(request) if executor.num_nodes > 1 else "localhost",
        "NODE_RANK": RANK,
        "NNODES": str(executor.num_nodes),
        "NPROC_PER_NODE": str(executor.nproc_per_node()),
    }


def variables(env: Mapping[str, str], secret: str) -> list[Object]:
    """Return the environment variables of a container; those that look like secrets are read from a Secret."""
    entries = []
    for name, value in env.items():
        if holds_secret(name, value):
            entries.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}})
        else:
            entries.append({"name": name, "value": literal(value)})
    return entries


def boot_script(
    folder: str, cwd: str, packages: Mapping[str, str], *, leave: str = "", may_restart: bool = False
) -> str:
    """Return the shell script that lays out the job's folder and runs the task.

    Args:
        folder: The job's folder in the pod.
        cwd: Working directory of the task; empty for that of the image.
        packages: Paths of the packages in the pod; those of the inbox are in pieces.
        leave: Script that ends the log with the artifacts; empty where another container keeps them.
        may_restart: Whether it may run more than once in one folder.
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
    start = _START.format(leave=leave)
    boot = _BOOT.format(begin=_AGAIN if may_restart else _ONCE, layout=layout, cwd=cwd, path=path, start=start)
    return "\n".join([*begin, boot])


def _variable(name: str) -> str:
    """Return a shell variable in the form that the layout takes."""
    return f"\0{name}\0"


def working_dir(executor: PodOptions, request: TaskRequest, command: Command) -> str:
    """Return the working directory; empty for that of the image."""
    base = f"{job_folder(executor, request)}/code" if request.code_archive else ""
    path = PurePosixPath(base, executor.working_dir, command.cwd)
    return "" if str(path) == "." else str(path)


def resources(executor: PodOptions) -> Object:
    """Return the requests and limits of a pod."""
    gpus = {executor.gpu_resource_name: str(executor.gpus_per_node)} if executor.gpus_per_node else {}
    requests = {"cpu": executor.cpu_requests, "memory": executor.memory_requests, **executor.extra_resource_requests}
    limits = {"cpu": executor.cpu_limits, "memory": executor.memory_limits, **gpus, **executor.extra_resource_limits}
    both = {"requests": {k: v for k, v in requests.items() if v}, "limits": {k: v for k, v in limits.items() if v}}
    return {name: values for name, values in both.items() if values}


def pod_spec(executor: PodOptions, request: TaskRequest, *, keeps_artifacts: bool = True) -> Object:
    """Return the specification of the pods of a task.

    Args:
        executor: Its executor.
        request: The task.
        keeps_artifacts: Whether a second container may hand over the artifacts when the task has ended. Where it may
            not, or would keep the task from having whole cores, they are the end of the task's own log.
    """
    by_keeper = keeps_artifacts and not has_whole_cores(resources(executor))
    command = command_inside(executor, request)
    folder = job_folder(executor, request)
    cwd, packages = working_dir(executor, request, command), package_paths(executor, request)
    leave = "" if by_keeper else leaving(NAME, _packing(executor, LARGEST_IN_LOG))
    script = boot_script(folder, cwd, packages, leave=leave, may_restart=executor.may_restart)
    mount_path = executor.workdir_pvc_path if executor.workdir_pvc else RUN_FOLDER
    mounts = [{"name": "nemo-run", "mountPath": mount_path}]
    task = {
        "name": TASK,
        "image": str(executor.image),
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
    task = overlaid(task | container_security(executor), executor.container_kwargs)
    work = {"persistentVolumeClaim": {"claimName": executor.workdir_pvc}} if executor.workdir_pvc else {"emptyDir": {}}
    shm = {"emptyDir": {"medium": "Memory", "sizeLimit": executor.shm_size}}
    spec = {
        "restartPolicy": "Never",
        "containers": [*_sharing(task, _keeper(executor, folder, mounts))] if by_keeper else [task],
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
    pod: Object = overlaid(given, executor.pod_spec_overrides)
    return pod


def inbox_volumes(volumes: Sequence[Object], sources: Sequence[Object]) -> list[Object]:
    """Return the volumes of a pod with the sources of its inbox."""
    inbox = {"projected": {"sources": list(sources)}}
    return [{**volume, **inbox} if volume["name"] == INBOX_VOLUME else volume for volume in volumes]


def placement(executor: PodOptions) -> Object:
    """Return where pods may run, and on behalf of which account."""
    of_type = {executor.gpu_type_label: executor.gpu_type} if executor.gpu_type else {}
    return {
        "tolerations": executor.tolerations,
        "affinity": executor.affinity,
        "nodeSelector": {**executor.node_selector, **of_type},
        "imagePullSecrets": [{"name": name} for name in executor.image_pull_secrets],
        "serviceAccountName": executor.service_account,
        "priorityClassName": executor.priority_class,
        "securityContext": pod_security(executor),
    }


def pod_security(executor: PodOptions) -> Object:
    """Return on whose behalf all containers of a pod run."""
    user = executor.run_as_user if executor.run_as_user is not None or not executor.restricted else _ORDINARY
    group = executor.run_as_group
    shared = executor.fs_group
    if executor.restricted and shared is None:
        shared = group if group is not None else user
    given = {"runAsUser": user, "runAsGroup": group, "fsGroup": shared}
    strict = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} if executor.restricted else {}
    return {name: value for name, value in given.items() if value is not None} | strict


def container_security(executor: PodOptions) -> Object:
    """Return the rights of each container, as a part of it."""
    if not executor.restricted:
        return {}
    return {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}


def _sharing(task: Object, keeper: Object) -> Iterator[Object]:
    """Yield both containers, with the resources of the task shared between them."""
    own, rest = shared(task.get("resources") or {})
    yield {**task, "resources": own} if own else task
    yield {**keeper, "resources": rest} if rest else keeper


def _packing(executor: PodOptions, largest: int) -> str:
    """Return the script that packs artifacts, or says that there are some on the volume."""
    return "echo +" if executor.workdir_pvc else _PACK.format(largest=largest, pack=PACK)


def _keeper(executor: PodOptions, folder: str, mounts: Sequence[Object]) -> Object:
    script = _KEEP.format(folder=shlex.quote(folder), pack=_packing(executor, LARGEST_ARTIFACTS))
    keeper: Object = {
        "name": KEEPER,
        "image": str(executor.image),
        "command": ["/bin/sh", "-c", literal(script)],
        "volumeMounts": list(mounts),
    }
    same = ("securityContext", "imagePullPolicy")
    given = {name: executor.container_kwargs[name] for name in same if name in executor.container_kwargs}
    return keeper | container_security(executor) | given


def standard_labels(request: TaskRequest) -> dict[str, str]:
    """Return the labels of every object of an attempt."""
    return {
        MANAGED_BY: MANAGER,
        ATTEMPT_LABEL: NAME,
        f"{MANAGER}/experiment": label_value(request.experiment_id),
        f"{MANAGER}/job": label_value(request.job_id),
        NET_LABEL: net_name(request),
    }
