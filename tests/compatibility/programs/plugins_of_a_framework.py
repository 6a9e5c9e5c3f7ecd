"""Plugins of a training framework: they change the task, its callbacks, the executor, its options and its launcher."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional, Union

import nemo_run as run


@dataclass
class Strategy:
    tensor_model_parallel_size: int = 1
    sequence_parallel: bool = False
    ddp: Union[str, dict] = "megatron"


class Callback:
    def __init__(self, every: int = 1):
        self.every = every


class Profiler(Callback):
    def __init__(self, start_step: int, end_step: int, ranks: List[int] = [0]):  # noqa: B006
        self.steps = (start_step, end_step, ranks)


@dataclass
class Trainer:
    devices: int = 1
    num_nodes: int = 1
    strategy: Strategy = field(default_factory=Strategy)
    callbacks: Optional[List[Callback]] = None


@dataclass
class GPTConfig:
    hidden: int = 8
    activation: Callable = json.loads


class Model:
    def __init__(self, config, tokenizer=None, optim: Optional[Callable] = None):
        self.config = config


def pretrain(model, trainer: Trainer = None, log: Dict = None, optim=None): ...


def recipe(nodes=1):
    return run.Partial(
        pretrain,
        model=run.Config(Model, config=run.Config(GPTConfig, hidden=16, activation=json.dumps)),
        trainer=run.Config(
            Trainer, 8, nodes, strategy=run.Config(Strategy, 2), callbacks=[run.Config(Callback, every=5)]
        ),
        log={"dir": "/nemo_run", "wandb": None},
        optim=run.Partial(dict, lr=3e-4, betas=(0.9, 0.95)),
    )


@dataclass(kw_only=True)
class Performance(run.Plugin):
    profile_from: Optional[int] = None

    def setup(self, task, executor):
        if task.trainer.strategy.tensor_model_parallel_size > 1:
            executor.env_vars["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
        task.trainer.strategy.sequence_parallel = True
        task.trainer.callbacks[0].every = 7
        if self.profile_from:
            task.trainer.callbacks.append(run.Config(Profiler, start_step=self.profile_from, end_step=9, ranks=[0, 1]))
        executor.srun_args = (executor.srun_args or []) + ["--mpi=pmix"]
        executor.additional_parameters = {**(executor.additional_parameters or {}), "network": "sharp"}


class Nsys(run.Plugin):
    def __init__(self, start):
        self.start = start

    def setup(self, task, executor):
        launcher = executor.get_launcher()
        launcher.nsys_profile = True
        launcher.nsys_trace = ["nvtx", "cuda"]
        if isinstance(task, run.Script):
            return
        task.trainer.callbacks = (task.trainer.callbacks or []) + [run.Config(Profiler, self.start, 9)]


class FaultTolerant(run.Plugin):
    def setup(self, task, executor):
        executor.launcher = run.FaultTolerance(
            max_restarts=3, cfg_path="/x/ft.yaml", finished_flag_file="/x/finished", job_results_file="/x/results"
        )


def slurm(**options):
    tunnel = run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster"))
    return run.SlurmExecutor(
        account="a", partition="b", tunnel=tunnel, packager=run.Packager(), container_image="img", **options
    )


CASES = {
    "plain": ([Performance()], {"nodes": 2, "ntasks_per_node": 8}),
    "torchrun": ([Performance(profile_from=3), Nsys(5)], {"launcher": "torchrun", "srun_args": ["--unbuffered"]}),
    "ft": ([Nsys(1), FaultTolerant()], {}),
}

if __name__ == "__main__":
    seen = {}
    task = recipe(2)
    for name, (plugins, options) in CASES.items():
        with run.Experiment(f"exp-{name}", executor=slurm(time="01:00:00", **options)) as exp:
            exp.add(task, plugins=plugins, name=name, tail_logs=name == "plain")
            exp.add(run.Script(inline="echo script"), plugins=[Nsys(2)], name="script")
            job, script = exp.jobs
            launcher = job.executor.get_launcher()
            seen[name] = {
                "task": re.sub(r"\s+|(<function \w+) at 0x\w+", r"\1", repr(job.task)),
                "env_vars": job.executor.env_vars,
                "srun_args": job.executor.srun_args,
                "more": job.executor.additional_parameters,
                "launcher": [type(launcher).__name__, launcher.nsys_profile, launcher.nsys_trace],
                "of script": [script.executor.get_launcher().nsys_profile, script.executor.env_vars],
                "tail_logs": job.tail_logs,
            }
            exp.dryrun()
    seen["recipe"] = [task.trainer.strategy.sequence_parallel, len(task.trainer.callbacks), task.optim.lr]
    Path("result.json").write_text(json.dumps(seen, indent=1))
