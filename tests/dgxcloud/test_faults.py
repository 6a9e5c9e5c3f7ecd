"""DGX Cloud: what goes wrong on the way. Nothing is launched twice, nothing is lost, and states are true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import Command, JobState, Plan, TaskRequest
from nemo_run.core.execution.dgxcloud import DGXCloudExecutor
from nemo_run.errors import EngineUnreachableError, ExecutorError
from nemo_run.run.experiment import Experiment
from tests.dgxcloud import server
from tests.dgxcloud.executors import make_executor
from tests.support import bash, eventually, states

pytestmark = pytest.mark.needs("pods")

COUNT = "for i in $(seq 40); do echo line $i; sleep 0.02; done"
LINES = "".join(f"line {i}\n" for i in range(1, 41))


def log_of(experiment: Experiment) -> bytes:
    [job] = experiment.jobs
    folder = Path(experiment.status(return_dict=True)[job.id]["local_dir"])  # type: ignore[index]
    plan = Plan.from_json(json.loads((folder / "plan.json").read_bytes()))
    backend = make_executor().backend()
    reader = backend.open_log(backend.expected_handle(plan, 1))
    log = b"".join(iter(reader.read, b""))
    reader.close()
    backend.close()
    return log


FAULTS: dict[str, list[tuple[str, str, str | int, dict[str, Any]]]] = {
    "at first": [
        ("POST", "/token", 500, {}),
        ("POST", "/token", 429, {}),
        ("POST", "/token", "cut after", {}),
        ("GET", "/projects$", 503, {}),
    ],
    "moving files": [
        ("POST", "/workspaces$", "cut after", {}),
        ("POST", "/workspaces$", 500, {}),
        ("GET", "/workspaces/", 500, {}),
        ("DELETE", "/workspaces/", "cut before", {}),
        ("GET", "/nemo-run-data.*/log$", "cut after", {"after": 20}),
    ],
    "creating": [
        ("POST", "/trainings$", 429, {}),
        ("POST", "/trainings$", 500, {}),
        ("POST", "/trainings$", "cut before", {}),
        ("POST", "/trainings$", "slow", {}),
    ],
    "created": [
        ("POST", "/trainings$", "cut after", {}),
        ("GET", "/workloads$", 500, {}),
    ],
    "looking": [
        ("GET", "/workloads$", 429, {}),
        ("GET", "/workloads$", 500, {}),
        ("GET", "/workloads$", "slow", {}),
        ("GET", "/pods$", 502, {}),
    ],
}


@pytest.mark.parametrize("kind", FAULTS)
def test_an_experiment_goes_through(kind: str, service: server.Server) -> None:
    with Experiment("fault", executor=make_executor()) as experiment:
        experiment.add(bash(f"{COUNT}; echo done > $NEMO_RUN_ARTIFACTS/file"), name="task")
        for method, path, what, options in FAULTS[kind]:
            service.fail(method, path, what, **options)
        experiment.run()
    assert service.faults == []
    assert states(experiment) == {"task": "SUCCEEDED"}
    assert len(service.named("trainings")) == 1
    assert log_of(experiment) == LINES.encode()
    assert [Path(artifact.file).read_text() for artifact in experiment.artifacts()] == ["done\n"]


class Attempt:
    """One attempt, without an experiment."""

    def __init__(self, folder: Path, script: str, **options: Any) -> None:
        executor: DGXCloudExecutor = make_executor(**options)
        directory = folder / "experiment_1" / "job"
        directory.mkdir(parents=True)
        self.backend = executor.backend()
        request = TaskRequest("experiment_1", "job", str(directory), executor, Command(("sh", "-c", script)))
        self.plan = self.backend.render([request])[0]
        self.handle = self.backend.expected_handle(self.plan, 1)

    def state(self) -> JobState:
        return self.backend.states([self.handle])[self.handle].state

    def end(self) -> JobState:
        return eventually(lambda: state if (state := self.state()).is_final else None)


def test_a_create_is_repeated_until_it_is_known(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "exit 0", mounted=True)
    service.fail("POST", "/trainings$", "cut after")
    service.list_delay = 1.5  # what was created is not in the list yet
    assert attempt.backend.start(attempt.plan, 1) == attempt.handle
    assert attempt.end() is JobState.SUCCEEDED
    assert len(service.named("trainings")) == 1
    attempt.backend.close()


def test_two_processes_that_submit_the_same_attempt(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "exit 0", mounted=True)
    other = make_executor(mounted=True).backend()
    assert attempt.backend.start(attempt.plan, 1) == other.start(attempt.plan, 1) == attempt.handle
    assert attempt.end() is JobState.SUCCEEDED
    assert len(service.named("trainings")) == 1
    for backend in (attempt.backend, other):
        backend.close()


def test_a_create_that_fails_for_good_can_be_recovered(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "exit 0", mounted=True)
    service.fail("POST", "/trainings$", "cut after")
    service.fail("GET", "/workloads$", 500, times=5)
    with pytest.raises(EngineUnreachableError):
        attempt.backend.start(attempt.plan, 1)
    assert attempt.state() is JobState.UNKNOWN or attempt.state() is JobState.SUCCEEDED
    assert attempt.backend.recover(attempt.plan, 1) == attempt.handle
    assert attempt.end() is JobState.SUCCEEDED
    attempt.backend.close()


def test_tokens_are_replaced_when_they_are_not_good_any_more(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, f"{COUNT}; sleep 1; echo end")
    attempt.backend.start(attempt.plan, 1)
    eventually(lambda: attempt.state() is JobState.RUNNING)
    service.revoke_tokens()
    reader = attempt.backend.open_log(attempt.handle)
    read = b""
    while not (ended := attempt.state().is_final) or not read.endswith(b"end\n"):
        read += reader.read()
        if ended:
            read += b"".join(iter(reader.read, b""))
            break
        service.revoke_tokens()
    assert read == LINES.encode() + b"end\n"
    assert attempt.end() is JobState.SUCCEEDED
    reader.close()
    attempt.backend.close()


def test_a_log_is_followed_over_cuts(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, COUNT)
    attempt.backend.start(attempt.plan, 1)
    for after in (5, 50, 11, 150):
        service.fail("GET", "/log$", "cut after", after=after)
    reader = attempt.backend.open_log(attempt.handle)
    read = b""
    while not attempt.state().is_final:
        read += reader.read()
    read += b"".join(iter(reader.read, b""))
    assert read == LINES.encode()
    assert service.faults == []
    reader.close()
    attempt.backend.close()


@pytest.mark.parametrize("mounted", [False, True])
def test_a_log_that_is_opened_before_there_is_an_attempt(mounted: bool, service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, COUNT, mounted=mounted)
    reader = attempt.backend.open_log(attempt.handle)
    assert reader.read() == b""
    attempt.backend.start(attempt.plan, 1)
    read = b""
    while not attempt.state().is_final:
        read += reader.read()
    assert read + b"".join(iter(reader.read, b"")) == LINES.encode()
    reader.close()
    attempt.backend.close()


def test_the_rest_of_a_log_is_read_from_the_volume(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "trap 'echo told to end; exit 0' TERM; echo begun; while :; do sleep 0.05; done")
    attempt.backend.start(attempt.plan, 1)
    eventually(lambda: attempt.state() is JobState.RUNNING)
    reader = attempt.backend.open_log(attempt.handle)
    eventually(lambda: reader.read() == b"begun\n")
    attempt.backend.cancel([attempt.handle])
    assert attempt.end() is JobState.CANCELLED
    assert b"".join(iter(reader.read, b"")) == b"told to end\n"
    reader.close()
    late = attempt.backend.open_log(attempt.handle, tail=1)
    assert b"".join(iter(late.read, b"")) == b"told to end\n"
    late.close()
    attempt.backend.close()


def test_a_service_that_does_not_answer_is_no_state(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "sleep 300", mounted=True)
    attempt.backend.start(attempt.plan, 1)
    service.fail("GET", "/workloads$", 503, times=5)
    with pytest.raises(EngineUnreachableError, match="503"):
        attempt.state()
    assert attempt.state() in (JobState.PENDING, JobState.RUNNING, JobState.SUBMITTED)
    attempt.backend.close()


def test_refusals_are_told_in_the_words_of_the_service(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "true", mounted=True, env_vars={"HF_TOKEN": "s3cr3t-7"})
    service.fail("POST", "/trainings$", 403)
    with pytest.raises(ExecutorError, match="a fault: 403") as caught:
        attempt.backend.start(attempt.plan, 1)
    assert "s3cr3t-7" not in str(caught.value)
    attempt.backend.close()


def test_without_the_cluster_what_can_be_known_is_known(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "exit 3", kube_apiserver_url="")
    attempt.backend.start(attempt.plan, 1)
    assert attempt.end() is JobState.FAILED
    with pytest.raises(ExecutorError, match="kube_apiserver_url"):
        attempt.backend.open_log(attempt.handle).read()
    attempt.backend.fetch_artifacts(attempt.plan, attempt.handle, [], tmp_path / "artifacts")
    with pytest.raises(ExecutorError, match="kube_apiserver_url"):
        attempt.backend.fetch_artifacts(attempt.plan, attempt.handle, ["*"], tmp_path / "artifacts")
    attempt.backend.close()


def test_a_helper_that_fails_is_told(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "true " + "x" * 20_000, pvc_nemo_run_dir=f"{server.VOLUME}/file/nemo_run")
    (service.volume / "file").write_text("in the way")
    with pytest.raises(ExecutorError, match=r"helper workload.*ended as Failed"):
        attempt.backend.start(attempt.plan, 1)
    (service.volume / "file").unlink()
    assert service.workloads == {}
    attempt.backend.close()


def test_a_volume_that_is_not_mounted_is_told(service: server.Server, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "true", mounted=True, pvc_nemo_run_dir=f"{service.volume}/file/nemo_run")
    (service.volume / "file").write_text("in the way")
    with pytest.raises(ExecutorError, match="has to be mounted"):
        attempt.backend.start(attempt.plan, 1)
    (service.volume / "file").unlink()
    attempt.backend.close()


def test_many_attempts_are_asked_for_in_few_requests(service: server.Server, tmp_path: Path) -> None:
    service.page = 7
    attempt = Attempt(tmp_path, "exit $NEMO_RUN_ATTEMPT", mounted=True)
    handles = [attempt.backend.start(attempt.plan, number) for number in range(1, 21)]
    eventually(lambda: all(status.state.is_final for status in attempt.backend.states(handles).values()))
    statuses = attempt.backend.states(handles)
    assert [statuses[handle].exit_code for handle in handles] == list(range(1, 21))
    service.requests.clear()
    attempt.backend.states(handles)
    assert service.requests == []
    attempt.backend.close()
