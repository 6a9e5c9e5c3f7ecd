"""What existing code does with the jobs of an experiment, beside launching them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nemo_run as run
from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer
from nemo_run.core.tunnel import LocalTunnel, SSHTunnel
from nemo_run.run.job import AppState, Job, JobGroup


def test_a_job_is_stored_apart_from_its_task() -> None:
    job = Job("train", run.Partial(complex, real=1), run.LocalExecutor(nodes=2), name="train")
    stored, task = map(ZlibJSONSerializer().deserialize, job.serialize())
    assert task == run.Partial(complex, real=1)
    assert (stored.id, stored.task, stored.executor.nodes) == ("train", None, 2)


def test_a_group_is_stored_apart_from_its_tasks() -> None:
    tasks = [run.Partial(complex, real=1), run.Partial(complex, imag=2)]
    stored, again = map(ZlibJSONSerializer().deserialize, JobGroup("g", tasks, run.LocalExecutor()).serialize())
    assert (stored.id, stored.tasks) == ("g", [None, None])
    assert again == tasks


@dataclass(kw_only=True)
class TidyExecutor(run.LocalExecutor):
    tidied: list[str] = field(default_factory=list)

    def cleanup(self, handle: str) -> None:
        self.tidied.append(handle)


def test_executors_tidy_up_when_a_job_has_ended() -> None:
    executor = TidyExecutor()
    job = Job("a", run.Script(inline="true"), executor)
    job.cleanup()
    job.handle, job.state = "local://a", AppState.RUNNING
    job.cleanup()
    assert executor.tidied == []
    job.state = AppState.SUCCEEDED
    job.cleanup()
    assert executor.tidied == ["local://a"]


def test_an_experiment_knows_the_tunnels_of_its_jobs(tmp_path: Path) -> None:
    here = run.SlurmExecutor(tunnel=LocalTunnel(job_dir=str(tmp_path)))
    there = run.SlurmExecutor(tunnel=SSHTunnel(host="login", user="me", job_dir="/jobs"))
    exp = run.Experiment("tunnels")
    for name, executor in {"a": here, "b": there, "c": there, "d": run.LocalExecutor()}.items():
        exp.add(run.Script(inline="true"), executor=executor, name=name)
    assert exp.tunnels.keys() == {here.tunnel.key, there.tunnel.key}
    assert exp.tunnels[there.tunnel.key].job_dir == "/jobs"
