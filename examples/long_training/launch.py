"""Train until done on this machine, at most 30 minutes at a time."""

from __future__ import annotations

import nemo_run as run

if __name__ == "__main__":
    restarts = run.Restarts(max=20, backoff=0, notice="1m")
    executor = run.LocalExecutor(
        ntasks_per_node=2,
        launcher="torchrun",
        timeout="30m",
        restarts=restarts,
        env_vars={"STEPS": "10", "STEP_SECONDS": "0", "OMP_NUM_THREADS": "1"},
    )
    with run.Experiment("long", executor=executor) as exp:
        exp.add(run.Script(path="train.py", entrypoint="python"), name="train", tail_logs=True)
        exp.run()
