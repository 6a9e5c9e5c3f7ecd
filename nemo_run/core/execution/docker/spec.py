"""What a job becomes on a Docker engine: the arguments of one container. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from nemo_run.config.home import RUNDIR_NAME
from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.docker.client import LABEL, PRIVATE_NETWORK, is_made_for_us
from nemo_run.core.execution.docker.options import DEFAULT_NETWORK, port_bindings, ulimit
from nemo_run.core.execution.jobs import Command
from nemo_run.core.execution.launcher import ATTEMPT_FOLDER, Layout
from nemo_run.core.execution.shared import environments
from nemo_run.core.execution.shared.shipping import relocated
from nemo_run.core.execution.shared.units import parse_size
from nemo_run.core.masking import masked, masked_arguments

if TYPE_CHECKING:
    from nemo_run.core.execution.docker import DockerExecutor

RUN_FOLDER = f"/{RUNDIR_NAME}"
"""Where a task finds its job's folder."""

CODE_FOLDER = f"{RUN_FOLDER}/code"
BUNDLE = "/nemo_run_runner.zip"
ENVIRONMENTS = "/nemo_run_environments"
"""Where a task finds the environments of all jobs."""


# A container's output goes to a file in the attempt's folder: byte for byte, and there to be read when the container
# is gone or the engine is down. These run the program with that file as its output; it keeps its process.
_SHELL = 'exec >>"$1" 2>&1; shift; exec "$@"'
_PYTHON = (
    "import os,sys\n"
    "log=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT,0o600)\n"
    "os.dup2(log,1);os.dup2(log,2)\n"
    "os.execvp(sys.argv[2],sys.argv[2:])"
)

# Option of the SDK -> option of `docker run`, to show a plan.
_FLAGS = {
    "user": "--user", "working_dir": "--workdir", "hostname": "--hostname", "network": "--network",
    "runtime": "--runtime", "shm_size": "--shm-size", "ipc_mode": "--ipc", "mem_limit": "--memory",
    "memswap_limit": "--memory-swap", "pids_limit": "--pids-limit", "init": "--init", "privileged": "--privileged",
}  # fmt: skip


def container(executor: DockerExecutor, request: TaskRequest) -> dict[str, Any]:
    """Return the arguments of the SDK's ``containers.create`` for a job, less what differs from attempt to attempt."""
    command = command_inside(executor, request)
    options: dict[str, Any] = {
        "command": redirected(command),
        "environment": {"PYTHONUNBUFFERED": "1", **group_environment(request), **command.env},
        "working_dir": working_dir(executor, request, command),
        **networking(executor, request),
        "volumes": [absolute_volume(volume, request.cwd) for volume in executor.volumes],
        "ports": port_bindings(executor.ports),
        "labels": {LABEL: "", f"{LABEL}.experiment": request.experiment_id, f"{LABEL}.job": request.job_id},
        "init": True,  # signals arrive, and ended children are taken care of, whatever the task is
        **limits(executor),
    }
    extra: Mapping[str, Any] = json.loads(json.dumps(executor.additional_kwargs))
    merged = {name: {**options[name], **extra.get(name, {})} for name in ("environment", "labels")}
    options |= {**extra, **merged}
    if request.group and executor.network == DEFAULT_NETWORK:
        options["labels"][PRIVATE_NETWORK] = options["network"]
    given = {name: value for name, value in options.items() if value not in (None, "", [], {})}
    if extra.get("entrypoint") in ("", []):  # as `docker run --entrypoint ""`: that of the image is left out
        given["entrypoint"] = [""]
    return given


def command_inside(executor: DockerExecutor, request: TaskRequest) -> Command:
    """Return the command as it is run in the container: its paths, its Python, its launcher."""
    command = relocated(request.command, request.directory, RUN_FOLDER, runner=BUNDLE)
    layout = Layout(
        nodes=executor.nodes,
        processes_per_node=executor.ntasks_per_node,
        head_node=host_name(request, 0),
        node_rank=str(request.member),
        log_dir=f"{RUN_FOLDER}/{ATTEMPT_FOLDER}",
        profile_dir=RUN_FOLDER,
        python="python3",
        restarts=executor.restarts is not None,
    )
    command = executor.get_launcher().wrap(command, layout)
    return environments.inside(command, RUN_FOLDER, ENVIRONMENTS, "python3") if request.in_environment else command


