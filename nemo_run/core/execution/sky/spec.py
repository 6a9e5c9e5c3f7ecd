"""What both SkyPilot executors have in common: their options, and what these are in SkyPilot's own task format."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.config.home import RUNDIR_NAME
from nemo_run.core.execution.base import Executor, ExecutorMacros, JobRequest
from nemo_run.core.execution.jobs import Command
from nemo_run.core.execution.launcher import Layout
from nemo_run.core.execution.shared.shell_words import word
from nemo_run.core.execution.shared.shipping import Package, layout_script, needs_runner, relocated
from nemo_run.core.execution.sky.client import make_task, refusals_in_words, sdk
from nemo_run.core.masking import is_secret, masked, masked_arguments
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.errors import ExecutorError

_FOLDER = "\0folder\0"
"""Stands for the job's folder on a node, whose path only the node knows."""

_FILES = f".{RUNDIR_NAME}/files"
"""Folder, in the home folder of a node, of the files that SkyPilot brings there."""

_ALTERNATIVES = (
    "infra", "cloud", "region", "zone", "instance_type", "cpus", "memory", "use_spot", "disk_size", "disk_tier",
    "network_tier",
)  # fmt: skip
"""Fields that may be lists: their first values belong together, their second ones, and so on."""


_NODE_VARIABLE = re.compile(r"\$\{?(head_node_ip|num_nodes|SKYPILOT_[A-Z_]+)\}?")


