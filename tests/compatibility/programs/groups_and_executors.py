"""Jobs and groups on Slurm with an executor for each task, one for all, and those of a heterogeneous group."""

import json
from pathlib import Path

import nemo_run as run


def serve(model: str = "m", port: int = 5000): ...


def generate(n: int = 1): ...


def slurm(**options):
    tunnel = run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster"))
    settings = {"account": "a", "partition": "b", "time": "01:00:00", "container_image": "img", **options}
    return run.SlurmExecutor(tunnel=tunnel, packager=run.Packager(), **settings)


def refused(kind, action):
    try:
        action()
    except kind:
        return True
    return False


def of_jobs(exp):
    return [[type(job).__name__, job.id, job.dependencies] for job in exp.jobs]


if __name__ == "__main__":
    seen = {}
    with run.Experiment("servers") as exp:
        pair = exp.add(
            [run.Partial(serve, model="x"), run.Partial(generate, n=3)],
            executor=[slurm(nodes=2, ntasks_per_node=8), slurm(nodes=2, ntasks_per_node=1, container_image="other")],
            name="pair",
        )
        script = run.Script(inline="echo $X\necho two")
        after = exp.add(script, executor=slurm(env_vars={"X": "a b"}), name="after", dependencies=[pair])
        options = {"dependency_type": "afterany"}
        exp.add(run.Script(inline="true"), executor=slurm(**options), name="last", dependencies=[pair, after])
        seen["servers"] = of_jobs(exp)
        exp.dryrun()
    with run.Experiment("heterogeneous") as exp:
        executors = [
            slurm(nodes=2, ntasks_per_node=8, gpus_per_node=8, heterogeneous=True),
            slurm(nodes=1, ntasks_per_node=1, gpus_per_node=1, heterogeneous=True, container_image="other"),
        ]
        exp.add([run.Partial(serve), run.Script(inline="echo client")], executor=executors, name="two")
        seen["heterogeneous"] = of_jobs(exp)
        exp.dryrun()
    with run.Experiment("names", executor=slurm(job_name_prefix="team-")) as exp:
        for n in range(3):
            exp.add(run.Partial(generate, n=n), name="sweep")
        exp.add(run.Partial(generate))
        exp.add([run.Partial(generate), run.Script(inline="echo")], name="group")
        exp.add([run.Partial(generate)], executor=[slurm()], name="single")
        seen["names"] = of_jobs(exp)
        seen["unknown"] = refused(AssertionError, lambda: exp.add(run.Partial(serve), dependencies=["nobody"]))
        seen["nameless"] = refused(AssertionError, lambda: exp.add([run.Partial(serve), run.Partial(serve)]))
        exp.dryrun()
    merged = run.SlurmExecutor.merge([slurm(nodes=1), slurm(nodes=2)], num_tasks=2)
    seen["merged"] = [type(merged).__name__, merged.run_as_group, [one.nodes for one in merged.resource_group]]
    seen["one for all"] = run.SlurmExecutor.merge([slurm(nodes=2)], num_tasks=3).run_as_group
    seen["too many"] = refused(AssertionError, lambda: run.SlurmExecutor.merge([slurm(), slurm()], num_tasks=3))
    Path("result.json").write_text(json.dumps(seen, indent=1))
