"""The same program with what is new."""

from training import best, train

import nemo_run as run

if __name__ == "__main__":
    executor = run.LocalExecutor(env_vars={"OMP_NUM_THREADS": "1"})
    with run.Experiment("with-what-is-new", executor=executor) as exp:
        trained = exp.map(train, [0.5, 0.1], name="train")
        exp.add(run.Partial(best, accuracies=trained.outputs), name="best")
        exp.run(check=True)
