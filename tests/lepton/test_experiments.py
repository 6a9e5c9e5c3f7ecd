"""Experiments on Lepton: what arrives, what comes back, and what users see of it."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.lepton import spec as bodies
from nemo_run.core.tunnel.ssh import free_port
from nemo_run.errors import ExecutorError
from tests.launchers import ddp
from tests.lepton.conftest import executor_on
from tests.services.lepton import Lepton
from tests.support import eventually


@pytest.fixture(autouse=True)
def _workspace(lepton: Lepton) -> None:
    """All these tests have one."""


def launch(executor: Any, task: Any, name: str = "job0", **options: Any) -> run.Experiment:
    with run.Experiment("exp", executor=executor, clean_mode=True) as exp:
        exp.add(task, name=name, artifacts=options.pop("artifacts", []))
        exp.run(**options)
    return exp


def log_of(exp: run.Experiment, capfdbinary: pytest.CaptureFixture[bytes], **options: Any) -> list[str]:
    capfdbinary.readouterr()
    exp.logs("job0", follow=False, **options)
    return [re.sub(r"^.*?/\d+ ", "", line) for line in capfdbinary.readouterr().out.decode().splitlines()]


def shell(text: str, **options: Any) -> run.Script:
    return run.Script(inline=text, **options)


def posted(lepton: Lepton, kind: str) -> list[dict[str, Any]]:
    """Bodies of the requests that create jobs whose names begin like this."""
    sent = [request.body for request in lepton.requests if (request.method, request.path) == ("POST", "/jobs")]
    return [body for body in sent if body["metadata"]["id"].startswith(kind)]


def test_a_function_with_its_code_and_its_files(
    lepton: Lepton,
    mount: Path,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    (work / "lepton_recipe.py").write_text(
        "import os\n"
        "def train(text):\n"
        "    open('result.txt', 'w').write(text)\n"
        "    os.mkdir(os.environ['NEMO_RUN_ARTIFACTS'] + '/deep')\n"
        "    open(os.environ['NEMO_RUN_ARTIFACTS'] + '/deep/model', 'w').write(text * 2)\n"
        "    print(os.getcwd())\n"
    )
    monkeypatch.syspath_prepend(str(work))
    from lepton_recipe import train  # type: ignore[import-not-found]

    packager = run.PatternPackager(include_pattern=str(work / "*.py"), relative_path=str(work))
    for _ in range(2):
        exp = launch(executor_on(mount, packager=packager), run.Partial(train, "é"), artifacts=["*.txt"], check=True)
        found = {path.name: path.read_text() for path in Path(exp.directory, "job0", "artifacts").rglob("*.*")}
        assert found == {"result.txt": "é"}
        assert Path(exp.directory, "job0", "artifacts", "deep", "model").read_text() == "éé"
        code = mount / "nemo" / Path(exp.directory).relative_to(Path(exp.directory).parents[2]) / "job0" / "code"
        assert log_of(exp, capfdbinary) == [str(code)]
    parts = posted(lepton, "nr-put-")
    assert len(parts) == 1 + len(Path(next((mount / "nemo/.packages").glob("runner-*"))).read_bytes()) // bodies.PART
    assert not [name for name in lepton.jobs if name.startswith("nr-get-")]


def test_what_the_request_says(lepton: Lepton, mount: Path) -> None:
    executor = executor_on(
        mount,
        node_group="group-b",
        node_reservation="res-1",
        image_pull_secrets=["registry"],
        secret_vars={"TOKEN": "my-secret"},
        env_vars={"LR": "0.1", "PRICE": "$5"},
        can_preempt=True,
        custom_spec={"ttl_seconds_after_finished": 60, "shared_memory_size": None},
    )
    exp = launch(executor, shell('[ "$TOKEN-$LR-$PRICE" = "from-a-secret-0.1-\\$5" ]'))
    assert exp.results()["job0"].state is JobState.SUCCEEDED
    (body,) = posted(lepton, "job0-")
    name = body["metadata"]["id"]
    assert body["metadata"] == {"id": name, "name": name, "visibility": "private"}
    spec = body["spec"]
    assert spec.pop("container").keys() == {"image", "command"}
    envs = {env["name"]: env.get("value", env.get("value_from")) for env in spec.pop("envs")}
    assert envs["TOKEN"] == {"secret_name_ref": "my-secret"}
    assert envs["LR"] == "0.1"
    assert "PRICE" not in envs  # Kubernetes would take its dollar
    assert spec == {
        "resource_shape": "cpu.large",
        "completions": 1,
        "parallelism": 1,
        "mounts": [{"path": "/", "mount_path": str(mount), "from": "node-nfs:shared"}],
        "image_pull_secrets": ["registry"],
        "intra_job_communication": True,
        "queue_config": {"priority_class": "mid-4000", "can_preempt": True},
        "reservation_config": {"reservation_id": "res-1"},
        "affinity": {"allowed_dedicated_node_groups": ["ng-b2"]},
        "ttl_seconds_after_finished": 60,
    }


def test_all_replicas_run_and_are_heard(mount: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    script = 'echo "rank $NODE_RANK of $WORLD_SIZE at $MASTER_ADDR"; echo "$WORKER_ADDRS"'
    exp = launch(executor_on(mount, nodes=3), shell(script))
    numbered = log_of(exp, capfdbinary)
    starts = [line.split(" at ")[0] for line in numbered if " at " in line]
    assert sorted(starts) == [f"[{i}] rank {i} of 3" for i in range(3)]
    lines = [line.partition("] ")[2] for line in numbered]
    name, head = re.search(r"at ((job0-\S+?)-0\.\2-job-svc\.ws-ws1\.svc\.cluster\.local)$", lines[0]).group(2, 1)  # type: ignore[union-attr]
    workers = ",".join(head.replace(f"{name}-0.", f"{name}-{rank}.") for rank in (1, 2))
    assert lines.count(workers) == 3
    assert next(line.split(" at ")[0] for line in log_of(exp, capfdbinary, rank=2)) == "rank 2 of 3"


def test_the_failure_of_one_replica_is_that_of_the_job(mount: Path) -> None:
    exp = launch(executor_on(mount, nodes=2), shell('[ "$NODE_RANK" = 0 ] && sleep 60; exit 7'))
    assert (exp.results()["job0"].state, exp.results()["job0"].exit_code) == (JobState.FAILED, 7)


@pytest.mark.needs("torch")
def test_torchrun_spans_the_replicas(lepton: Lepton, mount: Path, tmp_path: Path) -> None:
    lepton.replica_env = {"MASTER_ADDR": "localhost"}  # there is no name service here
    executor = executor_on(
        mount,
        nodes=2,
        launcher=run.Torchrun(rdzv_port=free_port()),
        env_vars={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    exp = launch(executor, run.Partial(ddp.all_reduce, results=str(tmp_path)))
    assert exp.results()["job0"].state is JobState.SUCCEEDED
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["3.0", "3.0"]


def test_commands_before_the_launch(mount: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    before = ["export FROM=before", "cd /tmp", "echo first"]
    exp = launch(executor_on(mount, pre_launch_commands=before), shell('echo "$FROM" "${PWD##*/}"'))
    assert log_of(exp, capfdbinary) == ["first", "before code"]


def test_a_retry_is_a_job_of_its_own(lepton: Lepton, mount: Path) -> None:
    exp = launch(executor_on(mount, retries=1, retry_delay=0), shell("[ $NEMO_RUN_ATTEMPT = 2 ]"))
    assert exp.results()["job0"].state is JobState.SUCCEEDED
    assert [body["metadata"]["id"].rpartition("-")[2] for body in posted(lepton, "job0-")] == ["1", "2"]


def test_why_a_job_waits(lepton: Lepton, mount: Path) -> None:
    lepton.is_full = True
    exp = launch(executor_on(mount), shell("true"), detach=True)
    (name,) = eventually(lambda: list(lepton.jobs))
    lepton.events[name] = [
        {"type": "Normal", "reason": "Created", "count": 1, "last_observed_time": "2026-01-01T00:00:00Z"},
        {"type": "Warning", "reason": "FailedScheduling", "count": 1, "last_observed_time": "2026-01-01T00:00:00Z"},
    ]
    eventually(lambda: "FailedScheduling" in exp.results()["job0"].reason)
    assert exp.results()["job0"].state is JobState.PENDING
    lepton.make_room()
    exp.wait()
    assert exp.results()["job0"].state is JobState.SUCCEEDED


@pytest.mark.parametrize("stopped", [True, False])
def test_somebody_else_ends_a_job(lepton: Lepton, mount: Path, stopped: bool) -> None:
    exp = launch(executor_on(mount), shell("sleep 60"), detach=True)
    eventually(lambda: exp.results()["job0"].state is JobState.RUNNING)
    (job,) = lepton.jobs.values()
    if stopped:
        job.stop()
        end = (JobState.CANCELLED, "stopped on Lepton")
    else:
        submitted = next(Path(exp.directory).rglob("submission.json"))
        submitted.write_text('{"at": 0, "nodes": 1}')  # so that the service has had the time to know of it
        lepton.jobs.clear()
        end = (JobState.FAILED, "not on Lepton any more")
    exp.wait()
    assert exp.results()["job0"].state is end[0]
    assert end[1] in exp.results()["job0"].reason
    for replica in job.replicas:
        replica.end()


def test_what_was_cancelled_is_no_failure(lepton: Lepton, mount: Path) -> None:
    """Whatever the service makes of tasks that end with an error when they are asked to end."""
    exp = launch(executor_on(mount), shell("sleep 60"), detach=True)
    eventually(lambda: exp.results()["job0"].state is JobState.RUNNING)
    (job,) = lepton.jobs.values()
    exp.cancel("job0")
    eventually(lambda: job.stop_at)
    job.state = "Failed"
    exp.wait()
    assert exp.results()["job0"].state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("status", "spec", "state"),
    [
        ({"state": "Archived", "succeeded": 2}, {"completions": 2}, JobState.SUCCEEDED),
        ({"state": "Archived", "failed": 1, "succeeded": 1}, {"completions": 2}, JobState.FAILED),
        ({"state": "Archived"}, {"stopped": True}, JobState.CANCELLED),
        ({"state": "Archived"}, {}, JobState.FAILED),
        ({"state": "Running", "ready": 1, "active": 2}, {}, JobState.PENDING),
        ({"state": "Running", "ready": 2, "active": 2}, {}, JobState.RUNNING),
        ({"state": "Terminating"}, {}, JobState.RUNNING),
        ({"state": "PendingRetry"}, {}, JobState.PENDING),
        ({"state": "Deleted"}, {}, JobState.CANCELLED),
        ({"state": "something new"}, {}, JobState.UNKNOWN),
        ({}, {}, JobState.UNKNOWN),
    ],
)
def test_states(status: dict[str, Any], spec: dict[str, Any], state: JobState) -> None:
    assert bodies.job_state({"status": status, "spec": spec})[0] is state


def test_a_log_is_followed_by_several_at_once(lepton: Lepton, mount: Path, capfd: pytest.CaptureFixture[str]) -> None:
    go = mount.parent / "go"
    script = f"for i in $(seq 2000); do echo line $i; done; until [ -e {go} ]; do sleep 0.05; done; echo last"
    exp = launch(executor_on(mount), shell(script), detach=True)
    eventually(lambda: exp.results()["job0"].state is JobState.RUNNING)
    followers = [threading.Thread(target=exp.logs, args=("job0",)) for _ in range(3)]
    for follower in followers:
        follower.start()
    go.touch()
    for follower in followers:
        follower.join()
    lines = re.findall(r"job0/0 (.*)", capfd.readouterr().out)
    assert len(lines) == 3 * 2001
    assert lines.count("last") == lines.count("line 1") == lines.count("line 2000") == 3


def test_files_stay_here_where_the_mount_is_here(lepton: Lepton, mount: Path) -> None:
    exp = launch(
        executor_on(mount, launched_from_cluster=True, mounts=[]),
        run.Partial(len, "module"),
        artifacts=["*.x"],
    )
    assert exp.results()["job0"].state is JobState.SUCCEEDED
    assert {name.partition("-")[0] for name in lepton.jobs} == {"job0"}
    exp = launch(
        executor_on(mount, launched_from_cluster=True, mounts=[]),
        shell("echo 1 > a.x; echo 2 > $NEMO_RUN_ARTIFACTS/b"),
        artifacts=["*.x"],
    )
    assert sorted(path.name for path in Path(exp.directory, "job0", "artifacts").iterdir()) == ["a.x", "b"]


# what is refused before anything is launched


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"container_image": ""}, "container_image"),
        ({"nemo_run_dir": "relative"}, "absolute"),
        ({"nodes": 0}, "nodes"),
        ({"mounts": [{"path": "/"}]}, "mount_path"),
        ({"env_vars": {"LEPTON_JOB_NAME": "x"}}, "LEPTON_JOB_NAME"),
        ({"secret_vars": {"A B": "x"}}, "secret_vars"),
        ({"secret_vars": {"A": ""}}, "secret_vars"),
        ({"secret_vars": {"A": "x"}, "env_vars": {"A": "1"}}, "twice|too"),
        ({"launcher": "nonsense"}, "nonsense"),
        ({"custom_spec": {"a": object()}}, "JSON"),
    ],
)
def test_options_that_make_no_sense(mount: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExecutorError, match=message):
        executor_on(mount, **options).check()


def test_a_node_group_that_is_not_there(lepton: Lepton, mount: Path) -> None:
    with pytest.raises(ExecutorError, match="'group-z'; it has: group-a, group-b"):
        launch(executor_on(mount, node_group="group-z"), shell("true"))
    assert not lepton.jobs


def test_large_files_without_a_mount(lepton: Lepton, mount: Path) -> None:
    with pytest.raises(ExecutorError, match="on none of the mounts"):
        launch(executor_on(mount, mounts=[]), run.Partial(str, "a function needs the runner"))
    assert not lepton.jobs


def test_artifacts_without_a_mount(mount: Path) -> None:
    exp = launch(executor_on(mount, mounts=[]), shell("echo 1 > $NEMO_RUN_ARTIFACTS/a"))
    assert exp.results()["job0"].state is JobState.SUCCEEDED
    assert "on none of the mounts" in exp.results()["job0"].reason


def test_no_workspace(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEPTON_WORKSPACE_ID")
    with pytest.raises(ExecutorError, match="LEPTON_WORKSPACE_ID"):
        launch(executor_on(mount), shell("true"))


def test_a_wrong_token_is_told_and_not_shown(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_WORKSPACE_TOKEN", "wrong-token-7")
    with pytest.raises(ExecutorError, match=r"401.*LEPTON_WORKSPACE_TOKEN") as caught:
        launch(executor_on(mount, node_group="group-a"), shell("true"))
    assert "wrong-token-7" not in str(caught.value)


def test_what_the_service_refuses_is_told_without_secrets(lepton: Lepton, mount: Path) -> None:
    executor = executor_on(mount, secret_vars={"A": "no-such-secret"}, env_vars={"HF_TOKEN": "s3cr3t-9"})
    exp = launch(executor, shell("true"))
    result = exp.results()["job0"]
    assert result.state is JobState.FAILED
    assert "'no-such-secret' not found" in result.reason
    assert "s3cr3t-9" not in result.reason
    assert not lepton.jobs


def test_the_login_of_the_sdk_is_used(lepton: Lepton, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ID", "TOKEN", "URL", "ORIGIN_URL"):
        monkeypatch.delenv(f"LEPTON_WORKSPACE_{name}")
    folder = lepton.folder / "lepton-cache"
    folder.mkdir()
    (folder / "workspace_info.yaml").write_text(
        f"current_workspace: ws1\nworkspaces:\n  ws1: {{id: ws1, url: '{lepton.url}', auth_token: token-1, "
        "workspace_origin_url: 'https://origin.example'}\n"
    )
    assert launch(executor_on(mount), shell("true")).results()["job0"].state is JobState.SUCCEEDED


# for code that drives jobs by itself


def test_methods_of_the_executor(
    lepton: Lepton, mount: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = executor_on(mount)
    executor.assign("exp_1", str(tmp_path / "exp_1"), "job", "job")
    executor.create_job_dir()
    job_id, state = executor.launch("job", ["sh", "-c", "echo begun; sleep 60"])
    assert state in ("Running", "Starting")
    eventually(lambda: b"begun" in lepton.jobs[job_id].replicas[0].log.read_bytes())
    assert executor.status(job_id) == "Running"
    executor.stop_job(job_id)
    eventually(lambda: executor.status(job_id) == "Stopped")
    run.LeptonExecutor.logs(f"x___y___{job_id}", None)
    assert "begun" in capfd.readouterr().out
    executor.cancel(job_id)
    assert executor.status(job_id) == "UNK"
    executor.package_configs(("a.yaml", "a: 1"))
    executor.move_data()
    assert Path(executor.lepton_job_dir, "configs", "a.yaml").read_text() == "a: 1"
    Path(executor.lepton_job_dir, "launch_script.sh").write_text("exit 3")
    executor.create_lepton_job("by-hand")
    eventually(lambda: executor.status("by-hand") == "Failed")