@dataclass(kw_only=True)
class SkypilotOptions(Executor):
    """The options of both SkyPilot executors.

    Where a field takes a list, the first values of all lists make one choice, the second ones another, and so on;
    SkyPilot takes the cheapest that can be had (``any_of``). ``"none"`` in a list leaves that field open.

    Attributes:
        container_image: Image in which the task runs (``image_id``).
        cloud: Cloud or clouds.
        region: Region or regions.
        zone: Zone or zones.
        gpus: Kind of GPU; of several, any one will do.
        gpus_per_node: Number of GPUs on each node.
        cpus: CPUs of each node; a string such as ``"8+"`` is a minimum.
        memory: Memory of each node in GB; a string such as ``"64+"`` is a minimum.
        instance_type: Kind of machine, by the cloud's name for it.
        num_nodes: Number of nodes.
        use_spot: Spot instances.
        disk_size: Disk in GB.
        disk_tier: ``"low"``, ``"medium"``, ``"high"``, ``"ultra"`` or ``"best"``.
        ports: Ports to open: ``("8080", "10022-10040")``.
        file_mounts: Files and folders of this machine, or URLs of buckets, by where they are to be.
        storage_mounts: Buckets by where they are to be, each described as in SkyPilot's YAML.
        cluster_name: Name of the cluster. Tasks with the same name share it, one queued behind the other. By default
            the tasks of an experiment that ask for the same resources do.
        setup: Lines of shell to run on every node before the task.
        autodown: Take the cluster down when its jobs have ended.
        idle_minutes_to_autostop: Minutes without a job after which the cluster is stopped, or taken down.
        torchrun_nproc_per_node: Processes that a launcher starts on each node; by default one for each GPU.
        cluster_config_overrides: Parts of SkyPilot's configuration for this task alone.
        infra: Where to run, in one word: ``"k8s/my-context"``, ``"aws/us-east-1"``.
        network_tier: ``"standard"`` or ``"best"``.
        retry_until_up: Go on trying while nothing is to be had.
    """

    HEAD_NODE_IP_VAR: ClassVar[str] = "head_node_ip"
    NPROC_PER_NODE_VAR: ClassVar[str] = "SKYPILOT_NUM_GPUS_PER_NODE"
    NUM_NODES_VAR: ClassVar[str] = "num_nodes"
    NODE_RANK_VAR: ClassVar[str] = "SKYPILOT_NODE_RANK"
    HET_GROUP_HOST_VAR: ClassVar[str] = "het_group_host"

    container_image: str | None = None
    cloud: str | list[str] | None = None
    region: str | list[str] | None = None
    zone: str | list[str] | None = None
    gpus: str | list[str] | None = None
    gpus_per_node: int | None = None
    cpus: int | float | str | list[int | float | str] | None = None
    memory: int | float | str | list[int | float | str] | None = None
    instance_type: str | list[str] | None = None
    num_nodes: int = 1
    use_spot: bool | list[bool] | None = None
    disk_size: int | list[int] | None = None
    disk_tier: str | list[str] | None = None
    ports: tuple[str, ...] | None = None
    file_mounts: dict[str, str] | None = None
    storage_mounts: dict[str, dict[str, Any]] | None = None
    cluster_name: str | None = None
    setup: str | None = None
    autodown: bool = False
    idle_minutes_to_autostop: int | None = None
    torchrun_nproc_per_node: int | None = None
    cluster_config_overrides: dict[str, Any] | None = None
    infra: str | None = None
    network_tier: str | None = None
    retry_until_up: bool = False
    packager: Packager = field(default_factory=GitArchivePackager)
    job_name: str = field(init=False, default="")

    @property
    def workdir(self) -> str:
        """Folder, in that of the job, for files of this machine."""
        return str(Path(self.job_dir, "workdir"))

    def nnodes(self) -> int:
        """Number of nodes."""
        return self.num_nodes

    def nproc_per_node(self) -> int:
        """Processes that a launcher starts on each node."""
        return self.torchrun_nproc_per_node or self.gpus_per_node or 1

    def macro_values(self) -> ExecutorMacros:
        """Variables in which a task is told of its nodes."""
        return ExecutorMacros(
            head_node_ip_var=self.HEAD_NODE_IP_VAR,
            nproc_per_node_var=self.NPROC_PER_NODE_VAR,
            num_nodes_var=self.NUM_NODES_VAR,
            node_rank_var=self.NODE_RANK_VAR,
            het_group_host_var=self.HET_GROUP_HOST_VAR,
        )

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Tell the executor which job it is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self.job_name = task_id

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        where = type(self).__name__
        if self.infra is not None:
            for name in ("cloud", "region", "zone"):
                if getattr(self, name) is not None:
                    raise ExecutorError(f"{where}: infra={self.infra!r} says it all; leave {name}= out")
        if self.num_nodes < 1:
            raise ExecutorError(f"{where}.num_nodes must be at least 1, but is {self.num_nodes}")
        if self.gpus_per_node and not self.gpus:
            raise ExecutorError(f"{where}.gpus_per_node={self.gpus_per_node}, but gpus= must say which, e.g. 'A100'")
        twice = sorted(set(self.file_mounts or {}) & set(self.storage_mounts or {}))
        if twice:
            raise ExecutorError(f"{where}: {twice[0]!r} is in file_mounts and in storage_mounts")
        try:
            json.dumps(task_config(self, "check"))
        except (TypeError, ValueError) as e:
            raise ExecutorError(f"{where}: its options must be values that JSON can hold: {e}") from None

    def to_resources(self) -> Any:
        """The resources as SkyPilot's own objects: a set of choices, or a list in order of preference.

        Raises:
            ExecutorError: SkyPilot refuses them; its reason is in the message.
        """
        sky = sdk()
        with refusals_in_words(type(self).__name__):
            return sky.Resources.from_yaml_config(resources_config(self))

    def to_task(self, name: str, cmd: list[str] | None = None, env_vars: dict[str, str] | None = None) -> Any:
        """A task as SkyPilot's own object: this executor's resources, mounts and setup, and one command.

        Args:
            name: Name of the task.
            cmd: The command, run on every node in the packaged code.
            env_vars: Environment variables beside those of the executor.

        Raises:
            ExecutorError: SkyPilot refuses it; its reason is in the message.
        """
        folder = f"~/.{RUNDIR_NAME}/jobs/{safe_name(name)}"
        mounts = {folder: self.job_dir} if self.job_dir and Path(self.job_dir).is_dir() else {}
        lines = [NODES, f"cd {folder}/code", shlex.join(cmd)] if mounts and cmd else [NODES, shlex.join(cmd or [])]
        run = "\n".join(lines) if cmd else None
        config = task_config(self, name, run, {**self.env_vars, **(env_vars or {})}, mounts)
        return make_task(config)


