"""What the options of both SkyPilot engines are in SkyPilot's own task format, and what runs on a node. Pure."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nemo_run.config.home import RUNDIR_NAME
from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Command
from nemo_run.core.execution.launcher import Layout
from nemo_run.core.execution.shared.leaving import leaving
from nemo_run.core.execution.shared.leftovers import PACK
from nemo_run.core.execution.shared.shell_words import word
from nemo_run.core.execution.shared.shipping import Package, layout_script, needs_runner, relocated
from nemo_run.core.execution.sky.options import NODES, SkypilotOptions, image_id, safe_name
from nemo_run.core.masking import holds_secret, masked, masked_arguments

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


# --- SkyPilot's task format ------------------------------------------------------------------------------------------


def resources_config(options: SkypilotOptions) -> dict[str, Any]:
    """Return the ``resources`` of a task as in SkyPilot's YAML."""
    values = {name: getattr(options, name) for name in _ALTERNATIVES}
    lists = {name: value for name, value in values.items() if isinstance(value, list)}
    single = {name: value for name, value in values.items() if name not in lists}
    others = {
        "accelerators": _accelerators(options),
        "image_id": options.container_image and image_id(str(options.container_image)),
        "ports": list(map(str, options.ports or ())),
        "_cluster_config_overrides": options.cluster_config_overrides,
        "any_of": _choices(lists),
    }
    return {**_closed(single), **{name: value for name, value in others.items() if value}}


def _accelerators(options: SkypilotOptions) -> dict[str, int]:
    kinds = [options.gpus] if isinstance(options.gpus, str) else options.gpus or []
    return dict.fromkeys(kinds, options.gpus_per_node or 1)


