"""Whether a script's file will be there is judged at the launch, by where the task runs."""

from __future__ import annotations

import logging
import re
import subprocess
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ScriptError


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository with a script in a folder, in which the test works."""
    top = tmp_path / "checkout"
    (top / "scripts").mkdir(parents=True)
    (top / "scripts/train.sh").write_text("echo trained\n")
    (top / "link").symlink_to("scripts")
    monkeypatch.chdir(top)
    _git("init", "-q")
    _git("add", ".")
    _git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "1")
    return top


def _git(*words: str) -> None:
    subprocess.run(["git", *words], check=True)


def local(**options) -> run.LocalExecutor:
    return run.LocalExecutor(**options)


def cluster(**options) -> run.SlurmExecutor:
    return run.SlurmExecutor(account="a", partition="p", tunnel=run.LocalTunnel(job_dir="/tmp"), **options)


def in_git(subpath: str = "") -> run.GitArchivePackager:
    return run.GitArchivePackager(subpath=subpath)


def dryrun(*scripts: run.Script, executor: run.Executor) -> None:
    with run.Experiment("scripts", executor=executor) as exp:
        before = None
        for index, script in enumerate(scripts):
            before = exp.add(script, name=f"s{index}", dependencies=[before] if before else None)
        exp.dryrun(log=False)


FOUND = {
    "here": (local, {}, run.Script("scripts/train.sh")),
    "here, in its folder": (local, {}, run.Script("train.sh", working_dir="scripts")),
    "here, on the PATH": (local, {}, run.Script("git")),
    "here, packaged": (local, {"packager": in_git()}, run.Script("./scripts/train.sh")),
    "here, packaged from below": (local, {"packager": in_git("scripts")}, run.Script("train.sh")),
    "here, packaged, in its folder": (local, {"packager": in_git()}, run.Script("train.sh", working_dir="scripts")),
    "here, packaged behind a link": (local, {"packager": in_git()}, run.Script("link/train.sh")),
    "here, a module": (local, {}, run.Script("json.tool", m=True, entrypoint="python")),
    "here, said to be there": (local, {}, run.Script("later.sh", remote=True)),
    "there, packaged": (cluster, {"packager": in_git("scripts")}, run.Script("train.sh", entrypoint="python")),
    "there, absolute": (cluster, {"packager": run.Packager()}, run.Script("/opt/app/train.sh")),
    "there, absolute and packaged": (cluster, {"packager": in_git()}, run.Script("/workspace/gone.sh")),
    "there, in an absolute folder": (cluster, {"packager": in_git()}, run.Script("a.sh", working_dir="/workspace")),
}
WARNED = {
    "here, another program": (local, {}, run.Script("install", entrypoint="pip"), "'install' in '{top}'"),
    "here, a program's option": (local, {}, run.Script("json.tool", entrypoint="python -m"), "'json.tool' in"),
    "there, not packaged": (cluster, {"packager": run.Packager()}, run.Script("train.sh"), "no code is packaged"),
    "there, not in the package": (
        cluster, {"packager": in_git()}, run.Script("train.sh"), "in the package, .* it has 'scripts/train.sh'"
    ),
}  # fmt: skip
REFUSED = {
    "here": (local, {}, run.Script("train.sh"), "no script 'train.sh' in '{top}'; correct the path"),
    "here, in its folder": (local, {}, run.Script("a.sh", working_dir="scripts"), "script 'a.sh' in '{top}/scripts'"),
    "here, absolute": (local, {}, run.Script("/no/such/train.sh"), "no script '/no/such/train.sh'"),
    "here, Python": (local, {}, run.Script("train.py", entrypoint="python -u"), "no script 'train.py'"),
    "here, packaged": (
        local, {"packager": in_git()}, run.Script("train.sh"), "'train.sh' in the package, .*'scripts/train.sh'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_a_script_that_will_be_found(case, checkout, caplog):
    where, options, script = case
    with caplog.at_level(logging.WARNING):
        dryrun(script, executor=where(**options))
    assert not caplog.messages


@pytest.mark.parametrize("case", WARNED.values(), ids=WARNED)
def test_a_script_that_is_perhaps_not_found_is_a_warning_that_names_the_places(case, checkout, caplog):
    where, options, script, said = case
    dryrun(script, executor=where(**options))
    (message,) = caplog.messages
    assert re.search(said.format(top=checkout), message), message


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_script_that_certainly_cannot_run_is_refused(case, checkout):
    where, options, script, said = case
    with pytest.raises(ScriptError, match=said.format(top=checkout)):
        dryrun(script, executor=where(**options))


def test_an_earlier_task_may_make_the_file(checkout, caplog):
    writes = run.Script(inline="echo 'echo made > made.txt' > made.sh")
    with run.Experiment("made", executor=local()) as exp:
        first = exp.add(writes, name="writes")
        exp.add(run.Script("made.sh"), name="runs", dependencies=[first])
        exp.run(tail_logs=False)
    assert Path("made.txt").read_text() == "made\n"
    assert "'made.sh'" in caplog.text


@pytest.mark.parametrize("value", [True, False, None])
def test_a_ray_cluster_around_a_script_is_started_or_its_lack_is_pointed_out(value, work, capsys, caplog) -> None:
    script = run.Script(inline="python train.py", metadata={"use_with_ray_cluster": value})
    with run.Experiment("rays") as exp:
        exp.add(script, executor=cluster(packager=run.Packager()), name="there")
        exp.dryrun()
    assert ("ray start --head" in capsys.readouterr().out) is bool(value)
    assert not caplog.messages
    dryrun(script, executor=local())
    assert ["use_with_ray_cluster" in message for message in caplog.messages] == [True] * bool(value)
