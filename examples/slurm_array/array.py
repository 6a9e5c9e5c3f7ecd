"""A job array on Slurm, and a job that needs all that its tasks return."""

from __future__ import annotations

import nemo_run as run


def square(x: int) -> int:
    """One task of the array."""
    return x * x


def main() -> None:
    """Launch the array, and show what came out."""
    # No code is packaged: functions of this script travel with their tasks.
    cluster = run.SlurmExecutor(time="00:10:00", mem="200M", packager=run.Packager())
    with run.Experiment("array", executor=cluster, skip_status_at_exit=True) as exp:
        mapped = exp.map(square, range(4), name="square")
        exp.add(run.Partial(sum, mapped.outputs), name="sum")
        exp.run(check=True)
    print("squares:", [exp.result(job) for job in mapped.jobs])
    print("their sum:", exp.result("sum"))


if __name__ == "__main__":
    main()
