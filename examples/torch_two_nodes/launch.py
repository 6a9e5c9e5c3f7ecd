"""Trains on two nodes that this machine stands for; with ``--dryrun``, shows what Slurm would be given."""

from __future__ import annotations

import sys

from train import fit

import nemo_run as run


def main() -> None:
    """Launch it, or show the launch."""
    if "--dryrun" in sys.argv:
        tunnel = run.LocalTunnel(job_dir="")
        cluster = run.SlurmExecutor(
            nodes=2, gpus_per_node=2, launcher="torchrun", tunnel=tunnel, packager=run.Packager()
        )
        with run.Experiment("two-nodes", executor=cluster) as exp:
            exp.add(run.Partial(fit), name="fit")
            exp.dryrun()
        return
    here = run.LocalExecutor(nodes=2, ntasks_per_node=2, launcher="torchrun", env_vars={"OMP_NUM_THREADS": "1"})
    line = run.run(run.Partial(fit), executor=here, name="two-nodes").value
    print(f"the line is y = {line['slope']} x + {line['offset']}, found by {line['processes']} processes")


if __name__ == "__main__":
    main()
