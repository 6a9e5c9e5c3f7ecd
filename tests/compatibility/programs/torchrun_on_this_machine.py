"""Torchrun on this machine, only looked at: processes, nodes, variables."""

import json
from pathlib import Path

import nemo_run as run


def train(steps: int = 1):
    print(steps)


if __name__ == "__main__":
    executor = run.LocalExecutor(ntasks_per_node=2, launcher="torchrun", env_vars={"A": "1"})
    plain = run.LocalExecutor()
    seen = {
        "nodes": [executor.nnodes(), executor.nproc_per_node(), plain.nnodes(), plain.nproc_per_node()],
        "info": [executor.info(), run.Executor().info()],
        "launcher": [plain.launcher, executor.launcher, type(executor.get_launcher()).__name__],
        "port": executor.get_launcher().rdzv_port,
    }
    with run.Experiment("torchrun", executor=executor) as exp:
        seen["added"] = [exp.add(run.Partial(train)), exp.add(run.Partial(train, steps=3)), exp.add(run.Partial(train))]
        seen["own"] = [job.executor is executor for job in exp.jobs]
        exp.jobs[0].executor.env_vars["A"] = "2"
        seen["env"] = [executor.env_vars, exp.jobs[1].executor.env_vars]
        exp.dryrun(log=False)
    Path("result.json").write_text(json.dumps(seen, indent=1))
