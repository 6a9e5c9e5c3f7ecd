"""The backend of the Docker engine: attempts as containers."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import Backend, Capabilities, Submission, TaskRequest, one_by_one
from nemo_run.core.execution.docker import DockerExecutor, building, ownership, spec as container
from nemo_run.core.execution.docker.client import (
    LABEL,
    PRIVATE_NETWORK,
    DockerClient,
    default_connection,
    is_on_this_machine,
    sdk,
    why_not_usable,
)
from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.shared import environments, leftovers
from nemo_run.core.execution.shared.attempt_files import (
    attempt_folder,
    copy_matching,
    open_log,
    rank_logs,
)
from nemo_run.core.execution.shared.attempt_folder import AttemptFolder
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.shared.log_reader import FileLog
from nemo_run.core.execution.shared.units import seconds
from nemo_run.core.images import Image
from nemo_run.core.packaging.archive import extract
from nemo_run.core.runners.bundle import runner_bundle
from nemo_run.errors import EngineUnreachableError, ExecutorError

if TYPE_CHECKING:
    from nemo_run.core.tunnel.client import Tunnel

_SCHEME = "docker://"
_OOM_LAG = 0.5  # seconds by which an engine may hear of a kill for lack of memory later than of the end
_GRACE = f"{LABEL}.grace"
_KEEP = f"{LABEL}.keep"

# States of a container, those of Podman included.
_NOT_STARTED = ("created", "configured", "initialized")
_ENDED = ("exited", "dead", "stopped")


@door("the Docker engine")
class DockerBackend(Backend):
    """Runs attempts as containers. What ended is in the attempts' folders, what has not is on the engine."""

    name: ClassVar[str] = "docker"
    can: ClassVar[Capabilities] = Capabilities(makes_environments=True)
    poll_interval: ClassVar[float] = 0.2

    def __init__(self, **connection: str) -> None:
        self._engine = DockerClient(connection or default_connection())
        self._started: dict[str, float] = {}  # by handle; asked for once

    # describing

    def render(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Describe tasks, each for itself."""
        return [self._render(request) for request in requests]

    def _render(self, request: TaskRequest) -> Plan:
        """Describe a job: one container."""
        executor = request.executor
        if not isinstance(executor, DockerExecutor):
            raise ExecutorError(f"job {request.job_id!r}: the docker engine needs a DockerExecutor, not {executor!r}")
        if executor.nodes > 1 and executor.nodes != request.members:
            raise ExecutorError(
                f"job {request.job_id!r}: DockerExecutor.nodes={executor.nodes}, but its tasks are {request.members}; "
                "a launcher spans the tasks of a job group: exp.add([task] * nodes, executor=..., name=...)"
            )
        options = container.container(executor, request)
        options["labels"][_GRACE] = str(executor.grace)
        if executor.keep_container:
            options["labels"][_KEEP] = "1"
        spec = {
            "experiment": request.experiment_id,
            "image": str(executor.container_image),
            "pull": executor.pull,
            "options": options,
            "env": dict(request.command.env),
            "code_archive": request.code_archive,
            "environments": str(Path(get_nemorun_home(), "environments")) if request.in_environment else "",
            "bundle_folder": str(Path(get_nemorun_home(), "runners")) if container.BUNDLE in options["command"] else "",
        }
        return Plan(self.name, request.job_id, request.directory, spec, executor.connection())

    def with_variables(self, plan: Plan, variables: Mapping[str, str]) -> Plan:
        """Return the plan with further variables for its task."""
        options = plan.spec["options"]
        options = {**options, "environment": {**options["environment"], **variables}}
        return replace(plan, spec={**plan.spec, "options": options})

    def describe(self, plan: Plan) -> str:
        """Return the ``docker run`` that does the same; values of secrets masked."""
        return container.as_docker_run(plan.spec["image"], plan.directory, plan.spec["options"])

    # submitting

    def preflight(self, plans: Sequence[Plan]) -> None:
        """See to it that the engine answers and has the images."""
        sdk()
        from docker.models.containers import RUN_CREATE_KWARGS, RUN_HOST_CONFIG_KWARGS

        known = {*RUN_CREATE_KWARGS, *RUN_HOST_CONFIG_KWARGS, "network", "ports", "volumes", "networking_config"}
        for plan in plans:
            unknown = sorted(set(plan.spec["options"]) - known)
            if unknown:
                what = ", ".join(unknown)
                raise ExecutorError(f"job {plan.job_id!r}: additional_kwargs: the Docker SDK knows no {what}")
        host = plans[0].connection["host"] if plans else ""
        if plans and not is_on_this_machine(host):
            raise ExecutorError(
                f"job {plans[0].job_id!r}: the Docker engine at {host} is on another machine, where the files of the "
                "job are not; use one on this machine"
            )
        with_gpus = next((plan for plan in plans if plan.spec["options"].get("device_requests")), None)
        if with_gpus and self._engine.is_podman():
            raise ExecutorError(
                f"job {with_gpus.job_id!r}: Podman ignores requests for GPUs from a client of Docker; name the devices "
                "in additional_kwargs={'devices': ['/dev/nvidia0:/dev/nvidia0', …]}, not by num_gpus or gpu_devices"
            )
        for image, pull in sorted({(plan.spec["image"], plan.spec["pull"]) for plan in plans}):
            self._engine.provide(image, pull)

    def provide_image(self, image: Image) -> None:
        """Build an image, unless there is one with this content, and push it where it asks for that."""
        with self._engine.asking() as client:
            building.provide(client, image)

    def expected_handle(self, plan: Plan, attempt: int) -> str:
        """Return the name of the attempt's container, and its folder."""
        return f"{_SCHEME}{_name(plan, attempt)}{attempt_folder(plan, attempt)}"

    def submit(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        """Start attempts, one after the other."""
        return one_by_one(submissions, self._start)

    def _start(self, plan: Plan, attempt: int) -> str:
        """Start the container of an attempt."""
        spec, handle = plan.spec, self.expected_handle(plan, attempt)
        options = container.for_attempt(spec["options"], attempt)
        self._prepare_folder(plan, attempt, self._engine.image_config(spec["image"], spec["pull"]), options)
        options["mounts"] = [*options.get("mounts", []), *_mounts(plan)]
        if PRIVATE_NETWORK in options["labels"]:
            hosts = options["environment"]["NEMO_RUN_GROUP_HOSTS"].split(",")
            subnet = self._engine.provide_group_network(options["network"], len(hosts))
            options = container.at_fixed_address(options, subnet) if subnet else options
        else:
            self._engine.provide_network(options.get("network", ""))
        self._engine.run(_name(plan, attempt), spec["image"], options)
        AttemptFolder.of(plan, attempt).note_submission()
        return handle

    def _prepare_folder(self, plan: Plan, attempt: int, image: Mapping[str, Any], options: dict[str, Any]) -> None:
        attempt_of = AttemptFolder.of(plan, attempt)
        attempt_of.append_to_log(b"")
        _provide_folder(plan.spec.get("environments", ""))
        if plan.spec["code_archive"]:
            extract(plan.spec["code_archive"], Path(plan.directory, "code"))
            _prepend_python_path(options["environment"], image)
        user = options.get("user", image.get("User") or "")
        if user.partition(":")[0] not in ("", "0", "root", str(os.getuid())):
            _let_others_in(Path(plan.directory), attempt_of.path)

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the attempt's handle if its container was started; if it was only created, it never will be."""
        handle, folder = self.expected_handle(plan, attempt), AttemptFolder.of(plan, attempt)
        if folder.has_ended:
            return handle
        found = self._engine.inspect(_name(plan, attempt))
        if found is None:
            return None
        if found["State"]["Status"] not in _NOT_STARTED:
            folder.note_submission()
            return handle
        self._engine.remove(_name(plan, attempt))
        return None

    # following

    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Status of all these attempts: in one query, and of those whose containers are gone from their folders.

        What is in the folder of a container that is still there may have been written by itself.
        """
        there = self._engine.containers() if handles else {}
        return {handle: self._status(handle, there.get(_name_in(handle))) for handle in handles}

    def _status(self, handle: str, entry: Mapping[str, Any] | None) -> TaskStatus:
        if entry is None:
            return self._gone(handle)
        state = entry["State"]
        if state in _ENDED:
            return self._record_end(handle)
        if state in _NOT_STARTED:
            return TaskStatus(JobState.SUBMITTED)
        self._enforce_cancel(handle, entry)
        reason = "paused" if state == "paused" else "unhealthy" if "(unhealthy)" in entry.get("Status", "") else ""
        return TaskStatus(JobState.RUNNING, reason=reason, started=self._start_time(handle), node=os.uname().nodename)

    def _gone(self, handle: str) -> TaskStatus:
        """Return the status of an attempt that had no container when the engine was asked."""
        if recorded := _folder(handle).recorded():  # somebody else may have recorded its end meanwhile
            return recorded
        status = _missing(handle)
        if status.lost and self._engine.inspect(_name_in(handle)):  # or submitted it
            return TaskStatus(JobState.SUBMITTED)
        return status

    def _start_time(self, handle: str) -> float | None:
        if handle not in self._started:
            found = self._engine.inspect(_name_in(handle))
            started = seconds(found["State"]["StartedAt"]) if found else None
            if started is None:
                return None
            self._started[handle] = started
        return self._started[handle]

    def _record_end(self, handle: str) -> TaskStatus:
        """Write down how a container ended, then remove it."""
        name, folder = _name_in(handle), _folder(handle)
        with folder.locked() if folder.path.is_dir() else contextlib.nullcontext():
            found = self._engine.inspect(name)
            if found is None:  # another process has recorded it
                return folder.recorded() or _missing(handle)
            status = folder.recorded()
            if status is not None and folder.end().get("container") == found["Id"]:
                return status
            if not folder.is_cancelled and _may_lack_memory(found):
                time.sleep(_OOM_LAG)
                found = self._engine.inspect(name) or found
            # what the image's entry point printed, or why nothing could be run
            if words := self._engine.output(name, lines=1000):
                folder.append_to_log(words)
            self._hand_over_files(found, folder)
            status = folder.write_end(_end_of(found, folder), container=found["Id"])
            if _KEEP not in found["Config"]["Labels"]:
                self._engine.remove(name)
            return status

    def _hand_over_files(self, found: Mapping[str, Any], folder: AttemptFolder) -> None:
        """Give the files of root, or of another user, to the owner of the experiment; say so in the log if it fails."""
        job = folder.path.parents[1]
        try:
            if job.is_dir() and ownership.is_foreign(job):
                self._engine.run_to_the_end(found["Image"], ownership.last_container(job, found["Config"]["Cmd"] or []))
        except EngineUnreachableError:
            raise
        except (ExecutorError, OSError) as e:
            folder.append_to_log(f"nemo-run: files of another user could not be given to this one: {e}\n".encode())

    def cancel(self, handles: Iterable[str]) -> None:
        """Ask the tasks to end (SIGTERM). One that does not within the grace is killed by the next query."""
        folders = {handle: _folder(handle) for handle in handles}
        folders = {name: folder for name, folder in folders.items() if folder.path.is_dir()}
        there = self._engine.containers() if folders else {}
        for handle, folder in folders.items():
            entry = there.get(_name_in(handle))
            if entry is None or entry["State"] in _ENDED:
                continue
            folder.request_cancel(kill_at=time.time() + float(entry["Labels"][_GRACE]))
            self._engine.kill(entry["Id"], signal.SIGTERM)

    def _enforce_cancel(self, handle: str, entry: Mapping[str, Any]) -> None:
        cancel = _folder(handle).cancel_request()
        if cancel and cancel["kill_at"] <= time.time():
            self._engine.kill(entry["Id"], signal.SIGKILL)

    def reach(self, plan: Plan) -> tuple[Tunnel, str]:
        """Return the way to the container of a task, and the task's folder on this machine."""
        from nemo_run.core.execution.docker.reach import ContainerTunnel, address_of

        for name, entry in self._engine.containers().items():
            mounted = any(mount.get("Source") == plan.directory for mount in entry.get("Mounts") or [])
            if mounted and entry["State"] not in (*_NOT_STARTED, *_ENDED):
                found = self._engine.inspect(name) or {}
                return ContainerTunnel(job_dir="", address=address_of(found)), plan.directory
        return ContainerTunnel(job_dir=""), plan.directory

    def run_beside(self, plan: Plan, handle: str, argv: Sequence[str], rank: int = 0) -> int:
        """Run a program in the container of a task."""
        from nemo_run.core.execution.docker.shell import run_inside

        return run_inside(self._engine, handle.removeprefix(_SCHEME).partition("/")[0], argv)

    # logs and files

    def ranks(self, handle: str) -> list[int]:
        """Return the ranks that have a log of their own."""
        return sorted(rank_logs(_folder(handle).path))

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> FileLog:
        """Return the log of an attempt, or of one rank of it."""
        return open_log(_folder(handle).path, rank, tail)

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Copy what matches the patterns; what the task left in its folder of artifacts is there already."""
        with leftovers.gathered() as left:
            left.update(leftovers.left_out(folder, f"{container.RUN_FOLDER}/artifacts"))
            if patterns:
                _copy_from_code(plan, patterns, folder)

    @staticmethod
    def why_not_usable() -> str:
        """Return why no container can run: the SDK is not installed, or no engine answers; empty if one can."""
        return why_not_usable()

    def close(self) -> None:
        """Close the connection."""
        self._engine.close()


def _copy_from_code(plan: Plan, patterns: Sequence[str], folder: Path) -> None:
    cwd = Path(plan.spec["options"].get("working_dir", "/"))
    if not cwd.is_relative_to(container.RUN_FOLDER):
        raise ExecutorError(
            f"it ran in {str(cwd)!r} of the container, which is gone; files are collected from below "
            f"{container.CODE_FOLDER}, and always from $NEMO_RUN_ARTIFACTS"
        )
    job = Path(plan.directory)
    copy_matching(job / cwd.relative_to(container.RUN_FOLDER), patterns, folder, within=job)


def _name(plan: Plan, attempt: int) -> str:
    return container.container_name(plan.spec["experiment"], plan.job_id, plan.directory, attempt)


def _name_in(handle: str) -> str:
    return handle.removeprefix(_SCHEME).partition("/")[0]


def _folder(handle: str) -> AttemptFolder:
    return AttemptFolder(Path("/" + handle.removeprefix(_SCHEME).partition("/")[2]))


def _missing(handle: str) -> TaskStatus:
    folder = _folder(handle)
    if not folder.is_submitted:
        return TaskStatus(JobState.UNKNOWN, reason="the Docker engine has not heard of it")
    if folder.is_cancelled:
        return TaskStatus(JobState.CANCELLED, reason="cancelled, and its container was removed", ended=time.time())
    reason = "its container was removed by somebody else; how the task ended is not known"
    return TaskStatus(JobState.FAILED, reason=reason, ended=time.time(), lost=True)


def _may_lack_memory(found: Mapping[str, Any]) -> bool:
    """Check whether it was killed, has a limit, and the engine does not say that it was the limit; not yet, perhaps."""
    state = found["State"]
    return bool(state["ExitCode"] == 137 and found["HostConfig"].get("Memory") and not state.get("OOMKilled"))


def _end_of(found: Mapping[str, Any], folder: AttemptFolder) -> TaskStatus:
    """Return how a container ended."""
    state, is_cancelled = found["State"], folder.is_cancelled
    reason = "cancelled" if is_cancelled else _reason(state, found["HostConfig"])
    failed = JobState.FAILED if state["ExitCode"] or reason else JobState.SUCCEEDED
    return TaskStatus(
        JobState.CANCELLED if is_cancelled else failed,
        state["ExitCode"],
        reason,
        seconds(state["StartedAt"]),
        seconds(state["FinishedAt"]),
        os.uname().nodename,
    )


def _reason(state: Mapping[str, Any], host_config: Mapping[str, Any]) -> str:
    if state["ExitCode"] == 0:
        return ""
    if state.get("OOMKilled"):
        limit = host_config.get("Memory")
        return f"out of memory: it needed more than {limit / (1 << 20):g} MiB" if limit else "out of memory"
    return str(state.get("Error") or "")


def _mounts(plan: Plan) -> Iterator[dict[str, Any]]:
    yield {"Type": "bind", "Source": plan.directory, "Target": container.RUN_FOLDER, "ReadOnly": False}
    if plan.spec.get("environments"):
        yield {"Type": "bind", "Source": plan.spec["environments"], "Target": container.ENVIRONMENTS, "ReadOnly": False}
    if plan.spec["bundle_folder"]:
        bundle = str(runner_bundle(Path(plan.spec["bundle_folder"])))
        yield {"Type": "bind", "Source": bundle, "Target": container.BUNDLE, "ReadOnly": True}


def _provide_folder(folder: str) -> None:
    """Make the folder of environments, in which every user of a container has one of their own."""
    if not folder:
        return
    path = Path(folder)
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o1777)
    environments.provide_uv(path)


def _prepend_python_path(environment: dict[str, str], image: Mapping[str, Any]) -> None:
    """Put the packaged code on Python's path, before what the user or the image has there."""
    own = dict(entry.partition("=")[::2] for entry in image.get("Env") or [])
    rest = environment.get("PYTHONPATH", own.get("PYTHONPATH", ""))
    environment["PYTHONPATH"] = ":".join(filter(None, [container.CODE_FOLDER, rest]))


def _let_others_in(directory: Path, attempt: Path) -> None:
    """Let another user of the container read and write its job's files; on this machine, the folder above is closed."""
    for path in (directory, directory / "attempts", attempt, attempt / "log"):
        _change_mode(path, lambda mode: 0o777 if stat.S_ISDIR(mode) else 0o666)
    for name in ("task.json", "inputs.json", "main.pkl", "artifacts", "services", "scripts", "environment", "code"):
        for path in (directory / name, *(directory / name).rglob("*")):
            if path.exists():
                _change_mode(path, lambda mode: mode | (0o777 if stat.S_ISDIR(mode) else 0o666))


def _change_mode(path: Path, new: Callable[[int], int]) -> None:
    """Change the permissions of a file or folder of a job; a container may have put a link or a pipe in its place."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return
    try:
        os.fchmod(fd, stat.S_IMODE(new(os.fstat(fd).st_mode)))
    finally:
        os.close(fd)
