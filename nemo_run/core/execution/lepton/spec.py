"""What a job becomes on Lepton: bodies of requests, the script that every replica runs, and what states mean. Pure.

A replica gets its files in its own command, as far as they are small, and else from packages on the mount. Kubernetes,
which is below Lepton, expands ``$(NAME)`` and ``$$`` in commands and variables; so nothing of a user stands there with
a ``$`` in it.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.execution.lepton.options import LeptonOptions
from nemo_run.core.execution.lepton.script import ENCODED, EXACT, run_script
from nemo_run.core.execution.shared.leftovers import PACK_ALL
from nemo_run.core.execution.shared.manifests import overlaid
from nemo_run.core.execution.shared.program import program
from nemo_run.core.execution.shared.service_names import service_name
from nemo_run.core.execution.shared.small_tar import tar_of, zipped
from nemo_run.core.masking import masked

LONGEST_NAME = 36
LONGEST_ARGUMENT = 120_000  # bytes; the kernel takes 131,072
INLINE = 96 * 1024  # bytes of files that a replica gets in its command
PART = 720 * 1024  # bytes of a package that go with one job; etcd takes 1.5 MB, base64 in its object
LARGEST_OUTPUT = 6 << 20  # bytes that are fetched through a log, which Kubernetes rotates at 10 MiB


class LeptonJobState(str, enum.Enum):
    """State of a job, as Lepton names it."""

    Starting = "Starting"
    Running = "Running"
    Failed = "Failed"
    Completed = "Completed"
    Stopped = "Stopped"
    Stopping = "Stopping"
    Deleting = "Deleting"
    Deleted = "Deleted"
    Restarting = "Restarting"
    Archived = "Archived"
    Queueing = "Queueing"
    Awaiting = "Awaiting"
    PendingRetry = "PendingRetry"
    Terminating = "Terminating"
    Unknown = "UNK"

    @classmethod
    def _missing_(cls, value: object) -> LeptonJobState:  # noqa: ARG003
        return cls.Unknown


_STATES = {
    LeptonJobState.Starting: (JobState.PENDING, "starting"),
    LeptonJobState.Queueing: (JobState.PENDING, "in the queue"),
    LeptonJobState.Awaiting: (JobState.PENDING, "awaiting resources"),
    LeptonJobState.PendingRetry: (JobState.PENDING, "to be tried again by Lepton"),
    LeptonJobState.Restarting: (JobState.PENDING, "restarting"),
    LeptonJobState.Running: (JobState.RUNNING, ""),
    LeptonJobState.Stopping: (JobState.RUNNING, "stopping"),
    LeptonJobState.Terminating: (JobState.RUNNING, "stopping"),
    LeptonJobState.Deleting: (JobState.RUNNING, "being deleted"),
    LeptonJobState.Completed: (JobState.SUCCEEDED, ""),
    LeptonJobState.Failed: (JobState.FAILED, ""),
    LeptonJobState.Stopped: (JobState.CANCELLED, "stopped on Lepton"),
    LeptonJobState.Deleted: (JobState.CANCELLED, "deleted on Lepton"),
}


def job_state(job: Mapping[str, Any]) -> tuple[JobState, str]:
    """Return the state of a job as the service describes it, and why it is in it."""
    status = job.get("status") or {}
    said = LeptonJobState(status.get("state") or "UNK")
    if said is LeptonJobState.Archived:
        return _archived(job.get("spec") or {}, status)
    ready, active = status.get("ready") or 0, status.get("active") or 0
    if said is LeptonJobState.Running and ready < active:
        return JobState.PENDING, f"{ready} of {active} replicas are ready"
    return _STATES.get(said, (JobState.UNKNOWN, f"Lepton says {status.get('state') or 'nothing'!r} of it"))


def _archived(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[JobState, str]:
    if spec.get("stopped"):
        return JobState.CANCELLED, "stopped on Lepton"
    if (status.get("succeeded") or 0) >= (spec.get("completions") or 1):
        return JobState.SUCCEEDED, ""
    if status.get("failed"):
        return JobState.FAILED, ""
    return JobState.FAILED, "it was archived on Lepton, and how it ended is not recorded"


# --- what a job runs -----------------------------------------------------------------------------------------------


def attempt_name(job_id: str, directory: str, attempt: int) -> str:
    """Return the name of an attempt's job."""
    return service_name(job_id, directory, attempt, LONGEST_NAME)


