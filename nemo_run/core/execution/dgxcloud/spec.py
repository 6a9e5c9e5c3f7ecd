"""What a job becomes on DGX Cloud: names, bodies of requests, and the scripts that they run. Pure.

A command of the service is short, so what is to be run lies on a persistent volume: files named by their content, below
``.packages`` in the folder that all jobs share, and for each job the folder in which it runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.dgxcloud.options import DGXCloudOptions
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.execution.launcher import ATTEMPT_FOLDER
from nemo_run.core.execution.shared.manifests import literal
from nemo_run.core.execution.shared.program import program
from nemo_run.core.execution.shared.shell_words import word
from nemo_run.core.execution.shared.shipping import Package, layout_script
from nemo_run.core.masking import masked, masked_arguments

TRAININGS, DISTRIBUTED, WORKSPACES = "trainings", "distributed", "workspaces"
"""Kinds of workloads: on one node, on several nodes, and for short helpers of ours."""

LONGEST_NAME = 34

MOVER_IMAGE = "busybox:1.37.0"
_TO_TIDY_UP = 600  # seconds after which the service itself removes a helper whose creator is gone

# Phase of a workload -> state, and a word on it.
PHASES = {
    "Creating": (JobState.SUBMITTED, ""),
    "Initializing": (JobState.PENDING, "initializing"),
    "Resuming": (JobState.PENDING, "resuming"),
    "Pending": (JobState.PENDING, ""),
    "Running": (JobState.RUNNING, ""),
    "Updating": (JobState.RUNNING, "updating"),
    "Degraded": (JobState.RUNNING, "degraded"),
    "Stopping": (JobState.RUNNING, "stopping"),
    "Terminating": (JobState.RUNNING, "terminating"),
    "Deleting": (JobState.RUNNING, "deleting"),
    "Stopped": (JobState.CANCELLED, ""),
    "Failed": (JobState.FAILED, ""),
    "Completed": (JobState.SUCCEEDED, ""),
}


# --- names ---------------------------------------------------------------------------------------------------------


def helper_name(what: str, unique: str) -> str:
    """Return the name of a short helper workload."""
    return f"nemo-run-{what}-{unique}"[:LONGEST_NAME]


# --- what a job runs -----------------------------------------------------------------------------------------------


def job_spec(options: DGXCloudOptions, request: TaskRequest, folder: str) -> dict[str, Any]:
    """Return a job, less what is only known when it is submitted.

    Args:
        options: Where it runs.
        request: What it runs.
        folder: Its folder on the volume.
    """
    several = options.nodes > 1
    return {
        **program(options, request, folder, "" if several else f"{folder}/{ATTEMPT_FOLDER}"),
        "kind": DISTRIBUTED if several else TRAININGS,
        "base": options.pvc_nemo_run_dir.rstrip("/"),
        "workload": workload_spec(options),
        "longest_command": options.MAX_ARGS_CHARS,
    }


def workload_spec(options: DGXCloudOptions) -> dict[str, Any]:
    """Return the ``spec`` of a workload, less its command and variables; ``custom_spec`` has the last word."""
    spec: dict[str, Any] = {
        "image": str(options.container_image),
        "compute": {"gpuDevicesRequest": options.gpus_per_node, "largeShmRequest": True},
        "storage": {"pvc": options.pvcs},
        "backoffLimit": 0,  # tries are counted by the experiment, which tells them apart
    }
    if options.nodes > 1:
        spec |= {
            "distributedFramework": options.distributed_framework,
            "minReplicas": options.nodes,
            "maxReplicas": options.nodes,
            "numWorkers": options.nodes,
        }
    return {**spec, **options.custom_spec}


def creation(
    name: str, project: Mapping[str, Any], spec: Mapping[str, Any], command: str, args: str, env: Mapping[str, str]
) -> dict[str, Any]:
    """Return the body that creates a workload."""
    given = spec.get("environmentVariables", [])
    variables = [{"name": key, "value": literal(value)} for key, value in env.items()]
    return {
        "name": name,
        "useGivenNameAsPrefix": False,  # so that a second request of the same name is refused
        "projectId": project["id"],
        "clusterId": project["clusterId"],
        "spec": {"command": command, "args": args, **spec, "environmentVariables": [*variables, *given]},
    }


# --- scripts -------------------------------------------------------------------------------------------------------


def packages_folder(base: str) -> str:
    """Return where the packages lie on the volume."""
    return f"{base}/.packages"


def run_script(spec: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the script that runs a job on each of its nodes; its argument is the number of the attempt.

    Args:
        spec: The job, as :func:`job_spec` describes it.
        files: Where the ``job`` archive, the ``code`` and the ``runner`` are.
    """
    several, folder = spec["nodes"] > 1, spec["folder"]
    parts = [
        f"# {spec['title']}; the argument is the number of the attempt",
        'export NEMO_RUN_ATTEMPT="$1"',
        f'attempt=attempts/$1\njob={word(folder)}\nlog="$job/$attempt/log"\nend="$job/$attempt/end"',
        _RANK if several else "",
        _HEAD_BEGINS if several else "",
        _LAY_OUT.replace("LAYOUT", layout_script(folder, files).rstrip("\n")),
        _HEAD_TELLS if several else "",
        'export PYTHONPATH="$job/code${PYTHONPATH:+:$PYTHONPATH}"' if "code" in files else "",
        _RUN.replace("CWD", word(spec["cwd"])).replace("COMMAND", " ".join(map(word, spec["argv"]))),
    ]
    return "\n".join(part for part in parts if part)


