"""Classes of a user's own: experiments, launchers, plugins and scripts made by subclassing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import nemo_run as run


def team_executor(env_vars=None, **options):
    return run.SlurmExecutor(
        account="a",
        partition="b",
        tunnel=run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster")),
        packager=run.Packager(),
        env_vars={"TEAM_CACHE": "/cache", **(env_vars or {})},
        container_mounts=["/cache:/cache"],
        **options,
    )


@dataclass(kw_only=True)
class SlowTorchrun(run.Torchrun):
    rdzv_port: int = 29999


class Team(run.Experiment):
    def __init__(self, title, owner, **options):
        super().__init__(f"{owner}-{title}", **options)
        self.owner = owner
        self.added = []

    def add(self, task, *arguments, **options):
        self.added.append(options.get("name"))
        return super().add(task, *arguments, **options)


class Task(run.Script):
    @classmethod
    def of(cls, *words):
        return cls(inline=" ".join(words), entrypoint="bash")


@dataclass(kw_only=True)
class Seeds(run.Plugin):
    """Sees the experiment that it is in."""

    seed: int = 1
    order: Optional[int] = None

    def setup(self, task, executor):
        SEEN.setdefault("plugins", []).append([self.order, type(executor).__name__, type(task).__name__])
        executor.env_vars["SEED"] = str(self.seed)


SEEN = {}


def work(n: int = 1):
    return n


if __name__ == "__main__":
    team = team_executor(env_vars={"A": "b"})
    with Team("first", owner="me", executor=team) as exp:
        exp.add(run.Partial(work), name="work", plugins=[Seeds(order=1), Seeds(seed=5, order=2)])
        exp.add(Task.of("echo", "hi"), name="task", plugins=[Seeds(order=3)])
        other = team.clone()
        other.launcher = SlowTorchrun()
        other.nodes = 2
        exp.add(run.Partial(work, n=2), name="torchrun", executor=other)
        SEEN["names"] = exp.added
        SEEN["env_vars"] = [job.executor.env_vars for job in exp.jobs]
        SEEN["port"] = exp.jobs[2].executor.get_launcher().rdzv_port
        exp.dryrun()
    with Team("second", owner="me", executor=run.LocalExecutor()) as exp:
        exp.add(Task.of(f"echo $SEED > {Path.cwd()}/seed"), name="write", plugins=[Seeds(seed=7, order=4)])
        exp.run()
    SEEN["states"] = {name: one["status"].name for name, one in exp.status(return_dict=True).items()}
    Path("result.json").write_text(json.dumps(SEEN, indent=1))
