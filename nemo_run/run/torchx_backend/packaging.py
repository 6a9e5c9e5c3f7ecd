"""A task as an application of TorchX, as existing code asks for it. Needs ``nemo-run[compat]``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nemo_run.config.script import Script
from nemo_run.core import extras
from nemo_run.core.execution.base import Executor
from nemo_run.core.files import folder_name, make_folder


def package(
    name: str,
    fn_or_script: Any,
    executor: Executor,
    num_replicas: int = 1,
    cpu: int = -1,
    gpu: int = -1,
    memMB: int = 1024,  # noqa: N803  (its name in NeMo-Run)
    h: str | None = None,
    env: dict[str, str] | None = None,
    mounts: list[str] | None = None,
    serialize_to_file: bool = False,  # noqa: ARG001
    serialize_metadata_for_scripts: bool = True,  # noqa: ARG001
) -> Any:
    """Return an ``AppDef`` with the command of a task, whose files are written into the executor's job folder.

    Args:
        name: Name of the application and its only role.
        fn_or_script: A Partial or a Script.
        executor: Where it is to run; it must be assigned to an experiment.
        num_replicas: Number of replicas.
        cpu: CPUs of each.
        gpu: GPUs of each.
        memMB: Memory of each.
        h: A resource that TorchX knows by this name, in place of the three before.
        env: Environment variables beside those of the executor and the script.
        mounts: Mounts, as TorchX writes them.
        serialize_to_file: Accepted for compatibility; tasks are files.
        serialize_metadata_for_scripts: Accepted for compatibility; what is stored of scripts is always stored.

    Raises:
        MissingExtraError: TorchX is not installed.
    """
    specs = extras.load("torchx.specs", "compat", "nemo_run.run.torchx_backend")
    from nemo_run.run.prepare import prepare

    folder = make_folder(Path(executor.job_dir).absolute() / folder_name(name))
    command = prepare(fn_or_script, name, folder, executor)
    role = specs.Role(
        name=name,
        image="",
        entrypoint=command.argv[0],
        args=list(command.argv[1:]),
        env={**command.env, **(env or {})},
        num_replicas=num_replicas,
        resource=specs.resource(cpu=cpu, gpu=gpu, memMB=memMB, h=h),
        mounts=specs.parse_mounts(mounts) if mounts else [],
    )
    metadata = dict(fn_or_script.metadata or {}) if isinstance(fn_or_script, Script) else {}
    return specs.AppDef(name=name, roles=[role], metadata=metadata)


def merge_executables(app_defs: Iterable[Any], name: str) -> Any:
    """Return one application with the roles of several.

    Raises:
        MissingExtraError: TorchX is not installed.
    """
    specs = extras.load("torchx.specs", "compat", "nemo_run.run.torchx_backend")
    apps = list(app_defs)
    metadata = {key: value for app in apps for key, value in (app.metadata or {}).items()}
    return specs.AppDef(name=name, roles=[role for app in apps for role in app.roles], metadata=metadata)