# --- SkyPilot's task format ------------------------------------------------------------------------------------------


def resources_config(executor: SkypilotOptions) -> dict[str, Any]:
    """The ``resources`` of a task as in SkyPilot's YAML."""
    config: dict[str, Any] = {}
    choices: list[dict[str, Any]] = []
    for name in _ALTERNATIVES:
        value = getattr(executor, name)
        if isinstance(value, list):
            choices += [{} for _ in range(len(value) - len(choices))]
            for choice, one in zip(choices, value, strict=False):
                choice.update({} if _is_open(one) else {name: one})
        elif value is not None and not _is_open(value):
            config[name] = value
    if executor.gpus:
        kinds = [executor.gpus] if isinstance(executor.gpus, str) else executor.gpus
        config["accelerators"] = dict.fromkeys(kinds, executor.gpus_per_node or 1)
    if executor.container_image:
        config["image_id"] = image_id(executor.container_image)
    if executor.ports:
        config["ports"] = [str(port) for port in executor.ports]
    if executor.cluster_config_overrides:
        config["_cluster_config_overrides"] = executor.cluster_config_overrides
    if choices:
        config["any_of"] = choices
    return config


def _is_open(value: Any) -> bool:
    return isinstance(value, str) and value.lower() == "none"


def image_id(image: str) -> str:
    """An image as SkyPilot names it; that of a machine stays as it is.

    >>> image_id("nvcr.io/nvidia/nemo:dev"), image_id("ami-0868a20f5a3bf9702")
    ('docker:nvcr.io/nvidia/nemo:dev', 'ami-0868a20f5a3bf9702')
    """
    of_machine = image.startswith(("docker:", "skypilot:", "projects/", "/", "ocid1.")) or image.count(":") > 2
    return image if of_machine or not re.search("[/:]", image) else f"docker:{image}"


