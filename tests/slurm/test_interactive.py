"""Services of jobs and development spaces, on a real cluster through SSH."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.tunnel.client import LocalTunnel
from nemo_run.devspace.base import DevSpace
from nemo_run.errors import ExecutorError
from tests.run.test_services import SERVER, get
from tests.services.slurm import USER, SlurmCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd", "slurm cluster")

EDITOR = '#!/bin/sh\necho "code $*" in $PWD for $NEMO_DEVSPACE with $PYTHONPATH\n[ ! -e wait ] || sleep 60\n'


@pytest.mark.parametrize("host", ["$(hostname):", "localhost:"])
def test_a_service_of_a_job(executor: SlurmExecutor, host: str) -> None:
    with run.Experiment("services", executor=executor, clean_mode=True) as experiment:
        experiment.add(run.Script(inline=f'export HOST="{host}"\n{SERVER}'), name="serve")
        experiment.run(detach=True)
        with experiment.forward("serve", "web", timeout=60) as port:
            assert get(port) == b"serve"
        experiment.cancel("serve")


class Typed:
    """A program in a terminal of its own."""

    def __init__(self, *argv: str) -> None:
        self._ours, theirs = pty.openpty()
        self.program = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, close_fds=True
        )
        os.close(theirs)
        self.seen = ""

    def shows(self, pattern: str) -> str:
        """Wait until something is shown."""
        deadline = time.monotonic() + 120
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, self.seen
            if select.select([self._ours], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):  # the program has ended
                    self.seen += os.read(self._ours, 65536).decode(errors="replace")
        return found[0]

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self._ours)


@pytest.mark.parametrize("way", ["ssh", "here"])
def test_a_shell_beside_a_job_is_a_terminal(
    executor: SlurmExecutor, here: LocalTunnel, way: str, request: pytest.FixtureRequest
) -> None:
    if way == "here":
        executor = SlurmExecutor(tunnel=here, packager=run.Packager(), mem="100M")
    executor.env_vars = {"OF_TASK": "it is's own"}
    with run.Experiment("shells", executor=executor, clean_mode=True) as experiment:
        experiment.add(run.Script(inline="echo begun; sleep 600"), name="work")
        experiment.run(detach=True)
        eventually(lambda: experiment.results()["work"].state is run.JobState.RUNNING)
        typed = Typed(sys.executable, "-m", "nemo_run", "experiment", "shell", experiment.id, "work")
        request.addfinalizer(typed.close)
        typed.type('stty size; echo "<$OF_TASK $SLURM_JOB_ID $((40 + 2))>"; [ -t 0 ] && [ -t 1 ] && echo is-"a"-tty\n')
        job = str(experiment.progress()["work"].tasks[0].handle).split("/")[2]
        typed.shows(f"<it is's own {job} 42>")
        typed.shows("is-a-tty")
        typed.type("sleep 600\n")
        time.sleep(1)
        typed.type("\x03")  # it ends what runs in the shell, not the shell
        typed.type("echo still-$((1 + 1)); exit 7\n")
        typed.shows("still-2")
        assert typed.program.wait(60) == 7
        assert experiment.results()["work"].state is run.JobState.RUNNING
        experiment.cancel("work")


class FromElsewhere(SlurmExecutor):
    """Of a machine without Slurm's commands, which those of the tests are not."""

    local_is_slurm = False  # type: ignore[assignment]


@pytest.fixture
def laptop(executor: SlurmExecutor) -> SlurmExecutor:
    return FromElsewhere(tunnel=executor.tunnel, packager=run.Packager(), mem="100M")


@pytest.fixture
def editor(laptop: SlurmExecutor, jobs_folder: Path) -> Path:
    """A stand-in for VS Code's command on the cluster; the folder that it is in."""
    program = jobs_folder / "bin" / "code"
    program.parent.mkdir()
    program.write_text(EDITOR)
    program.chmod(0o755)
    program.parent.chmod(0o755)
    laptop.tunnel.pre_command = f"export PATH={program.parent}:$PATH"
    return program.parent


def test_a_development_space(laptop: SlurmExecutor, editor: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run.DevSpace("my space", laptop, env_vars={"PYTHONPATH": "/more"}).launch()
    folder = f"{laptop.tunnel.job_dir}/devspaces/my-space"
    said = f"code tunnel --accept-server-license-terms --name my-space in {folder} for my space with {folder}:/more\n"
    assert said in capfd.readouterr().out


def test_a_development_space_in_a_container(
    laptop: SlurmExecutor, editor: Path, image: str, capfd: pytest.CaptureFixture[str]
) -> None:
    laptop.container_image, laptop.container_mounts = image, ["/usr:/usr:ro", f"{editor}:{editor}:ro"]
    run.DevSpace("space", laptop, env_vars={"OF_BOTH": "space"}).launch()
    said = capfd.readouterr().out
    assert "--name space in /workspaces/space for space with /workspaces/space\n" in said


def test_a_space_is_connected_to_until_it_ends(
    laptop: SlurmExecutor, editor: Path, cluster: SlurmCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(laptop.tunnel.job_dir, "devspaces", "space")
    laptop.tunnel.run(shlex.join(["mkdir", "-p", str(folder)]))
    (folder / "wait").touch()
    problem: list[Exception] = []

    def launch() -> None:
        try:
            DevSpace("space", laptop).launch()
        except ExecutorError as e:
            problem.append(e)

    thread = threading.Thread(target=launch)
    thread.start()
    job = eventually(lambda: cluster.ask("squeue", "-h", "-u", USER, "-n", "interactive", "-o", "%i").strip())
    threading.Timer(3, lambda: cluster.ask("scancel", job)).start()
    with pytest.raises(ExecutorError, match="its job 'interactive' has ended"):
        DevSpace.connect(f"{USER}@cluster", str(folder))
    thread.join()
    assert "open https://vscode.dev/tunnel/space/" in capfd.readouterr().out
    assert re.search("ended with exit code|was lost", str(problem[0]))  # the other closes its connection


def test_no_editor_and_no_space(laptop: SlurmExecutor) -> None:
    with pytest.raises(ExecutorError, match="no 'code' command where the job runs"):
        DevSpace("space", laptop).launch()
    with pytest.raises(ExecutorError, match="there is no development space in /no/where on"):
        DevSpace.connect(f"{USER}@cluster", "/no/where")
    with pytest.raises(ExecutorError, match=r"LocalExecutor has no launch_devspace\(\)"):
        DevSpace("space", run.LocalExecutor()).launch()