def redirected(command: Command) -> list[str]:
    """Return the command with its output in the log of the attempt."""
    log = f"{RUN_FOLDER}/{ATTEMPT_FOLDER}/log"
    if command.python:  # an image for Python need not have a shell
        return ["python3", "-c", _PYTHON, log, *command.argv]
    return ["/bin/sh", "-c", _SHELL, "sh", log, *command.argv]


def for_attempt(options: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """Return the arguments with what is an attempt's own."""
    folder = f"attempts/{attempt}"
    return {
        **options,
        "command": [arg.replace(ATTEMPT_FOLDER, folder) for arg in options["command"]],
        "environment": {**options["environment"], "NEMO_RUN_ATTEMPT": str(attempt)},
    }


def group_environment(request: TaskRequest) -> dict[str, str]:
    """Return what a member of a group is told of the others."""
    if not request.group:
        return {}
    hosts = ",".join(host_name(request, member) for member in range(request.members))
    return {"NEMO_RUN_GROUP_HOSTS": hosts, "NEMO_RUN_GROUP_RANK": str(request.member)}


def working_dir(executor: DockerExecutor, request: TaskRequest, command: Command) -> str:
    """Working directory; empty for that of the image."""
    base = CODE_FOLDER if request.code_archive else ""
    path = PurePosixPath(base, executor.working_dir, command.cwd)
    return "" if str(path) == "." else str(path)


def absolute_volume(volume: str, cwd: str) -> str:
    """Return a volume, with a relative folder or ``~`` of this machine as an absolute path; names of volumes stay."""
    source, colon, rest = volume.partition(":")
    if source.startswith(("./", "../", "~")) or source in (".", ".."):
        source = os.path.normpath(os.path.join(cwd, os.path.expanduser(source)))  # noqa: PTH111, PTH118
    return f"{source}{colon}{rest}"


def limits(executor: DockerExecutor) -> dict[str, Any]:
    """Return what the task may use of the machine."""
    memory = parse_size(executor.memory)
    return {
        "mem_limit": memory,
        "memswap_limit": memory,  # with swap on top of it, it would be no limit
        "nano_cpus": int(executor.cpus * 1_000_000_000) if executor.cpus else None,
        "pids_limit": executor.pids,
        "device_requests": gpu_requests(executor.num_gpus, executor.gpu_devices),
        "ulimits": [ulimit(text) for text in executor.ulimits],
        "shm_size": executor.shm_size,
        "ipc_mode": executor.ipc_mode,
        "privileged": executor.privileged or None,
        "runtime": executor.runtime,
        "healthcheck": executor.healthcheck,
        "user": executor.user,
    }


def gpu_requests(count: int | None, devices: Sequence[str]) -> list[dict[str, Any]]:
    """Return which GPUs are wanted, as the SDK takes it.

    >>> gpu_requests(None, ["0", "GPU-5f"])
    [{'device_ids': ['0', 'GPU-5f'], 'capabilities': [['gpu']]}]
    >>> gpu_requests(None, ["nvidia.com/gpu=0"])
    [{'driver': 'cdi', 'device_ids': ['nvidia.com/gpu=0']}]
    """
    by_name = [device for device in devices if "=" in device]
    by_id = [device for device in devices if "=" not in device]
    wanted: list[dict[str, Any]] = []
    wanted += [{"driver": "cdi", "device_ids": by_name}] if by_name else []
    wanted += [{"device_ids": by_id, "capabilities": [["gpu"]]}] if by_id else []
    wanted += [{"count": count, "capabilities": [["gpu"]]}] if count else []
    return wanted


# --- names -------------------------------------------------------------------------------------------------------


def container_name(experiment_id: str, job_id: str, directory: str, attempt: int) -> str:
    """Return the name of an attempt's container: always the same, and no other attempt's on this engine."""
    digest = hashlib.sha256(directory.encode()).hexdigest()[:8]
    return f"nemo-run-{_safe(experiment_id)[:80]}-{_safe(job_id)[:60]}-{attempt}-{digest}"


def host_name(request: TaskRequest, member: int) -> str:
    """Host name of a job, or of one member of its group, by which the others find it."""
    if not request.group:
        return _label(request.job_id)
    return f"{_label(request.group)}-{member}"


def networking(executor: DockerExecutor, request: TaskRequest) -> dict[str, Any]:
    """Network of the container, and its names there."""
    network, host = executor.network, host_name(request, request.member)
    if request.group and network == DEFAULT_NETWORK:  # a network of their own, unless the user names another
        group_folder = str(PurePosixPath(request.directory).parent)
        network = container_name(request.experiment_id, request.group, group_folder, 0)
    if not is_made_for_us(network):
        return {"network": network}
    aliases = {"networking_config": {network: {"Aliases": [host]}}} if request.group else {}
    return {"network": network, "hostname": host, **aliases}


def at_fixed_address(options: Mapping[str, Any], subnet: str) -> dict[str, Any]:
    """Return the arguments of a member of a group with an address of its own, and the names of all other members.

    So each member finds the others by name, whichever of them runs already.

    Args:
        options: The arguments of its container.
        subnet: Addresses of the group's network, e.g. ``"172.18.0.0/16"``.
    """
    network, env = options["network"], options["environment"]
    hosts, rank = env["NEMO_RUN_GROUP_HOSTS"].split(","), int(env["NEMO_RUN_GROUP_RANK"])
    first = ipaddress.ip_network(subnet).network_address + 2  # the one before it is the engine's
    endpoint = {**options["networking_config"][network], "IPAMConfig": {"IPv4Address": str(first + rank)}}
    names = {host: str(first + member) for member, host in enumerate(hosts) if member != rank}
    given = options.get("extra_hosts") or {}
    if isinstance(given, list):  # as `docker run --add-host` has them
        given = dict(entry.split(":", 1) for entry in given)
    return {**options, "networking_config": {network: endpoint}, "extra_hosts": {**names, **given}}


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "x"


def _label(name: str) -> str:
    """Return a name as one label of a host name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:50].strip("-") or "job"


# --- showing -----------------------------------------------------------------------------------------------------


def as_docker_run(image: str, directory: str, options: Mapping[str, Any]) -> str:
    """Return a plan as a ``docker run`` that does the same, to be read; values of secrets masked."""
    words = ["docker", "run", *_flags(options), *_limits(options), *_published(options.get("ports", {}))]
    volumes = [f"{directory}:{RUN_FOLDER}", *options.get("volumes", [])]
    words += [word for volume in volumes for word in ("--volume", volume)]
    env = masked(options.get("environment", {}))
    words += [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
    return " ".join(map(shlex.quote, [*words, image, *masked_arguments(_command(options["command"]))]))


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    for name, flag in _FLAGS.items():
        value = options.get(name)
        if value is not None:
            yield from [flag] if value is True else [flag, str(value)]


def _limits(options: Mapping[str, Any]) -> Iterator[str]:
    if options.get("nano_cpus"):
        yield from ["--cpus", f"{options['nano_cpus'] / 1e9:g}"]
    for request in options.get("device_requests", []):
        ids = request.get("device_ids") or []
        if request.get("driver") == "cdi":
            yield from (word for name in ids for word in ("--device", name))
            continue
        count = request.get("count", request.get("Count"))
        yield from ["--gpus", f"device={','.join(ids)}" if ids else "all" if count == -1 else str(count)]
    for limit in options.get("ulimits", []):
        yield from ["--ulimit", f"{limit.get('name')}={limit.get('soft')}:{limit.get('hard')}"]


def _published(ports: Mapping[str, Any]) -> Iterator[str]:
    for inside, bindings in ports.items():
        for binding in bindings:
            parts = [binding.get("HostIp", ""), binding["HostPort"], inside]
            yield from ["--publish", ":".join(filter(None, parts))]


def _command(argv: list[str]) -> list[str]:
    """Return the command without what only puts its output into the log."""
    return argv[4:] if argv[:3] == ["python3", "-c", _PYTHON] else argv[5:]