def job_spec(options: LeptonOptions, request: TaskRequest, folder: str) -> dict[str, Any]:
    """Return a job, less what is only known when it is submitted.

    Args:
        options: Where it runs.
        request: What it runs.
        folder: Its folder on the mount.
    """
    return {
        **program(options, request, folder),
        "base": options.nemo_run_dir.rstrip("/"),
        "is_on_mount": options.is_on_mount(),
        "is_here": options.launched_from_cluster,
        "node_group": options.node_group,
        "before": list(options.pre_launch_commands),
        "secrets": dict(options.secret_vars),
        "job": lepton_spec(options),
        "helper": helper_spec(options),
    }


def lepton_spec(options: LeptonOptions) -> dict[str, Any]:
    """Return the ``spec`` of a job, less its command, variables and node group; ``custom_spec`` has the last word."""
    spec: dict[str, Any] = {
        "resource_shape": options.resource_shape,
        "container": {"image": str(options.container_image)},
        "shared_memory_size": options.shared_memory_size,
        "completions": options.nodes,
        "parallelism": options.nodes,
        "mounts": options.mounts,
        "image_pull_secrets": options.image_pull_secrets,
        "intra_job_communication": True,
        "queue_config": queue_config(options),
        "reservation_config": {"reservation_id": options.node_reservation} if options.node_reservation else None,
    }
    described: dict[str, Any] = overlaid(_without_empty(spec), options.custom_spec)
    return described


def queue_config(options: LeptonOptions) -> dict[str, Any] | None:
    """Return the priority in the queue; a job that may take or give up nodes must have one."""
    preempting = {
        name: True for name in ("can_be_preempted", "can_preempt") if getattr(options, name)
    }  # absent, not false: that is how the service tells them apart
    if not preempting and not options.queue_priority:
        return None
    return {"priority_class": options.queue_priority or "mid-4000", **preempting}


def helper_spec(options: LeptonOptions) -> dict[str, Any]:
    """Return the ``spec`` of a job of ours that moves files, less its command and node group."""
    spec = {
        "resource_shape": options.mover_resource_shape,
        "container": {"image": options.mover_image},
        "completions": 1,
        "parallelism": 1,
        "mounts": options.mounts,
        "image_pull_secrets": options.image_pull_secrets,
        "reservation_config": {"reservation_id": options.node_reservation} if options.node_reservation else None,
    }
    return _without_empty(spec)


def _without_empty(spec: Mapping[str, Any]) -> dict[str, Any]:
    doc: dict[str, Any] = json.loads(json.dumps(spec))
    return {name: value for name, value in doc.items() if value not in (None, "", [], {})}


# --- bodies --------------------------------------------------------------------------------------------------------


def creation(
    name: str, spec: Mapping[str, Any], command: Sequence[str], envs: Iterable[Any], node_group_id: str
) -> dict[str, Any]:
    """Return the body that creates a job."""
    doc: dict[str, Any] = json.loads(json.dumps(spec))
    doc["container"]["command"] = list(command)
    doc["envs"] = [*envs, *doc.get("envs", [])]
    if node_group_id:
        doc["affinity"] = {"allowed_dedicated_node_groups": [node_group_id], **doc.get("affinity", {})}
    return {"metadata": {"id": name, "name": name, "visibility": "private"}, "spec": doc}


