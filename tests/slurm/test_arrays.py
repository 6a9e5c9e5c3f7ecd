"""Tasks that are submitted as elements of job arrays, on a real Slurm cluster."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import Command, JobState, Plan, Submission, TaskRequest
from nemo_run.core.execution.slurm import SlurmExecutor, sending
from nemo_run.core.execution.slurm.backend import SlurmBackend
from nemo_run.core.execution.slurm.handle import Handle
from nemo_run.core.packaging.base import Packager
from nemo_run.run.store import ExperimentStore
from nemo_run.run.usage import usage
from tests.services.slurm import SlurmCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


def scripts(*texts: str) -> list[run.Script]:
    return [run.Script(inline=text) for text in texts]


def plans(executor: SlurmExecutor, folder: Path, *texts: str) -> list[Plan]:
    """Plans of tasks that may share an array."""
    found = []
    for number, text in enumerate(texts):
        own, name = executor.clone(), f"t-{number}"
        directory = folder / "e" / name
        directory.mkdir(parents=True, mode=0o700)
        own.assign("e", str(folder / "e"), name, name)
        command = Command(("bash", "-c", text))
        request = TaskRequest("e", name, str(directory), own, command, cwd="/tmp", mapped="many")
        found.append(SlurmBackend(own.tunnel.connection()).render([request])[0])
    return found


@pytest.fixture
def backend(executor: SlurmExecutor) -> SlurmBackend:
    return SlurmBackend(executor.tunnel.connection())


def ends(backend: SlurmBackend, handles: list[str]) -> list[Any]:
    def ended() -> bool:
        return all(status.state.is_final for status in backend.states(handles).values())

    eventually(ended)
    states = backend.states(handles)
    return [states[handle] for handle in handles]


def started(backend: SlurmBackend, of: list[Plan], attempt: int = 1) -> list[str]:
    return [str(answer) for answer in backend.submit([Submission(plan, attempt) for plan in of])]


def test_a_map_is_one_array_and_every_task_has_its_own_end(
    executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with run.Experiment("many", executor=executor) as exp:
        found = exp.map(
            scripts(*(
                f'echo "I am {i}, of array ${{SLURM_ARRAY_JOB_ID-none}}"; echo {i} > "$NEMO_RUN_ARTIFACTS/f"; exit {i}'
                for i in range(4)
            )),
            name="many",
        )  # fmt: skip
        exp.run()
    handles = [Handle.parse(exp.status(return_dict=True)[job]["handle"]).job for job in found.jobs]
    assert len({handle.partition("_")[0] for handle in handles}) == 1
    assert [handle.partition("_")[2] for handle in handles] == ["0", "1", "2", "3"]
    results = [exp.results()[job] for job in found.jobs]
    assert [result.exit_code for result in results] == [0, 1, 2, 3]
    for number, job in enumerate(found.jobs):
        capfdbinary.readouterr()
        exp.logs(job)
        assert f"I am {number}, of array none" in capfdbinary.readouterr().out.decode()
    assert [Path(one.file).read_text() for one in exp.artifacts()] == ["0\n", "1\n", "2\n", "3\n"]
    exp.status()
    assert b"many: 1 of 4 done, 3 failed" in capfdbinary.readouterr().out


def test_functions_give_values_and_take_those_of_others(executor: SlurmExecutor) -> None:
    with run.Experiment("flow", executor=executor) as exp:
        squares = exp.map(pow, [1, 2, 3], [2, 2, 2], name="square")
        exp.map(str, squares.outputs, name="text")
        exp.add(run.Partial(sum, squares.outputs), name="sum")
        exp.run(check=True)
    assert [exp.result(job) for job in squares.jobs] == [1, 4, 9]
    assert exp.result("sum") == 14
    assert exp.result("text-2") == "9"


def test_a_grid_is_one_array(executor: SlurmExecutor) -> None:
    with run.Experiment("grid", executor=executor) as exp:
        sweep = exp.sweep(run.Partial(pow, 0, 1), {"base": [2, 3], "exp": [1, 2]})
        exp.run(check=True)
    status = exp.status(return_dict=True)
    assert len({Handle.parse(status[job]["handle"]).job.partition("_")[0] for job in sweep.jobs}) == 1
    assert max(trial.objective for trial in exp.compare()) == 9


def test_one_task_is_cancelled_and_the_others_go_on(
    executor: SlurmExecutor, backend: SlurmBackend, tmp_path: Path
) -> None:
    handles = started(backend, plans(executor, tmp_path, "exit 3", "sleep 600", "exit 0", "sleep 600", "sleep 600"))
    backend.cancel([handles[0], handles[1], handles[3]])
    assert [status.state for status in ends(backend, [handles[1], handles[3]])] == [JobState.CANCELLED] * 2
    assert ends(backend, [handles[2]])[0].state is JobState.SUCCEEDED
    assert not backend.states(handles)[handles[4]].state.is_final
    backend.cancel(handles)
    assert ends(backend, handles)[4].state is JobState.CANCELLED


def test_only_the_task_that_failed_is_tried_again(executor: SlurmExecutor) -> None:
    executor.retries = 2
    text = 'echo x >> "$NEMO_RUN_ARTIFACTS/tries"; '
    with run.Experiment("retries", executor=executor) as exp:
        found = exp.map(scripts(text, text + '[ "$(wc -l < "$NEMO_RUN_ARTIFACTS/tries")" -eq 3 ]'), name="r")
        exp.run(check=True)
    assert found.jobs == ["r-0", "r-1"]
    assert [Path(one.file).read_text().count("x") for one in exp.artifacts()] == [1, 3]


def test_an_array_without_an_answer_is_found_and_not_repeated(
    executor: SlurmExecutor, backend: SlurmBackend, tmp_path: Path
) -> None:
    of = plans(executor, tmp_path, "sleep 600", "sleep 600", "sleep 600")
    handles = started(backend, of)
    assert [backend.recover(plan, 1) for plan in of] == handles
    leader = shlex.quote(f"{of[0].spec['folder']}/attempts/1")
    owners = " ".join(shlex.quote(f"{plan.spec['folder']}/attempts/1/owner") for plan in of)
    executor.tunnel.run(f"rm {leader}/job_id; touch {leader}/failed; rm -f {owners}")
    assert [backend.recover(plan, 1) for plan in of] == handles
    backend.cancel(handles)


def test_an_array_that_was_never_submitted_never_is(
    executor: SlurmExecutor, backend: SlurmBackend, tmp_path: Path
) -> None:
    of = plans(executor, tmp_path, "true", "true")
    assert [backend.recover(plan, 1) for plan in of] == [None, None]
    answers = backend.submit([Submission(plan, 1) for plan in of])
    assert "submitted before" in str(answers[0])
    assert [status.state for status in ends(backend, started(backend, of, 2))] == [JobState.SUCCEEDED] * 2


def test_what_slurm_has_forgotten_is_in_the_files_of_every_task(
    executor: SlurmExecutor, backend: SlurmBackend, tmp_path: Path
) -> None:
    handles = started(backend, plans(executor, tmp_path, "exit 0", "exit 3"))
    ends(backend, handles)
    forgotten = [str(Handle(f"999999_{number}", Handle.parse(handle).folder)) for number, handle in enumerate(handles)]
    states = SlurmBackend(executor.tunnel.connection()).states(forgotten)
    assert [states[handle].exit_code for handle in forgotten] == [0, 3]


def test_what_sbatch_refuses_is_said_of_every_task(
    executor: SlurmExecutor, backend: SlurmBackend, tmp_path: Path
) -> None:
    executor.partition = "no-such-partition"
    answers = backend.submit([Submission(plan, 1) for plan in plans(executor, tmp_path, "true", "true", "true")])
    assert all("invalid partition" in str(answer).lower() for answer in answers)


def test_a_dry_run_shows_one_script_and_the_names_of_the_others(
    executor: SlurmExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    exp = run.Experiment("dry", executor=executor)
    exp.map(scripts("echo shown", "echo hidden"), name="m")
    exp.dryrun()
    out = capsys.readouterr().out
    assert "element of the job array 'm'" in out
    assert out.count("#SBATCH --job-name") == 1
    assert "# m-1 on SlurmExecutor" in out


def test_elements_share_an_array_where_all_but_their_names_is_equal(tmp_path: Path) -> None:
    executor = SlurmExecutor(tunnel=run.LocalTunnel(job_dir="/jobs"))
    some = [Submission(plan, 1) for plan in plans(executor, tmp_path / "a", *["true"] * 5)]
    executor.mem = "1G"
    other = [Submission(plan, 1) for plan in plans(executor, tmp_path / "b", "true", "true")]
    executor.array = "1-3"
    own = [Submission(plan, 1) for plan in plans(executor, tmp_path / "c", "true", "true")]
    found = sending.elements([*some, *other, *own], 3)
    assert {position: (one.index, one.size) for position, one in found.items()} == {
        0: (0, 3), 1: (1, 3), 2: (2, 3), 3: (0, 2), 4: (1, 2), 5: (0, 2), 6: (1, 2),
    }  # fmt: skip
    assert sending.elements(some, 1) == {}
    assert json.loads(json.dumps(some[0].plan.to_json())) == some[0].plan.to_json()


def test_what_tasks_used_is_told_by_the_accounts(executor: SlurmExecutor) -> None:
    executor.gpus_per_node = 2
    with run.Experiment("used", executor=executor) as exp:
        exp.map(scripts("sleep 3", "sleep 3"), name="u")
        exp.run(check=True)
    store = ExperimentStore(exp.directory)
    definition = store.read_definition()
    eventually(lambda: all(one.accounted for one in usage(store, definition, exp.progress()).values()))
    for one in usage(store, definition, exp.progress()).values():
        assert one.hours >= 2 / 3600
        assert one.gpu_hours == 2 * one.hours


@pytest.fixture
def small_arrays(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A cluster on which an array may have three elements."""
    cluster = SlurmCluster(nodes=1, accounting=False, settings="MaxArraySize=3")
    try:
        cluster.start()
        monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
        yield cluster
    finally:
        cluster.stop()


def test_a_map_over_the_largest_array_is_several_arrays(
    small_arrays: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [f"echo {number} >> {tmp_path}/ran; exit {number // 7}" for number in range(8)]
    with run.Experiment("chunks", executor=SlurmExecutor(packager=Packager(), mem="100M")) as exp:
        found = exp.map(scripts(*texts), name="many")
        exp.run()
    assert [exp.results()[name].exit_code for name in found.jobs] == [0] * 7 + [1]
    assert sorted((tmp_path / "ran").read_text().split()) == list("01234567")
    jobs = [Handle.parse(str(exp.progress()[name].tasks[0].handle)).job.split("_") for name in found.jobs]
    assert [int(index) for _, index in jobs] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert len({array for array, _ in jobs}) == 3
