"""What can be added to an experiment, and how it is run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import DependencyError, ExperimentError, InvalidNameError, JobFailedError, SerializationError
from tests.run import work as tasks
from tests.support import attempts, bash, states


def test_every_kind_of_task(work: Path) -> None:
    (work / "script.sh").write_text('echo "$1" > "$2"')
    with run.Experiment("kinds", executor=run.LocalExecutor()) as exp:
        ids = [
            exp.add(run.Partial(tasks.write, path=str(work / "partial"), text="a", times=2)),
            exp.add(run.Config(tasks.write, path=str(work / "config"), text="b")),
            exp.add(tasks.write, path=str(work / "function"), text="c", name="plain"),
            exp.add(bash('printf "$1" > "$2"', "d", str(work / "inline"))),
            exp.add(run.Script(path="script.sh", args=["e", str(work / "path")])),
            exp.add(run.Script(path="json.tool", m=True, entrypoint="python", args=["--help"]), name="module"),
            exp.add([run.Partial(tasks.write, path=str(work / "member")), bash("exit 0")], name="group"),
        ]
        exp.run(check=True)
    assert ids == [
        "tests.run.work.write",
        "tests.run.work.write_1",
        "plain",
        "printf_1",
        "script.sh",
        "module",
        "group",
    ]
    assert set(states(exp).values()) == {"SUCCEEDED"}
    written = {path.name: path.read_text().strip() for path in work.iterdir() if path.suffix == ""}
    assert written == {
        "partial": "aa", "config": "b", "function": "c", "inline": "d", "path": "e", "member": "written",
    }  # fmt: skip


def test_nested_configurations_arrive(work: Path) -> None:
    with run.Experiment("nested") as exp:
        inner = run.Config(dict, numbers=[1, 2.5], text="é\n$x")
        exp.add(run.Partial(tasks.report, path=str(work / "out"), inner=inner, items=[run.Config(dict, a=1)]))
        exp.run(check=True)
    assert json.loads((work / "out").read_text()) == {
        "inner": {"numbers": [1, 2.5], "text": "é\n$x"},
        "items": [{"a": 1}],
    }


def test_a_task_is_copied_when_it_is_added(work: Path) -> None:
    task = run.Partial(tasks.write, path=str(work / "out"), text="as added")
    executor = run.LocalExecutor(env_vars={"A": "1"})
    with run.Experiment("copied", executor=executor) as exp:
        exp.add(task)
        task.text = "changed later"
        executor.env_vars["A"] = "2"
        exp.run(check=True)
    assert (work / "out").read_text() == "as added"
    assert exp.jobs[0].executor.env_vars == {"A": "1"}


class Loud(run.Plugin):
    def setup(self, task: Any, executor: run.Executor) -> None:
        executor.env_vars["LOUD"] = self.experiment_id
        task.args.append("from plugin")


def test_plugins_change_task_and_executor(work: Path) -> None:
    with run.Experiment("plugged") as exp:
        exp.add(bash('echo "$LOUD:$1" > out'), plugins=[Loud()])
        exp.run(check=True)
    assert (work / "out").read_text() == f"{exp.id}:from plugin\n"


@pytest.mark.parametrize(
    ("add", "error", "says"),
    [
        (lambda e: e.add(42), ExperimentError, "42"),
        (lambda e: e.add("text"), ExperimentError, "'text'"),
        (lambda e: e.add([]), ExperimentError, "without tasks"),
        (lambda e: e.add([bash("true")]), InvalidNameError, "name="),
        (lambda e: e.add(bash("true"), name="a\nb"), InvalidNameError, "control"),
        (lambda e: e.add(bash("true"), extra=1), ExperimentError, "extra"),
        (lambda e: e.add(run.Partial(tasks.write, path="x"), text="y"), ExperimentError, "text"),
        (lambda e: e.add(bash("true"), dependencies=["nobody"]), DependencyError, "nobody"),
        (lambda e: e.add(bash("true"), executor="local"), ExperimentError, "executor"),
        (lambda e: e.add([bash("true")] * 2, name="g", executor=[run.LocalExecutor()] * 3), ExperimentError, "2 tasks"),
        (lambda e: e.add([bash("true")], name="g", end_group_on="sometimes"), ExperimentError, "sometimes"),
        (lambda e: e.add(bash("true"), executor=run.LocalExecutor(working_dir="/no/folder")), Exception, "/no/folder"),
        (lambda e: e.add(bash("true"), executor=run.LocalExecutor(retries=-1)), Exception, "retries"),
    ],
)
def test_what_cannot_be_added(add: Any, error: type[Exception], says: str, nemorun_home: Path) -> None:
    exp = run.Experiment("wrong")
    with pytest.raises(error, match=says):
        add(exp)
    assert exp.jobs == []
    assert not nemorun_home.exists()


def test_a_lambda_is_refused_with_its_path() -> None:
    exp = run.Experiment("wrong")
    with pytest.raises(SerializationError, match="callback"):
        exp.add(run.Partial(tasks.report, path="x", callback=lambda: 1))


def test_names_of_jobs_are_unique_whatever_they_are() -> None:
    exp = run.Experiment("names")
    names = ["a", "a_2", "a", "a", "a_2", "a_3"]
    ids = [exp.add(bash("true"), name=name) for name in names]
    assert ids[:2] == ["a", "a_2"]
    assert len(set(ids)) == len(ids)


def test_without_jobs_or_twice(caplog: pytest.LogCaptureFixture) -> None:
    exp = run.Experiment("empty")
    exp.run()
    exp.run(direct=True)
    assert "has no jobs" in caplog.text
    assert run.Experiment.catalog("empty") == []
    exp.add(bash("echo x >> ran"))
    exp.run()
    exp.run()
    assert attempts(Path.cwd()) == ["x"]
    assert "launched already" in caplog.text
    with pytest.raises(ExperimentError, match="launched already"):
        exp.add(bash("true"))


@pytest.mark.parametrize("wrong", [0, -1])
def test_max_parallel_must_let_something_run(wrong: int) -> None:
    exp = run.Experiment("bounded")
    exp.add(bash("true"))
    with pytest.raises(ExperimentError, match="max_parallel"):
        exp.run(max_parallel=wrong)


def test_dryrun_shows_all_and_leaves_nothing(
    nemorun_home: Path, capsys: pytest.CaptureFixture[str], work: Path
) -> None:
    with run.Experiment("dry") as exp:
        first = exp.add(
            bash("touch ran", "an 'argument'"), name="first", executor=run.LocalExecutor(env_vars={"A": "b c"})
        )
        exp.add(run.Partial(tasks.write, path="x"), name="second", dependencies=[first])
        exp.add([bash("true"), bash("false")], name="group")
        exp.dryrun()
        exp.dryrun()
    out = capsys.readouterr().out
    for shown in (
        "first",
        "second",
        "after first",
        "group/0",
        "group/1",
        "A='b c'",
        "an '\"'\"'argument",
        "fdl_runner",
    ):
        assert shown in out
    left = {path.name for path in nemorun_home.rglob("*") if path.is_file()}
    assert left == {".gitignore", f".key-{os.geteuid()}"}
    assert run.Experiment.catalog() == []
    assert list(work.iterdir()) == []


def test_dryrun_may_leave_what_would_be_launched(
    capsys: pytest.CaptureFixture[str], work: Path, tmp_path: Path
) -> None:
    slurm = run.SlurmExecutor(
        account="acct",
        time="00:10:00",
        env_vars={"HF_TOKEN": "s3cr3t"},
        packager=run.Packager(),
        tunnel=run.LocalTunnel(job_dir=str(tmp_path)),
    )
    with run.Experiment("kept") as exp:
        exp.add(bash("true", "an argument"), name="here")
        exp.add([bash("true"), bash("false")], executor=slurm, name="group")
        exp.dryrun(delete_exp_dir=False)
    shown = capsys.readouterr().out
    kept = {str(path.relative_to(exp.directory)): path for path in exp.directory.rglob("dryrun.*")}
    assert sorted(kept) == ["group/0/dryrun.sh", "group/1/dryrun.txt", "here/dryrun.txt"]
    for path in kept.values():
        assert path.read_text() in f"{shown}\n"
        assert path.stat().st_mode & 0o777 == 0o600
    script = kept["group/0/dryrun.sh"].read_text()
    assert "#SBATCH --account=acct" in script
    assert "s3cr3t" not in script
    assert list(work.iterdir()) == []


def test_dryrun_then_run(work: Path) -> None:
    with run.Experiment("both") as exp:
        exp.add(bash("echo x >> ran"))
        exp.dryrun(log=False)
        exp.run(check=True)
    assert attempts(work) == ["x"]
    assert run.Experiment.catalog("both") == [exp.id]


def test_direct_runs_here(work: Path) -> None:
    with run.Experiment("direct") as exp:
        first = exp.add(run.Partial(write_pid, path="pid"), name="first")
        bad = exp.add(tasks.fail, message="broken", name="bad", dependencies=[first])
        exp.add(bash("echo x >> ran"), name="never", dependencies=[bad])
        exp.add(bash('echo "$1" > script', "by script"), name="script")
        exp.add(tasks.leave, code=7, name="leaves")
        with pytest.raises(SystemExit) as raised:  # by the first function that failed
            exp.run(direct=True)
    assert raised.value.code == 7
    assert (work / "pid").read_text() == str(os.getpid())
    assert states(exp) == {
        "first": "SUCCEEDED", "bad": "FAILED", "never": "CANCELLED", "script": "SUCCEEDED", "leaves": "FAILED",
    }  # fmt: skip
    results = run.Experiment.from_id(exp.id).results()
    assert (results["bad"].exit_code, results["leaves"].exit_code) == (1, 7)
    assert "broken" in results["bad"].reason
    assert "bad" in results["never"].reason
    assert attempts(work) == []


def test_what_a_function_raises_here_is_raised_by_the_run(work: Path) -> None:
    exp = run.Experiment("direct")
    exp.add(tasks.fail, message="broken", name="bad")
    exp.add(bash("echo x >> ran"), name="independent")
    with pytest.raises(ValueError, match="broken"):
        exp.run(direct=True)
    assert states(exp) == {"bad": "FAILED", "independent": "SUCCEEDED"}
    assert exp.jobs[0].state is run.JobState.FAILED
    with exp.reset():
        exp.run(direct=True, check=False)
    assert states(exp)["bad"] == "FAILED"


def test_plugins_find_where_the_job_will_be(work: Path) -> None:
    seen = {}

    class Notes(run.Plugin):
        def setup(self, task: Any, executor: run.Executor) -> None:
            seen[executor.job_dir] = (executor.experiment_id, executor.experiment_dir)
            Path(executor.job_dir).mkdir(parents=True, exist_ok=True)
            Path(executor.job_dir, "notes.txt").write_text("by a plugin")

    with run.Experiment("placed") as exp:
        exp.add(bash("true"), name="one", plugins=[Notes()])
        exp.add([bash("true"), bash("true")], name="two", plugins=[Notes()])
        assert [Path(job.executor.job_dir).is_relative_to(exp.directory) for job in exp.jobs] == [True, True]
        exp.run(check=True)
    assert set(seen.values()) == {(exp.id, str(exp.directory))}
    assert [Path(path).relative_to(exp.directory) for path in seen] == [Path("one"), Path("two/0"), Path("two/1")]
    assert (exp.directory / "one" / "notes.txt").read_text() == "by a plugin"


def test_the_status_before_the_launch(capsys: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("early") as exp:
        first = exp.add(bash("true"), name="first")
        exp.add([bash("true"), bash("false")], name="group", dependencies=[first])
        exp.status()
        shown = exp.status(return_dict=True) or {}
        assert [(name, entry["status"].name) for name, entry in shown.items()] == [
            ("first", "UNSUBMITTED"), ("group", "UNSUBMITTED"),
        ]  # fmt: skip
        assert [job.status().name for job in exp.jobs] == ["UNSUBMITTED"] * 2
        assert not exp.directory.exists()
    assert "UNSUBMITTED" in capsys.readouterr().out


def test_the_tasks_of_a_group_are_together() -> None:
    exp = run.Experiment("nested")
    exp.add(bash("true"), name="one")
    exp.add([bash("true"), bash("false")], name="two")
    exp.tasks[1][0].args = ["changed"]
    assert [exp.tasks[0].inline, [task.inline for task in exp.tasks[1]]] == ["true", ["true", "false"]]
    assert exp.jobs[1].members[0][0].args == ["changed"]


def test_generators_run_to_their_end(work: Path) -> None:
    with run.Experiment("generators") as exp:
        exp.add(tasks.write_step_by_step, path="here", name="here")
        exp.add(tasks.write_step_by_step_later, path="later", name="later")
        exp.run(check=True)
    run.run(run.Partial(tasks.write_step_by_step, path="direct"))
    assert [(work / name).read_text() for name in ("here", "later", "direct")] == ["012"] * 3


def test_direct_tasks_find_the_variables_of_any_other_run(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMO_RUN_SERVICES", "of the launcher")
    before = dict(os.environ)
    text = 'echo "$NEMO_RUN_TASK $NEMO_RUN_ATTEMPT $MINE" > "$NEMO_RUN_ARTIFACTS/said"; echo 1 > kept.txt; exit 3'
    with run.Experiment("direct", executor=run.LocalExecutor(env_vars={"MINE": "é x"})) as exp:
        exp.add(run.Partial(leave_a_file, name="a.txt"), name="function")
        exp.add(bash(text), name="script", artifacts=["*.txt"])
        exp.run(direct=True)
    assert dict(os.environ) == before
    found = {(one.task, one.path): Path(one.file).read_text() for one in exp.artifacts()}
    assert found == {
        ("function", "a.txt"): f"{exp.id} function 1",
        ("script", "said"): "script 1 é x\n",
        ("script", "kept.txt"): "1\n",
    }
    assert states(exp) == {"function": "SUCCEEDED", "script": "FAILED"}
    assert [job.launched for job in exp.jobs] == [True, True]


def leave_a_file(name: str) -> None:
    text = " ".join(os.environ[f"NEMO_RUN_{one}"] for one in ("EXPERIMENT_ID", "TASK", "ATTEMPT"))
    Path(os.environ["NEMO_RUN_ARTIFACTS"], name).write_text(text)


def write_pid(path: str) -> None:
    Path(path).write_text(str(os.getpid()))


def test_sequential_is_the_order_of_adding(work: Path) -> None:
    with run.Experiment("order") as exp:
        a = exp.add(bash("echo a >> ran"), name="a")
        exp.add(bash("echo b >> ran"), name="b", dependencies=[a])
        exp.add(bash("echo c >> ran"), name="c")
        d = exp.add(bash("echo d >> ran; exit 1"), name="d")
        exp.add(bash("echo e >> ran"), name="e", dependencies=[d])
        exp.add(bash("echo f >> ran"), name="f")
        exp.run(sequential=True)
    assert attempts(work) == ["a", "b", "c", "d", "f"]


@pytest.mark.parametrize(
    "name", ["cancel", "code", "packages", "experiment.json", "controller.lock", "state.json", "a/b", "..", "é"]
)
def test_job_names_cannot_touch_the_files_of_the_store(name: str) -> None:
    with run.Experiment("names") as exp:
        job = exp.add(bash("exit 0"), name=name)
        exp.add(bash("exit 0"), name="artifacts", dependencies=[job])
        exp.run(check=True)
    assert states(run.Experiment.from_id(exp.id)) == {name: "SUCCEEDED", "artifacts": "SUCCEEDED"}


def test_a_program_may_put_files_into_the_folder_before_the_launch(work: Path) -> None:
    with run.Experiment("early", clean_mode=True) as exp:
        inputs = exp.directory / "inputs"
        inputs.mkdir(parents=True)
        (inputs / "seed").write_text("7")
        exp.add(run.Script(inline=f"cat {inputs}/seed > out", working_dir=str(work)), name="read")
        exp.run(check=True)
    assert (work / "out").read_text() == "7"
    assert exp.directory.stat().st_mode & 0o077 == 0
    assert states(run.Experiment.from_id(exp.id)) == {"read": "SUCCEEDED"}


@pytest.mark.parametrize("env_vars", [{}, {"PYTHONPATH": "/theirs"}])
def test_import_paths_of_this_machine_stay_here(
    env_vars: dict[str, str], work: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task elsewhere finds the import path that its user has asked for, and no other."""
    monkeypatch.setenv("PYTHONPATH", "/of-this-machine")
    executor = run.DockerExecutor(container_image="image", packager=run.Packager(), env_vars=env_vars)
    with run.Experiment("elsewhere", executor=executor, clean_mode=True) as exp:
        exp.add(run.Partial(tasks.write, "x"), name="task")
        exp.dryrun()
    shown = capfd.readouterr().out
    assert "/of-this-machine" not in shown
    assert shown.count("PYTHONPATH=/theirs") == len(env_vars)


