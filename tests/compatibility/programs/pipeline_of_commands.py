"""A tool with many commands: each builds an experiment of shell commands around servers, for a cluster."""

import contextlib
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import nemo_run as run
from nemo_run.config import get_nemorun_home, set_nemorun_home
from nemo_run.core.execution.slurm import SlurmJobDetails

CLUSTERS = {
    "local": {"executor": "local"},
    "big": {"executor": "slurm", "account": "a", "partition": "p", "containers": {"main": "img", "server": "vllm"}},
}


@dataclass(kw_only=True)
class Details(SlurmJobDetails):
    @property
    def stdout(self):
        return Path(self.folder) / f"{self.job_name}_sbatch.log"

    @property
    def srun_stdout(self):
        return Path(self.folder) / f"{self.job_name}_srun.log"


def executor_of(cluster, container="main", nodes=1, tasks=1, gpus=0, logs="/logs", name="job", **more):
    config = CLUSTERS[cluster]
    env_vars = {"HF_HOME": "/hf", "LAUNCHED_BY": "tool", **more.pop("env_vars", {})}
    if config["executor"] == "local":
        return run.LocalExecutor(env_vars=env_vars)
    return run.SlurmExecutor(
        account=config["account"],
        partition=config["partition"],
        nodes=nodes,
        ntasks_per_node=tasks,
        gpus_per_node=gpus or None,
        container_image=config["containers"][container],
        container_mounts=["/data:/data", f"{os.path.normpath('/a/../logs')}:/logs"],
        tunnel=run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster")),
        packager=run.Packager(),
        time="04:00:00",
        job_details=Details(job_name=name, folder=logs),
        job_name_prefix="tool-",
        srun_args=["--no-container-mount-home", "--mpi=pmix", "--wait=10"],
        monitor_group_job=True,
        wait_time_for_group_job=30,
        env_vars=env_vars,
        **more,
    )


def add_task(exp, command, name, cluster, server=None, dependencies=None, **more):
    tasks = [run.Script(inline=command, metadata={"kind": "main"})]
    executors = [executor_of(cluster, name=name, **more)]
    if server:
        tasks.insert(0, run.Script(inline=f"serve --port {server['port']}", env={"PORT": str(server["port"])}))
        executors.insert(0, executor_of(cluster, "server", gpus=8, tasks=server.get("tasks", 1), name=f"{name}_server"))
    if len(tasks) == 1:
        return exp.add(tasks[0], executor=executors[0], name="nemo-run", dependencies=dependencies)
    return exp.add(tasks, executor=executors, name="nemo-run", dependencies=dependencies)


def finish(exp, cluster, dry_run):
    if dry_run:
        exp.dryrun()
    elif CLUSTERS[cluster]["executor"] == "local":
        exp.run(detach=False, tail_logs=True)
    else:
        exp.run(detach=True)


@contextlib.contextmanager
def experiment(name, cluster, dry_run):
    with run.Experiment(name, skip_status_at_exit=True) as exp:
        yield exp
        finish(exp, cluster, dry_run)


def generate(cluster, seeds, server=None, dry_run=False, expname="generate"):
    with experiment(expname, cluster, dry_run) as exp:
        last = None
        handles = []
        for seed in range(seeds):
            target = Path.cwd() / f"output-{seed}.txt"
            words = ["printf", "%s|", f"seed={seed}", "a b", "it's", "$HOME"]
            command = f"{shlex.join(words)} > {shlex.quote(str(target))} && echo done"
            last = add_task(
                exp,
                command,
                f"{expname}-{seed}",
                cluster,
                server,
                [last] if last else None,
                env_vars={"SEED": str(seed)},
            )
            handles.append(last)
        return exp, handles


if __name__ == "__main__":
    seen = {}
    exp, handles = generate("local", 3)
    seen["local"] = [handles, {name: one["status"].name for name, one in sorted(exp.status(return_dict=True).items())}]
    exp, handles = generate("big", 2, server={"port": 5000, "tasks": 8}, dry_run=True, expname="served")
    seen["served"] = [handles, [[type(job).__name__, job.id, job.dependencies] for job in exp.jobs]]
    exp, handles = generate("big", 2, dry_run=True, expname="plain")
    seen["plain"] = [handles, [[job.executor.job_details.job_name, job.executor.env_vars] for job in exp.jobs]]
    seen["metadata"] = [job.task.metadata for job in exp.jobs]
    home = get_nemorun_home()
    other = str(Path.cwd().parent / "other-home")
    set_nemorun_home(other)
    exp, _ = generate("local", 1, expname="elsewhere")
    seen["homes"] = [get_nemorun_home() == other, len(run.Experiment.catalog("elsewhere"))]
    set_nemorun_home(home)
    seen["homes"].append(len(run.Experiment.catalog("elsewhere")))
    Path("result.json").write_text(json.dumps(seen, indent=1))
