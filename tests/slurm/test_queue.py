"""From the answers of squeue and sacct to the status of jobs. Pure: no cluster is needed."""

from __future__ import annotations

import pytest

from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.slurm import queue


@pytest.fixture(autouse=True)
def _overtime() -> None:
    """These tests start nothing."""


def squeue(*lines: str) -> list[queue.Record]:
    return queue.parse_squeue("".join(f"{line}|\n" for line in lines))


@pytest.mark.parametrize(
    ("line", "state", "code", "reason"),
    [
        ("1|PENDING|0|N/A|N/A||Priority", JobState.PENDING, None, "waits behind jobs of higher priority"),
        ("1|PENDING|0|N/A|N/A||None", JobState.PENDING, None, ""),
        ("1|PENDING|0|N/A|N/A||(ReqNodeNotAvail, UnavailableNodes:node1)", JobState.PENDING, None,
         "waits for a node that is not available"),
        ("1|CONFIGURING|0|100|200|node1|None", JobState.PENDING, None, ""),
        ("1|REQUEUED|0|100|N/A||None", JobState.PENDING, None, ""),
        ("1|RUNNING|0|100|200|node1|None", JobState.RUNNING, None, ""),
        ("1|COMPLETING|0|100|200|node1|None", JobState.RUNNING, None, ""),
        ("1|SUSPENDED|0|100|200|node1|None", JobState.RUNNING, None, "suspended"),
        ("1|COMPLETED|0|100|200|node1|None", JobState.SUCCEEDED, 0, ""),
        ("1|FAILED|256|100|200|node1|NonZeroExitCode", JobState.FAILED, 1, ""),
        ("1|FAILED|9|100|200|node1|NonZeroExitCode", JobState.FAILED, 137, ""),
        ("1|TIMEOUT|0|100|200|node1|TimeLimit", JobState.FAILED, None, "its time limit was reached"),
        ("1|OUT_OF_MEMORY|0|100|200|node1|OutOfMemory", JobState.FAILED, None,
         "it used more memory than it had asked for"),
        ("1|NODE_FAIL|0|100|200|node1|NodeDown", JobState.FAILED, None, "a node failed"),
        ("1|PREEMPTED|0|100|200|node1|None", JobState.FAILED, None, "it was preempted"),
        ("1|CANCELLED|15|100|200|node1|None", JobState.CANCELLED, None, "cancelled"),
        ("1|CANCELLED|0|100|200||DependencyNeverSatisfied", JobState.CANCELLED, None,
         "not run: a job that it depends on did not end as it should"),
    ],
)  # fmt: skip
def test_states(line: str, state: JobState, code: int | None, reason: str) -> None:
    status = queue.job_status(squeue(line))
    assert (status.state, status.exit_code, status.reason) == (state, code, reason)


def test_times_and_node() -> None:
    status = queue.job_status(squeue("1|COMPLETED|0|100|200|node1|None"))
    assert (status.started, status.ended, status.node) == (100.0, 200.0, "node1")
    running = queue.job_status(squeue("1|RUNNING|0|100|99999999999|node[1-2]|None"))
    assert (running.started, running.ended, running.node) == (100.0, None, "node[1-2]")


def test_estimated_start() -> None:
    status = queue.job_status(squeue("1|PENDING|0|4102444800|N/A||Resources"))
    assert status.reason.startswith("waits for nodes to become free; expected to start 2")
    assert status.expected == 4102444800
    both = queue.job_status(
        squeue("1_1|PENDING|0|4102444900|N/A||Resources", "1_2|PENDING|0|4102444800|N/A||Resources")
    )
    assert both.expected == 4102444800
    assert queue.job_status(squeue("1|RUNNING|0|4102444800|N/A|node1|None")).expected is None


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["COMPLETED", "COMPLETED"], JobState.SUCCEEDED),
        (["COMPLETED", "RUNNING"], JobState.RUNNING),
        (["COMPLETED", "PENDING"], JobState.RUNNING),
        (["PENDING", "PENDING"], JobState.PENDING),
        (["FAILED", "RUNNING"], JobState.RUNNING),
        (["FAILED", "COMPLETED"], JobState.FAILED),
        (["CANCELLED", "FAILED"], JobState.FAILED),
        (["CANCELLED", "COMPLETED"], JobState.CANCELLED),
    ],
)
def test_arrays_are_taken_together(states: list[str], state: JobState) -> None:
    records = squeue(*(f"7_{i}|{name}|256|100|200|node{i}|None" for i, name in enumerate(states)))
    assert list(queue.by_job(records)) == ["7", "7_0", "7_1"]
    assert queue.job_status(records).state is state


