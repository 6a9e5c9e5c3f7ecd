"""DGX Cloud: what is sent, by the service's own models; what an executor must be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import Command, JobState, TaskRequest
from nemo_run.core.execution.dgxcloud import DGXCloudExecutor, DGXCloudState, spec as bodies
from nemo_run.core.execution.shared.service_names import service_name
from nemo_run.core.execution.shared.shipping import Package
from nemo_run.errors import ExecutorError
from tests.dgxcloud import server
from tests.dgxcloud.executors import make_executor
from tests.support import eventually

RUNAPY = "runapy==1.224.*"


@pytest.fixture(scope="session")
def runapy() -> str:
    """A Python that has the service's own client; its dependencies do not go with ours."""
    folder = Path("~/.cache/nemo-run-tests/runapy").expanduser()
    python = folder / "bin" / "python"
    has = [str(python), "-c", "import runai.models"]
    if not python.exists() or subprocess.run(has, capture_output=True, check=False).returncode:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", RUNAPY], check=True)
    return str(python)


CASES: list[dict[str, Any]] = [
    {},
    {"gpus_per_node": 8, "env_vars": {"A": "1", "HF_TOKEN": "x y $z"}},
    {"nodes": 4, "gpus_per_node": 8, "launcher": "torchrun"},
    {"nodes": 2, "distributed_framework": "MPI"},
    {
        "custom_spec": {
            "priorityClass": "train",
            "nodePools": ["a100"],
            "environmentVariables": [{"name": "KEY", "secret": {"name": "team-keys", "key": "wandb"}}],
            "terminationGracePeriodSeconds": 60,
        }
    },
]


def test_bodies_are_as_the_models_of_the_service_say(runapy: str, tmp_path: Path) -> None:
    project = {"id": "4501", "clusterId": "cluster-1"}
    package = Package.of("run", b"x" * 500, ".sh")
    helper = bodies.helper("nemo-run-data-1", project, [server.CLAIM], bodies.put("/workspace/.packages", package))
    sent = [(bodies.WORKSPACES, helper)]
    for options in CASES:
        executor = make_executor(**options)
        executor.check()
        request = TaskRequest(
            "e_1", "job", str(tmp_path), executor, Command(("python", "x.py", "a b"), {**executor.env_vars, "B": "2"})
        )
        spec = bodies.job_spec(executor, request, "/workspace/nemo_run/e_1/job")
        command, args = bodies.run_command("/workspace/run.sh", 1)
        name = service_name("job", str(tmp_path), 1, bodies.LONGEST_NAME)
        sent.append((spec["kind"], bodies.creation(name, project, spec["workload"], command, args, spec["env"])))
    check = Path(__file__).with_name("runapy_check.py")
    done = subprocess.run([runapy, str(check)], input=json.dumps(sent), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[]] * len(sent)


def test_a_large_package_is_sent_in_pieces_that_are_short_enough() -> None:
    package = Package.of("code", bytes(range(256)) * 400, ".tar.gz")
    pieces = bodies.pieces("/workspace/.packages", package, 9500)
    assert max(map(len, [*pieces, bodies.join("/workspace/.packages", package)])) <= 9500
    assert min(map(len, pieces[:-1])) > 9400
    assert not any("'" in piece or "$$" in piece or "$(" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("Creating", JobState.SUBMITTED),
        ("Initializing", JobState.PENDING),
        ("Resuming", JobState.PENDING),
        ("Pending", JobState.PENDING),
        ("Running", JobState.RUNNING),
        ("Updating", JobState.RUNNING),
        ("Degraded", JobState.RUNNING),
        ("Stopping", JobState.RUNNING),
        ("Terminating", JobState.RUNNING),
        ("Deleting", JobState.RUNNING),
        ("Stopped", JobState.CANCELLED),
        ("Failed", JobState.FAILED),
        ("Completed", JobState.SUCCEEDED),
        ("Unknown", JobState.UNKNOWN),
        ("SomethingNew", JobState.UNKNOWN),
    ],
)
def test_phases(phase: str, state: JobState) -> None:
    assert bodies.phase_state({"phase": phase})[0] is state
    assert bodies.phase_state({"actualPhase": phase})[0] is state


