"""Slurm as sites and their users have set it up: login shells, noise, settings, cleaning by age, a slow sbatch."""

from __future__ import annotations

import importlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.execution.slurm.backend import SlurmBackend
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.core.tunnel.client import LocalTunnel, SSHTunnel
from nemo_run.errors import TunnelError
from tests.services.slurm import USER, SlurmCluster
from tests.slurm.test_experiments import launch, log_of, script
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd", "slurm cluster")

_STARTS_WITH = {"bash": ".bashrc", "sh": ".profile", "tcsh": ".tcshrc", "zsh": ".zshenv"}
_STARTS_WITH["fish"] = ".config/fish/config.fish"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with code of the user, in which the test works."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "site_work.py").write_text("def train():\n    print('trained')\n")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    return tmp_path


SHELLS = ["bash", "sh", *(pytest.param(name, marks=pytest.mark.needs(name)) for name in ("tcsh", "zsh", "fish"))]


@pytest.fixture(params=SHELLS)
def login_shell(request: pytest.FixtureRequest, cluster: SlurmCluster) -> Iterator[Path]:
    """The login shell of the user; the file that it starts with."""
    program = shutil.which(request.param)
    assert program is not None
    file = Path(pwd.getpwnam(USER).pw_dir, _STARTS_WITH[request.param])
    before = file.read_bytes() if file.exists() else None
    subprocess.run(["usermod", "--shell", program, USER], check=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    yield file
    subprocess.run(["usermod", "--shell", "/bin/bash", USER], check=True)
    file.unlink(missing_ok=True)
    if before is not None:
        file.write_bytes(before)


def told(experiment: run.Experiment) -> dict[str, tuple[str, int | None]]:
    return {name: (result.state.name, result.exit_code) for name, result in experiment.results().items()}


@pytest.mark.parametrize("noise", ["", "echo 'Welcome to the cluster'\necho '0 S 1'\n"], ids=["quiet", "noisy"])
def test_login_shells(
    executor: SlurmExecutor, project: Path, login_shell: Path, noise: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    login_shell.write_text(noise)
    executor.packager = GitArchivePackager()
    experiment = run.Experiment("shells", executor=executor)
    experiment.add(script("cat src/*.py; exit 7"), name="seven")
    experiment.add(script('echo it\\\'s ok! > "$NEMO_RUN_ARTIFACTS/a"'), name="zero", artifacts=["*.nothing"])
    experiment.add([script("exit 9"), script("sleep 60")], name="group")
    launch(experiment)
    found = told(experiment)
    assert found["seven"] == ("FAILED", 7)
    assert found["zero"] == ("SUCCEEDED", 0)
    assert list(Path(executor.tunnel.job_dir).rglob("artifacts/a"))
    assert [Path(one.file).read_text() for one in experiment.artifacts()] == ["it's ok!\n"]
    assert log_of(experiment, "seven", capfdbinary).startswith(b"seven/0 ")


def test_a_login_shell_that_ends_at_once_is_told_of(executor: SlurmExecutor, remote: SSHTunnel) -> None:
    file = Path(pwd.getpwnam(USER).pw_dir, ".bashrc")
    before = file.read_text()
    file.write_text("echo bye; exit 0\n")
    experiment = run.Experiment("exits", executor=executor, clean_mode=True)
    experiment.add(script("true"), name="a")
    try:
        with pytest.raises(TunnelError, match=r"(?s)must neither exit.*bye"), experiment:
            experiment.run(detach=True)
    finally:
        file.write_text(before)


def test_noise_is_not_part_of_a_result(remote: SSHTunnel) -> None:
    remote.pre_command = "echo Loading modules"
    assert remote.run("echo a; echo b").stdout == "a\nb\n"
    assert remote.execute("echo c") == b"c\n"


def test_settings_of_the_shell_do_not_count(executor: SlurmExecutor, remote: SSHTunnel) -> None:
    remote.pre_command = (
        "export SQUEUE_PARTITION=none SQUEUE_STATES=PENDING SLURM_CLUSTERS=none SACCT_FORMAT=jobid "
        "SBATCH_TIMELIMIT=7 SBATCH_ARRAY_INX=1-2 SBATCH_JOB_NAME=other SCANCEL_NAME=none SCANCEL_STATE=PENDING"
    )
    executor.tunnel = remote
    experiment = run.Experiment("settings", executor=executor, clean_mode=True)
    experiment.add(script("sleep 300"), name="a")
    with experiment:
        experiment.run(detach=True)
        eventually(lambda: experiment.progress()["a"].state is run.JobState.RUNNING)
        (job,) = [str(one["handle"]).split("/")[2] for one in experiment.status(return_dict=True).values()]
        shown = subprocess.check_output(["squeue", "-h", "-j", job, "-o", "%j %l %F %i"], text=True)
        assert shown == f"a 10:00 {job} {job}\n"
        experiment.cancel("a")
        eventually(lambda: experiment.progress()["a"].state is run.JobState.CANCELLED)


def test_lines_to_run_first_have_a_shell_of_their_own(executor: SlurmExecutor) -> None:
    executor.setup_lines = (
        "set -euo pipefail\nlog=x code=0 attempt=/ IFS=1\ntrap 'exit 0' EXIT\nexport SEEN=yes\numask 002"
    )
    again = executor.clone()
    again.retries = 1
    broken = executor.clone()
    broken.setup_lines = "if true; then (\n"
    experiment = run.Experiment("set-e", executor=executor, clean_mode=True)
    experiment.add(script("[ $SEEN = yes ] && [ $(umask) = 0002 ] && exit 5"), name="plain")
    experiment.add(script('[ "${SLURM_RESTART_COUNT:-0}" -eq 1 ] || exit 6'), name="again", executor=again)
    experiment.add([script("exit 5"), script("sleep 60")], name="group")
    experiment.add(script("exit 5"), name="broken", executor=broken)
    launch(experiment)
    found = told(experiment)
    assert found["plain"] == ("FAILED", 5)
    assert found["again"] == ("SUCCEEDED", 0)
    assert found["broken"] == ("FAILED", 5)
    assert ("FAILED", 5) in found.values()


def test_variables_may_have_any_name(executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    names = ("log", "code", "attempt", "packages", "folder", "said", "why", "pids", "head_node", "runner")
    executor.env_vars = {**{name: f"/{name}" for name in names}, "PATH": "/nonexistent"}
    experiment = run.Experiment("names", executor=executor, clean_mode=True)
    experiment.add(script(f"echo {' '.join(f'${name}' for name in names)}; exit 5", entrypoint="/bin/bash"), name="t")
    launch(experiment)
    assert told(experiment) == {"t": ("FAILED", 5)}
    assert log_of(experiment, "t", capfdbinary).decode() == f"t/0 {' '.join(f'/{name}' for name in names)}\n"


def test_a_requeue_by_others_uses_up_no_retry(executor: SlurmExecutor, jobs_folder: Path) -> None:
    executor.retries = 1
    tries = jobs_folder / "tries"
    text = 'echo x >> "$T"; n=$(wc -l < "$T"); [ "$n" -ge 2 ] || { touch "$T.up"; sleep 300; }; [ "$n" -ge 3 ]'
    experiment = run.Experiment("requeue", executor=executor, clean_mode=True)
    experiment.add(script(text, env={"T": str(tries)}), name="t")
    with experiment:
        experiment.run(detach=True)
        eventually(tries.with_suffix(".up").exists)
        (job,) = [str(one["handle"]).split("/")[2] for one in experiment.status(return_dict=True).values()]
        subprocess.run(["scontrol", "requeue", job], check=True)
        result = eventually(lambda: (r := experiment.results()["t"]).state.is_final and r, within=120)
    assert (result.state, tries.read_text()) == (run.JobState.SUCCEEDED, "x\n" * 3)


def test_a_signal_before_the_time_limit_reaches_the_task(
    executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    executor.time, executor.signal = "00:01:00", "B:USR1@60"
    experiment = run.Experiment("signal", executor=executor, clean_mode=True)
    experiment.add(script("trap 'echo saved; exit 3' USR1; touch up; while :; do sleep 0.1; done"), name="t")
    launch(experiment)
    assert told(experiment) == {"t": ("FAILED", 3)}
    assert b"saved" in log_of(experiment, "t", capfdbinary)


def test_a_job_that_turns_up_late_runs_nothing(
    executor: SlurmExecutor, here: LocalTunnel, jobs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch hands the job over later than it says that it timed out."""
    sbatch, notes = shutil.which("sbatch"), tmp_path / "notes"
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin" / "sbatch"
    slow.write_text(
        f'#!/bin/bash\n[ ! -e {tmp_path}/slow ] && exec {sbatch} "$@"\nrm {tmp_path}/slow\n'
        f'(until [ -e {tmp_path}/now ]; do sleep 0.1; done; {sbatch} "$@") >> {tmp_path}/late 2>&1 </dev/null &\n'
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2\nexit 1\n"
    )
    slow.chmod(0o755)
    (tmp_path / "slow").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    executor.tunnel = here
    experiment = run.Experiment("late", executor=executor, clean_mode=True)
    experiment.add(script('echo "$SLURM_JOB_ID" >> "$N"', env={"N": str(notes)}), name="t")
    assert launch(experiment)["t"].ok
    (tmp_path / "now").touch()
    late = eventually(lambda: (tmp_path / "late").exists() and (tmp_path / "late").read_text().strip())
    eventually(
        lambda: "COMPLETED" in subprocess.check_output(["squeue", "-h", "-t", "all", "-j", late, "-o", "%T"], text=True)
    )
    assert len(notes.read_text().split()) == 1
    assert late not in notes.read_text().split()


def test_packages_are_new_and_are_repaired(executor: SlurmExecutor, project: Path) -> None:
    executor.packager = GitArchivePackager()
    base = Path(executor.tunnel.job_dir)
    work = run.Partial(importlib.import_module("site_work").train)

    def ends_well() -> bool:
        experiment = run.Experiment("purge", executor=executor)
        experiment.add(work, name="t")
        return launch(experiment)["t"].ok

    assert ends_well()
    files = [path for path in (base / ".packages").rglob("*") if path.is_file()]
    youngest = min(path.stat().st_mtime for path in files)
    assert youngest > (experiment_started := Path(base).stat().st_mtime - 600), (youngest, experiment_started)
    for path in files:  # as a scratch file system does that removes old files, and leaves folders
        path.unlink()
    assert ends_well()
    old = 86400 * 30
    for path in (base / ".packages").rglob("*"):
        os.utime(path, (youngest - old, youngest - old))
    assert ends_well()
    assert [path for path in (base / ".packages").rglob("*") if path.stat().st_mtime < youngest] == []


def test_code_that_is_gone_when_the_job_starts_is_an_error(
    executor: SlurmExecutor, project: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    executor.packager = GitArchivePackager()
    executor.additional_parameters = {"hold": True}
    experiment = run.Experiment("gone", executor=executor)
    experiment.add(run.Partial(importlib.import_module("site_work").train), name="t")
    with experiment:
        experiment.run(detach=True)
        for path in Path(executor.tunnel.job_dir, ".packages").rglob("*.py"):
            path.unlink()
        (job,) = [str(one["handle"]).split("/")[2] for one in experiment.status(return_dict=True).values()]
        subprocess.run(["scontrol", "release", job], check=True)
        result = eventually(lambda: (r := experiment.results()["t"]).state.is_final and r)
    assert (result.state, result.exit_code) == (run.JobState.FAILED, 1)
    assert b"files of the packaged code are missing" in log_of(experiment, "t", capfdbinary)


def test_a_folder_that_is_shared_by_a_team(
    executor: SlurmExecutor, project: Path, jobs_folder: Path, here: LocalTunnel
) -> None:
    shared = jobs_folder / "team"
    shared.mkdir()
    shutil.chown(shared, "root", "nogroup")
    shared.chmod(0o2777)
    executor.packager = GitArchivePackager()
    for tunnel in (LocalTunnel(job_dir=str(shared)), SSHTunnel(host="cluster", user=USER, job_dir=str(shared))):
        executor.tunnel = tunnel
        experiment = run.Experiment("team", executor=executor)
        experiment.add(run.Partial(importlib.import_module("site_work").train), name="t")
        assert launch(experiment)["t"].ok
    owners = {path.owner() for path in (shared / ".packages").iterdir()}
    assert owners == {"root", USER}
    for path in (shared / "team").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_exported_functions_reach_the_task(
    executor: SlurmExecutor, remote: SSHTunnel, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    remote.pre_command = "module() { echo loaded $2; }; export -f module"
    executor.tunnel = remote
    experiment = run.Experiment("module", executor=executor, clean_mode=True)
    experiment.add(script("module load cuda"), name="t")
    assert launch(experiment)["t"].ok
    assert log_of(experiment, "t", capfdbinary) == b"t/0 loaded cuda\n"


def test_a_scancel_that_fails_ends_nothing_else(
    executor: SlurmExecutor, here: LocalTunnel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    failing = tmp_path / "bin" / "scancel"
    failing.write_text(
        f'#!/bin/bash\n[ -e {tmp_path}/failed ] && exec {shutil.which("scancel")} "$@"\n'
        f"touch {tmp_path}/failed\necho 'scancel: error: Kill job error: Unexpected message received' >&2\nexit 1\n"
    )
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    executor.tunnel = here
    experiment = run.Experiment("scancel", executor=executor, clean_mode=True)
    experiment.add(script("sleep 300"), name="long")
    experiment.add(script("sleep 5"), name="other", artifacts=["*.nothing"])  # so that a controller stays
    with experiment:
        experiment.run(detach=True)
        eventually(lambda: experiment.progress()["long"].state is run.JobState.RUNNING)
        experiment.cancel("long")
        eventually(lambda: all(job.state.is_final for job in experiment.progress().values()))
    assert (tmp_path / "failed").exists()
    assert {name: job.state.name for name, job in experiment.progress().items()} == {
        "long": "CANCELLED",
        "other": "SUCCEEDED",
    }


def test_a_folder_that_nodes_do_not_see_is_told_of(executor: SlurmExecutor) -> None:
    executor.additional_parameters = {"hold": True}
    experiment = run.Experiment("unseen", executor=executor, clean_mode=True)
    experiment.add(script("true"), name="t")
    base = Path(executor.tunnel.job_dir)
    with experiment:
        experiment.run(detach=True)
        (job,) = [str(one["handle"]).split("/")[2] for one in experiment.status(return_dict=True).values()]
        base.rename(base.with_name("away"))
        subprocess.run(["scontrol", "release", job], check=True)
        query = ["squeue", "-h", "-t", "all", "-j", job, "-o", "%T"]
        eventually(lambda: "FAILED" in subprocess.check_output(query, text=True))
        base.with_name("away").rename(base)
        result = eventually(lambda: (r := experiment.results()["t"]).state.is_final and r)
    assert result.state is run.JobState.FAILED
    assert "nodes that do not see" in result.reason


def test_a_long_log_arrives_as_it_is(executor: SlurmExecutor) -> None:
    experiment = run.Experiment("long", executor=executor, clean_mode=True)
    experiment.add(script("seq -f 'line %.0f of a log that is longer than one answer' 400000"), name="t")
    launch(experiment)
    (handle,) = [str(one["handle"]) for one in experiment.status(return_dict=True).values()]
    reader = SlurmBackend(executor.tunnel.connection()).open_log(handle)
    lines = b"".join(iter(reader.read, b"")).splitlines()
    assert len(lines) == 400000
    assert lines[-1] == b"line 400000 of a log that is longer than one answer"
