"""Jobs on a real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from nemo_run import LocalExecutor
from nemo_run.core.tunnel.ssh import free_port
from nemo_run.errors import ExecutorError, RayJobFailedError
from nemo_run.run.ray import RayCluster, RayJob
from tests.ray.clusters import ask, processes_of, record_of, shell_waits_for, wait_for
from tests.support import eventually

pytestmark = pytest.mark.needs("ray")

BOTH_NODES = """
import os, pathlib, ray
ray.init(log_to_driver=False, logging_level="ERROR")

@ray.remote(scheduling_strategy="SPREAD")
def where(barrier):
    ray.get(barrier.arrive.remote())
    return ray.get_runtime_context().get_node_id()

@ray.remote(num_cpus=0)
class Barrier:
    def __init__(self):
        import asyncio
        self.count, self.all = 0, asyncio.Event()
    async def arrive(self):
        self.count += 1
        if self.count == 2:
            self.all.set()
        await self.all.wait()

barrier = Barrier.remote()
print("nodes:", len(set(ray.get([where.options(label_selector={"ray.io/node-id": node["NodeID"]}).remote(barrier)
                                 for node in ray.nodes()]))))
print("files:", sorted(os.listdir()))
print("variables:", os.environ["OF_EXECUTOR"], os.environ["OF_FILE"], os.environ["OF_BOTH"])
"""


def job(name: str, **variables: str) -> RayJob:
    return RayJob(name, LocalExecutor(env_vars=variables), cluster_name="shared")


def test_a_job_uses_both_nodes_with_its_code_and_variables(
    cluster: RayCluster, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "both.py").write_text(BOTH_NODES)
    file = tmp_path / "env.yaml"
    file.write_text("env_vars: {OF_FILE: 2, OF_BOTH: of file}\nexcludes: [hello.txt]\n")
    both = job("both", OF_EXECUTOR="1", OF_BOTH="of executor")
    both.start("python both.py", str(project), str(file))
    both.logs(follow=True)
    assert both.wait()["exit_code"] == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ["nodes: 2", "files: ['.gitignore', 'both.py']", "variables: 1 2 of file"]


def test_a_log_is_followed_while_it_grows(
    cluster: RayCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on = tmp_path / "go-on"
    live = job("live")
    live.start(f"echo first; {shell_waits_for(go_on)}; echo second", "")
    follower = threading.Thread(target=live.logs, kwargs={"follow": True})
    follower.start()
    shown = ""

    def begun() -> bool:
        nonlocal shown
        shown += capsys.readouterr().out
        return "first\n" in shown

    eventually(begun, "the first line is shown")
    assert "\nsecond" not in shown
    go_on.touch()
    follower.join()
    shown += capsys.readouterr().out
    assert [line for line in shown.splitlines() if line in ("first", "second")] == ["first", "second"]


def test_the_exit_code_of_a_failed_job_arrives(cluster: RayCluster) -> None:
    failing = job("failing").start("echo oh no; exit 3", "")
    with pytest.raises(RayJobFailedError, match="exit code 3") as caught:
        failing.wait()
    assert caught.value.exit_code == 3
    assert "oh no" in caught.value.log_tail
    status = failing.status(display=False)
    assert (status["state"], status["exit_code"]) == ("FAILED", 3)
    assert status["started"] <= status["ended"]


def test_a_running_job_is_stopped(cluster: RayCluster, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    endless = job("endless").start(f"touch {begun}; exec sleep 1000.25", "")
    wait_for(begun)
    with pytest.raises(ExecutorError, match="is running already"):
        endless.start("true", "")
    endless.stop(wait=True)
    assert endless.status(display=False)["state"] == "STOPPED"
    eventually(lambda: not _runs("sleep\x001000.25"), "its process has ended")
    endless.stop()  # again, which changes nothing


def _runs(arguments: str) -> bool:
    command = arguments.encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if command in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_the_dashboard_answers_through_a_forwarded_port(cluster: RayCluster) -> None:
    port = free_port()
    cluster.port_forward(port=port)
    assert ask(cluster, "/api/version", port)["ray_version"]
    with pytest.raises(ExecutorError, match=str(port)):
        RayCluster("shared", LocalExecutor()).port_forward(port=port)
    cluster.port_forward(port=port)  # again
    address = cluster.port_forward(port=0)
    assert ask(cluster, "/api/version", int(address.rpartition(":")[2]))["ray_version"]


def test_only_who_has_the_token_is_let_in(cluster: RayCluster) -> None:
    status = cluster.status(display=False)
    assert Path(status["token_file"]).stat().st_mode & 0o077 == 0
    for path in ("/api/version", "/api/jobs/", "/nodes?view=summary"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(status["dashboard"] + path)


def test_another_process_finds_the_cluster_and_its_jobs(cluster: RayCluster, nemorun_home: Path) -> None:
    job("to-find").start("echo found", "").wait()
    code = """
import nemo_run as run
cluster = run.ray.cluster.RayCluster("shared", run.LocalExecutor())
cluster.start()
print(cluster.status(display=False)["nodes_ready"])
run.ray.job.RayJob("to-find", run.LocalExecutor()).logs()
"""
    before = record_of(cluster)
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == "2", done.stderr
    assert "found" in done.stdout.splitlines()
    assert record_of(cluster) == before


def test_nothing_listens_to_other_machines(cluster: RayCluster) -> None:
    inodes = set()
    for pid in processes_of(record_of(cluster)):
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(fd.readlink()))
            except OSError:
                continue
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[index] for index in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in inodes:
                listening.append(local.partition(":")[0])
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert len(listening) > 5
