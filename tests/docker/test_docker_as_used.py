"""Situations that users of containers have met, on a real Docker engine."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
from pathlib import Path
from typing import Any

import docker
import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState, Plan, get_backend
from nemo_run.core.execution.docker import DockerExecutor
from nemo_run.core.execution.docker.client import default_connection, own_subnet
from nemo_run.errors import ExecutorError
from tests.services.docker import IMAGE, is_podman
from tests.support import eventually

pytestmark = pytest.mark.needs("docker")


def make(**options: Any) -> DockerExecutor:
    return DockerExecutor(**{"container_image": IMAGE, "packager": run.Packager(), **options})


def launch(text: str, *, python: bool = False, **options: Any) -> run.Experiment:
    with run.Experiment("exp", executor=make(**options), clean_mode=True) as exp:
        exp.add(run.Script(inline=text, entrypoint="python3" if python else "bash"), name="t")
        exp.run()
    return exp


@pytest.fixture
def entry_image(client: docker.DockerClient) -> str:
    """An image whose entry point runs nothing but itself."""
    container = client.containers.create(IMAGE, ["true"])
    name = "localhost/nemo-run-test-entry"
    container.commit(name, "latest", changes='ENTRYPOINT ["/bin/sh", "-c", "echo ENTRY POINT RAN", "sh"]')
    container.remove()
    return name


@pytest.mark.parametrize("value", ["", []])
def test_the_entry_point_of_an_image_can_be_switched_off(value: Any, entry_image: str) -> None:
    exp = launch("echo task ran", container_image=entry_image, additional_kwargs={"entrypoint": value})
    assert (exp.directory / "t/attempts/1/log").read_text() == "task ran\n"


def test_how_a_container_ended_is_what_the_engine_says() -> None:
    """It writes into its own folder that it has ended well, and goes on."""
    exp = launch(
        """
import json, pathlib, sys, time
end = {"exit_code": 0, "reason": "", "cancelled": False, "started": 1, "ended": 2, "node": "x"}
pathlib.Path("/nemo_run/attempts/1/exit.json").write_text(json.dumps(end))
time.sleep(1)
sys.exit(9)
""",
        python=True,
    )
    assert (exp.results()["t"].state, exp.results()["t"].exit_code) == (JobState.FAILED, 9)


def test_members_of_a_group_find_all_others_whoever_runs_already() -> None:
    look = """
import os, socket
for host in os.environ["NEMO_RUN_GROUP_HOSTS"].split(","):
    print(host, socket.gethostbyname(host))
"""
    with run.Experiment("group", executor=make(), clean_mode=True) as exp:
        members = [run.Script(inline=look, entrypoint="python3") for _ in range(3)]
        exp.add(members, name="g", end_group_on="never")
        exp.run()
    logs = sorted(path.read_text() for path in exp.directory.rglob("attempts/1/log"))
    assert exp.results()["g"].state is JobState.SUCCEEDED, logs
    assert len(logs) == 3
    assert len({address for log in logs for address in log.split()[1::2]}) == 3


def test_more_groups_than_the_engine_has_addresses_for_run(client: docker.DockerClient) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(300):  # more than any engine has by default
            try:
                network = client.networks.create(f"nemo-run-test-{number}", driver="bridge", labels={"test": ""})
            except docker.errors.APIError:
                break
            stack.callback(network.remove)
        else:
            pytest.fail("the engine never runs out of networks")
        with run.Experiment("group", executor=make(), clean_mode=True) as exp:
            exp.add([run.Script(inline="getent hosts g-1; echo a"), run.Script(inline="echo b")], name="g")
            exp.run()
    assert exp.results()["g"].state is JobState.SUCCEEDED


@pytest.mark.parametrize("members", [2, 13, 14, 60])
def test_own_addresses_are_enough_and_nobody_elses(members: int) -> None:
    found = ipaddress.ip_network(own_subnet(members))
    assert found.num_addresses >= members + 3  # its own, the engine's, and the one for all
    assert found.overlaps(ipaddress.ip_network("10.0.0.0/8"))


def test_several_observers_write_the_words_of_an_entry_point_once(entry_image: str) -> None:
    exp = launch("true", container_image=entry_image, keep_container=True)
    log = exp.directory / "t/attempts/1/log"
    assert log.read_text() == "ENTRY POINT RAN\n"
    plan = json.loads((exp.directory / "t/plan.json").read_text())
    backend = get_backend("docker", plan["connection"])
    try:
        handle = json.loads((exp.directory / "t/state.json").read_text())["tasks"][0]["handle"]
        for _ in range(2):
            assert backend.states([handle])[handle].state is JobState.SUCCEEDED
    finally:
        backend.close()
    assert log.read_text() == "ENTRY POINT RAN\n"


def test_a_value_that_no_program_could_be_given_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match="'SETTINGS' is too large for a variable"):
        launch("true", env_vars={"SETTINGS": "x" * 200_000})
    exp = run.Experiment("exp", executor=make(), clean_mode=True)
    exp.add(run.Script(inline="true", env={"SETTINGS": "x" * 200_000}), name="t")
    with pytest.raises(ExecutorError, match="'SETTINGS' is too large for a variable"):
        exp.run()


@pytest.mark.needs("root")
@pytest.mark.parametrize("entrypoint", ["bash", "python3"])
def test_files_of_root_become_those_of_the_owner_of_the_experiment(entrypoint: str) -> None:
    """Whether the image is known to have a shell, or just Python."""
    work = {
        "bash": """cd "$NEMO_RUN_ARTIFACTS"; while [ ! -e go ]; do sleep 0.1; done
