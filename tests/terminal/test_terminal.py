"""What is shown in terminals of 80, 100 and 160 columns, with names of 70 characters."""

from __future__ import annotations

import re
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.jobs import JobState
from nemo_run.run.records import Definition, JobDefinition, JobProgress, TaskDefinition, TaskProgress, summary
from nemo_run.run.store import ExperimentStore
from tests.support import bash
from tests.terminal.conftest import Terminal, same_as_captured

WIDTHS = pytest.mark.parametrize("columns", [80, 100, 160])
STEM = "pretrain_llama3_8b_bf16_tp4_pp2_cp1_mbs2_gbs512_seq8192_lr3e-4"  # and 7 more characters: names of 70
REASON = "ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory (in rank 3 of 16)"
Open = Callable[..., Terminal]


def name(number: int) -> str:
    return f"{STEM}_seed{number:02}"


def kept(title: str, states: list[JobState], *, age: float = 3725.5, controller: bool = False) -> ExperimentStore:
    """An experiment with jobs in these states, as it is stored."""
    created = time.time() - age
    stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(created))
    store = ExperimentStore(Path(get_nemorun_home(), "experiments", title, f"{title}_{stamp}"))
    store.path.mkdir(parents=True)
    jobs, progress = [], {}
    for number, state in enumerate(states):
        task = TaskDefinition(name(number), f"job{number}", "SlurmExecutor")
        jobs.append(JobDefinition(name(number), name(number), f"job{number}", (task,), (name(0),) if number else ()))
        progress[name(number)] = JobProgress([_progress(state, created)])
    definition = Definition(store.id, title, created, tuple(jobs))
    store.write_definition(definition)
    for job in jobs:
        store.write_progress(job, progress[job.id])
    if all(state.is_final for state in states):
        store.write_summary(summary(definition, progress))
    if controller:
        with store.driving():
            pass
    return store


def _progress(state: JobState, created: float) -> TaskProgress:
    if state is JobState.UNSUBMITTED:
        return TaskProgress()
    ended = created + 1825 if state.is_final else None
    failed = state is JobState.FAILED
    reason = REASON if failed else ""
    code = None if ended is None else int(failed)
    return TaskProgress(state, 1, "", code, reason, created, created + 2, ended, "node1", tries=3 if failed else 1)


S, F, R, U = JobState.SUCCEEDED, JobState.FAILED, JobState.RUNNING, JobState.UNSUBMITTED


@WIDTHS
def test_list(columns: int, terminal: Open) -> None:
    kept("hello", [S])
    kept(STEM + "_sweep1", [S, S, F], age=90000)
    kept(STEM + "_sweep2", [R, U, U], age=400, controller=True)
    kept("damaged", [S], age=7400).path.joinpath("experiment.json").write_text("{")
    shown = terminal("nemorun", "experiment", "list", columns=columns).end()
    assert max(map(len, shown.splitlines())) <= columns
    same_as_captured(f"list-{columns}", _without(shown, "what is wrong with it"))


def _without(shown: str, word: str) -> str:
    """The screen without the lines below the damaged one, whose path is that of this machine."""
    lines = shown.splitlines(keepends=True)
    begin = next(i for i, line in enumerate(lines) if line.startswith("DAMAGED"))
    end = next(i for i, line in enumerate(lines[begin + 1 :], begin + 1) if not line.startswith(" "))
    return "".join([*lines[: begin + 1], f"    ({word})\n", *lines[end:]])


@WIDTHS
def test_status(columns: int, terminal: Open) -> None:
    store = kept(STEM + "_sweep1", [S, F, R, U, U], controller=True)
    shown = terminal("nemorun", "experiment", "status", store.id, columns=columns).end()
    same_as_captured(f"status-{columns}", shown)


@WIDTHS
def test_status_of_a_thousand_jobs(columns: int, terminal: Open) -> None:
    store = kept("many", [*[S] * 600, F, F, *[R] * 3, *[U] * 395])
    shown = terminal("nemorun", "experiment", "status", store.id, columns=columns).end()
    same_as_captured(f"status-of-1000-{columns}", shown)


TABLES = (["artifacts"], ["metrics"], ["compare"], ["status", "--usage"])


@WIDTHS
def test_tables(columns: int, terminal: Open) -> None:
    left = "cd $NEMO_RUN_ARTIFACTS; mkdir checkpoint_of_step_000100; echo hi > checkpoint_of_step_000100/model.pt"
    logs = """echo '{"step": 10, "metrics": {"validation/loss": 0.25}}' >> $NEMO_RUN_METRICS"""
    with run.Experiment("tables", executor=run.LocalExecutor(), clean_mode=True) as exp:
        exp.add(bash(f"{left}; {logs}"), name=name(1))
        exp.run()
    shown = ""
    for words in TABLES:
        screen = terminal("nemorun", "experiment", *words, columns=columns).end()
        assert max(map(len, screen.splitlines())) <= columns
        shown += f"$ nemorun experiment {' '.join(words)}\n{screen}"
    same_as_captured(f"tables-{columns}", re.sub(r"0\.0\d\d", "0.000", shown))  # hours, on a slow machine


