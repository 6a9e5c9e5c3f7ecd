"""Starts a Ray cluster, runs ``job.py`` on it, and stops it."""

from __future__ import annotations

import nemo_run as run
from nemo_run.run.ray import RayCluster, RayJob


def main() -> None:
    """Start, run, stop."""
    executor = run.LocalExecutor()
    with RayCluster("example", executor):
        job = RayJob(name="squares", executor=executor, cluster_name="example")
        job.start(command="python job.py", workdir=".")
        job.logs(follow=True)
        job.wait()
        print("the job is done")


if __name__ == "__main__":
    main()
