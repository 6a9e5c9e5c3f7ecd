"""Connections that break on the way to a cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemo_run import LocalExecutor
from nemo_run.core.execution.local.ray_nodes import bearer
from nemo_run.core.ray.engine import Dashboard
from nemo_run.core.ray.jobs_api import JobsApi
from nemo_run.errors import EngineUnreachableError, ExecutorError
from nemo_run.run.ray import RayCluster, RayJob
from tests.ray.clusters import record_of, shell_waits_for
from tests.ray.proxy import FaultyProxy
from tests.support import eventually

pytestmark = pytest.mark.needs("ray")


@pytest.fixture
def proxy(cluster: RayCluster) -> Iterator[FaultyProxy]:
    """The cluster is reached through this."""
    facts = Path(record_of(cluster)["handle"].removeprefix("local://"), "cluster.json")
    before = facts.read_text()
    url = json.loads(before)["dashboard"]
    proxy = FaultyProxy(int(url.rpartition(":")[2]))
    facts.write_text(before.replace(url, proxy.url))
    yield proxy
    facts.write_text(before)
    proxy.close()


def cutting(request: str, *after: int) -> Callable[[str], int | None]:
    """Cut the answers to the first requests of a kind, each after so many bytes."""
    left = list(after)

    def cut(seen: str) -> int | None:
        return left.pop(0) if request in seen and left else None

    return cut


def test_a_job_whose_submission_was_cut_is_submitted_once(proxy: FaultyProxy, tmp_path: Path) -> None:
    proxy.cut = cutting("POST /api/jobs/", 0)
    ran = tmp_path / "ran"
    RayJob("cut", LocalExecutor(), cluster_name="shared").start(f"echo x >> {ran}", "").wait()
    assert ran.read_text() == "x\n"
    assert proxy.seen.count("POST /api/jobs/") == 1  # the answer to the question whether it is there says so


def test_a_job_that_another_try_has_submitted_is_not_refused(cluster: RayCluster, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with get_api(cluster) as api:
        for _ in range(2):
            api.submit(f"echo x >> {ran}", "twice-1", {}, {})
        with pytest.raises(ExecutorError, match="refused"):
            api.submit(5, "bad-1", {}, {})  # type: ignore[arg-type]
        eventually(lambda: (api.details("twice-1") or {})["status"] == "SUCCEEDED", "the job has ended")
    assert ran.read_text() == "x\n"


def get_api(cluster: RayCluster) -> JobsApi:
    status = cluster.status(display=False)
    return JobsApi(Dashboard(status["dashboard"], bearer(Path(status["token_file"]))))


def test_a_log_goes_on_after_each_break(proxy: FaultyProxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go_on = tmp_path / "go-on"
    proxy.cut = cutting("/logs/tail", 1000, 2000, 3001, 0, 4003)
    command = f"for i in $(seq 400); do echo line $i ünïcödé; done; {shell_waits_for(go_on)}; echo end"
    long = RayJob("long", LocalExecutor(), cluster_name="shared").start(command, "")
    follower = threading.Thread(target=long.logs, kwargs={"follow": True, "lines": 1000})
    follower.start()
    eventually(lambda: len([line for line in proxy.seen if "/logs/tail" in line]) > 5, "five breaks are over")
    go_on.touch()
    follower.join()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("ünïcödé")] == [f"line {i} ünïcödé" for i in range(1, 401)]
    assert lines[-1] == "end"


def test_code_is_sent_once(proxy: FaultyProxy, project: Path) -> None:
    (project / "unique.txt").write_text(str(project))
    for name in ("once", "once-more"):
        RayJob(name, LocalExecutor(), cluster_name="shared").start("cat unique.txt", str(project)).wait()
    assert len([line for line in proxy.seen if line.startswith("PUT /api/packages/gcs/_ray_pkg_")]) == 1


def test_a_cluster_that_does_not_answer_is_no_ended_job(proxy: FaultyProxy) -> None:
    seen = RayJob("seen", LocalExecutor(), cluster_name="shared").start("echo it ended", "")
    seen.wait()
    job = RayJob("unreachable", LocalExecutor(), cluster_name="shared").start("true", "")
    proxy.cut = lambda _: 0
    with pytest.raises(EngineUnreachableError):
        job.status()
    assert seen.status(display=False)["state"] == "SUCCEEDED"  # what was seen stays true


def test_waiting_survives_an_outage(proxy: FaultyProxy, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    job = RayJob("outage", LocalExecutor(), cluster_name="shared").start(shell_waits_for(go_on), "")
    ends: list[str] = []
    waiter = threading.Thread(target=lambda: ends.append(job.wait()["state"]))
    waiter.start()
    proxy.cut = lambda _: 0
    before = len(proxy.seen)
    eventually(lambda: len(proxy.seen) > before + 6, "a question was given up, and asked again")
    proxy.cut = lambda _: None
    go_on.touch()
    waiter.join()
    assert ends == ["SUCCEEDED"]
