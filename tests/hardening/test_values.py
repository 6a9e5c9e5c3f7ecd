"""What a user typed arrives as typed, secrets stay where they are needed, looking runs nothing (H15 to H23)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ExecutorError, InvalidNameError, ScriptError
from nemo_run.run import catalog
from tests.support import bash

HOSTILE = [
    "", " ", "a b", "'", '"', "'\"'", "$HOME", "$(touch hacked)", "`touch hacked`", "a\nb", "a\tb", "\\", "\\n",
    "*", "~",
    "; touch hacked", "&& touch hacked", "| cat", "> hacked", "#no comment", "-n", "--", "é ü 漢字 🙂",
    "a" * 5000,
    "%s %d",
    "{}", "${HOME}", "!", "\r\n", "trailing ", "=", "a=b", "\x7f", "\x01",
]  # fmt: skip


def test_values_arrive_byte_for_byte(work: Path) -> None:
    executor = run.LocalExecutor(env_vars={f"EXECUTOR_{i}": value for i, value in enumerate(HOSTILE)})
    write = 'for v in "$@"; do printf "%s\\0" "$v"; done > arguments; env -0 > environment'
    script = bash(write, *HOSTILE, env={f"SCRIPT_{i}": value for i, value in enumerate(HOSTILE)})
    run.run(script, executor=executor, name="values")
    assert (work / "arguments").read_bytes().decode().split("\0")[:-1] == HOSTILE
    environment = dict(line.split("=", 1) for line in (work / "environment").read_bytes().decode().split("\0") if line)
    assert [environment[f"EXECUTOR_{i}"] for i in range(len(HOSTILE))] == HOSTILE
    assert [environment[f"SCRIPT_{i}"] for i in range(len(HOSTILE))] == HOSTILE
    assert not (work / "hacked").exists()


def write_values(values: list[str], path: Path) -> None:
    path.write_bytes("\0".join(values).encode())


def test_arguments_of_a_function_arrive_as_they_are(work: Path) -> None:
    task = run.Partial(write_values, values=HOSTILE, path=work / "values")
    run.run(task, executor=run.LocalExecutor(), name="values")
    assert (work / "values").read_bytes().decode().split("\0") == HOSTILE


@pytest.mark.parametrize(
    "name", ["a b", "$(touch hacked)", "`x`", "../../etc", "/etc", "é漢", "a'b\"c", "-rf", ".", ".."]
)
def test_a_name_is_shown_as_typed_and_makes_a_safe_folder(name: str, work: Path, nemorun_home: Path) -> None:
    with run.Experiment(name) as exp:
        job = exp.add(bash('printf %s "$NEMO_RUN_TASK" > seen'), name=name)
        exp.run(check=True)
    assert job == name
    assert (work / "seen").read_text() == name
    assert exp.directory.is_relative_to(nemorun_home / "experiments")
    assert run.Experiment.from_title(name).title == name
    assert {path.name for path in work.iterdir()} == {"seen"}


def test_scripts_and_folders_with_odd_names(work: Path) -> None:
    folder = work / "a $b 'c'"
    folder.mkdir()
    script = folder / "run me; $(touch hacked).sh"
    script.write_text('pwd > "$1"')
    executor = run.LocalExecutor(working_dir=str(folder))
    run.run(run.Script(path=str(script), args=[str(work / "out")]), executor=executor, name="odd")
    assert (work / "out").read_text() == f"{folder}\n"
    assert not list(work.rglob("hacked"))


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "É"])
def test_a_wrong_name_of_a_variable_is_an_error_before_anything_starts(name: str) -> None:
    with pytest.raises(ExecutorError, match="is not a name for an environment variable"):
        run.Experiment("x").add(bash("true"), executor=run.LocalExecutor(env_vars={name: "1"}))
    with pytest.raises(ScriptError):
        bash("true", env={name: "1"})
    assert catalog.ids() == []


def test_names_of_variables_keep_their_case(work: Path) -> None:
    executor = run.LocalExecutor(env_vars={"Mixed_Case": "1", "lower": "2"})
    script = bash('echo "$Mixed_Case$lower" > seen', env={"lower": "the script's own"})
    run.run(script, executor=executor, name="case")
    assert (work / "seen").read_text() == "1the script's own\n"


def test_control_characters_in_names_are_errors() -> None:
    with pytest.raises(InvalidNameError):
        run.Experiment("a\nb")
    with pytest.raises(InvalidNameError):
        run.Experiment("a").add(bash("true"), name="a\nb")


# ------------------------------------------------------------------------------------------------- H15, H16


def test_only_what_the_product_made_is_deleted(nemorun_home: Path, work: Path) -> None:
    mine = nemorun_home / "experiments" / "mine"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("keep")
    (nemorun_home / "notes.txt").write_text("keep")
    (work / "data").write_text("keep")
    with run.Experiment("mine") as exp:
        exp.add(bash("true"), name="t")
        exp.dryrun(log=False)
        exp.run()
    catalog.find(exp.id).delete()
    assert not exp.directory.exists()
    for path in (mine / "notes.txt", nemorun_home / "notes.txt", work / "data"):
        assert path.read_text() == "keep"


WRONG_INPUTS = """
import nemo_run as run
wrong = [
    lambda: run.Experiment(""),
    lambda: run.Experiment("x").add(3),
    lambda: run.Experiment("x").add([]),
    lambda: run.Experiment("x").add(run.Script(inline="true"), dependencies=["no"]),
    lambda: run.Experiment("x").add(run.Script(inline="true"), executor=run.LocalExecutor(retries=-1)),
    lambda: run.Experiment("x").add(run.Script(inline="true"), executor="local"),
    lambda: run.Experiment.from_id("../x"),
    lambda: run.Script(),
    lambda: run.Config(complex, real="x", wrong=1),
    lambda: run.run(3),
]
for i, make in enumerate(wrong):
    try:
        make()
    except (run.NemoRunError, TypeError) as e:
        print(i, type(e).__name__)
    else:
        print(i, "NOT REFUSED")
