"""Launchers: how the processes of a task are started. Each one is a function from a command to a command."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.core import extras
from nemo_run.errors import ExecutorError, LauncherError

if TYPE_CHECKING:
    from nemo_run.config import Script
    from nemo_run.core.execution.jobs import Command

RANK_LOGS = "ranks"
"""Folder, in an attempt's folder, in which a launcher leaves one log for every rank."""

ATTEMPT_FOLDER = "\0attempt\0"
"""Stands in a rendered command for the folder of the attempt; no argument of a user can contain it."""


@dataclass(frozen=True)
class Layout:
    """The processes that a launcher starts, and where.

    Attributes:
        nodes: Number of nodes.
        processes_per_node: Processes on each node.
        head_node: Address of the first node, or the engine's variable for it.
        node_rank: Rank of this node, or the engine's variable for it.
        log_dir: Where logs of single ranks go; empty for nowhere.
        profile_dir: Where a profiler leaves its files.
        python: The interpreter that runs a launcher whose command is no Python program.
        restarts: Whether the task may be restarted: a launcher hands on what it is told, and how it is to go on.
    """

    nodes: int = 1
    processes_per_node: int = 1
    head_node: str = "localhost"
    node_rank: str = "0"
    log_dir: str = ""
    profile_dir: str = ""
    python: str = sys.executable
    restarts: bool = False


@dataclass(kw_only=True)
class Launcher(ConfigurableMixin):
    """The plain launcher: one process, the command as it is, under ``nsys`` if asked for.

    Attributes:
        nsys_profile: Run the command under Nsight Systems (``nsys profile``).
        nsys_folder: Folder of the profiles, in the job's folder.
        nsys_filename: File of a profile (``nsys profile -o``).
        nsys_trace: What to trace (``nsys profile -t``).
        nsys_extra_args: Further arguments of ``nsys profile``.
        nsys_gpu_metrics: Sample GPU metrics (``nsys profile --gpu-metrics-device``).
    """

    one_per_node: ClassVar[bool] = False
    """It starts the processes of a node itself: an engine starts it once on every node."""

    nsys_profile: bool = False
    nsys_folder: str = "nsys_profile"
    nsys_filename: str = "profile_%p"
    nsys_trace: list[str] = field(default_factory=lambda: ["nvtx", "cuda"])
    nsys_extra_args: list[str] = field(
        default_factory=lambda: [
            "--force-overwrite=true",
            "--capture-range=cudaProfilerApi",
            "--capture-range-end=stop",
            "--cuda-graph-trace=node",
            "--cuda-event-trace=false",
        ]
    )
    nsys_gpu_metrics: bool = False

    def get_nsys_prefix(self, profile_dir: str) -> list[str] | None:
        """Return the arguments of ``nsys`` to put before a command, or ``None`` where there is no profiling.

        Args:
            profile_dir: Folder in which the folder of the profiles is.
        """
        if not self.nsys_profile:
            return None
        output = f"{Path(profile_dir, self.nsys_folder)}/{self.nsys_filename}"
        metrics = ["--gpu-metrics-device=all"] if self.nsys_gpu_metrics else []
        trace = ",".join(self.nsys_trace)
        return ["profile", "-s", "none", "-t", trace, "-o", output, *self.nsys_extra_args, *metrics]

    def transform(self, cmd: list[str]) -> Script | None:
        """Return a script to run in place of the command, for a launcher that replaces it whole."""
        return None

    def wrap(self, command: Command, layout: Layout) -> Command:
        """Return the command that starts ``command`` in the processes of ``layout``. Pure."""
        return self._profiled(command, layout)

    def _profiled(self, command: Command, layout: Layout) -> Command:
        prefix = self.get_nsys_prefix(layout.profile_dir)
        if prefix is None:
            return command
        return replace(command, argv=("nsys", *prefix, *command.argv), python=False)


def _elastic() -> str:
    """Return the program that hands on to the agent's workers what it does not, as text."""
    from nemo_run.core.runners import elastic

    return Path(elastic.__file__).read_text(encoding="utf-8")