def test_reasons() -> None:
    workload = {"phase": "Pending", "phaseReason": "OverLimit", "phaseMessage": "no GPUs left"}
    assert bodies.phase_state(workload)[1] == "OverLimit: no GPUs left"
    assert {phase.value for phase in DGXCloudState} >= set(bodies.PHASES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "mycloud.example"}, "base_url"),
        ({"kube_apiserver_url": "cluster:6443"}, "kube_apiserver_url"),
        ({"container_image": "two words"}, "container_image"),
        ({"container_image": ""}, "container_image"),
        ({"nodes": 0}, "nodes must be at least 1, but is 0"),
        ({"gpus_per_node": -1}, "gpus_per_node must be at least 0, but is -1"),
        ({"MAX_ARGS_CHARS": 20_000}, "MAX_ARGS_CHARS"),
        ({"custom_spec": {"a": {1}}}, "custom_spec"),
        ({"pvcs": [{"path": Path("/workspace")}]}, "pvcs"),
        ({"pvcs": []}, "none of the volumes"),
        ({"pvc_nemo_run_dir": "/elsewhere/nemo_run"}, "none of the volumes"),
        ({"pvc_nemo_run_dir": "/workspaces/nemo_run"}, "none of the volumes"),
        ({"pvc_nemo_run_dir": "/workspace/a b"}, "plain characters"),
        ({"pvc_nemo_run_dir": "/workspace/$(id)"}, "plain characters"),
        ({"pvc_nemo_run_dir": "workspace"}, "plain characters"),
        ({"env_vars": {"A-B": "1"}}, "env_vars"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExecutorError, match=message):
        make_executor(**options).check()


def test_an_executor_does_not_show_its_secret() -> None:
    assert server.SECRET not in repr(make_executor())
    assert server.SECRET not in json.dumps(make_executor().connection())


@pytest.mark.parametrize(("gpus", "processes", "expected"), [(0, 1, 1), (8, 1, 8), (8, 4, 8), (0, 4, 4), (0, 0, 1)])
def test_processes_per_node(gpus: int, processes: int, expected: int) -> None:
    assert make_executor(gpus_per_node=gpus, nprocs_per_node=processes).nproc_per_node() == expected


def test_what_every_job_is_told_of_its_folder(tmp_path: Path, nemorun_home: Path) -> None:
    executor = make_executor()
    executor.assign("title_1", str(nemorun_home / "experiments" / "title" / "title_1"), "train", "train")
    assert executor.pvc_job_dir == "/workspace/nemo_run/experiments/title/title_1/train"
    with pytest.raises(ExecutorError, match="none of the volumes"):
        make_executor(pvcs=[]).assign("title_1", str(tmp_path), "train", "train")


# without an experiment


@pytest.mark.needs("pods")
class TestDirectUse:
    @pytest.fixture
    def executor(self, tmp_path: Path) -> DGXCloudExecutor:
        executor = make_executor()
        executor.assign("title_1", str(tmp_path / "title_1"), "train", "train")
        Path(executor.job_dir).mkdir(parents=True)
        return executor

    def test_launching_and_watching(self, executor: DGXCloudExecutor, service: server.Server) -> None:
        Path(executor.job_dir, "hello.sh").write_text(
            "for i in 1 2 3; do echo $i; sleep 0.2; done; echo 'a  b' \"$1\"\n"
        )
        job, phase = executor.launch("My_job.v1", ["bash", f"{executor.job_dir}/hello.sh", "two words"])
        assert phase in {state.value for state in DGXCloudState}
        assert "".join(executor.fetch_logs(job, stream=True)) == "1\n2\n3\na  b two words\n"
        eventually(lambda: executor.status(job) is DGXCloudState.COMPLETED)
        assert "".join(executor.fetch_logs(job, stream=False)).endswith("two words\n")
        [name] = service.named("trainings")
        assert name.startswith("my-job-v1")
        assert executor.status("no-such-id") is None

    def test_cancelling(self, executor: DGXCloudExecutor) -> None:
        job, _ = executor.launch("sleeper", ["sleep", "300"])
        eventually(lambda: executor.status(job) is DGXCloudState.RUNNING)
        executor.cancel(job)
        eventually(lambda: executor.status(job) is DGXCloudState.STOPPED)

    def test_identity(self, executor: DGXCloudExecutor, service: server.Server) -> None:
        assert executor.get_auth_token() in service.tokens
        assert executor.get_project_and_cluster_id("") == ("4501", "cluster-1")

    def test_a_script_on_the_volume(self, executor: DGXCloudExecutor, service: server.Server) -> None:
        executor.deploy_script_to_pvc("#!/bin/sh\necho hello\n", "/workspace/scripts/hello.sh")
        script = service.volume / "scripts" / "hello.sh"
        assert subprocess.run([script], capture_output=True, check=True).stdout == b"hello\n"

    def test_copying_a_folder(self, executor: DGXCloudExecutor, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        (source / "a b").write_text("content")
        command = executor.copy_directory_data_command(str(source), str(tmp_path / "the copy"))
        subprocess.run(["sh", "-c", command], check=True)
        assert (tmp_path / "the copy" / "a b").read_text() == "content"

    def test_deleting_a_helper(self, executor: DGXCloudExecutor, service: server.Server) -> None:
        project = {"id": "4501", "clusterId": "cluster-1"}
        service.create("workspaces", bodies.helper("helper", project, [server.CLAIM], "sleep 300"))
        [workload] = service.workloads.values()
        executor.delete_workload("", workload.id)
        assert service.workloads == {}
