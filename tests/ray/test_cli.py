"""``nemorun ray`` on a real Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_run.cli import app
from nemo_run.cli.running import run_app
from nemo_run.core.tunnel.ssh import free_port
from nemo_run.run.ray import RayCluster
from tests.ray.clusters import ask, shell_waits_for
from tests.support import eventually

pytestmark = pytest.mark.needs("ray")


def nemorun(*args: str) -> int:
    return run_app(app.nemorun, ["ray", *args])


def test_a_job_from_the_command_line(cluster: RayCluster, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--cluster", "shared", "--workdir", str(project), "executor.env_vars={A: b}")
    assert nemorun("submit", "typed", "cat hello.txt; echo $A; exit 5", *options) == 5
    shown = capsys.readouterr()
    assert {"hello", "b"} < set(shown.out.splitlines())
    assert "exit code 5" in shown.err
    assert nemorun("jobs", "shared", "--json") == 0
    (found,) = (job for job in json.loads(capsys.readouterr().out) if job["name"] == "typed")
    assert (found["state"], found["exit_code"]) == ("FAILED", 5)
    assert nemorun("jobs") == 0
    assert "typed" in capsys.readouterr().out
    assert nemorun("logs", "typed") == 0
    assert nemorun("logs", "typed", "-f", "-n", "0") == 5
    capsys.readouterr()
    assert nemorun("logs", "typed", "--json") == 0
    assert "hello" in json.loads(capsys.readouterr().out)["log"]


def test_words_after_two_dashes_are_the_command(cluster: RayCluster, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("python", "-c", "import os, sys; print(sys.argv[1:], os.environ['A'])", "--lr", "1", "a b", "--json")
    assert nemorun("submit", "words", "executor=local", "--cluster", "shared", "--env", "A=x=y", "--", *words) == 0
    assert "['--lr', '1', 'a b', '--json'] x=y" in capsys.readouterr().out.splitlines()
    assert nemorun("submit", "words", "--cluster", "shared", "--json", "--", "echo $HOME; exit 3") == 3
    shown = capsys.readouterr()
    assert (json.loads(shown.out)["state"], json.loads(shown.out)["exit_code"]) == ("FAILED", 3)
    assert os.environ["HOME"] in shown.err.splitlines()


def test_a_command_is_run_on_a_cluster(
    cluster: RayCluster, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OF_HERE", "here")
    options = ("--workdir", str(project), "--env", "OF_HERE")
    assert nemorun("exec", "shared", *options, "--", "sh", "-c", "cat hello.txt; echo $OF_HERE; exit 6") == 6
    assert {"hello", "here"} < set(capsys.readouterr().out.splitlines())
    assert nemorun("jobs", "--json") == 0
    assert "exec-" not in capsys.readouterr().out


def test_a_signal_that_ended_a_job_is_in_the_exit_code(cluster: RayCluster) -> None:
    assert nemorun("exec", "shared", "kill -9 $$") == 137


def start_process(*args: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "nemo_run", "ray", *args]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def test_of_two_processes_that_submit_one_name_one_is_refused(cluster: RayCluster, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    submitters = {
        name: start_process("submit", "dup", f"{shell_waits_for(go_on)}; echo ran {name}", "--cluster", "shared")
        for name in ("A", "B")
    }
    eventually(lambda: any(process.poll() is not None for process in submitters.values()), "one is refused")
    go_on.touch()
    shown = {name: (*process.communicate(), process.returncode) for name, process in submitters.items()}
    winners = [name for name, (out, _, code) in shown.items() if code == 0 and f"ran {name}" in out.splitlines()]
    refused = [err for _, err, code in shown.values() if code]
    assert len(winners) == 1, shown
    assert "give this one another name" in refused[0]


def test_of_two_processes_that_start_one_cluster_one_waits_for_the_other(nemorun_home: Path) -> None:
    starters = [start_process("start", "both", "--no-wait", "--pre", "sleep 1000") for _ in range(2)]
    try:
        assert [process.wait() for process in starters] == [0, 0]
        assert len(list(nemorun_home.glob("ray/local/both/attempts/*"))) == 1
    finally:
        assert nemorun("stop", "both") == 0
        for process in starters:
            process.communicate()


def test_following_ends_at_once_when_it_is_interrupted(cluster: RayCluster, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = f"echo begun; touch {begun}; {shell_waits_for(tmp_path / 'never')}"
    with subprocess.Popen(
        [sys.executable, "-m", "nemo_run", "ray", "submit", "interrupted", command, "--cluster", "shared"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "begun\n":
            pass
        process.send_signal(signal.SIGINT)
        process.wait(8)  # it would take 10 s to wait for the other side's goodbye
    assert process.returncode == 130
    assert nemorun("stop", "interrupted", "--job", "--json") == 0


def test_stopping_a_job(cluster: RayCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = shell_waits_for(tmp_path / "never")
    assert nemorun("submit", "typed-endless", command, "--cluster", "shared", "--no-follow") == 0
    assert nemorun("stop", "typed-endless", "--job") == 0
    assert "STOPPED" in capsys.readouterr().out


def test_the_status_of_clusters(cluster: RayCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert nemorun("status", "shared", "--json") == 0
    assert json.loads(capsys.readouterr().out)["nodes_ready"] == 2
    assert nemorun("status") == 0
    assert "shared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("status", "shred"), 2, "did you mean 'shared'?"),
        (("logs", "no-such-job"), 2, "no Ray job 'no-such-job'"),
        (("start", "x", "nodes=2"), 2, "'nodes=2' is not understood"),
        (("submit", "x", "--cluster", "shared"), 2, "there is no command"),
        (("exec", "shared", "true", "x"), 2, "'x' is not understood"),
        (("exec", "shared", "--env", "NO_SUCH", "true"), 2, "give it as NO_SUCH=VALUE"),
        (("start", "x", "executor.nodez=2"), 2, "nodez"),
    ],
)
def test_mistakes(
    cluster: RayCluster, args: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nemorun(*args) == code
    assert message in capsys.readouterr().err


def test_starting_and_stopping(capsys: pytest.CaptureFixture[str]) -> None:
    """Without Ray's own start, which the other tests have."""
    assert nemorun("start", "typed", "--dryrun", "executor.nodes=3", "--pre", "echo hi") == 0
    shown = capsys.readouterr().out
    assert '"nodes": 3' in shown
    assert "echo hi" in shown
    assert nemorun("start", "typed", "--no-wait", "--pre", "sleep 1000") == 0
    assert nemorun("status", "typed") == 1
    assert "starting" in capsys.readouterr().out
    assert nemorun("stop", "typed") == 0
    assert "stopped" in capsys.readouterr().out


def test_the_dashboard_until_it_is_interrupted(cluster: RayCluster) -> None:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "nemo_run", "ray", "dashboard", "shared", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"http://127.0.0.1:{port} until Ctrl-C\n"
        assert ask(cluster, "/api/version", port)["ray_version"]
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
