"""Tasks in containers that run until they are done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker
import pytest

import nemo_run as run
from nemo_run.core.execution.jobs import JobState
from tests.services.docker import IMAGE
from tests.support import eventually

pytestmark = pytest.mark.needs("docker")


def launch(code: str, folder: Path, **options: Any) -> run.Experiment:
    """An experiment whose task keeps its checkpoints in a folder of this machine."""
    folder.mkdir()
    folder.chmod(0o777)
    executor = run.DockerExecutor(
        container_image=IMAGE, packager=run.Packager(), volumes=[f"{folder}:/checkpoints"],
        env_vars={"NEMO_RUN_CHECKPOINTS": "/checkpoints"}, restarts=run.Restarts(backoff=0), **options,
    )  # fmt: skip
    exp = run.Experiment("long", executor=executor)
    exp.add(run.Script(inline=code), name="train")
    exp.run(detach=True)
    return exp


BEGIN = 'echo "$NEMO_RUN_RESTART $NEMO_RUN_RESTART_CAUSE" >> $NEMO_RUN_CHECKPOINTS/begun; '


def test_a_task_goes_on_after_its_time_limit(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    exp = launch(BEGIN + 'case "$NEMO_RUN_RESTART" in 0) sleep 300;; 1) exit 85;; esac', folder, timeout=2)
    assert exp.wait()["train"].state is JobState.SUCCEEDED
    assert (folder / "begun").read_text() == "0 \n1 time limit\n2 continued\n"


def container_of(folder: Path, client: docker.DockerClient) -> Any:
    """Return the container of a task that has begun."""
    eventually((folder / "begun").exists, "it runs")
    [container] = [one for one in client.containers.list() if str(folder) in str(one.attrs["Mounts"])]
    return container


def test_a_container_that_vanished_counts_as_a_lost_node(tmp_path: Path, client: docker.DockerClient) -> None:
    folder = tmp_path / "kept"
    exp = launch(BEGIN + 'test "$NEMO_RUN_RESTART" != 0 || sleep 300', folder)
    container_of(folder, client).remove(force=True)
    assert exp.wait()["train"].state is JobState.SUCCEEDED
    assert (folder / "begun").read_text() == "0 \n1 node failure\n"


def test_a_container_that_somebody_stops_has_failed(tmp_path: Path, client: docker.DockerClient) -> None:
    """Docker does not tell who has ended a process: that counts as the program's own end."""
    folder = tmp_path / "kept"
    exp = launch(BEGIN + "exec sleep 300", folder)
    container_of(folder, client).kill("SIGKILL")
    assert exp.wait()["train"].state is JobState.FAILED
    assert exp.progress()["train"].tasks[0].restarts == 0


def test_a_task_does_not_change_what_its_next_try_is(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("of the host")
    code = f"""
import json, os, pathlib, sys
if os.environ["NEMO_RUN_ATTEMPT"] != "1":
    sys.exit(7 if os.path.exists("/host/secret") else 0)
for path in pathlib.Path("/nemo_run").rglob("plan.json"):
    plan = json.loads(path.read_text())
    plan["spec"]["options"].update(volumes=["{tmp_path}/host:/host"], privileged=True)
    path.write_text(json.dumps(plan))
sys.exit(1)
"""
    executor = run.DockerExecutor(container_image=IMAGE, packager=run.Packager(), retries=1, retry_delay=0.1)
    with run.Experiment("plan", executor=executor) as exp:
        exp.add(run.Script(inline=code, entrypoint="python3"), name="t")
        exp.run()
    assert (exp.results()["t"].state, exp.results()["t"].exit_code) == (JobState.SUCCEEDED, 0)