_RANK = """\
[ -n "$HOSTNAME" ] || read -r HOSTNAME < /proc/sys/kernel/hostname
rank=${HOSTNAME##*-}
export GROUP_RANK="$rank"
[ "$rank" = 0 ] || { log="$log.$rank"; end="$end.$rank"; }"""

# Several nodes: the first one lays out the job's folder and tells the others its address, by a file there.
_HEAD_BEGINS = 'if [ "$rank" = 0 ]; then'

_HEAD_TELLS = """\
  head=$(hostname -i 2>/dev/null); head=${head%% *}
  echo "${head:=$HOSTNAME}" > "$job/$attempt/head.new" && mv -f "$job/$attempt/head.new" "$job/$attempt/head"
else
  seconds=0
  until [ -s "$job/$attempt/head" ]; do
    [ "$seconds" -lt 1800 ] || { echo "nemo-run: the first node has not come up in 30 minutes" >&2; exit 1; }
    seconds=$((seconds + 1)); sleep 1
  done
  read -r head < "$job/$attempt/head"
fi"""

_LAY_OUT = """\
(
set -e
LAYOUT
mkdir -p "$job/$attempt"
) || { echo "nemo-run: the files of this job cannot be laid out in $job" >&2; exit 1; }
[ -e /nemo_run ] || ln -s "$job" /nemo_run 2>/dev/null"""

# What the task writes goes to the service and, byte for byte, to a file of the attempt. The task is asked to end when
# this is; a process that it leaves behind cannot hold its end up.
_RUN = """\
pipe=${TMPDIR:-/tmp}/nemo-run-$$
rm -rf "$pipe"; (umask 077; mkdir "$pipe" && mkfifo "$pipe/log") || exit 1
(umask 077; : >> "$log") || exit 1
tee -a "$log" < "$pipe/log" &
tee=$!
stop='' task=''
trap 'stop=1; [ -z "$task" ] || kill -TERM "$task" 2>/dev/null' TERM
started=$(date +%s)
(
  exec > "$pipe/log" 2>&1
  cd -- CWD || exit 1
  exec COMMAND
) &
task=$!
[ -z "$stop" ] || kill -TERM "$task"
wait "$task"; code=$?
while [ "$code" -gt 128 ] && kill -0 "$task" 2>/dev/null; do wait "$task"; code=$?; done
(sleep 1; kill "$tee") >/dev/null 2>&1 &
watch=$!
wait "$tee" 2>/dev/null
kill "$watch" 2>/dev/null
rm -rf "$pipe"
echo "$code $started $(date +%s)" > "$end.new" && mv -f "$end.new" "$end"
exit "$code"
"""


def run_command(script: str, attempt: int, before: str = "") -> tuple[str, str]:
    """Return the command and arguments of a workload that runs a script of :func:`run_script`.

    Args:
        script: Its path.
        attempt: Number of the attempt.
        before: What to do first, as :func:`put` gives it.
    """
    if before:
        return "/bin/sh -c", f"'{before} && exec /bin/sh {script} {attempt}'"
    return "/bin/sh", f"{script} {attempt}"


