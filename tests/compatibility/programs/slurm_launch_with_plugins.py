"""A launch script for Slurm: plugins change the task, the executor and its launcher; a dry run shows the result."""

import json
from dataclasses import dataclass
from pathlib import Path

import nemo_run as run


@dataclass
class Trainer:
    devices: int = 1
    num_nodes: int = 1
    max_steps: int = 100


def pretrain(trainer: Trainer, name: str = "llama"):
    print(name, trainer)


@dataclass(kw_only=True)
class Performance(run.Plugin):
    """Sets variables and narrows the steps."""

    steps: int = 10

    def setup(self, task, executor):
        task.trainer.max_steps = self.steps
        executor.env_vars["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
        executor.env_vars["NCCL_P2P_NET_CHUNKSIZE"] = "2097152"


@dataclass(kw_only=True)
class Profile(run.Plugin):
    def setup(self, task, executor):
        launcher = executor.get_launcher()
        launcher.nsys_profile = True
        launcher.nsys_trace = ["cuda", "osrt"]


def slurm(nodes: int) -> run.SlurmExecutor:
    return run.SlurmExecutor(
        account="coreai",
        partition="batch",
        nodes=nodes,
        ntasks_per_node=8,
        gpus_per_node=8,
        mem="0",
        exclusive=True,
        time="04:00:00",
        container_image="nvcr.io/nvidia/nemo:dev",
        container_mounts=["/lustre:/lustre"],
        env_vars={"TRANSFORMERS_OFFLINE": "1"},
        launcher="torchrun",
        packager=run.Packager(),
        tunnel=run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster")),
    )


if __name__ == "__main__":
    recipe = run.Partial(pretrain, trainer=run.Config(Trainer, devices=8, num_nodes=4))
    executor = slurm(4)
    with run.Experiment("pretrain-llama", executor=executor) as exp:
        name = exp.add(recipe, name="pretrain", plugins=[Performance(steps=25), Profile()])
        job = exp.jobs[0]
        seen = {
            "name": name,
            "steps": [job.task.trainer.max_steps, recipe.trainer.max_steps],
            "env_vars": [job.executor.env_vars, executor.env_vars],
            "profile": job.executor.get_launcher().nsys_profile,
            "trace": job.executor.get_launcher().nsys_trace,
            "untouched": executor.get_launcher().nsys_profile,
            "launcher": type(job.executor.get_launcher()).__name__,
            "nodes": [job.executor.nnodes(), job.executor.nproc_per_node()],
        }
        exp.dryrun()
    Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))
