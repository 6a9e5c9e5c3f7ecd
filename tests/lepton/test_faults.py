"""A service that fails in every way that a network has: nothing is launched twice, nothing is lost, states are true."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.lepton.client import LeptonClient, default_connection
from nemo_run.core.rest import RestClient
from nemo_run.errors import EngineUnreachableError, ExecutorError
from tests.lepton.conftest import executor_on
from tests.services.lepton import Lepton
from tests.support import eventually


def launch(mount: Path, script: str, **options: Any) -> run.Experiment:
    with run.Experiment("exp", executor=executor_on(mount), clean_mode=True) as exp:
        exp.add(run.Script(inline=script), name="job0")
        exp.run(**options)
    return exp


def posts(lepton: Lepton) -> int:
    return sum((request.method, request.path) == ("POST", "/jobs") for request in lepton.requests)


def runs(mount: Path) -> int:
    """How often the task has begun."""
    ran = mount / "ran"
    return len(ran.read_text().splitlines()) if ran.exists() else 0


@pytest.fixture
def client(lepton: Lepton) -> Any:
    """A client with little patience."""
    workspace = LeptonClient(default_connection())
    workspace.rest = RestClient(
        lepton.url, service="Lepton", extra="lepton", token=lambda: "token-1", pause=0.01, timeout=0.5,
        headers={"origin": "https://origin.example"},
    )  # fmt: skip
    yield workspace
    workspace.close()


BODY = {"metadata": {"id": "a-job"}, "spec": {"container": {"image": "x", "command": ["true"]}}}


@pytest.mark.parametrize(
    ("kind", "value", "requests"),
    [("status", 429, 2), ("status", 500, 2), ("status", 503, 2), ("cut", 0, 2), ("lost", 0, 1), ("slow", 1.0, None)],
)
def test_a_creation_that_fails_once(
    client: LeptonClient, lepton: Lepton, kind: str, value: float, requests: int
) -> None:
    """The request is repeated where nothing was done, and only there."""
    lepton.fault("POST", "/jobs$", kind, value)
    client.create(BODY)
    assert list(lepton.jobs) == ["a-job"]
    assert requests is None or posts(lepton) == requests


def test_a_creation_that_fails_for_good(client: LeptonClient, lepton: Lepton) -> None:
    lepton.fault("POST", "/jobs$", "status", 500, times=99)
    with pytest.raises(EngineUnreachableError, match="fault 500"):
        client.create(BODY)
    assert posts(lepton) == 5
    assert not lepton.jobs


@pytest.mark.parametrize(("kind", "value"), [("status", 429), ("status", 502), ("cut", 0), ("slow", 1.0)])
def test_a_question_is_asked_again(client: LeptonClient, lepton: Lepton, kind: str, value: float) -> None:
    lepton.fault("GET", "/jobs", kind, value, times=2)
    assert client.jobs("x") == {}
    assert client.job("x") is None


def test_a_question_is_not_asked_for_ever(client: LeptonClient, lepton: Lepton) -> None:
    lepton.fault("GET", "/jobs", "status", 500, times=99)
    with pytest.raises(EngineUnreachableError, match="500"):
        client.jobs("x")
    assert len(lepton.requests) == 5


def test_who_wants_us_to_wait_is_waited_for(client: LeptonClient, lepton: Lepton) -> None:
    lepton.fault("GET", "/jobs", "status", 429, retry_after="3600")
    with pytest.raises(EngineUnreachableError, match="429"):
        client.jobs("x")
    assert len(lepton.requests) == 1


def test_many_jobs_come_in_pages(client: LeptonClient, lepton: Lepton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nemo_run.core.execution.lepton.client._PAGE", 2)
    for number in range(5):
        client.create({**BODY, "metadata": {"id": f"a-job-{number}"}})
    client.create({**BODY, "metadata": {"id": "other"}})
    assert list(client.jobs("a-job")) == [f"a-job-{number}" for number in range(5)]


def test_a_token_that_runs_out_is_renewed(lepton: Lepton, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a job: the new one is what a second login has left."""
    monkeypatch.delenv("LEPTON_WORKSPACE_TOKEN")
    login = lepton.folder / "lepton-cache" / "workspace_info.yaml"
    login.parent.mkdir()
    login.write_text("workspaces: {ws1: {auth_token: token-1}}")
    exp = launch(mount, f"until [ -e {mount}/go ]; do sleep 0.02; done", detach=True)
    eventually(lambda: exp.results()["job0"].state is JobState.RUNNING)
    login.write_text("workspaces: {ws1: {auth_token: token-2}}")
    lepton.tokens = {"token-2"}
    (mount / "go").touch()
    exp.wait()
    assert exp.results()["job0"].state is JobState.SUCCEEDED
    assert "token-" not in "".join(path.read_text() for path in Path(exp.directory).rglob("*.json"))