def task_config(
    executor: SkypilotOptions,
    name: str,
    run: str | None = None,
    environment: Mapping[str, str] | None = None,
    mounts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A task as in SkyPilot's YAML. Variables with names like those of secrets are its ``secrets``."""
    values = environment or {}
    config: dict[str, Any] = {
        "name": name,
        "resources": resources_config(executor),
        "num_nodes": executor.num_nodes,
        "file_mounts": {**(executor.file_mounts or {}), **(executor.storage_mounts or {}), **(mounts or {})},
        "setup": executor.setup,
        "envs": {key: value for key, value in values.items() if not is_secret(key)},
        "secrets": {key: value for key, value in values.items() if is_secret(key)},
        "run": run,
    }
    return {key: value for key, value in config.items() if value not in (None, "", {})}


def as_shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """The task with the values of secrets masked."""
    shown = {**config, "secrets": masked(config.get("secrets", {}))}
    shown["run"] = "\n".join(map(_masked_line, config.get("run", "").splitlines()))
    return {key: value for key, value in shown.items() if value}


def _masked_line(line: str) -> str:
    try:
        words = shlex.split(line)
    except ValueError:  # part of a word of several lines
        return line
    shown = masked_arguments(words)
    return line if shown == words else shlex.join(shown)


# --- what runs on a node ---------------------------------------------------------------------------------------------

NODES = """\
num_nodes=$(echo "$SKYPILOT_NODE_IPS" | wc -l)
head_node_ip=$(echo "$SKYPILOT_NODE_IPS" | head -n1)"""

_BEFORE = """\
! type conda >/dev/null 2>&1 || conda deactivate >/dev/null 2>&1
folder="$HOME/{home}/${{SKYPILOT_NODE_RANK:-0}}"
mkdir -p "$folder" && cd "$folder" || exit
(
{layout}) || exit
{nodes}
export {exports}
cd code{cwd} || exit
"""

# SkyPilot brings nothing back but logs, so what a task leaves goes with them.
_AFTER = """\

code=$?
{logs}
[ -z "$(ls -A "$folder/artifacts")" ] || cp -R "$folder/artifacts" "$logs/{artifacts}"
exit $code"""

_LOGS = """\
for i in $(seq 50); do
  for logs in "$HOME/sky_logs/$SKYPILOT_INTERNAL_JOB_ID-"* "$HOME/sky_logs/${SKYPILOT_TASK_ID%%_*}"; do
    [ ! -d "$logs" ] || break 2
  done
  sleep 0.2
done"""
"""Finds the folder of a job's logs, which versions of SkyPilot name differently; it may come after the job."""


def job_task(executor: SkypilotOptions, request: JobRequest, name: str) -> dict[str, Any]:
    """The task of a job as in SkyPilot's YAML, without what differs from attempt to attempt."""
    command = _command(executor, request)
    variables = {name: value for name, value in {**executor.env_vars, **command.env}.items() if name != "PYTHONPATH"}
    inside = {key: value for key, value in variables.items() if _FOLDER in value}
    files = {"job": f"{name}.tar.gz"}
    files |= {"code": CODE} if request.code_archive else {}
    files |= {"runner": RUNNER} if needs_runner(request.command) else {}
    exports = {
        "NEMO_RUN_ATTEMPT": "\0attempt\0",
        **inside,
        **({"PYTHONPATH": f"{_FOLDER}/code:\0PYTHONPATH\0"} if request.code_archive else {}),
    }
    before = _BEFORE.format(
        home=f".{RUNDIR_NAME}/jobs/{name}",
        layout=layout_script(".", {kind: f"../../../files/{file}" for kind, file in files.items()}),
        nodes=NODES,
        exports=" ".join(f"{key}={word(value)}" for key, value in exports.items()),
        cwd=f" && cd -- {word(command.cwd)}" if command.cwd else "",
    )
    run = before + " ".join(map(word, command.argv)) + _AFTER.format(logs=_LOGS, artifacts=ARTIFACTS)
    environment = {key: value for key, value in variables.items() if key not in inside}
    config = task_config(executor, name, run, environment)
    if executor.file_mounts:
        config["file_mounts"] |= {to: absolute(source, request.cwd) for to, source in executor.file_mounts.items()}
    return config


def absolute(source: str, cwd: str) -> str:
    """A path of this machine, which may be relative or begin with ``~``, as an absolute one; URLs stay."""
    if "://" in source:
        return source
    return os.path.normpath(os.path.join(cwd, os.path.expanduser(source)))  # noqa: PTH111, PTH118


ARTIFACTS = "nemo_run_artifacts"
"""Folder, among the logs of a job, of what it left in its folder of artifacts."""


CODE, RUNNER = "\0code_file\0", "\0runner_file\0"
"""Variables for the names of files that are made from what is in them, which is read when a job is submitted."""


def for_attempt(
    config: Mapping[str, Any], attempt: int, job_archive: Path, shared: Mapping[str, Package]
) -> dict[str, Any]:
    """The task of an attempt of a job: with its number, and with the files that SkyPilot is to bring to the nodes."""
    variables = [f"attempt={attempt}", *(f"{kind}_file={package.name}" for kind, package in shared.items())]
    run = "\n".join([*variables, config["run"]])
    files = {f"{config['name']}.tar.gz": job_archive, **{one.name: one.path for one in shared.values()}}
    mounts = {f"~/{_FILES}/{name}": str(path) for name, path in files.items()}
    return {
        **config,
        "name": attempt_name(config["name"], attempt),
        "run": run,
        "file_mounts": {**config.get("file_mounts", {}), **mounts},
    }


def collecting_task(config: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """A task that writes the files of an ended job that may match one of the patterns, as text, to its own log."""
    wanted = " -o ".join(f"-path {shlex.quote(path)}" for pattern in patterns for path in _paths_like(pattern))
    run = (
        f'cd "$HOME/.{RUNDIR_NAME}/jobs/{config["name"]}/0/code" || exit\n'
        f"find . -type f \\( {wanted} \\) -print0 | tar --null -czf - -T - | base64"
    )
    return {"name": f"{config['name']}-files", "run": run}


def _paths_like(pattern: str) -> list[str]:
    """Patterns for ``find``, whose ``*`` goes over folders, that match all that a pattern of ours matches.

    >>> _paths_like("*.txt"), _paths_like("out/**/a")
    (['./*.txt', './*.txt/*', '*/*.txt', '*/*.txt/*'], ['./out/**/a', './out/**/a/*', './out/a', './out/a/*'])
    """
    name = pattern.removeprefix("./").strip("/")
    tops = ["./", "*/"] if "/" not in pattern.removeprefix("./").removesuffix("/") else ["./"]
    names = dict.fromkeys([name, name.replace("**/", "")])
    return [f"{top}{one}{end}" for top in tops for one in names for end in ("", "/*")]


def print_file(path: Path) -> None:
    """Print a file, if it is there."""
    if path.expanduser().is_file():
        sys.stdout.write(path.expanduser().read_text(errors="replace"))


def attempt_name(name: str, attempt: int) -> str:
    """Name of an attempt of a job, by which SkyPilot knows it."""
    return f"{name}-{attempt}"


def _command(executor: SkypilotOptions, request: JobRequest) -> Command:
    """The command as it is on a node: its paths, its Python, its launcher, the variables of its macros."""
    command = relocated(request.command, request.directory, _FOLDER)
    layout = Layout(
        nodes=executor.num_nodes,
        processes_per_node=executor.nproc_per_node(),
        head_node="\0head_node_ip\0",
        node_rank="\0SKYPILOT_NODE_RANK\0",
        profile_dir=_FOLDER,
        python="python3",
    )
    macros = executor.macro_values()

    def expanded(text: str) -> str:
        filled = macros.substitute(text) if "_var}" in text else text
        return filled if filled == text else _NODE_VARIABLE.sub("\0\\1\0", filled)

    command = executor.get_launcher().wrap(command, layout)
    return replace(
        command,
        argv=tuple(map(expanded, command.argv)),
        env={name: expanded(value) for name, value in command.env.items()},
    )


# --- names -----------------------------------------------------------------------------------------------------------


def job_name(request: JobRequest) -> str:
    """Name of a job: the same whenever it is asked for, and no other job's."""
    digest = hashlib.sha256(request.directory.encode()).hexdigest()[:8]
    return f"{safe_name(request.experiment_id)[:40]}-{safe_name(request.job_id)[:40]}-{digest}"


def cluster_name(executor: SkypilotOptions, request: JobRequest) -> str:
    """Name of the cluster on which a job runs: one for all of an experiment that want the same resources."""
    if executor.cluster_name:
        return executor.cluster_name
    wanted = json.dumps([resources_config(executor), executor.num_nodes, executor.setup], sort_keys=True)
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:6]
    return f"{safe_name(request.experiment_id)[:50]}-{digest}"


def safe_name(name: str) -> str:
    """A name as SkyPilot takes it: letters, digits and hyphens, a letter first.

    >>> safe_name("my experiment_1"), safe_name("7b")
    ('my-experiment-1', 'x7b')
    """
    cleaned = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    return cleaned if cleaned[:1].isalpha() else f"x{cleaned}"
