"""Experiments on a real Docker engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import docker
import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState, get_backend
from nemo_run.core.execution.docker import DockerExecutor
from nemo_run.errors import EngineUnreachableError, ExecutorError
from tests.services.docker import IMAGE, Dockerd, is_podman
from tests.support import eventually

pytestmark = pytest.mark.needs("docker")


def make(**options: Any) -> DockerExecutor:
    return DockerExecutor(**{"container_image": IMAGE, "packager": run.Packager(), **options})


def shell(text: str, **options: Any) -> run.Script:
    return run.Script(inline=text, **options)


def launch(*tasks: Any, executor: Any = None, **options: Any) -> run.Experiment:
    exp = run.Experiment("exp", executor=executor or make(), clean_mode=True)
    for number, task in enumerate(tasks):
        exp.add(task, name=f"job{number}")
    exp.run(**options)
    return exp


def log_of(exp: run.Experiment, capfdbinary: pytest.CaptureFixture[bytes], job: str = "job0") -> list[str]:
    capfdbinary.readouterr()
    exp.logs(job, follow=False)
    return [re.sub(r"^.*?/\d+ ", "", line) for line in capfdbinary.readouterr().out.decode().splitlines()]


def result(exp: run.Experiment, job: str = "job0") -> Any:
    return exp.results()[job]


def is_stored_as_running(exp: run.Experiment, job: str = "job0") -> bool:
    file = Path(exp.directory, job, "state.json")
    return file.exists() and "RUNNING" in file.read_text()


# what runs there


def test_the_example_of_the_guide(tmp_path: Path, work: Path) -> None:
    """A function of the launching script itself, in an image that has nothing but Python."""
    data, models = tmp_path / "data", tmp_path / "models"
    data.mkdir()
    models.mkdir()
    (data / "in").write_text("from the host")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (work / "launch.py").write_text(f"""
import sys
import nemo_run as run

def train_model(model_size: int):
    text = open("/data/in").read()
    print("size", model_size, text, sys.executable)
    open("/models/out", "w").write(text.upper())

if __name__ == "__main__":
    docker_exec = run.DockerExecutor(
        container_image={IMAGE!r},
        num_gpus={4 if "DOCKER_HOST" in os.environ and "nr-docker" in os.environ["DOCKER_HOST"] else None},
        volumes=[{f"{data}:/data"!r}, {f"{models}:/models"!r}],
        ports=["{port}:8080"],
    )
    config = run.Partial(train_model, model_size=1024)
    run.run(config, executor=docker_exec)
""")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y", "-c", "init.defaultBranch=main"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    done = subprocess.run([sys.executable, "launch.py"], capture_output=True, text=True, check=False)
    assert "size 1024 from the host /usr/local/bin/python3" in done.stdout, done.stderr
    assert (models / "out").read_text() == "FROM THE HOST"


def test_packaged_code_runs_and_its_files_come_back(
    work: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (work / "docker_recipe.py").write_text(
        "import os\n"
        "def train(text):\n"
        "    open('result.txt', 'w').write(text)\n"
        "    open(os.environ['NEMO_RUN_ARTIFACTS'] + '/model', 'w').write(text * 2)\n"
        "    print(os.getcwd(), os.getpid() < 100)\n"
    )
    monkeypatch.syspath_prepend(str(work))
    from docker_recipe import train  # type: ignore[import-not-found]

    packager = run.PatternPackager(include_pattern=str(work / "*.py"), relative_path=str(work))
    exp = run.Experiment("exp", executor=make(packager=packager), clean_mode=True)
    exp.add(run.Partial(train, "é"), name="job0", artifacts=["*.txt"])
    exp.run(check=True)
    assert log_of(exp, capfdbinary) == ["/nemo_run/code True"]
    found = {path.name: path.read_text() for path in Path(exp.directory, "job0", "artifacts").iterdir()}
    assert found == {"result.txt": "é", "model": "éé"}


def test_nothing_of_this_environment_leaks_in(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    exp = launch(shell("env", env={"FROM_SCRIPT": "1"}), executor=make(env_vars={"FROM_EXECUTOR": "2"}))
    names = {line.partition("=")[0] for line in log_of(exp, capfdbinary)} - {"TERM", "container"}  # Podman's own
    own = {name for name in names if name.startswith("NEMO_RUN_")}
    shells = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert names - own - shells == {"PATH", "HOSTNAME", "HOME", "FROM_SCRIPT", "FROM_EXECUTOR", "PYTHONUNBUFFERED"}


def test_ports_are_reached_from_this_machine() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    executor = make(ports=[f"127.0.0.1:{port}:8080"])
    exp = launch(run.Script("http.server", m=True, entrypoint="python", args=["8080"]), executor=executor, detach=True)

    def page() -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            return b""

    try:
        assert b"Directory listing" in eventually(page)
    finally:
        exp.cancel("job0")
    assert result(exp).state is JobState.CANCELLED


def test_members_of_a_group_find_each_other(
    capfdbinary: pytest.CaptureFixture[bytes], client: docker.DockerClient
) -> None:
    server = (
        "import socket; s = socket.create_server(('', 99)); c, _ = s.accept(); print(c.recv(9).decode()); c.close()"
    )
    talk = """
