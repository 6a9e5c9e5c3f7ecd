"""Launchers on Slurm: torchrun, templates, fault tolerance; their values, and dry runs with them."""

import json
from pathlib import Path

import nemo_run as run


def train(steps: int = 1):
    print(steps)


def executor(launcher=None) -> run.SlurmExecutor:
    tunnel = run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster"))
    return run.SlurmExecutor(
        account="a",
        partition="b",
        nodes=2,
        ntasks_per_node=4,
        gpus_per_node=4,
        launcher=launcher,
        packager=run.Packager(),
        tunnel=tunnel,
    )


if __name__ == "__main__":
    template = run.SlurmTemplate(template_inline="#!/bin/bash\nset -e\n{{ command }} {{ tail }}\n")
    template.template_vars["tail"] = "--done"
    launchers = {
        "none": None,
        "name": "torchrun",
        "torchrun": run.Torchrun(rdzv_port=29600, nsys_profile=True),
        "template": template,
    }
    seen = {
        "rendered": template.render_template(["python", "x.py"]),
        "transformed": template.transform(["python", "x.py"]).inline,
        "nsys": run.Torchrun(nsys_profile=True, nsys_extra_args=["-x"]).get_nsys_prefix("/p"),
        "no nsys": run.Torchrun().get_nsys_prefix("/p"),
        "ft": [run.FaultTolerance().rdzv_port, run.FaultTolerance(max_restarts=3).max_restarts],
        "names": {},
    }
    with run.Experiment("launchers") as exp:
        for name, launcher in launchers.items():
            one = executor(launcher)
            seen["names"][name] = [type(one.get_launcher()).__name__, one.clone().get_launcher() == one.get_launcher()]
            exp.add(run.Script(inline="hostname"), one, name=name)
        exp.add(run.Partial(train, steps=5), executor("torchrun"), name="partial")
        exp.dryrun()
    Path("result.json").write_text(json.dumps(seen, indent=1))
