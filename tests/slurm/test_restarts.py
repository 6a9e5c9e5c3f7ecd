"""Tasks that run until they are done on a real Slurm cluster, whose shortest time limit is a minute."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.execution.slurm.queue import job_status, parse_squeue
from tests.services.slurm import USER, SlurmCluster
from tests.services.sshd import Sshd
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd", "slurm cluster")

TRAIN = """
trap 'echo told >> "$NEMO_RUN_CHECKPOINTS/log"' USR1
echo "restart $NEMO_RUN_RESTART $NEMO_RUN_RESTART_CAUSE" >> "$NEMO_RUN_CHECKPOINTS/log"
if [ "$NEMO_RUN_RESTART" = 1 ]; then
  cat "$NEMO_RUN_CHECKPOINTS/log"
  exit 85
fi
[ "$NEMO_RUN_RESTART" = 2 ] && exit 0
while :; do sleep 0.2; done
"""


def test_a_task_goes_on_after_its_time_limit(login: Sshd, jobs_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its files are there for the next attempt, and what depends on it waits for its real end."""
    executor = run.SlurmExecutor(
        time="00:01:00",
        mem="100M",
        packager=run.Packager(),
        tunnel=run.SSHTunnel(host="cluster", user=USER, job_dir=str(jobs_folder)),
        restarts=run.Restarts(backoff=0, notice=30),
    )
    exp = run.Experiment("limited", executor=executor)
    exp.add(run.Script(inline=TRAIN), name="train")
    exp.add(run.Script(inline="echo after"), name="after", dependencies=["train"])
    exp.run()
    status = exp.status(return_dict=True)
    assert status is not None
    assert [status[name]["status"] for name in ("train", "after")] == [JobState.SUCCEEDED] * 2
    assert (status["train"]["restarts"], status["train"]["tries"]) == (2, 1)
    assert status["after"]["started"] >= status["train"]["ended"] - 1
    shown = capfd.readouterr().err
    assert "restart 1, time limit; next in 0 s" in shown
    assert "restart 2, continued; next in 0 s" in shown
    log = next(jobs_folder.rglob("checkpoints/log")).read_text().splitlines()
    assert log == ["restart 0 ", "told", "restart 1 time limit", "restart 2 continued"]


def test_a_task_whose_job_slurm_starts_again_is_told(cluster: SlurmCluster, tmp_path: Path) -> None:
    """As after preemption, or the loss of a node: with the same id, and files."""
    code = """
echo "restart $NEMO_RUN_RESTART $NEMO_RUN_RESTART_CAUSE" >> "$NEMO_RUN_CHECKPOINTS/log"
[ "$NEMO_RUN_RESTART" = 1 ] || sleep 600
"""
    executor = run.SlurmExecutor(mem="100M", packager=run.Packager(), restarts=run.Restarts(backoff=0))
    exp = run.Experiment("requeued", executor=executor)
    exp.add(run.Script(inline=code), name="train")
    exp.run(detach=True)
    log = eventually(lambda: next(exp.directory.rglob("checkpoints/log"), None), "it runs")
    status = exp.status(return_dict=True)
    assert status is not None
    subprocess.run(["scontrol", "requeue", status["train"]["job_id"].partition(":")[0].partition("/")[0]], check=True)
    assert exp.wait()["train"].state is JobState.SUCCEEDED
    assert log.read_text() == "restart 0 \nrestart 1 requeued\n"


LOST = """
echo "$SLURM_JOB_NODELIST" > "$NEMO_RUN_CHECKPOINTS/nodes"
echo "restart $NEMO_RUN_RESTART $NEMO_RUN_RESTART_CAUSE" > "$NEMO_RUN_CHECKPOINTS/$NEMO_RUN_RESTART.$SLURM_PROCID"
[ "$NEMO_RUN_RESTART" = 1 ] && exit 0
while [ ! -e "$NEMO_RUN_CHECKPOINTS/fail" ]; do sleep 0.1; done
exit 7
"""


@pytest.mark.parametrize("how", ["its node dies", "it fails"])
def test_a_task_that_fails_as_one_of_its_nodes_does_is_restarted(how: str, cluster: SlurmCluster) -> None:
    """It may fail long before Slurm itself notices that the node does not answer."""
    executor = run.SlurmExecutor(mem="100M", nodes=2, packager=run.Packager(), restarts=run.Restarts(backoff=0))
    exp = run.Experiment("lost", executor=executor)
    exp.add(run.Script(inline=LOST), name="train")
    exp.run(detach=True)
    folder = eventually(lambda: next(exp.directory.rglob("checkpoints"), None), "it has one")
    eventually(lambda: (folder / "0.0").exists() and (folder / "0.1").exists(), "both of its nodes run")
    second = cluster.ask("scontrol", "show", "hostnames", (folder / "nodes").read_text().strip()).split()[1]
    dies = how == "its node dies"
    if dies:
        cluster.kill_node(second)
    (folder / "fail").touch()
    try:
        exp.wait()
    finally:
        if dies:
            cluster.start_node(second)
            eventually(lambda: cluster.ask("sinfo", "-h", "-n", second, "-o", "%t").strip() in ("idle", "alloc"))
    task = exp.progress()["train"].tasks[0]
    if dies:
        assert (task.state, task.tries) == (JobState.SUCCEEDED, 1)
        # On a slow machine Slurm is first, and starts the job again itself.
        assert (folder / "1.0").read_text() in ("restart 1 node failure\n", "restart 1 requeued\n")
    else:
        assert (task.state, task.restarts) == (JobState.FAILED, 0)  # srun may have ended the other rank first


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("TIMEOUT", "time limit"),
        ("PREEMPTED", "preemption"),
        ("NODE_FAIL", "node failure"),
        ("BOOT_FAIL", "node failure"),
        ("FAILED", ""),
        ("OUT_OF_MEMORY", ""),
        ("DEADLINE", ""),
    ],
)
def test_what_slurm_says_is_a_cause(state: str, cause: str) -> None:
    status = job_status(parse_squeue(f"7|{state}|256|100|160|node1|None|"))
    assert (status.state, status.cause) == (JobState.FAILED, cause)