def test_what_has_no_room_in_a_table_stands_below(work: Path, terminal: Open) -> None:
    with run.Experiment("wide", executor=run.LocalExecutor(), clean_mode=True) as exp:
        spaces = {f"parameter_number_{i}": [i / 7, 1000 + i] for i in range(9)}
        exp.sweep(run.Partial(dict), spaces, sampler="random", trials=1)
        exp.run()
    screen = terminal("nemorun", "experiment", "compare", columns=80).end()
    assert max(map(len, screen.splitlines())) <= 80
    (trial,) = run.Experiment.from_title("wide").compare()
    assert all(f"{path} {value:.6g}" in " ".join(screen.split()) for path, value in trial.parameters.items())


LONG = f"{STEM}_model"  # a name of 70 characters, as an argument may have it

TRAIN = f"""
    from dataclasses import dataclass, field
    from typing import Literal, Optional, Union
    import nemo_run as run

    @dataclass
    class Adam:
        lr: float = 3e-4
        betas: tuple[float, float] = (0.9, 0.95)

    @dataclass
    class Sgd:
        momentum: float = 0.9

    @dataclass
    class Model:
        \"\"\"What is trained.

        Attributes:
            hidden: Width of a layer; more of it makes the model better, slower and larger, as everybody knows by now.
        \"\"\"
        hidden: int = 4096
        optimizer: Optional[Adam] = None

    @run.cli.factory
    @run.autoconvert
    def {STEM.replace("-", "_")}() -> Model:
        return Model(hidden=8192)

    @run.cli.entrypoint
    def train({LONG.replace("-", "_")}: Model = Model(), either: Union[Adam, Sgd] = Adam(), steps: int = 1_000,
              mode: Literal["fast", "exact"] = "fast", note: str = "two words"):
        \"\"\"Trains.

        Args:
            steps: How long.
        \"\"\"

    if __name__ == "__main__":
        run.cli.main(train)
"""


@pytest.fixture
def train(work: Path) -> Path:
    (work / "train.py").write_text(textwrap.dedent(TRAIN))
    return Path("train.py")


@WIDTHS
def test_help(columns: int, train: Path, terminal: Open) -> None:
    shown = terminal(sys.executable, str(train), "--help", columns=columns, lines=100).end()
    assert max(map(len, shown.splitlines())) <= columns
    same_as_captured(f"help-{columns}", shown[shown.index("╭─ Arguments") :])  # what is above is drawn by Typer


PLACES = {
    "nothing": [],
    "an executor": ["run.executor=local"],
    "a cluster": ["run.executor=big_cluster_of_the_team"],
    "a limit in seconds": ["run.executor=local", "run.executor.timeout=5400"],
    "a sweep": ["--sweep", "steps=1,2,3", "run.executor=big_cluster_of_the_team", "run.executor.gpus_per_node=8"],
    "in this process": ["--direct", "run.executor=big_cluster_of_the_team"],
}


@WIDTHS
@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_launch_is_confirmed(columns: int, answer: str, work: Path, terminal: Open) -> None:
    code = """
        import nemo_run as run

        @run.cli.factory
        @run.autoconvert
        def big_cluster_of_the_team() -> run.SlurmExecutor:
            tunnel = run.SSHTunnel(host="login.cluster.example.org", user="somebody", job_dir="/data")
            return run.SlurmExecutor(account="a", partition="p", nodes=4, time="1-04:00:00", tunnel=tunnel)

        @run.cli.entrypoint
        def train(steps: int = 3, note: str = "none"):
            print("trained", steps)

        if __name__ == "__main__":
            run.cli.main(train)
    """
    (work / "train.py").write_text(textwrap.dedent(code))
    shown = ""
    for what, typed in PLACES.items() if answer == "n" else [("nothing", [])]:
        screen = terminal(sys.executable, "train.py", *typed, columns=columns)
        screen.shows(r"\[y/N\]")
        screen.type(f"{answer}\n")
        # The answer may be echoed before the last space of the question.
        echoed = re.sub(r"\[y/N\]:(?=[yn])", "[y/N]: ", screen.end())
        shown += f"# {what}: {' '.join(typed)}\n{echoed}"
        assert screen.process.returncode == 0
    assert ("trained 3" in shown) == (answer == "y")
    assert run.Experiment.catalog() == []
    same_as_captured(f"confirm-{answer}-{columns}", shown)


ERRORS = {
    "an argument that is not there": ["stps=3"],
    "a value that does not fit": ["steps=many"],
    "a value inside of a union": ["either={lr: [1, 2]}"],
    "no class of a union": ["either={nobody: 1}"],
    "a factory that is not there": [f"{LONG.replace('-', '_')}={STEM.replace('-', '_')[:-1]}"],
    "dashes": ["--steps", "3"],
    "a file that is not there": ["--yaml", "configs/small.yaml"],
    "an executor": ["run.executor=slrm"],
}


@WIDTHS
def test_errors(columns: int, train: Path, terminal: Open) -> None:
    shown = []
    for what, typed in ERRORS.items():
        screen = terminal(sys.executable, str(train), "--yes", *typed, columns=columns)
        shown.append(f"# {what}: {' '.join(typed)}\n{screen.end()}")
        assert screen.process.returncode == 2
    same_as_captured(f"errors-{columns}", "".join(shown))