import os, socket, time
host = os.environ["NEMO_RUN_GROUP_HOSTS"].split(",")[0]
for _ in range(300):
    try:
        s = socket.create_connection((host, 99)); break
    except OSError:
        time.sleep(0.1)
s.sendall(f"I am {os.environ['NEMO_RUN_GROUP_RANK']}".encode()); print(host)
"""
    exp = run.Experiment("exp", executor=make(), clean_mode=True)
    exp.add([run.Script(inline=text, entrypoint="python3") for text in (server, talk)], name="My pair")
    exp.run(check=True)
    assert sorted(log_of(exp, capfdbinary, "My pair")) == ["I am 1", "my-pair-0"]
    assert not [network.name for network in client.networks.list() if network.name.startswith("nemo-run-")]


def test_torchrun_over_two_containers(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """With a stand-in for torch that does what torchrun does first: every node calls the head node."""
    package = work / "site" / "torch" / "distributed"
    package.mkdir(parents=True)
    (work / "site" / "torch" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "run.py").write_text("""
import runpy, socket, sys, time
options = dict(arg[2:].partition("=")[::2] for arg in sys.argv[1:] if arg.startswith("--"))
host, port = options["rdzv-endpoint"].split(":")
if options["node-rank"] == "0":
    connection, _ = socket.create_server(("", int(port))).accept()
    print("rank 1 of", options["nnodes"], "says", connection.recv(9).decode())
else:
    for _ in range(300):
        try:
            connection = socket.create_connection((host, int(port))); break
        except OSError:
            time.sleep(0.1)
    connection.sendall(b"hello")
sys.argv = [arg for arg in sys.argv[1:] if not arg.startswith("--")]
runpy.run_path(sys.argv[0], run_name="__main__")
""")
    executor = make(
        launcher="torchrun", nodes=2, volumes=["./site:/site:ro"], env_vars={"PYTHONPATH": "/site"}, user="0"
    )
    exp = run.Experiment("exp", executor=executor, clean_mode=True)
    exp.add([run.Partial(print, "trained"), run.Partial(print, "trained")], name="pair")
    exp.run(check=True)
    lines = log_of(exp, capfdbinary, "pair")
    assert sorted(lines) == ["rank 1 of 2 says hello", "trained", "trained"]


ALL_REDUCE = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
print("rank", dist.get_rank(), "of", dist.get_world_size(), "sums to", total.item(), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.needs("torch")
def test_a_real_torch_over_two_containers(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The image has no torch: that of this machine is mounted, with the system's libraries that it needs."""
    site = sysconfig.get_path("purelib")
    needed = subprocess.run(["ldd", f"{site}/torch/lib/libtorch_cpu.so"], capture_output=True, text=True, check=True)
    system = {found for found in re.findall(r"=> (/\S+)", needed.stdout) if not found.startswith(site)}
    (work / "lib").mkdir()
    of_glibc = [f"{Path(library).parent}/{name}" for library in system for name in ("libpthread.so.0", "libdl.so.2")]
    for library in {*system, *filter(os.path.exists, of_glibc)}:
        if not Path(library).name.startswith("libc.so"):  # the image has its own
            shutil.copy(library, work / "lib")
    executor = make(
        launcher="torchrun",
        nodes=2,
        volumes=[f"{site}:/site:ro", "./lib:/lib-torch:ro"],
        env_vars={"PYTHONPATH": "/site", "LD_LIBRARY_PATH": "/lib-torch"},
        user="0",
    )
    exp = run.Experiment("exp", executor=executor, clean_mode=True)
    exp.add([run.Script(inline=ALL_REDUCE, entrypoint="python3") for _ in range(2)], name="pair")
    exp.run(check=True)
    lines = log_of(exp, capfdbinary, "pair")
    assert sorted(line[line.index("rank") :] for line in lines if "sums to" in line) == [
        "rank 0 of 2 sums to 3.0",
        "rank 1 of 2 sums to 3.0",
    ]


# limits and ends


