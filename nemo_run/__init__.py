"""Configure, launch and manage machine-learning experiments.

Every public name is reached as ``run.NAME`` after ``import nemo_run as run``; its module is imported when the name is
first used, so the import itself loads nothing heavy.

Example:
    >>> import nemo_run as run
    >>> run.Config(dict, a=1).build()
    {'a': 1}
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nemo_run.run.api import run as run  # the function: bound before anything can bind the package of that name

if TYPE_CHECKING:  # what the tables below say, for type checkers
    from nemo_run import cli as cli, config as config, errors as errors
    from nemo_run.cli.help import help as help  # noqa: A004  # its name in NeMo-Run
    from nemo_run.cli.lazy import LazyEntrypoint as LazyEntrypoint, lazy_imports as lazy_imports
    from nemo_run.config import (
        Config as Config,
        ConfigurableMixin as ConfigurableMixin,
        Partial as Partial,
        Script as Script,
        autoconvert as autoconvert,
    )
    from nemo_run.config.export import load_config as load_config
    from nemo_run.core.execution.base import (
        Executor as Executor,
        ExecutorMacros as ExecutorMacros,
        import_executor as import_executor,
    )
    from nemo_run.core.execution.dgxcloud import DGXCloudExecutor as DGXCloudExecutor
    from nemo_run.core.execution.docker import DockerExecutor as DockerExecutor
    from nemo_run.core.execution.jobs import JobState as JobState
    from nemo_run.core.execution.kubeflow import KubeflowExecutor as KubeflowExecutor
    from nemo_run.core.execution.kuberay import (
        KubeRayExecutor as KubeRayExecutor,
        KubeRayWorkerGroup as KubeRayWorkerGroup,
    )
    from nemo_run.core.execution.kubernetes import KubernetesExecutor as KubernetesExecutor
    from nemo_run.core.execution.launcher import (
        FaultTolerance as FaultTolerance,
        SlurmRay as SlurmRay,
        SlurmTemplate as SlurmTemplate,
        Torchrun as Torchrun,
    )
    from nemo_run.core.execution.lepton import LeptonExecutor as LeptonExecutor
    from nemo_run.core.execution.local import LocalExecutor as LocalExecutor
    from nemo_run.core.execution.restarts import Restarts as Restarts
    from nemo_run.core.execution.skypilot import SkypilotExecutor as SkypilotExecutor
    from nemo_run.core.execution.skypilot_jobs import SkypilotJobsExecutor as SkypilotJobsExecutor
    from nemo_run.core.execution.slurm import SlurmExecutor as SlurmExecutor
    from nemo_run.core.execution.soonest import Soonest as Soonest
    from nemo_run.core.images import Image as Image
    from nemo_run.core.packaging.base import Packager as Packager
    from nemo_run.core.packaging.git import GitArchivePackager as GitArchivePackager
    from nemo_run.core.packaging.hybrid import HybridPackager as HybridPackager
    from nemo_run.core.packaging.pattern import PatternPackager as PatternPackager
    from nemo_run.core.runners.metrics import log_metrics as log_metrics
    from nemo_run.core.runners.stopping import (
        checkpointed as checkpointed,
        continue_later as continue_later,
        stopping as stopping,
    )
    from nemo_run.core.tunnel.client import LocalTunnel as LocalTunnel, SSHTunnel as SSHTunnel
    from nemo_run.devspace.base import DevSpace as DevSpace
    from nemo_run.errors import (
        ConfigError as ConfigError,
        ConfigTypeWarning as ConfigTypeWarning,
        ExecutorError as ExecutorError,
        ExperimentError as ExperimentError,
        JobFailedError as JobFailedError,
        NemoRunError as NemoRunError,
    )
    from nemo_run.run import ray as ray
    from nemo_run.run.experiment import Experiment as Experiment
    from nemo_run.run.plugin import ExperimentPlugin
    from nemo_run.run.space import (
        choice as choice,
        loguniform as loguniform,
        randint as randint,
        uniform as uniform,
    )
    from nemo_run.run.task import dryrun_fn as dryrun_fn
    from nemo_run.run.trackers.plugins import (
        MLflowPlugin as MLflowPlugin,
        TensorBoardPlugin as TensorBoardPlugin,
        WandbPlugin as WandbPlugin,
    )

    Plugin = ExperimentPlugin

__version__ = "1.0.0"

# Where each public name lives. "A as B" is called B here.
_NAMES = {
    "nemo_run.cli.help": ("help",),
    "nemo_run.cli.lazy": ("LazyEntrypoint", "lazy_imports"),
    "nemo_run.config": ("Config", "ConfigurableMixin", "Partial", "Script", "autoconvert"),
    "nemo_run.config.export": ("load_config",),
    "nemo_run.core.execution.base": ("Executor", "ExecutorMacros", "import_executor"),
    "nemo_run.core.execution.dgxcloud": ("DGXCloudExecutor",),
    "nemo_run.core.execution.docker": ("DockerExecutor",),
    "nemo_run.core.execution.jobs": ("JobState",),
    "nemo_run.core.execution.kubeflow": ("KubeflowExecutor",),
    "nemo_run.core.execution.kuberay": ("KubeRayExecutor", "KubeRayWorkerGroup"),
    "nemo_run.core.execution.kubernetes": ("KubernetesExecutor",),
    "nemo_run.core.execution.launcher": ("FaultTolerance", "SlurmRay", "SlurmTemplate", "Torchrun"),
    "nemo_run.core.execution.lepton": ("LeptonExecutor",),
    "nemo_run.core.execution.local": ("LocalExecutor",),
    "nemo_run.core.execution.restarts": ("Restarts",),
    "nemo_run.core.execution.skypilot": ("SkypilotExecutor",),
    "nemo_run.core.execution.skypilot_jobs": ("SkypilotJobsExecutor",),
    "nemo_run.core.execution.slurm": ("SlurmExecutor",),
    "nemo_run.core.execution.soonest": ("Soonest",),
    "nemo_run.core.images": ("Image",),
    "nemo_run.core.packaging.base": ("Packager",),
    "nemo_run.core.packaging.git": ("GitArchivePackager",),
    "nemo_run.core.packaging.hybrid": ("HybridPackager",),
    "nemo_run.core.packaging.pattern": ("PatternPackager",),
    "nemo_run.core.runners.metrics": ("log_metrics",),
    "nemo_run.core.runners.stopping": ("checkpointed", "continue_later", "stopping"),
    "nemo_run.core.tunnel.client": ("LocalTunnel", "SSHTunnel"),
    "nemo_run.devspace.base": ("DevSpace",),
    "nemo_run.errors": (
        "ConfigError",
        "ConfigTypeWarning",
        "ExecutorError",
        "ExperimentError",
        "JobFailedError",
        "NemoRunError",
    ),
    "nemo_run.run.experiment": ("Experiment",),
    "nemo_run.run.plugin": ("ExperimentPlugin as Plugin",),
    "nemo_run.run.space": ("choice", "loguniform", "randint", "uniform"),
    "nemo_run.run.task": ("dryrun_fn",),
    "nemo_run.run.trackers.plugins": ("MLflowPlugin", "TensorBoardPlugin", "WandbPlugin"),
}
_MODULES = {
    "cli": "nemo_run.cli",
    "config": "nemo_run.config",
    "errors": "nemo_run.errors",
    "ray": "nemo_run.run.ray",
}

_WHERE = {
    entry.rpartition(" as ")[2]: (module, entry.partition(" as ")[0])
    for module, entries in _NAMES.items()
    for entry in entries
}

__all__ = ["__version__", "run", *_WHERE, *_MODULES]  # noqa: PLE0604 (all of them are strings)


if not TYPE_CHECKING:  # so that type checkers find misspelt names

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(_MODULES[name])
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _WHERE[name]
        value = globals()[name] = getattr(importlib.import_module(module), attribute)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
