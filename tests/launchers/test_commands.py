"""What a launcher makes of a command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.base import Command
from nemo_run.core.execution.launcher import FaultTolerance, Launcher, Layout, Torchrun, make_launcher
from nemo_run.errors import ExecutorError

PYTHON = Command(("/venv/bin/python", "-m", "train", "--lr", "0.1"), {"A": "1"}, python=True)
BASH = Command(("bash", "a b.sh"), {})


def test_the_plain_launcher_leaves_a_command_alone() -> None:
    assert make_launcher(None).wrap(PYTHON, Layout()) is PYTHON


@pytest.mark.parametrize(
    ("command", "start", "end"),
    [
        (PYTHON, ("/venv/bin/python", "-m", "torch.distributed.run"), ("-m", "train", "--lr", "0.1")),
        (BASH, (sys.executable, "-m", "torch.distributed.run"), ("--no-python", "bash", "a b.sh")),
    ],
)
def test_torchrun_runs_python_itself_and_other_programs_as_they_are(
    command: Command, start: tuple[str, ...], end: tuple[str, ...]
) -> None:
    argv = Torchrun().wrap(command, Layout(processes_per_node=4)).argv
    assert argv[:3] == start
    assert argv[-len(end) :] == end
    assert "--nproc-per-node=4" in argv
    assert "--rdzv-endpoint=localhost:0" in argv


def test_several_nodes_meet_at_the_head_node() -> None:
    layout = Layout(nodes=2, processes_per_node=8, head_node="$head", node_rank="$rank", log_dir="/logs")
    argv = Torchrun(rdzv_port=1234, rdzv_id=7).wrap(PYTHON, layout).argv
    expected = {"--nnodes=2", "--rdzv-endpoint=$head:1234", "--node-rank=$rank", "--rdzv-id=7", "--log-dir=/logs/ranks"}
    assert expected <= set(argv)


def test_ft_passes_on_what_is_set_and_nothing_else() -> None:
    launcher = FaultTolerance(cfg_path="/ft.yaml", finished_flag_file="/done", rank_heartbeat_timeout=30.0)
    command = launcher.wrap(PYTHON, Layout())
    assert command.argv[2] == "nvidia_resiliency_ext.fault_tolerance.launcher"
    options = {argument for argument in command.argv if argument.startswith("--ft")}
    assert options == {"--ft-cfg-path=/ft.yaml", "--ft-rank-heartbeat-timeout=30.0"}
    assert command.env == {"A": "1", "FAULT_TOL_CFG_PATH": "/ft.yaml", "FAULT_TOL_FINISHED_FLAG_FILE": "/done"}


def test_nsys_goes_before_everything() -> None:
    argv = Torchrun(nsys_profile=True, nsys_trace=["cuda"]).wrap(PYTHON, Layout(profile_dir="/job")).argv
    assert argv[:9] == ("nsys", "profile", "-s", "none", "-t", "cuda", "-o", "/job/nsys_profile/profile_%p", argv[8])
    assert argv.index("torch.distributed.run") > argv.index("-o")


def test_a_profiled_task_runs_under_the_nsys_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nsys = tmp_path / "nsys"
    nsys.write_text('#!/bin/bash\nprintf "%s\\n" "$@" > "$0.args"\nwhile [ "$1" != bash ]; do shift; done\nexec "$@"\n')
    nsys.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    run.run(run.Script(inline="echo ran"), executor=run.LocalExecutor(launcher=Launcher(nsys_profile=True)), name="n")
    assert (tmp_path / "nsys.args").read_text().startswith("profile\n")


def test_an_unknown_launcher_is_an_error_before_anything_starts() -> None:
    with pytest.raises(ExecutorError, match=r"'torchruns'.*there are: ft, .*torchrun"):
        make_launcher("torchruns")
    with pytest.raises(ExecutorError, match="torchruns"):
        run.Experiment("x").add(run.Script(inline="true"), executor=run.LocalExecutor(launcher="torchruns"))


@pytest.mark.parametrize("launcher", ["torchrun", None])
def test_what_is_set_on_the_launcher_of_an_executor_is_used(launcher: str | None) -> None:
    executor = run.LocalExecutor(launcher=launcher)

    executor.get_launcher().nsys_profile = True

    assert executor.get_launcher().nsys_profile
    assert executor.clone().get_launcher_prefix()