def put(folder: str, package: Package) -> str:
    """Return a shell command that writes a small package, unless it is there already.

    Neither it nor :func:`join` has quotes, or a ``$`` that Kubernetes would expand.
    """
    path = f"{folder}/{package.name}"
    text = base64.b64encode(package.content).decode()
    return (
        f"umask 077 && mkdir -p {folder} && {{ [ -e {path} ] || "
        f"{{ echo {text} | base64 -d > {path}.$HOSTNAME && mv -f {path}.$HOSTNAME {path}; }}; }}"
    )


def pieces(folder: str, package: Package, limit: int) -> list[str]:
    """Return shell commands within the limit that write the pieces of a large package, in any order or at once."""
    room = (limit - len(put(folder, Package(f"{package.name}.00000", b"")))) // 4 * 3
    parts = [package.content[start : start + room] for start in range(0, len(package.content), room)]
    return [put(folder, Package(f"{package.name}.{number:05}", part)) for number, part in enumerate(parts)]


def join(folder: str, package: Package) -> str:
    """Return a shell command that succeeds where a package is there, or can be joined from all of its pieces."""
    path, digest = f"{folder}/{package.name}", hashlib.sha256(package.content).hexdigest()
    return (
        f"umask 077; [ -e {path} ] || {{ cat {path}.[0-9][0-9][0-9][0-9][0-9] > {path}.$HOSTNAME && "
        f"echo {digest}  {path}.$HOSTNAME | sha256sum -c - && mv -f {path}.$HOSTNAME {path} && rm -f {path}.[0-9]*; }} "
        f"|| {{ rm -f {path}.$HOSTNAME; exit 1; }}"
    )


def helper(name: str, project: Mapping[str, Any], pvcs: Sequence[Mapping[str, Any]], script: str) -> dict[str, Any]:
    """Return the body of a workspace that runs a short shell command, which has no single quotes, on the volume."""
    spec = {
        "image": MOVER_IMAGE,
        "storage": {"pvc": list(pvcs)},
        "backoffLimit": 0,
        "restartPolicy": "Never",
        "autoDeletionTimeAfterCompletionSeconds": _TO_TIDY_UP,
    }
    return creation(name, project, spec, "sh -c", f"'{script}'", {})


# --- states --------------------------------------------------------------------------------------------------------


def phase_name(workload: Mapping[str, Any]) -> str:
    """Return the phase of a workload, as any of the service's answers has it."""
    return str(workload.get("phase") or workload.get("actualPhase") or "")


def phase_state(workload: Mapping[str, Any]) -> tuple[JobState, str]:
    """Return the state of a workload as the service describes it, and why it is in it."""
    phase = phase_name(workload)
    state, note = PHASES.get(phase, (JobState.UNKNOWN, f"the service says {phase or 'nothing'!r} of it"))
    if state is JobState.SUCCEEDED:
        return state, ""
    words = [note, workload.get("phaseReason") or "", workload.get("phaseMessage") or ""]
    return state, ": ".join(str(text) for text in words if text)


# --- showing -------------------------------------------------------------------------------------------------------


def describe(base_url: str, name: str, spec: Mapping[str, Any]) -> str:
    """Return the request that creates the workload, and its script, to be read; secrets are masked."""
    folder = packages_folder(spec["base"])
    suffixes = {
        "job": "tar.gz",
        "code": "tar.gz" if spec["code_archive"] else "",
        "runner": "zip" if spec["runner"] else "",
    }
    files = {kind: f"{folder}/{kind}-….{suffix}" for kind, suffix in suffixes.items() if suffix}
    script = f"{folder}/run-….sh"
    command, args = run_command(script, 1)
    body = creation(name, {"id": "…", "clusterId": "…"}, spec["workload"], command, args, spec["env"])
    body["spec"]["environmentVariables"] = [_masked(variable) for variable in body["spec"]["environmentVariables"]]
    text = run_script({**spec, "argv": masked_arguments(spec["argv"])}, files)
    request = json.dumps(body, indent=2, ensure_ascii=False)
    return f"POST {base_url}/workloads/{spec['kind']}\n{request}\n\n# {script}\n{text}".rstrip("\n")


def _masked(variable: Mapping[str, Any]) -> dict[str, Any]:
    if "value" not in variable:
        return dict(variable)
    return {**variable, "value": masked({variable["name"]: variable["value"]})[variable["name"]]}
