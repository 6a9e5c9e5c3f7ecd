"""A Docker launch that is only looked at: options of executors, a group of them, and a dry run."""

import json
from pathlib import Path

import nemo_run as run


def docker(**more) -> run.DockerExecutor:
    return run.DockerExecutor(
        container_image="python:3.11",
        num_gpus=-1,
        runtime="nvidia",
        ipc_mode="host",
        shm_size="30g",
        volumes=["/local/path:/path/in/container"],
        env_vars={"PYTHONUNBUFFERED": "true"},
        packager=run.Packager(),
        **more,
    )


if __name__ == "__main__":
    executor = docker()
    bigger = executor.clone()
    bigger.shm_size = "60g"
    bigger.volumes.append("/more:/more")
    seen = {
        "values": [executor.shm_size, bigger.shm_size, executor.volumes, bigger.volumes],
        "nodes": [executor.nnodes(), executor.nproc_per_node()],
        "launcher": [executor.launcher, docker(launcher="torchrun", ntasks_per_node=4).nproc_per_node()],
        "info": executor.info(),
        "kind": type(executor).__name__,
    }
    with run.Experiment("docker", executor=executor) as exp:
        seen["added"] = [
            exp.add(run.Script(inline="echo one"), name="one"),
            exp.add(
                [run.Script(inline="echo a"), run.Script(inline="echo b")], executor=[executor, bigger], name="two"
            ),
            exp.add(run.Script(inline="echo one"), name="one", dependencies=["two"]),
        ]
        seen["jobs"] = [type(job).__name__ for job in exp.jobs]
        exp.dryrun(log=False)
    Path("result.json").write_text(json.dumps(seen, indent=1))