mkdir -m 700 deep; umask 077; echo x > deep/model; ln -s /etc/passwd link""",
        "python3": """import os, time
os.chdir(os.environ["NEMO_RUN_ARTIFACTS"])
while not os.path.exists("go"): time.sleep(0.1)
os.mkdir("deep", 0o700); open("deep/model", "w").write("x"); os.chmod("deep/model", 0o600)
os.symlink("/etc/passwd", "link")""",
    }
    exp = run.Experiment("owner", executor=make(), clean_mode=True)
    exp.add(run.Script(inline=work[entrypoint], entrypoint=entrypoint), name="t")
    exp.run(detach=True)
    folder = exp.directory / "t/artifacts"
    os.chown(exp.directory, 4321, 4321)
    (folder / "go").touch()
    exp.wait()
    assert exp.results()["t"].state is JobState.SUCCEEDED, exp.results()["t"].reason
    assert "deep/model" in [artifact.path for artifact in exp.artifacts()]
    assert {path.lstat().st_uid for path in folder.rglob("*")} == {4321}
    assert Path("/etc/passwd").stat().st_uid == 0


def test_a_time_limit_is_told_from_a_cancel_when_another_controller_goes_on() -> None:
    exp = run.Experiment("limited", executor=make(timeout=1, grace=600), clean_mode=True)
    text = """cd $NEMO_RUN_ARTIFACTS; trap 'touch told; while [ ! -e go ]; do sleep 0.05; done; exit 0' TERM
while :; do sleep 0.1; done"""
    exp.add(run.Script(inline=text), name="t")
    exp.run(detach=True)
    folder = exp.directory / "t/artifacts"
    eventually((folder / "told").exists)
    os.kill(exp._its_store.controller()["pid"], 9)
    (folder / "go").touch()
    again = run.Experiment.from_id(exp.id)
    again.resume()
    result = again.results()["t"]
    assert (result.state, result.reason) == (JobState.FAILED, "time limit of 1 s reached")


def test_an_image_that_went_is_pulled_for_the_next_try(client: docker.DockerClient, tmp_path: Path) -> None:
    """There is no registry here: the engine is asked, and what it says is the reason."""
    with run.Experiment("gone", executor=make(), clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="t")
        exp.run()
    plan = json.loads((exp.directory / "t/plan.json").read_text())
    backend = get_backend("docker", plan["connection"])
    try:
        for pull, words in (("missing", "could not be pulled"), ("never", "not on .* any more")):
            spec = {**plan["spec"], "image": "localhost:1/no-such:1", "pull": pull}
            with pytest.raises(ExecutorError, match=words):
                backend.start(Plan(plan["engine"], "t", str(tmp_path), spec, plan["connection"]))
    finally:
        backend.close()


def test_gpus_are_asked_for_by_their_ids(client: docker.DockerClient) -> None:
    """Podman would ignore it, and so it is refused."""
    exp = run.Experiment("gpus", executor=make(gpu_devices=["1", "GPU-5f"], keep_container=True), clean_mode=True)
    exp.add(run.Script(inline="true"), name="t")
    if is_podman(client):
        with pytest.raises(ExecutorError, match="Podman ignores"):
            exp.run()
        return
    exp.run()
    [container] = client.containers.list(all=True, filters={"label": f"nemo-run.experiment={exp.id}"})
    try:
        [request] = container.attrs["HostConfig"]["DeviceRequests"]
        assert request["DeviceIDs"] == ["1", "GPU-5f"]
    finally:
        container.remove()


def test_the_context_is_that_of_the_docker_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("one", "two"):
        meta = tmp_path / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
        meta.parent.mkdir(parents=True)
        meta.write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": f"unix:///{name}"}}}))
    (tmp_path / "config.json").write_text('{"currentContext": "one"}')
    monkeypatch.setenv("DOCKER_HOST", "unix:///named")
    assert default_connection()["host"] == "unix:///named"
    monkeypatch.setenv("DOCKER_CONTEXT", "two")
    assert default_connection()["host"] == "unix:///two"
    monkeypatch.setenv("DOCKER_CONTEXT", "three")
    with pytest.raises(ExecutorError, match="no Docker context 'three'"):
        default_connection()
    monkeypatch.delenv("DOCKER_CONTEXT")
    monkeypatch.delenv("DOCKER_HOST")
    assert default_connection()["host"] == "unix:///one"


def test_an_engine_behind_ssh_is_refused_before_anything_starts() -> None:
    with pytest.raises(ExecutorError, match="on another machine"):
        launch("true", docker_host="ssh://me@localhost")