def test_limits_hold(capfdbinary: pytest.CaptureFixture[bytes], client: docker.DockerClient) -> None:
    hungry = run.Script(inline="x = bytearray(200 << 20); print(len(x))", entrypoint="python3")
    exp = launch(hungry, executor=make(memory="40MB"))
    assert (result(exp).state, result(exp).exit_code) == (JobState.FAILED, 137)
    if not is_podman(client):  # which does not always tell
        assert result(exp).reason == "out of memory: it needed more than 40 MiB"

    exp = launch(shell("kill -9 $$"), executor=make(memory="40MB"))
    assert (result(exp).exit_code, result(exp).reason) == (137, "")

    script = shell("ulimit -n; (sleep 0 & sleep 0 & sleep 0 & sleep 0 & sleep 0 & sleep 0 & wait) || echo no more")
    executor = make(pids=5, ulimits=["nofile=99"], cpus=0.5, keep_container=True)
    exp = launch(script, executor=executor)
    assert log_of(exp, capfdbinary)[0] == "99"
    assert any("fork" in line for line in log_of(exp, capfdbinary))
    (kept,) = client.containers.list(all=True, filters={"label": f"nemo-run.experiment={exp.id}"})
    assert kept.attrs["HostConfig"]["NanoCpus"] == 500_000_000
    assert kept.labels["nemo-run.job"] == "job0"
    kept.remove()


def test_containers_go_when_their_end_is_recorded(client: docker.DockerClient) -> None:
    exp = launch(shell("exit 3"))
    assert result(exp).exit_code == 3
    assert client.containers.list(all=True, filters={"label": f"nemo-run.experiment={exp.id}"}) == []


