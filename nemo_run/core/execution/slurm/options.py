"""Options of Slurm's commands from the fields of an executor. Pure."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemo_run.core.execution.slurm import SlurmExecutor


def sbatch_options(executor: SlurmExecutor) -> dict[str, Any]:
    """The executor's options of sbatch."""
    options = {f.name: getattr(executor, f.name) for f in fields(executor) if f.metadata.get("sbatch")}
    options.update({name.replace("-", "_"): value for name, value in (executor.additional_parameters or {}).items()})
    return {name: value for name, value in options.items() if value not in (None, "", False)}


def container_options(executor: SlurmExecutor, env: list[str], mounts: list[str]) -> list[str]:
    """Options of srun that run its tasks in the executor's image; none where it has none."""
    if not executor.container_image:
        return []
    names = dict.fromkeys([*(executor.container_env or []), *env])
    options = [f"--container-image={executor.container_image}"]
    options += [f"--container-mounts={','.join(mounts)}"] if mounts else []
    return options + ([f"--container-env={','.join(names)}"] if names else [])