@dataclass(kw_only=True)
class _ElasticLauncher(Launcher):
    """What the launchers built on PyTorch's elastic agent have in common.

    Attributes:
        rdzv_backend: Rendezvous backend (``--rdzv-backend``).
        rdzv_port: Port of the rendezvous on the head node, where there are several nodes.
        rdzv_id: Identity of the rendezvous (``--rdzv-id``).
    """

    module: ClassVar[str]
    one_per_node: ClassVar[bool] = True

    rdzv_backend: str = "c10d"
    rdzv_port: int = 29500
    rdzv_id: int | None = None

    def wrap(self, command: Command, layout: Layout) -> Command:
        """Return the launcher's agent over the command, run by the command's own interpreter where it has one."""
        python = command.argv[0] if command.python else layout.python
        # The agent starts a Python of its own for its workers; any other program is run as it is.
        program = command.argv[1:] if command.python else ("--no-python", *command.argv)
        start = ("-c", _elastic()) if layout.restarts else ("-m",)
        argv = (python, *start, self.module, *self._options(layout), *program)
        return self._profiled(replace(command, argv=argv, python=True), layout)

    def _options(self, layout: Layout) -> list[str]:
        alone = layout.nodes == 1  # then any free port will do, and several jobs can share the machine
        endpoint = "localhost:0" if alone else f"{layout.head_node}:{self.rdzv_port}"
        options = [
            f"--nnodes={layout.nodes}",
            f"--nproc-per-node={layout.processes_per_node}",
            f"--rdzv-backend={self.rdzv_backend}",
            f"--rdzv-endpoint={endpoint}",
        ]
        if not alone:
            options.append(f"--node-rank={layout.node_rank}")
        if self.rdzv_id is not None:
            options.append(f"--rdzv-id={self.rdzv_id}")
        if layout.log_dir:
            options += [f"--log-dir={Path(layout.log_dir, RANK_LOGS)}", "--redirects=3", "--tee=3"]
        return options


@dataclass(kw_only=True)
class Torchrun(_ElasticLauncher):
    """Start the processes with PyTorch's ``torchrun``.

    Example:
        >>> import nemo_run as run
        >>> run.LocalExecutor(ntasks_per_node=2, launcher=run.Torchrun()).nproc_per_node()
        2
    """

    module: ClassVar[str] = "torch.distributed.run"


@dataclass(kw_only=True)
class FaultTolerance(_ElasticLauncher):
    """Start the processes with NVIDIA's fault-tolerant ``ft_launcher`` (package ``nvidia-resiliency-ext``).

    Attributes:
        cfg_path: Its configuration file (``--ft-cfg-path``).
        finished_flag_file: File that a finished training leaves; told to it as ``FAULT_TOL_FINISHED_FLAG_FILE``.
        job_results_file: File for the results of every restart; told to it as ``FAULT_TOL_JOB_RESULTS_FILE``.
        workload_check_interval: Seconds between two checks of the workload.
        initial_rank_heartbeat_timeout: Seconds to wait for the first heartbeat of a rank.
        rank_heartbeat_timeout: Seconds to wait for every further heartbeat.
        rank_termination_signal: Signal with which a rank is ended.
        log_level: Log level of the launcher.
        max_restarts: How often the processes are restarted in place.
    """

    module: ClassVar[str] = "nvidia_resiliency_ext.fault_tolerance.launcher"

    cfg_path: str = ""
    finished_flag_file: str = ""
    job_results_file: str = ""
    workload_check_interval: float | None = None
    initial_rank_heartbeat_timeout: float | None = None
    rank_heartbeat_timeout: float | None = None
    rank_termination_signal: str | None = None
    log_level: str | None = None
    max_restarts: int | None = None

    def wrap(self, command: Command, layout: Layout) -> Command:
        """``ft_launcher`` over the command."""
        files = {
            "FAULT_TOL_CFG_PATH": self.cfg_path,
            "FAULT_TOL_FINISHED_FLAG_FILE": self.finished_flag_file,
            "FAULT_TOL_JOB_RESULTS_FILE": self.job_results_file,
        }
        env = {name: path for name, path in files.items() if path}
        return super().wrap(replace(command, env={**command.env, **env}), layout)

    def _options(self, layout: Layout) -> list[str]:
        named = {
            "max-restarts": self.max_restarts,
            "ft-cfg-path": self.cfg_path or None,
            "ft-workload-check-interval": self.workload_check_interval,
            "ft-initial-rank-heartbeat-timeout": self.initial_rank_heartbeat_timeout,
            "ft-rank-heartbeat-timeout": self.rank_heartbeat_timeout,
            "ft-rank-termination-signal": self.rank_termination_signal,
            "ft-log-level": self.log_level,
        }
        given = [f"--{name}={value}" for name, value in named.items() if value is not None]
        return [*super()._options(layout), "--ignore-missing-fault-tol-cfg", *given]


