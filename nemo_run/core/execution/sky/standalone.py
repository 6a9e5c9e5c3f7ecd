"""What both SkyPilot executors can do without an experiment."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_run.config.home import RUNDIR_NAME
from nemo_run.core.execution.shared.checks import check_at_least, check_json
from nemo_run.core.execution.sky.client import make_task, refusals_in_words, sdk
from nemo_run.core.execution.sky.options import NODES, SkypilotOptions, safe_name
from nemo_run.core.execution.sky.spec import resources_config, task_config
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class StandaloneSkypilot(SkypilotOptions):
    """The options of a SkyPilot executor, and what can be made of them in SkyPilot's own words."""

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        where = type(self).__name__
        if self.infra is not None:
            for name in ("cloud", "region", "zone"):
                if getattr(self, name) is not None:
                    raise ExecutorError(f"{where}: infra={self.infra!r} says it all; leave {name}= out")
        check_at_least(f"{where}.num_nodes", self.num_nodes, 1)
        if self.gpus_per_node and not self.gpus:
            raise ExecutorError(f"{where}.gpus_per_node={self.gpus_per_node}, but gpus= must say which, e.g. 'A100'")
        twice = sorted(set(self.file_mounts or {}) & set(self.storage_mounts or {}))
        if twice:
            raise ExecutorError(f"{where}: {twice[0]!r} is in file_mounts and in storage_mounts")
        check_json(f"{where}.cluster_config_overrides", self.cluster_config_overrides)
        check_json(f"{where}: its options", task_config(self, "check"))

    def to_resources(self) -> Any:
        """Return the resources as SkyPilot's own objects: a set of choices, or a list in order of preference.

        Raises:
            ExecutorError: SkyPilot refuses them; its reason is in the message.
        """
        sky = sdk()
        with refusals_in_words(type(self).__name__):
            return sky.Resources.from_yaml_config(resources_config(self))

    def to_task(self, name: str, cmd: list[str] | None = None, env_vars: dict[str, str] | None = None) -> Any:
        """Return a task as SkyPilot's own object: this executor's resources, mounts and setup, and one command.

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


def print_file(path: Path) -> None:
    """Print a file, if it is there."""
    if path.expanduser().is_file():
        sys.stdout.write(path.expanduser().read_text(errors="replace"))