def _choices(lists: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return the choices that lists of values make: the first ones of all, the second ones, and so on.

    >>> _choices({"cloud": ["aws", "gcp"], "use_spot": [True]})
    [{'cloud': 'aws', 'use_spot': True}, {'cloud': 'gcp'}]
    """
    count = max(map(len, lists.values()), default=0)
    return [_closed({name: values[i] for name, values in lists.items() if i < len(values)}) for i in range(count)]


def _closed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that do not leave a field open, as ``None`` and ``"none"`` do."""
    return {name: value for name, value in values.items() if str(value).lower() != "none"}


def task_config(
    options: SkypilotOptions,
    name: str,
    run: str | None = None,
    environment: Mapping[str, str] | None = None,
    mounts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a task as in SkyPilot's YAML. Variables with names like those of secrets are its ``secrets``."""
    envs, secrets = _split(environment or {})
    config: dict[str, Any] = {
        "name": name,
        "resources": resources_config(options),
        "num_nodes": options.num_nodes,
        "file_mounts": {**(options.file_mounts or {}), **(options.storage_mounts or {}), **(mounts or {})},
        "setup": options.setup,
        "envs": envs,
        "secrets": secrets,
        "run": run,
    }
    return {key: value for key, value in config.items() if value not in (None, "", {})}


def _split(values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables whose names are not those of secrets, and those whose names are."""
    secrets = {key: value for key, value in values.items() if holds_secret(key, value)}
    return {key: value for key, value in values.items() if key not in secrets}, secrets


def as_shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task with the values of secrets masked."""
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
[ -z "$(ls -A "$folder/artifacts")" ] || (
left=$logs/{artifacts}.left
cd "$folder/artifacts" && pwd > "$left" && {pack} 2>> "$left" | gzip > "$logs/{artifacts}.tar.gz"
)
exit $code"""

_IN_LOG = """\

code=$?
[ "${{SKYPILOT_NODE_RANK:-0}}" != 0 ] || {{
{leave}}}
exit $code"""
_PACK = """\
pwd > ../.left; {pack} 2>> ../.left | gzip > ../.artifacts.tar.gz
size=$(wc -c < ../.artifacts.tar.gz)
printf '~'; head -c 4096 ../.left | base64 | tr -d '\\n'; echo
if [ "$size" -le {largest} ]; then base64 < ../.artifacts.tar.gz; else echo "! $size"; fi"""
_LARGEST_IN_LOG = 1 << 20

_LOGS = """\
for i in $(seq 50); do
  for logs in "$HOME/sky_logs/$SKYPILOT_INTERNAL_JOB_ID-"* "$HOME/sky_logs/${SKYPILOT_TASK_ID%%_*}"; do
    [ ! -d "$logs" ] || break 2
  done
  sleep 0.2
done"""
"""Finds the folder of a job's logs, which versions of SkyPilot name differently; it may come after the job."""


def job_task(options: SkypilotOptions, request: TaskRequest, name: str, after: str = "") -> dict[str, Any]:
    """Return the task of a job as in SkyPilot's YAML, without what differs from attempt to attempt.

    Args:
        options: The options of its executor.
        request: The task.
        name: Name of the job.
        after: What a node runs after the task; by default, what puts its artifacts beside its logs.
    """
    command = _command(options, request)
    inside = {key: value for key, value in command.env.items() if _FOLDER in value}
    after = after or _AFTER.format(logs=_LOGS, artifacts=ARTIFACTS, pack=PACK)
    run = _script(name, command, _files_of(request, name), inside) + after
    environment = {key: value for key, value in command.env.items() if key not in inside}
    config = task_config(options, name, run, environment)
    if options.file_mounts:
        config["file_mounts"] |= {to: absolute(source, request.cwd) for to, source in options.file_mounts.items()}
    return config


def _files_of(request: TaskRequest, name: str) -> dict[str, str]:
    """Return the files that a task needs on its nodes, by what is in them."""
    files = {"job": f"{name}.tar.gz"}
    files |= {"code": CODE} if request.code_archive else {}
    files |= {"runner": RUNNER} if needs_runner(request.command) else {}
    return files


def _script(name: str, command: Command, files: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Return what every node runs: it lays out the job's folder, and runs the command there."""
    exports = {"NEMO_RUN_ATTEMPT": "\0attempt\0", **variables}
    if "code" in files:
        exports["PYTHONPATH"] = f"{_FOLDER}/code:\0PYTHONPATH\0"
    before = _BEFORE.format(
        home=f".{RUNDIR_NAME}/jobs/{name}",
        layout=layout_script(".", {kind: f"../../../files/{file}" for kind, file in files.items()}),
        nodes=NODES,
        exports=" ".join(f"{key}={word(value)}" for key, value in exports.items()),
        cwd=f" && cd -- {word(command.cwd)}" if command.cwd else "",
    )
    return before + " ".join(map(word, command.argv))


IN_LOG = "task"
"""What artifacts in a log are of."""


def leaving_in_log() -> str:
    """Return what a node runs after the task whose log alone comes back: the first one ends it with its artifacts."""
    return _IN_LOG.format(leave=leaving(IN_LOG, _PACK.format(pack=PACK, largest=_LARGEST_IN_LOG)))


def absolute(source: str, cwd: str) -> str:
    """Return a path of this machine, which may be relative or begin with ``~``, as an absolute one; URLs stay."""
    if "://" in source:
        return source
    return os.path.normpath(os.path.join(cwd, os.path.expanduser(source)))  # noqa: PTH111, PTH118


ARTIFACTS = "nemo_run_artifacts"
"""Beginning of the names of two files among the logs of a job: an archive of artifacts, and what that lacks."""


CODE, RUNNER = "\0code_file\0", "\0runner_file\0"
"""Variables for the names of files that are made from what is in them, which is read when a job is submitted."""


def for_attempt(
    config: Mapping[str, Any], attempt: int, job_archive: Path, shared: Mapping[str, Package]
) -> dict[str, Any]:
    """Return the task of an attempt: with its number, and the files that SkyPilot brings to the nodes."""
    variables = [f"attempt={attempt}", *(f"{kind}_file={package.name}" for kind, package in shared.items())]
    run = "\n".join([*variables, config["run"]])
    files = {f"{config['name']}.tar.gz": job_archive, **{one.name: one.source for one in shared.values()}}
    mounts = {f"~/{_FILES}/{name}": str(path) for name, path in files.items()}
    return {
        **config,
        "name": attempt_name(config["name"], attempt),
        "run": run,
        "file_mounts": {**config.get("file_mounts", {}), **mounts},
    }


def collecting_task(config: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """Return a task that writes files of an ended job that may match a pattern, as text, to its own log."""
    wanted = " -o ".join(f"-path {shlex.quote(path)}" for pattern in patterns for path in _paths_like(pattern))
    run = (
        f'cd "$HOME/.{RUNDIR_NAME}/jobs/{config["name"]}/0/code" || exit\n'
        f"find . -type f \\( {wanted} \\) -print0 | tar --null -czf - -T - | base64"
    )
    return {"name": f"{config['name']}-files", "run": run}


def _paths_like(pattern: str) -> list[str]:
    """Return patterns for ``find``, whose ``*`` goes over folders, that match all that a pattern of ours matches.

    >>> _paths_like("*.txt"), _paths_like("out/**/a")
    (['./*.txt', './*.txt/*', '*/*.txt', '*/*.txt/*'], ['./out/**/a', './out/**/a/*', './out/a', './out/a/*'])
    """
    name = pattern.removeprefix("./").strip("/")
    tops = ["./", "*/"] if "/" not in pattern.removeprefix("./").removesuffix("/") else ["./"]
    names = dict.fromkeys([name, name.replace("**/", "")])
    return [f"{top}{one}{end}" for top in tops for one in names for end in ("", "/*")]


def attempt_name(name: str, attempt: int) -> str:
    """Return the name of an attempt of a job, by which SkyPilot knows it."""
    return f"{name}-{attempt}"


def _command(options: SkypilotOptions, request: TaskRequest) -> Command:
    """Return the command as it is on a node: its paths, its Python, its launcher, the variables of its macros."""
    command = relocated(request.command, request.directory, _FOLDER)
    layout = Layout(
        nodes=options.num_nodes,
        processes_per_node=options.nproc_per_node(),
        head_node="\0head_node_ip\0",
        node_rank="\0SKYPILOT_NODE_RANK\0",
        profile_dir=_FOLDER,
        python="python3",
        restarts=options.restarts is not None,
    )
    macros = options.macro_values()

    def expanded(text: str) -> str:
        filled = macros.substitute(text) if "_var}" in text else text
        return filled if filled == text else _NODE_VARIABLE.sub("\0\\1\0", filled)

    command = options.get_launcher().wrap(command, layout)
    return replace(
        command,
        argv=tuple(map(expanded, command.argv)),
        env={name: expanded(value) for name, value in command.env.items()},
    )


# --- names -----------------------------------------------------------------------------------------------------------


def cluster_name(options: SkypilotOptions, request: TaskRequest) -> str:
    """Return the name of the cluster on which a job runs: one for all of an experiment that want the same resources."""
    if options.cluster_name:
        return options.cluster_name
    wanted = json.dumps([resources_config(options), options.num_nodes, options.setup], sort_keys=True)
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:6]
    return f"{safe_name(request.experiment_id)[:50]}-{digest}"
