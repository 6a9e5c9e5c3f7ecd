"""A development space: a job in which one works with an editor of this machine."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.core.execution.base import Executor
from nemo_run.core.tunnel.client import SSHTunnel
from nemo_run.errors import ExecutorError


@dataclass
class DevSpace(ConfigurableMixin):
    """A development space.

    Example:
        >>> import nemo_run as run
        >>> space = run.DevSpace("my-space", run.SlurmExecutor(time="08:00:00", gpus_per_node=1))
        >>> space.cmd
        'launch_devspace'

    Attributes:
        name: Its name; also that of the tunnel in VS Code.
        executor: Where it runs.
        cmd: The method of the executor that starts it.
        use_packager: Call the packager's ``setup`` first.
        env_vars: Environment variables of what is started in the space.
        add_workspace_to_pythonpath: Code in the space is imported from its folder.
    """

    name: str
    executor: Executor
    cmd: str = "launch_devspace"
    use_packager: bool = False
    env_vars: dict[str, str] | None = None
    add_workspace_to_pythonpath: bool = True

    @classmethod
    def connect(cls, host: str, path: str) -> None:
        """Say how to connect to a space that runs, and wait until it has ended.

        Args:
            host: ``user@host`` of the cluster's login node, or an alias of ``~/.ssh/config``.
            path: The folder of the space there.

        Raises:
            ExecutorError: There is no space, or it has ended.
        """
        from nemo_run.core.execution.slurm import SlurmExecutor, read_space

        user, _, name = host.rpartition("@")
        tunnel = SSHTunnel(host=name, user=user, job_dir=path)
        executor = SlurmExecutor(tunnel=tunnel)
        space = cls(read_space(tunnel, path)["name"], executor)
        tunnel.keep_alive(executor.connect_devspace(space, tunnel_dir=path))

    def launch(self) -> None:
        """Start the space, and stay with it until it ends.

        Raises:
            ExecutorError: The executor cannot.
        """
        if self.use_packager:
            self.executor.packager.setup()
        self.execute_cmd()

    def execute_cmd(self) -> None:
        """Call :attr:`cmd` of the executor.

        Raises:
            ExecutorError: It has no such method.
        """
        method = getattr(self.executor, self.cmd, None)
        if not callable(method):
            raise ExecutorError(
                f"development space {self.name!r}: {type(self.executor).__name__} has no {self.cmd}(); "
                "run it on a SlurmExecutor, or name another method with cmd="
            )
        if self.cmd == "launch_devspace":
            method(self, env_vars=self.env_vars, add_workspace_to_pythonpath=self.add_workspace_to_pythonpath)
        else:
            method()
