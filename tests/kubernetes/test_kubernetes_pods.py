"""What the words of a pod mean. No cluster is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import JobState, TaskStatus
from nemo_run.core.execution.pods.client import context_namespace, default_connection
from nemo_run.core.execution.pods.status import broken, combined, pod_status
from nemo_run.core.execution.shared.manifests import literal, overlaid
from nemo_run.errors import ExecutorError

TIME = "2030-01-01T00:00:00Z"


def pod(phase: str, state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    statuses = [{"name": "task", "image": "i", "ready": False, "state": state}] if state else []
    return {
        "metadata": {},
        "spec": {"nodeName": "n", "containers": [{"name": "task", "resources": {"limits": {"memory": "1Gi"}}}]},
        "status": {"phase": phase, "containerStatuses": statuses, **status},
    }


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": TIME, "finishedAt": TIME, **more}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


RUNNING = {"running": {"startedAt": TIME}}
UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]


@pytest.mark.parametrize(
    ("found", "state", "code", "reason", "lost"),
    [
        (pod("Pending"), "PENDING", None, "", False),
        (pod("Pending", conditions=UNSCHEDULABLE), "PENDING", None, "unschedulable: 0/1 nodes", False),
        (pod("Pending", waiting("ContainerCreating")), "PENDING", None, "", False),
        (
            pod("Pending", waiting("ImagePullBackOff", "no")),
            "PENDING",
            None,
            "the image 'i' cannot be pulled: no",
            False,
        ),
        (pod("Running", RUNNING), "RUNNING", None, "", False),
        (pod("Running", RUNNING, reason="NodeLost"), "RUNNING", None, "its node does not answer", False),
        (pod("Succeeded", ended(0, "Completed")), "SUCCEEDED", 0, "", False),
        (pod("Failed", ended(3)), "FAILED", 3, "", False),
        (pod("Failed", ended(137, "OOMKilled")), "FAILED", 137, "out of memory: it needed more than 1Gi", False),
        (pod("Failed", ended(128, "StartError", message="no sh")), "FAILED", 128, "no sh", False),
        (pod("Failed", ended(255, "Unknown")), "FAILED", None, "its node was lost, or restarted", True),
        (pod("Failed", reason="Evicted", message="low on memory"), "FAILED", None, "evicted: low on memory", True),
        (pod("Failed", ended(137), reason="Evicted", message="m"), "FAILED", 137, "evicted: m", True),
        (pod("Failed", reason="Preempting", message="m"), "FAILED", None, "preempted: m", True),
        (pod("Failed", RUNNING, reason="DeadlineExceeded"), "FAILED", None, "DeadlineExceeded", False),
    ],
)
def test_states(found: dict[str, Any], state: str, code: int | None, reason: str, lost: bool) -> None:
    status = pod_status(found)
    assert (str(status.state), status.exit_code, status.reason, status.lost) == (state, code, reason, lost)


def test_what_keeps_a_pod_from_starting() -> None:
    assert broken(pod("Pending", waiting("CreateContainerConfigError", "secret not found"))) == (
        "the container 'task' cannot be made: secret not found"
    )
    init = {"name": "init", "image": "x", "state": waiting("ErrImagePull", "denied")}
    assert broken(pod("Pending", initContainerStatuses=[init])) == "the image 'x' cannot be pulled: denied"
    assert broken(pod("Pending", waiting("ContainerCreating"))) == ""


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([JobState.RUNNING, JobState.RUNNING], JobState.RUNNING),
        ([JobState.RUNNING, JobState.PENDING], JobState.PENDING),
        ([JobState.SUCCEEDED, JobState.RUNNING], JobState.RUNNING),
        ([JobState.SUCCEEDED, None], JobState.RUNNING),
        ([JobState.SUCCEEDED, JobState.SUCCEEDED], JobState.SUCCEEDED),
        ([JobState.RUNNING, JobState.FAILED], JobState.FAILED),
        ([None, None], JobState.SUBMITTED),
    ],
)
def test_states_of_several_nodes(states: list[JobState | None], expected: JobState) -> None:
    assert combined([state and TaskStatus(state) for state in states]).state is expected


def test_the_first_node_that_failed_tells_why() -> None:
    killed = TaskStatus(JobState.FAILED, None, "DeadlineExceeded", 1.0, 9.0)
    failed = TaskStatus(JobState.FAILED, 5, "", 1.0, 3.0)
    status = combined([killed, failed])
    assert (status.exit_code, status.reason, status.started, status.ended) == (5, "node 1", 1.0, 9.0)


def test_overrides_are_merged() -> None:
    base = {"containers": [{"name": "task", "env": [{"name": "A", "value": "1"}]}], "tolerations": [{"key": "a"}]}
    changes = {"containers": [{"name": "task", "tty": True}, {"name": "b"}], "tolerations": [{"key": "b"}], "c": 1}
    assert overlaid(base, changes) == {
        "containers": [{"name": "task", "env": [{"name": "A", "value": "1"}], "tty": True}, {"name": "b"}],
        "tolerations": [{"key": "b"}],
        "c": 1,
    }
    assert literal("$(A) $$ $B") == "$$(A) $$$$ $$B"


def test_contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.write_text(json.dumps({"contexts": [{"name": "a", "context": {"namespace": "mine"}}]}))
    second.write_text(json.dumps({"current-context": "b", "contexts": [{"name": "b", "context": {}}]}))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    assert default_connection() == {"kubeconfig": f"{first}:{second}", "context": "b"}
    assert context_namespace(default_connection("a")) == "mine"
    assert context_namespace(default_connection()) == "default"
    with pytest.raises(ExecutorError, match=r"no context 'c' \(there are: a, b\)"):
        default_connection("c")
    first.write_text("contexts: [")
    with pytest.raises(ExecutorError, match="one cannot be read"):
        default_connection()