def test_another_user_of_the_container_can_work(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    task = run.Partial(subprocess.run, ["sh", "-c", "id -u; echo x > $NEMO_RUN_ARTIFACTS/file"])
    exp = launch(task, executor=make(user="65534:65534"), check=True)
    assert log_of(exp, capfdbinary) == ["65534"]
    assert Path(exp.directory, "job0", "artifacts", "file").read_text() == "x\n"


def test_a_task_that_does_not_end_when_asked_is_killed() -> None:
    exp = launch(shell("trap '' TERM; while :; do sleep 0.1; done"), executor=make(grace=0.5), detach=True)
    eventually(lambda: result(exp).state is JobState.RUNNING)
    exp.cancel("job0")
    assert (result(exp).state, result(exp).exit_code) == (JobState.CANCELLED, 137)


def test_dependencies_and_retries(client: docker.DockerClient) -> None:
    exp = run.Experiment("exp", executor=make(retries=1, retry_delay=0.05), clean_mode=True)
    first = exp.add(shell("test $NEMO_RUN_ATTEMPT = 2"), name="first")
    exp.add(shell("exit 5"), name="second", dependencies=[first])
    exp.add(shell("true"), name="third", dependencies=["second"])
    exp.run()
    states = {job: (one.state, one.exit_code) for job, one in exp.results().items()}
    assert states == {
        "first": (JobState.SUCCEEDED, 0),
        "second": (JobState.FAILED, 5),
        "third": (JobState.CANCELLED, None),
    }


# before anything starts


def test_one_graph_over_two_engines(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with run.Experiment("exp", clean_mode=True) as exp:
        first = exp.add(run.Script(inline="echo here > shared"), name="here", executor=run.LocalExecutor())
        there = shell("cat /shared/shared; exit 3")
        second = exp.add(there, name="there", executor=make(volumes=["./:/shared"]), dependencies=[first])
        exp.add(run.Script(inline="true"), name="after", executor=run.LocalExecutor(), dependencies=[second])
        exp.run()
    assert log_of(exp, capfdbinary, "there") == ["here"]
    assert result(exp, "there").exit_code == 3
    assert "its dependency 'there' ended as FAILED with exit code 3" in result(exp, "after").reason


@pytest.mark.parametrize(("pull", "message"), [("never", "pull='never'"), ("missing", "could not be pulled")])
def test_a_missing_image_is_an_error_before_anything_starts(pull: str, message: str, tmp_path: Path) -> None:
    exp = run.Experiment("exp", executor=make(), clean_mode=True)
    exp.add(shell("touch /nemo_run/started"), name="good")
    exp.add(shell("true"), name="bad", executor=make(container_image="127.0.0.1:9/no/such:image", pull=pull))
    with pytest.raises(ExecutorError, match=f"no/such:image.*{message}"):
        exp.run()
    assert not list(tmp_path.rglob("started"))


def test_an_engine_that_is_not_there_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/nowhere.sock"
    with pytest.raises(EngineUnreachableError, match=r"nowhere.sock does not answer \(No such file"):
        launch(shell("true"), executor=make(docker_host=nowhere))


def test_a_dry_run_needs_no_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    executor = make(docker_host=f"unix://{tmp_path}/nowhere.sock", memory="1GB", env_vars={"API_KEY": "s3cr3t"})
    exp = run.Experiment("exp", executor=executor, clean_mode=True)
    exp.add(run.Script("echo", entrypoint="sh", args=["it's"], remote=True), name="job0")
    exp.dryrun()
    shown = capsys.readouterr().out
    assert "docker run --hostname job0" in shown
    assert "--memory 1073741824" in shown
    assert "/job0:/nemo_run" in shown
    assert "s3cr3t" not in shown


# what happens to the engine


def test_a_container_that_was_only_created_is_voided(client: docker.DockerClient) -> None:
    exp = launch(shell("true"))
    plan_file = Path(exp.directory, "job0", "plan.json")
    from nemo_run.core.execution.base import Plan

    plan = Plan.from_json(json.loads(plan_file.read_text()))
    backend = get_backend(plan.engine, plan.connection)
    name = backend.expected_handle(plan, 7).removeprefix("docker://").partition("/")[0]
    created = client.containers.create(IMAGE, "true", name=name, labels={"nemo-run": ""})
    assert backend.recover(plan, 7) is None
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(created.id)
    backend.close()


def test_a_container_that_somebody_removes_is_a_failure_in_words(client: docker.DockerClient) -> None:
    exp = launch(shell("sleep 300"), detach=True)
    eventually(lambda: result(exp).state is JobState.RUNNING)
    (container,) = client.containers.list(filters={"label": f"nemo-run.experiment={exp.id}"})
    container.remove(force=True)
    exp.wait()
    assert result(exp).state is JobState.FAILED
    assert "removed" in result(exp).reason or result(exp).exit_code == 137


@pytest.mark.needs("dockerd")
@pytest.mark.parametrize("live_restore", [True, False])
def test_the_engine_is_stopped_and_started_while_a_job_runs(
    live_restore: bool, stoppable: Dockerd, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    stoppable.stop()
    stoppable.start(live_restore)
    exp = run.Experiment("exp", executor=make(), clean_mode=True)
    exp.add(shell("echo begun; while [ ! -e /nemo_run/go ]; do sleep 0.1; done; echo done"), name="job0")
    exp.add(shell("true"), name="after", dependencies=["job0"])
    exp.run(detach=True)
    folder = Path(exp.directory, "job0")
    eventually(lambda: (folder / "attempts/1/log").exists() and (folder / "attempts/1/log").read_text() == "begun\n")
    eventually(lambda: is_stored_as_running(exp))
    stoppable.stop()
    stored = eventually(lambda: "engine unreachable" in (text := (folder / "state.json").read_text()) and text)
    assert json.loads(stored)["tasks"][0]["state"] == "RUNNING"
    assert result(exp).state is JobState.RUNNING  # the last that is known
    assert result(exp).reason.startswith("engine unreachable: the Docker engine at unix://")
    (folder / "go").touch()
    stoppable.start()
    exp.wait()
    if live_restore:
        assert [one.state for one in exp.results().values()] == [JobState.SUCCEEDED, JobState.SUCCEEDED]
        assert log_of(exp, capfdbinary) == ["begun", "done"]
    else:  # without it, the engine ends all containers when it is stopped
        assert [one.state for one in exp.results().values()] == [JobState.FAILED, JobState.CANCELLED]
        assert result(exp).exit_code


@pytest.mark.needs("dockerd")
@pytest.mark.parametrize("known", [True, False], ids=["known to be down", "found to be down"])
def test_what_is_to_be_submitted_waits_for_the_engine(known: bool, stoppable: Dockerd, work: Path) -> None:
    exp = run.Experiment("exp", executor=make(), clean_mode=True)
    if known:
        exp.add(shell("sleep 300"), name="job0")
    exp.add(shell(f"while [ ! -e {work}/go ]; do sleep 0.05; done"), name="here", executor=run.LocalExecutor())
    exp.add(shell("true"), name="later", dependencies=["here"])
    exp.add(shell("true"), name="unwanted", dependencies=["here"])
    exp.run(detach=True)
    if known:
        eventually(lambda: is_stored_as_running(exp))
    stoppable.stop()
    if known:
        eventually(lambda: "unreachable" in Path(exp.directory, "job0", "state.json").read_text())
    (work / "go").touch()
    eventually(lambda: "engine unreachable" in result(exp, "later").reason)
    eventually(lambda: "engine unreachable" in result(exp, "unwanted").reason)
    assert result(exp, "later").state is (JobState.UNSUBMITTED if known else JobState.SUBMITTED)
    unwanted = ["unwanted", "job0"] if known else ["unwanted"]
    cancelling = threading.Thread(target=exp.cancel_jobs, args=[unwanted])
    cancelling.start()
    time.sleep(1)
    stoppable.start()
    cancelling.join()
    exp.wait()
    assert {job: one.state for job, one in exp.results().items()} == {
        **dict.fromkeys(unwanted, JobState.CANCELLED),
        "here": JobState.SUCCEEDED,
        "later": JobState.SUCCEEDED,
    }