"""


def test_python_o_changes_nothing() -> None:
    def refusals(*options: str) -> str:
        command = [sys.executable, *options, "-c", WRONG_INPUTS]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert refusals("-O") == refusals()
    assert "NOT REFUSED" not in refusals()


# ------------------------------------------------------------------------------------------------- H22, H23


def test_secrets_are_masked_where_they_are_shown_and_kept_from_others(
    nemorun_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.umask(0o000)  # even a careless umask opens nothing
    try:
        secrets = {"HF_TOKEN": "hush-1", "WANDB_API_KEY": "hush-2", "DB_PASSWORD": "hush-3", "MY_SECRET_X": "hush-4"}
        with run.Experiment("secret", executor=run.LocalExecutor(env_vars=secrets)) as exp:
            exp.add(bash('echo "$PG_PASSWORD$HF_TOKEN" | md5sum', env={"PG_PASSWORD": "hush-5"}), name="t")
            exp.dryrun()
            exp.run()
            exp.status()
            exp.logs("t")
    finally:
        os.umask(0o022)
    shown = capfd.readouterr()
    assert "hush" not in shown.out + shown.err
    assert "****" in shown.out
    assert hashlib.md5(b"hush-5hush-1\n").hexdigest() in shown.out
    needed = {"plan.json", "spec.json"}  # what the engine gives to the task
    for path in nemorun_home.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
        if path.is_file() and b"hush" in path.read_bytes():
            assert path.name in needed, path
    again = run.Experiment.from_id(exp.id).reset()
    assert again.jobs[0].executor.env_vars == secrets
    assert again.jobs[0].task.env == {"PG_PASSWORD": "hush-5"}


BOOBY_TRAP = """
import os
open(os.environ["TRAP"], "a").write("imported\\n")

class Model:
    def __init__(self, size: int = 1):
        open(os.environ["TRAP"], "a").write("built\\n")

def train(model: Model):
    print("trained")
"""

LOOK = """
import pprint, sys
import rich
import nemo_run as run
exp = run.Experiment.from_id(sys.argv[1])
exp.status()
exp.logs("t")
exp.cancel("t")
exp.artifacts()
jobs = exp.jobs
print(jobs, repr(jobs), f"{jobs[0]!s} {jobs[0]}")
pprint.pprint(jobs)
rich.print(jobs)
assert jobs[0] in exp.jobs
assert jobs == run.Experiment.from_id(sys.argv[1]).jobs
assert jobs[0].state.name and jobs[0].handle
print(run.Experiment.catalog())
sys.exit("trap" in sys.modules)
"""


def test_looking_at_an_experiment_imports_none_of_its_code(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "trap.py").write_text(BOOBY_TRAP)
    monkeypatch.setenv("TRAP", str(work / "sprung"))
    launch = """
import nemo_run as run, trap
with run.Experiment("trapped", executor=run.LocalExecutor()) as exp:
    exp.add(run.Partial(trap.train, model=run.Config(trap.Model)), name="t")
    exp.run(check=True)
"""
    subprocess.run([sys.executable, "-c", launch], check=True, capture_output=True)
    (work / "sprung").unlink()
    identity = run.Experiment.catalog("trapped")[-1]
    done = subprocess.run([sys.executable, "-c", LOOK, identity], capture_output=True, text=True, check=True)
    assert "trained" in done.stdout
    nemorun = Path(sys.executable).with_name("nemorun")
    for command in ("list", f"status {identity}", f"logs {identity} t", f"diff {identity} {identity}"):
        subprocess.run([nemorun, "experiment", *command.split()], check=True, capture_output=True)
    assert not (work / "sprung").exists()