def variables(env: Mapping[str, str], secrets: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the variables of a job; a value that might not arrive as it is goes encoded.

    >>> variables({"A": "1", "B": "$x"}, {"C": "my-secret"})  # doctest: +NORMALIZE_WHITESPACE
    [{'name': 'A', 'value': '1'}, {'name': 'NEMO_RUN_ENCODED_B', 'value': 'JHg='},
     {'name': 'C', 'value_from': {'secret_name_ref': 'my-secret'}}]
    """
    plain = [{"name": name, "value": value} for name, value in env.items() if EXACT.match(value)]
    encoded = [
        {"name": f"{ENCODED}{name}", "value": _base64(value.encode("utf-8", "surrogateescape"))}
        for name, value in env.items()
        if not EXACT.match(value)
    ]
    references = [{"name": name, "value_from": {"secret_name_ref": secret}} for name, secret in secrets.items()]
    return [*plain, *encoded, *references]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def arguments(content: bytes) -> list[str]:
    """Return bytes in base64, cut into arguments of a command."""
    text = _base64(content)
    return [text[start : start + LONGEST_ARGUMENT] for start in range(0, len(text), LONGEST_ARGUMENT)]


_START = (
    't=`mktemp -d` && printf %s "$@" | base64 -d | tar -xzf - -C "$t" && '
    'exec `command -v bash || echo sh` "$t/run.sh" "$t"'
)


def run_command(files: Mapping[str, bytes]) -> list[str]:
    """Return the command that unpacks small files, ``run.sh`` among them, and runs that."""
    return ["/bin/sh", "-c", _START, "nemo-run", *arguments(zipped(tar_of(files)))]


_PUT = (
    'd=$1 n=$2; shift 2; umask 077; mkdir -p "$d" && t=`mktemp "$d/.new-XXXXXX"` && '
    'printf %s "$@" | base64 -d > "$t" && mv -f "$t" "$d/$n"'
)


def put_command(folder: str, name: str, content: bytes) -> list[str]:
    """Return the command that writes a file on the mount."""
    return ["/bin/sh", "-c", _PUT, "nemo-run", folder, name, *arguments(content)]


_UNPACK = 'd=$1; shift; mkdir -p "$d" && printf %s "$@" | base64 -d | tar -xzf - -C "$d"'


def unpack_command(folder: str, archive: bytes) -> list[str]:
    """Return the command that unpacks a small archive on the mount."""
    return ["/bin/sh", "-c", _UNPACK, "nemo-run", folder, *arguments(archive)]


_LIST = 'cd "$1" 2>/dev/null && find -L . -type f -print0 > "$t" || : > "$t"'
_GET_LEFT = 'cd "$1" && { PACK; } | gzip > "$t"'.replace("PACK", PACK_ALL)
_GET = 'cd "$1" && shift && tar -chzf "$t" -- "$@"'
_OUTPUT = (
    't=`mktemp`; WORK && n=`wc -c < "$t"` && '
    'if [ "$n" -gt LARGEST ]; then echo "$n bytes"; else base64 < "$t"; fi; echo "[NAME ended: $? 0 0 0]"'
)


def list_command(name: str, folder: str) -> list[str]:
    """Return the command that prints, in base64, the names of all files below a folder, each with a zero byte."""
    return _output_command(name, _LIST, folder)


def get_command(name: str, folder: str, names: Sequence[str]) -> list[str]:
    """Return the command that prints, in base64, an archive of files of a folder."""
    return _output_command(name, _GET, folder, *names)


def get_left_command(name: str, folder: str) -> list[str]:
    """Return the command that prints, in base64, an archive of all files below a folder, and what that lacks."""
    return _output_command(name, _GET_LEFT, folder)


def _output_command(name: str, work: str, *args: str) -> list[str]:
    script = _OUTPUT.replace("WORK", work).replace("LARGEST", str(LARGEST_OUTPUT)).replace("NAME", name)
    return ["/bin/sh", "-c", script, "nemo-run", *args]


# --- showing -------------------------------------------------------------------------------------------------------


def shown(name: str, spec: Mapping[str, Any]) -> str:
    """Return the request that creates a job, and what its replicas run, to be read; values of secrets masked."""
    envs = [
        {**env, "value": masked({env["name"]: env["value"]})[env["name"]]} if "value" in env else env
        for env in variables(spec["env"], spec["secrets"])
    ]
    command = ["/bin/sh", "-c", _START, "nemo-run", "…"]
    body = creation(name, spec["job"], command, envs, "")
    if spec["node_group"]:
        body["spec"]["affinity"] = {"allowed_dedicated_node_groups": [f"(the id of {spec['node_group']})"]}
    given = [what for what in ("code", "runner") if spec["code_archive" if what == "code" else "runner"]]
    script = run_script(spec, name, 1, ["job", *given], {})
    return f"POST /jobs\n{json.dumps(body, indent=2, ensure_ascii=False)}\n\n# run.sh\n{script}".rstrip("\n")