@WIDTHS
def test_errors_of_our_own_commands(columns: int, terminal: Open) -> None:
    store = kept(STEM + "_sweep1", [S, F], age=90000)
    kept(STEM + "_sweep2", [S])
    shown = []
    for words in (["status", f"{STEM}_swe"], ["logs", store.id, "seed01x"]):
        screen = terminal("nemorun", "experiment", *words, columns=columns)
        shown.append(f"$ nemorun experiment {' '.join(words)}\n{screen.end()}")
        assert screen.process.returncode == 2
    same_as_captured(f"errors-of-nemorun-{columns}", "".join(shown))


LIVE = """
    import sys, time
    from nemo_run.run.live import ProgressView
    from nemo_run.run.store import ExperimentStore
    from pathlib import Path

    store = ExperimentStore(Path(sys.argv[1]))
    definition = store.read_definition()
    with ProgressView(definition) as view:
        view.update_all({job.id: store.read_progress(job) for job in definition.jobs})
        while not Path("go").exists():
            time.sleep(0.02)
"""


@WIDTHS
@pytest.mark.parametrize("jobs", [6, 1000])
def test_live_table(columns: int, jobs: int, work: Path, terminal: Open) -> None:
    store = kept(STEM + "_sweep1", [F, *[R] * 3, *[S] * (jobs - 6), U, U])
    screen = terminal(sys.executable, "-c", textwrap.dedent(LIVE), str(store.path), columns=columns, lines=20)
    shown = screen.shows(r"3 running, 2 waiting, 1 failed[^\x00]*on\s+SlurmExecutor\n")
    rows = sum(line.startswith(("FAILED", "RUNNING", "SUCC", "UNSUB")) for line in shown.splitlines())
    told = re.search(r"\((\d+)\s+of\s+1000\s+shown\)", shown)
    assert rows == (int(told[1]) if told else jobs)
    same_as_captured(f"live-of-{jobs}-{columns}", shown)
    (work / "go").touch()
    assert screen.end().split() == []  # it is drawn over; the status is what stays


SCRIPT = """
    import nemo_run as run
    bar = "while :; do for i in 10 50 99; do printf '%3d%% [=====     ] {long}\\\\r' $i; sleep 0.05; done; done"
    with run.Experiment("interrupted", id="interrupted_20260102_030405", executor=run.LocalExecutor(grace=0.5)) as exp:
        first = exp.add(run.Script(inline=bar), name="{name}", tail_logs={tail})
        exp.add(run.Script(inline="true"), name="after", dependencies=[first])
        exp.run()
"""


@WIDTHS
@pytest.mark.parametrize("answer", ["y", "n"])
def test_ctrl_c(columns: int, answer: str, terminal: Open) -> None:
    code = textwrap.dedent(SCRIPT).format(name=name(1), tail=False, long="x" * 60)
    screen = terminal(sys.executable, "-c", code, columns=columns)
    screen.shows("RUNNING")
    screen.type("\x03")
    screen.shows("Y/n")
    screen.type(f"{answer}\n")
    shown = screen.end()
    assert screen.process.returncode in (130, -2)  # as a shell sees it, in both cases
    run.Experiment.from_title("interrupted").cancel_jobs()
    same_as_captured(f"ctrl-c-{answer}-{columns}", shown)


@WIDTHS
def test_a_progress_bar_does_not_run_into_other_lines(columns: int, terminal: Open) -> None:
    code = textwrap.dedent(SCRIPT).format(name=name(1), tail=True, long="x" * 60)
    screen = terminal(sys.executable, "-c", code, columns=columns)
    screen.shows("RUNNING pretrain")
    shown = screen.shows(r"50% \[=")
    screen.type("\x03")
    screen.shows("Y/n")
    screen.type("y\n")
    screen.end()
    same_as_captured(f"progress-bar-{columns}", shown)


def test_a_progress_bar_in_a_file_is_what_it_was_at_last(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("bar", executor=run.LocalExecutor(), clean_mode=True) as exp:
        exp.add(bash(r"printf '10%%\r50%%\r'; printf '\r100%%\nthen\n20%%\r70%%'"), name="job")
        exp.run()
    capfd.readouterr()
    exp.logs("job")
    assert capfd.readouterr().out == "job/0 100%\njob/0 then\njob/0 70%\n"


@pytest.mark.parametrize("jobs", [5, 60])
def test_many_jobs_are_summed_up_in_a_pipe(jobs: int, capfd: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("many", executor=run.LocalExecutor()) as exp:
        for number in range(jobs):
            exp.add(bash("exit 3" if number == 1 else "true"), name=f"job-{number}")
        exp.run()
    lines = capfd.readouterr().err.splitlines()
    assert sum("FAILED job-1 with exit code 3" in line for line in lines) == 1
    assert any(line.startswith(f"1 failed, {jobs - 1} succeeded") for line in lines)
    assert (len(lines) < 12) == (jobs > 40)