def test_components_of_a_heterogeneous_job() -> None:
    records = squeue("7+0|FAILED|768|100|200|node1|NonZeroExitCode", "7+1|FAILED|768|100|200|node2|NonZeroExitCode")
    status = queue.job_status(records)
    assert (status.state, status.exit_code, status.reason, status.node) == (JobState.FAILED, 3, "", "node1,node2")


@pytest.mark.parametrize(
    ("line", "state", "code", "reason"),
    [
        ("1|COMPLETED|0:0|100|200|node1|None", JobState.SUCCEEDED, 0, ""),
        ("1|FAILED|3:0|100|200|node1|None", JobState.FAILED, 3, ""),
        ("1|FAILED|0:9|100|200|node1|None", JobState.FAILED, 137, ""),
        ("1|CANCELLED by 1001|0:0|100|200|node1|None", JobState.CANCELLED, None, "cancelled by user 1001"),
        ("1|CANCELLED|0:0|100|200|node1|None", JobState.CANCELLED, None, "cancelled"),
        ("1|CANCELLED|0:0|Unknown|200|None assigned|DependencyNeverSatisfied", JobState.CANCELLED, None,
         "not run: a job that it depends on did not end as it should"),
        ("1|TIMEOUT|0:0|100|200|node1|None", JobState.FAILED, None, "its time limit was reached"),
        ("1|NODE_FAIL|1:0|100|200|node1|None", JobState.FAILED, 1, "a node failed"),
        ("1|OUT_OF_MEMORY|0:125|100|200|node1|None", JobState.FAILED, 253, "it used more memory than it had asked for"),
        ("1|RUNNING|0:0|100|Unknown|node1|None", JobState.RUNNING, None, ""),
        ("1|x", JobState.UNKNOWN, None, ""),
    ],
)  # fmt: skip
def test_accounts(line: str, state: JobState, code: int | None, reason: str) -> None:
    status = queue.job_status(queue.parse_sacct(f"{line}\n"))
    assert (status.state, status.exit_code, status.reason) == (state, code, reason)


def test_noise_is_not_a_job() -> None:
    assert queue.parse_squeue("slurm_load_jobs error: Invalid job id specified\n\n") == []


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("- 0,0,100,", queue.End(0, 100.0)),
        ("- 0,137,100,memory", queue.End(137, 100.0, queue.WHY["memory"])),
        ("- member,143,100,group 0,0,101,", queue.End(143, 100.0, queue.WHY["group"], True)),
        ("-", None),
        ("- 0,,100,", None),
        ("0-2 0,0,100, 1,0,103, 2,0,101,", queue.End(0, 103.0)),
        ("0-2 0,0,100, 2,0,101,", None),
        ("0-2 0,5,100, 2,0,101,", None),
        ("0-2", None),
        ("1-3:2,10%1 1,0,100, 3,7,101,memory 10,1,102,",
         queue.End(7, 102.0, f"2 of the 3 tasks of the array failed: 3, 10: {queue.WHY['memory']}")),
        ('"1,x" 1,0,100,', None),
    ],
)  # fmt: skip
def test_how_a_job_ended_by_what_it_left(line: str, end: queue.End | None) -> None:
    assert queue.parse_end(line) == end