@dataclass(kw_only=True)
class SlurmTemplate(Launcher):
    """Runs a bash script of the user's own, a Jinja template, in place of the command: in every task of ``srun``.

    In the template, ``{{ command }}`` stands for the command, quoted. ``$HEAD_NODE_ADDR`` is the first node's address.

    Example:
        >>> SlurmTemplate(template_inline="time {{ command }}").render_template(["echo", "a b"])
        "time echo 'a b'"

    Attributes:
        template_path: File of the template.
        template_inline: The template itself.
        template_vars: Further variables of the template.
    """

    template_path: str | None = None
    template_inline: str | None = None
    template_vars: dict[str, Any] = field(default_factory=dict)

    def get_template_content(self) -> str:
        """Return the text of the template.

        Raises:
            LauncherError: There is none, or its file cannot be read.
        """
        if self.template_inline:
            return self.template_inline
        if not self.template_path:
            raise LauncherError(f"{type(self).__name__} needs template_inline=, or template_path=")
        try:
            return Path(self.template_path).expanduser().read_text()
        except OSError as e:
            raise LauncherError(f"{type(self).__name__}.template_path={self.template_path!r}: {e.strerror}") from e

    def variables(self) -> dict[str, Any]:
        """Return the variables of the template, beside ``command``."""
        return self.template_vars

    def render_template(self, cmd: list[str]) -> str:
        """Return the script that runs a command.

        Raises:
            ExecutorError: The template is wrong.
            MissingExtraError: Jinja is not installed.
        """
        jinja2 = extras.load("jinja2", "slurm", type(self).__name__)
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # a shell script
        try:
            template = environment.from_string(self.get_template_content())
            return str(template.render({"command": shlex.join(cmd), **self.variables()}))
        except jinja2.TemplateError as e:
            raise ExecutorError(f"{type(self).__name__}: the template cannot be rendered: {e}") from e

    def transform(self, cmd: list[str]) -> Script:
        """Return the script that runs in place of the command."""
        from nemo_run.config import Script

        return Script(inline=self.render_template(cmd))

    def wrap(self, command: Command, layout: Layout) -> Command:
        """``bash`` with the script."""
        argv = ("bash", "-c", self.render_template(list(command.argv)))
        env = {**command.env, "HEAD_NODE_ADDR": layout.head_node}
        return self._profiled(replace(command, argv=argv, env=env, python=False), layout)


@dataclass(kw_only=True)
class SlurmRay(SlurmTemplate):
    """Starts a Ray cluster over the nodes of a job, runs the command on its first node, and ends it.

    Ports that are left as they are stand for free ones, as jobs share nodes.  Nobody is let in without a token, which
    the command has, and nothing else on the nodes is ended.

    Attributes:
        gcs_server_port: Port of Ray's head.
        dashboard_port: Port of the dashboard.
        object_manager_port: Port of the object manager of every node.
        node_manager_port: Port of the node manager of every node.
        dashboard_agent_port: Port of the dashboard agent of every node.
        dashboard_agent_grpc_port: Its gRPC port.
        metrics_port: Port of the metrics of every node.
        display_nvidia_smi_output: Show what ``nvidia-smi`` says on every node.
        head_setup: Lines of shell to run on the first node, once all nodes are there.
        head_init_wait_time: Seconds between two looks at whether all nodes are there.
        worker_init_wait_time: How often a node tries to join the head, at least a second apart.
        env_vars: Environment variables of Ray and of the command.
    """

    one_per_node: ClassVar[bool] = True

    gcs_server_port: int = 6379
    dashboard_port: int = 8265
    object_manager_port: int = 8076
    node_manager_port: int = 8077
    dashboard_agent_port: int = 52365
    dashboard_agent_grpc_port: int = 52366
    metrics_port: int = 9002
    display_nvidia_smi_output: bool = False
    head_setup: str | None = None
    head_init_wait_time: int = 10
    worker_init_wait_time: int = 60
    env_vars: dict[str, str] | None = None

    def get_template_content(self) -> str:
        """Return the text of the template: our own, unless another one is given."""
        if self.template_inline or self.template_path:
            return super().get_template_content()
        return Path(__file__).with_name("templates").joinpath("slurm_ray.sh.j2").read_text()

    def variables(self) -> dict[str, Any]:
        """Return the variables of the template: the fields of this launcher, and those of the user."""
        exports = [f"export {name}={shlex.quote(value)}" for name, value in (self.env_vars or {}).items()]
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        ports = [f for f in fields(self) if f.name.endswith("_port")]
        own["own_ports"] = {f.name: 0 if own[f.name] == f.default else own[f.name] for f in ports}
        return {**own, "env_vars": "\n".join(exports), "head_setup": self.head_setup or "", **self.template_vars}

    def wrap(self, command: Command, layout: Layout) -> Command:
        """``bash`` with the script, and a folder in which the nodes find each other."""
        wrapped = super().wrap(command, layout)
        return replace(wrapped, argv=(*wrapped.argv, "ray", ATTEMPT_FOLDER))


LAUNCHER_MAP: dict[str, type[Launcher]] = {
    "torchrun": Torchrun,
    "ft": FaultTolerance,
    "slurm_template": SlurmTemplate,
    "slurm_ray": SlurmRay,
}
"""Launchers by the names that executors may give; a program may add its own."""


def make_launcher(launcher: Launcher | str | None) -> Launcher:
    """Return the launcher of this name; ``None`` gives the plain one, a launcher itself.

    Raises:
        LauncherError: No launcher has this name, or this is none.
    """
    if launcher is None:
        return Launcher()
    if isinstance(launcher, Launcher):
        return launcher
    if launcher not in LAUNCHER_MAP:
        raise LauncherError(f"no launcher is called {launcher!r}; there are: {', '.join(sorted(LAUNCHER_MAP))}")
    return LAUNCHER_MAP[launcher]()
