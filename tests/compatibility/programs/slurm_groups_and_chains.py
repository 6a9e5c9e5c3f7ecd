"""A chain of Slurm jobs, one of them a group of parts with different executors; only looked at."""

import json
from pathlib import Path

import nemo_run as run


def executor(nodes: int, **more) -> run.SlurmExecutor:
    return run.SlurmExecutor(
        account="team",
        partition="interactive",
        nodes=nodes,
        ntasks_per_node=2,
        time="00:30:00",
        packager=run.Packager(),
        tunnel=run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster")),
        **more,
    )


if __name__ == "__main__":
    server, client = executor(2, gpus_per_node=8), executor(1, env_vars={"ROLE": "client"})
    seen = {}
    with run.Experiment("serve") as exp:
        first = exp.add(run.Script(inline="echo prepare"), executor=client, name="prepare")
        group = exp.add(
            [run.Script(inline="echo serve"), run.Script(inline="echo ask")],
            executor=[server, server.clone()],
            name="serve",
            dependencies=[first],
        )
        last = exp.add(run.Script(inline="echo report"), executor=client, name="report", dependencies=[group, first])
        seen["ids"] = [first, group, last]
        seen["dependencies"] = [job.dependencies for job in exp.jobs]
        seen["kinds"] = [type(job).__name__ for job in exp.jobs]
        seen["tasks"] = [len(job.tasks) if hasattr(job, "tasks") else 1 for job in exp.jobs]
        seen["nodes"] = [server.nnodes(), client.nnodes(), server.nproc_per_node(), client.nproc_per_node()]
        exp.dryrun(log=False)
    with run.Experiment("chain") as exp:
        exp.add(run.Script(inline="echo first"), executor=server, name="first")
        exp.add(run.Script(inline="echo second"), executor=client, name="second", dependencies=["first"])
        exp.dryrun()
    Path("result.json").write_text(json.dumps(seen, indent=1))