def test_a_token_that_runs_out_for_good_is_no_end_of_a_job(
    lepton: Lepton, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = launch(mount, f"until [ -e {mount}/go ]; do sleep 0.02; done; exit 4", detach=True)
    eventually(lambda: exp.results()["job0"].state is JobState.RUNNING)
    lepton.tokens = {"token-2"}
    eventually(lambda: "lep login" in exp.results()["job0"].reason)
    monkeypatch.delenv("LEPTON_WORKSPACE_TOKEN")
    assert "there is no token" in exp.results()["job0"].reason
    lepton.tokens = {"token-1"}
    (mount / "go").touch()
    monkeypatch.setenv("LEPTON_WORKSPACE_TOKEN", "token-1")
    exp.wait()
    assert exp.results()["job0"].exit_code == 4


def test_an_experiment_in_bad_weather(lepton: Lepton, mount: Path) -> None:
    for method, path, kind, value in [
        ("POST", "/jobs$", "lost", 0),
        ("GET", "/jobs/[^/]+$", "status", 500),
        ("GET", "/jobs$", "cut", 0),
        ("GET", "/jobs$", "status", 429),
        ("GET", "/replicas$", "status", 503),
        ("GET", "/log$", "short", 5),
        ("GET", "/log$", "cut", 0),
        ("GET", "/log$", "short", 20),
    ]:
        lepton.fault(method, path, kind, value)
    exp = launch(mount, f"echo x >> {mount}/ran; seq 1000; exit 3")
    result = exp.results()["job0"]
    assert (result.state, result.exit_code) == (JobState.FAILED, 3)
    assert Path(exp.directory, "job0", "attempts", "1", "log").read_text() == "".join(f"{i}\n" for i in range(1, 1001))
    assert runs(mount) == 1
    assert not any(fault.times for fault in lepton.faults)


def test_an_outage_of_the_service_is_no_end_of_a_job(lepton: Lepton, mount: Path) -> None:
    """Longer than a request is repeated: the state stays, with a word on why, and then goes on."""
    exp = launch(mount, f"echo x >> {mount}/ran; until [ -e {mount}/go ]; do sleep 0.02; done; exit 4", detach=True)
    eventually(lambda: [path for path in Path(exp.directory).rglob("state.json") if "RUNNING" in path.read_text()])
    lepton.fault("GET", "", "status", 429, times=10**6, retry_after="3600")
    eventually(lambda: "429" in exp.results()["job0"].reason)
    assert exp.results()["job0"].state is JobState.RUNNING
    (mount / "go").touch()
    lepton.faults.clear()
    exp.wait()
    assert (exp.results()["job0"].exit_code, runs(mount)) == (4, 1)


@pytest.mark.parametrize("kind", ["cut", "short"])
def test_a_log_that_breaks_while_it_is_followed(
    lepton: Lepton, mount: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    lepton.fault("GET", "/log$", kind, 1000, times=2)
    script = f"seq 500; until [ -e {mount}/go ]; do sleep 0.02; done; seq 501 1000"
    exp = launch(mount, script, detach=True)
    follower = threading.Thread(target=exp.logs, args=("job0",))
    follower.start()
    eventually(lambda: not any(fault.times for fault in lepton.faults))
    (mount / "go").touch()
    follower.join()
    assert capfd.readouterr().out.split() == [word for i in range(1, 1001) for word in ("job0/0", str(i))]


def test_the_end_of_our_line_may_come_in_pieces() -> None:
    from nemo_run.core.execution.lepton.script import Output

    text = b"a [job-1 ended, they say\n[job-1 ended: 3 10 20 1]\n"
    for size in range(1, len(text)):
        output = Output("job-1")
        got = b"".join(output.feed(text[at : at + size]) for at in range(0, len(text), size)) + output.rest()
        assert got == b"a [job-1 ended, they say\n"
        end = output.end
        assert end
        assert (end.exit_code, end.started, end.ended, end.left_artifacts) == (3, 10, 20, True)


def launch_function(mount: Path) -> run.Experiment:
    """A function needs a file that is sent beforehand."""
    with run.Experiment("exp", executor=executor_on(mount), clean_mode=True) as exp:
        exp.add(run.Partial(len, "abc"), name="job0")
        exp.run()
    return exp


def test_files_that_could_not_be_sent_are_sent_again(lepton: Lepton, mount: Path) -> None:
    path, lepton.path = lepton.path, "/nowhere"
    with pytest.raises(ExecutorError, match=r"nr-put-.*-0, which moves files, ended as FAILED: .*not found"):
        launch_function(mount)
    assert all(name.startswith("nr-put-") for name in lepton.jobs)
    lepton.path = path
    assert launch_function(mount).results()["job0"].state is JobState.SUCCEEDED
    assert {name.rpartition("-")[2] for name in lepton.jobs if name.startswith("nr-put-")} == {"0", "1"}


def test_a_package_that_somebody_deleted_is_named(lepton: Lepton, mount: Path) -> None:
    assert launch_function(mount).results()["job0"].state is JobState.SUCCEEDED
    (package,) = (mount / "nemo" / ".packages").iterdir()
    package.unlink()
    result = launch_function(mount).results()["job0"]
    assert result.state is JobState.FAILED
    assert package.name in "".join(result.log_tail)