def test_a_direct_run_keeps_its_logs(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("direct", executor=run.LocalExecutor()) as exp:
        exp.add(run.Partial(say_much, word="hello"), name="function")
        exp.add(bash("echo out; echo err >&2; exit 3"), name="script")
        exp.run(direct=True)
    shown = capfd.readouterr()
    assert (shown.out, "to stderr" in shown.err) == ("hello\nbytes\nout\nerr\n", True)
    past = run.Experiment.from_id(exp.id)
    past.logs("function")
    past.logs("script")
    said = capfd.readouterr().out
    assert said == "function/0 hello\nfunction/0 bytes\nfunction/0 to stderr\nscript/0 out\nscript/0 err\n"
    assert past.results()["script"].log_tail == ("out", "err")
    assert (exp.directory / "function" / "attempts" / "1" / "log").stat().st_mode & 0o077 == 0


def say_much(word: str) -> None:
    print(word)
    sys.stdout.buffer.write(b"bytes\n")
    print("to stderr", file=sys.stderr)


@pytest.mark.parametrize("how", ["argument", "setting", "variable"])
def test_a_script_can_end_with_the_failure_of_its_task(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMORUN_CHECK", "yes" if how == "variable" else "0")
    if how == "setting":
        run.config.set_check(True)
    with run.Experiment("checked", clean_mode=True) as exp:
        exp.add(bash("exit 3"), name="bad")
        with pytest.raises(JobFailedError, match="bad"):
            exp.run(**{"check": True} if how == "argument" else {})
    with run.Experiment("unchecked", clean_mode=True) as exp:
        exp.add(bash("exit 3"), name="bad")
        exp.run(check=False)
