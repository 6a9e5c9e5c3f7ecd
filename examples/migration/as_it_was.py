"""A program as it is written for NeMo-Run 0.11.1."""

from training import train

import nemo_run as run

if __name__ == "__main__":
    executor = run.LocalExecutor(ntasks_per_node=1, env_vars={"OMP_NUM_THREADS": "1"})
    with run.Experiment("as-it-was", executor=executor) as exp:
        first = exp.add(run.Partial(train, rate=0.5), name="first")
        exp.add(run.Partial(train, rate=0.1), name="second", dependencies=[first], tail_logs=True)
        exp.run(detach=False)
