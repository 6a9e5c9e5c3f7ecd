"""What holds between experiments and engines, whichever engine it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution import registry
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.base import Backend, Capabilities, Submission, backend_class, get_backend, one_by_one
from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.local.backend import LocalBackend
from nemo_run.core.packaging.base import Packager
from nemo_run.errors import EngineUnreachableError, ExecutorError
from tests.support import bash, work as work  # noqa: PLC0414  (a fixture)

ENGINES = sorted(registry.BUILT_IN)
OTHERS = [engine for engine in ENGINES if engine != "local"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_is_a_backend_and_says_what_it_can(engine: str) -> None:
    cls = backend_class(engine)
    assert issubclass(cls, Backend)
    assert cls.name == engine
    assert isinstance(cls.can, Capabilities)


# code of another day


def test_the_plan_of_a_local_task_takes_the_code_of_another_folder(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        (folder / "lib").mkdir(parents=True)
        (folder / "train.py").touch()
    env = {"PYTHONPATH": f"{old}/lib:/elsewhere", "DATA": str(old)}
    spec = {"argv": ["python", "train.py", str(old / "train.py"), "--x"], "env": env, "cwd": str(old)}
    moved = LocalBackend().relocated(Plan("local", "job", "/job", spec), {str(old): str(new)}).spec
    assert moved["argv"] == ["python", str(new / "train.py"), str(new / "train.py"), "--x"]
    assert moved["env"] == {"PYTHONPATH": f"{new}/lib:/elsewhere", "DATA": str(old)}
    assert moved["cwd"] == str(old)


@pytest.mark.parametrize("engine", OTHERS)
def test_the_plan_of_another_engine_stays_as_it_is(engine: str, tmp_path: Path) -> None:
    (tmp_path / "new" / "lib").mkdir(parents=True)
    spec = {"argv": ["/old/lib"], "env": {"PYTHONPATH": "/old/lib"}, "cwd": "/old"}
    plan = Plan(engine, "job", "/job", spec, {"tunnel": {"kind": "local"}} if engine == "slurm" else {})
    backend = get_backend(engine, plan.connection)
    assert backend.relocated(plan, {"/old": str(tmp_path / "new")}) == plan
    backend.close()


# secrets


def test_a_secret_that_was_not_stored_is_asked_for(work: Path) -> None:
    executor = run.LocalExecutor(env_vars={"API_TOKEN": "****", "PLAIN": "****"})
    experiment = run.Experiment("masked", executor=executor)
    experiment.add(bash("true"), name="a")
    with pytest.raises(ExecutorError, match="'a': API_TOKEN stands for a secret that was not stored; give it again"):
        experiment.run()


# who makes a backend, and who closes it


class Counting(LocalBackend):
    made: list[Counting] = []  # noqa: RUF012
    open = True

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)

    def close(self) -> None:
        self.open = False
        super().close()


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[Counting]:
    monkeypatch.setitem(registry.BUILT_IN, "local", f"{__name__}:Counting")
    monkeypatch.setattr(Counting, "made", made := [])
    return made


def test_one_backend_prepares_all_jobs_and_every_backend_is_closed(work: Path, counting: list[Counting]) -> None:
    experiment = run.Experiment("many", executor=run.LocalExecutor(packager=Packager()))
    for number in range(5):
        experiment.add(bash("true"), name=f"job-{number}")
    experiment.dryrun(log=False)
    assert len(counting) == 1
    assert not counting[0].open
    experiment = run.Experiment("many", executor=run.LocalExecutor(packager=Packager()))
    experiment.add(bash("true"), name="job")
    experiment.run()
    experiment.status(return_dict=True)
    assert [backend.open for backend in counting] == [False] * len(counting)


def test_an_executor_and_its_plans_share_a_backend() -> None:
    executor = run.SlurmExecutor(tunnel=run.LocalTunnel(job_dir="/jobs"))
    with Backends() as backends:
        backend = backends.of_executor(executor)
        assert backends.of(Plan("slurm", "job", "/job", {}, executor.connection())) is backend


# submitting


def test_one_attempt_that_cannot_start_does_not_keep_others_from_it() -> None:
    def start(plan: Plan, attempt: int) -> str:
        if attempt == 2:
            raise EngineUnreachableError("down")
        return f"{plan.job_id}/{attempt}"

    submissions = [Submission(Plan("x", "job", "/job", {}), attempt) for attempt in (1, 2, 3)]
    first, second, third = one_by_one(submissions, start)
    assert (first, third) == ("job/1", "job/3")
    assert isinstance(second, EngineUnreachableError)


def test_an_entry_point_that_is_no_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name, value = "odd", "odd:make"

        @staticmethod
        def load() -> Any:
            return object

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Point])
    with pytest.raises(ExecutorError, match=r"odd:make.*subclass of Backend"):
        get_backend("odd")
