"""DGX Cloud: whole experiments, on a service that really runs what it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_run.config import Partial, Script
from nemo_run.core.execution.base import JobState
from nemo_run.core.packaging.pattern import PatternPackager
from nemo_run.errors import ExecutorError, JobFailedError
from nemo_run.run.experiment import Experiment
from tests.dgxcloud import server
from tests.dgxcloud.executors import make_executor
from tests.support import bash, eventually, states

pytestmark = pytest.mark.needs("pods")

both_ways = pytest.mark.parametrize("mounted", [False, True], ids=["from outside", "from the cluster"])


ADD = "open(__import__('os').environ['NEMO_RUN_ARTIFACTS'] + '/sum.txt', 'w').write(str(1 + 2)); print('the sum is', 3)"


def log_of(experiment: Experiment, job: str, capsys: pytest.CaptureFixture[str], **options: object) -> str:
    capsys.readouterr()
    experiment.logs(job, **options)  # type: ignore[arg-type]
    return capsys.readouterr().out


@both_ways
def test_a_function_its_log_and_its_artifacts(
    mounted: bool, service: server.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with Experiment("function", executor=make_executor(mounted=mounted)) as experiment:
        experiment.add(Partial(subprocess.run, ["python3", "-c", ADD], check=True), name="add")
        experiment.run(detach=False)
    assert states(experiment) == {"add": "SUCCEEDED"}
    service.end_all()  # all that there is to know is here
    assert "the sum is 3" in log_of(experiment, "add", capsys)
    [artifact] = experiment.artifacts("add")
    assert (artifact.path, Path(artifact.file).read_text()) == ("sum.txt", "3")


@both_ways
def test_files_that_match_are_brought(mounted: bool, work: Path) -> None:
    (work / "data.txt").write_text("packaged\n")
    executor = make_executor(
        mounted=mounted, packager=PatternPackager(include_pattern="*.txt", relative_path=str(work))
    )
    with Experiment("patterns", executor=executor) as experiment:
        experiment.add(
            bash("cat data.txt; mkdir -p 'out put'; echo 1 > 'out put/a 1.bin'; echo 2 > b.log"),
            name="task",
            artifacts=["**/*.bin"],
        )
        experiment.run()
    assert [artifact.path for artifact in experiment.artifacts("task")] == ["out put/a 1.bin"]


def test_large_artifacts_come_in_pieces(monkeypatch: pytest.MonkeyPatch, service: server.Server) -> None:
    with Experiment("large", executor=make_executor()) as experiment:
        experiment.add(bash("head -c 9000000 /dev/urandom > $NEMO_RUN_ARTIFACTS/x; sha256sum < $NEMO_RUN_ARTIFACTS/x"))
        experiment.run()
    [artifact] = experiment.artifacts()
    assert artifact.size == 9_000_000
    sent = service.bodies("workspaces")
    assert len([body for body in sent if "tail -c +" in body["spec"]["args"]]) == 2
    assert service.named("workspaces") == []


def test_code_is_sent_once(service: server.Server, work: Path) -> None:
    (work / "noise.bin").write_bytes(os.urandom(30_000))
    (work / "hello.py").write_text("print('hello from the package')\n")
    packager = PatternPackager(include_pattern=["*.py", "*.bin"], relative_path=str(work))

    def launch(title: str) -> list[str]:
        service.requests.clear()
        with Experiment(title, executor=make_executor(packager=packager)) as experiment:
            experiment.add(bash("python3 hello.py; test $(stat -c %s noise.bin) = 30000"), name="a")
            experiment.add(bash("python3 hello.py"), name="b")
            experiment.run()
        assert set(states(experiment).values()) == {"SUCCEEDED"}
        return [body["spec"]["args"] for body in service.bodies("workspaces")]

    first, second = launch("first"), launch("second")
    assert len([args for args in first if ".0000" in args]) >= 5
    assert not [args for args in second if "echo " in args and "base64 -d > " in args]


RANKS = """\
echo "rank $GROUP_RANK of $(hostname)"
[ "$GROUP_RANK" = 1 ] || exec sleep 300
until grep -q rank ../attempts/1/log && grep -q rank ../attempts/1/log.2; do sleep 0.05; done
exit 4
"""


@both_ways
def test_several_nodes(mounted: bool, service: server.Server, capsys: pytest.CaptureFixture[str]) -> None:
    executor = make_executor(mounted=mounted, nodes=3)
    with Experiment("nodes", executor=executor) as experiment:
        experiment.add(bash(RANKS), name="all")
        experiment.run()
    [name] = service.named("distributed")
    log = log_of(experiment, "all", capsys)
    assert all(f"rank {rank} of {name}-worker-{rank}\n" in log for rank in range(3))
    assert log_of(experiment, "all", capsys, rank=2).split("/2 ")[-1] == f"rank 2 of {name}-worker-2\n"
    status = experiment.status(return_dict=True)["all"]  # type: ignore[index]
    assert (str(status["status"]), status["exit_code"]) == ("FAILED", 4)


@pytest.mark.needs("torch")
def test_torchrun_over_two_nodes(service: server.Server, capsys: pytest.CaptureFixture[str], work: Path) -> None:
    (work / "train.py").write_text(
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "print(f'rank {dist.get_rank()} of {dist.get_world_size()}')\n"
        "dist.barrier()\n"
        "dist.destroy_process_group()\n"
    )
    folder = Path(sys.executable).parent
    service.environment = {"PATH": f"{folder}:/usr/sbin:/usr/bin:/bin", "GLOO_SOCKET_IFNAME": "lo"}
    packager = PatternPackager(include_pattern="*.py", relative_path=str(work))
    executor = make_executor(nodes=2, nprocs_per_node=2, launcher="torchrun", mounted=True, packager=packager)
    with Experiment("torchrun", executor=executor) as experiment:
        experiment.add(Script("train.py", entrypoint="python"), name="train")
        experiment.run()
    service.environment = {}
    log = log_of(experiment, "train", capsys)
    assert states(experiment) == {"train": "SUCCEEDED"}, log
    assert all(f"rank {rank} of 4" in log for rank in range(4)), log


def test_retries_are_workloads_of_their_own(service: server.Server) -> None:
    executor = make_executor(mounted=True, retries=1, retry_delay=0.01)
    with Experiment("retries", executor=executor) as experiment:
        experiment.add(bash("exit $(($NEMO_RUN_ATTEMPT == 1 ? 3 : 0))"), name="again")
        experiment.run()
    assert states(experiment) == {"again": "SUCCEEDED"}
    assert [name.rpartition("-")[2] for name in service.named("trainings")] == ["1", "2"]


# why


@pytest.mark.parametrize(
    ("options", "state", "reason"),
    [
        ({"gpus_per_node": 9}, JobState.PENDING, "9 GPUs requested"),
        ({"container_image": "no/such:image"}, JobState.PENDING, "ImagePullBackOff"),
    ],
)
def test_why_it_does_not_start(
    options: dict[str, object], state: JobState, reason: str, service: server.Server
) -> None:
    with Experiment("waits", executor=make_executor(mounted=True, **options)) as experiment:
        experiment.add(bash("true"), name="task")
        experiment.run(detach=True)
        entry = eventually(lambda: _entry(experiment, lambda e: reason in e["reason"]))
        assert entry["status"] == state
        experiment.cancel("task")
        eventually(lambda: states(experiment) == {"task": "CANCELLED"})


def _entry(experiment: Experiment, condition: object) -> dict[str, object]:
    entry = experiment.status(return_dict=True)["task"]  # type: ignore[index]
    return entry if condition(entry) else {}  # type: ignore[operator]


def running(service: server.Server) -> server.Workload | None:
    """The workload that runs a task; those that move files are workspaces."""
    return next((w for w in service.workloads.values() if w.phase == "Running" and w.kind != "workspaces"), None)


def test_out_of_memory_is_told(service: server.Server) -> None:
    with Experiment("memory", executor=make_executor()) as experiment:
        experiment.add(bash("sleep 300"), name="task")
        experiment.run(detach=True)
        workload = eventually(lambda: running(service))
        workload.pods[0].out_of_memory = True
        workload.pods[0].kill()
        eventually(lambda: states(experiment) == {"task": "FAILED"})
    entry = experiment.status(return_dict=True)["task"]  # type: ignore[index]
    assert (entry["exit_code"], entry["reason"].partition(":")[0]) == (137, "out of memory")


@both_ways
@pytest.mark.parametrize(
    ("what", "state", "reason"),
    [("suspend", "CANCELLED", "stopped by somebody else"), ("delete", "FAILED", "deleted by somebody else")],
)
def test_what_others_do(mounted: bool, what: str, state: str, reason: str, service: server.Server) -> None:
    with Experiment("others", executor=make_executor(mounted=mounted)) as experiment:
        experiment.add(bash("sleep 300"), name="task")
        experiment.run(detach=True)
        workload = eventually(lambda: running(service))
        getattr(service, what)(workload)
        eventually(lambda: states(experiment) == {"task": state})
    assert reason in experiment.status(return_dict=True)["task"]["reason"]  # type: ignore[index]


# secrets


@both_ways
def test_the_secret_of_the_client_is_in_one_file_only(
    mounted: bool, service: server.Server, nemorun_home: Path
) -> None:
    with Experiment("secret", executor=make_executor(mounted=mounted)) as experiment:
        experiment.add(bash("env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; true"), name="task")
        experiment.run()
    kept = nemorun_home / "credentials" / "dgxcloud.json"
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    places = [path for folder in (nemorun_home, service.folder) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in places if server.SECRET.encode() in path.read_bytes()] == [kept]
    assert {path for _, path, body in service.requests if server.SECRET in str(body)} == {"/api/v1/token"}


def test_a_later_process_finds_the_secret(
    service: server.Server, monkeypatch: pytest.MonkeyPatch, nemorun_home: Path
) -> None:
    with Experiment("later", executor=make_executor(mounted=True)) as experiment:
        experiment.add(bash("echo hello"), name="task")
        experiment.run()
    again = Experiment.from_id(experiment.id)
    rerun = again.reset()
    with rerun:
        rerun.run()
    assert states(rerun) == {"task": "SUCCEEDED"}
    (nemorun_home / "credentials" / "dgxcloud.json").unlink()
    with pytest.raises(ExecutorError, match="DGXCLOUD_CLIENT_SECRET"), make_without_secret() as nameless:
        nameless.run()
    monkeypatch.setenv("DGXCLOUD_CLIENT_SECRET", server.SECRET)
    with make_without_secret() as named:
        named.run()


def make_without_secret() -> Experiment:
    experiment = Experiment("no-secret", executor=make_executor(mounted=True, client_secret=""))
    experiment.add(bash("true"), name="task")
    return experiment


def test_a_wrong_secret_is_told_before_anything_starts(service: server.Server) -> None:
    experiment = Experiment("wrong", executor=make_executor(mounted=True, client_secret="wr0ng-s3cret"))
    experiment.add(bash("true"), name="task")
    with pytest.raises(ExecutorError, match="client_secret") as caught, experiment:
        experiment.run()
    assert "wr0ng" not in str(caught.value)
    assert service.workloads == {}


def test_a_project_that_is_not_there_is_told(service: server.Server) -> None:
    experiment = Experiment("project", executor=make_executor(mounted=True, project_name="tame"))
    experiment.add(bash("true"), name="task")
    with pytest.raises(ExecutorError, match=r"no project 'tame'.*other, team"), experiment:
        experiment.run()


def test_a_failure_is_told(service: server.Server) -> None:
    experiment = Experiment("fails", executor=make_executor())
    experiment.add(bash("echo why it failed; exit 9"), name="task")
    with experiment:
        experiment.run()
    with pytest.raises(JobFailedError, match=r"exit code 9[\s\S]*why it failed"):
        experiment.raise_for_failure()
