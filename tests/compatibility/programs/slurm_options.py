"""Many options of Slurm, each in a job of its own, as the scripts show them."""

import json
from pathlib import Path

import nemo_run as run

BASE = {"account": "team", "partition": "batch", "time": "01:00:00"}
VARIANTS = {
    "array": {"array": "0-3%2"},
    "gres": {"gres": "gpu:4", "nodes": 2},
    "constraint": {"additional_parameters": {"constraint": "a100", "reservation": "tonight"}},
    "gpus-task": {"gpus_per_task": 1, "ntasks_per_node": 4},
    "cpus": {"cpus_per_task": 12, "mem": "64G", "cpus_per_gpu": 3},
    "signal": {"signal": "USR1@120", "exclude": "n7"},
    "qos": {"qos": "high", "comment": "nightly"},
    "overlap": {"dependencies": None, "exclusive": True, "segment": 4},
    "names": {"job_name_prefix": "team-x:"},
}


def executor(**more) -> run.SlurmExecutor:
    tunnel = run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster"))
    return run.SlurmExecutor(**BASE, **more, packager=run.Packager(), tunnel=tunnel)


if __name__ == "__main__":
    seen = {}
    with run.Experiment("options") as exp:
        for name, options in VARIANTS.items():
            one = executor(**options)
            seen[name] = [one.nnodes(), one.nproc_per_node(), exp.add(run.Script(inline="hostname"), one, name=name)]
        exp.dryrun()
    Path("result.json").write_text(json.dumps(seen, indent=1))
