"""Experiments on a real Slurm cluster: through SSH as an ordinary user, and from a machine of the cluster."""

from __future__ import annotations

import copy
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor, get_packaging_job_key
from nemo_run.core.execution.slurm.backend import SlurmBackend
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.core.tunnel.client import LocalTunnel, SSHTunnel
from nemo_run.errors import ExecutorError
from tests.services.slurm import USER, SlurmCluster
from tests.services.sshd import Sshd
from tests.slurm import training
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


def script(text: str, **options: Any) -> run.Script:
    return run.Script(inline=text, **options)


def launch(experiment: run.Experiment, **options: Any) -> dict[str, Any]:
    with experiment:
        experiment.run(**options)
    return experiment.results()


def log_of(experiment: run.Experiment, job: str, capfdbinary: pytest.CaptureFixture[bytes], **options: Any) -> bytes:
    capfdbinary.readouterr()
    experiment.logs(job, **options)
    return capfdbinary.readouterr().out


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with code of the user, in which the test works."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "slurm_work.py").write_text(
        "import os, pathlib\n"
        "def train(steps: int = 1, name: str = ''):\n"
        "    print('trained', steps, repr(name), sorted(os.listdir('.'))[:3], os.path.basename(os.getcwd()))\n"
        "    pathlib.Path(os.environ['NEMO_RUN_ARTIFACTS'], 'model.txt').write_text(f'{steps} steps')\n"
        "    pathlib.Path('out').mkdir()\n"
        "    pathlib.Path('out/metrics.json').write_text('{}')\n"
    )
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder / "src"))
    yield folder
    sys.modules.pop("slurm_work", None)


@pytest.fixture(params=["ssh", "here"])
def either(request: pytest.FixtureRequest, executor: SlurmExecutor, here: LocalTunnel) -> SlurmExecutor:
    if request.param == "here":
        executor.tunnel = here
    return executor


def test_a_function_with_packaged_code(
    either: SlurmExecutor, project: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from slurm_work import train  # type: ignore[import-not-found]

    either.packager = GitArchivePackager()
    experiment = run.Experiment("function", executor=either, clean_mode=True)
    experiment.add(run.Partial(train, steps=3, name="it's $HOME"), name="train", artifacts=["out/*.json"])
    results = launch(experiment)
    assert results["train"].ok, results
    assert b"trained 3 \"it's $HOME\" ['src'] code" in log_of(experiment, "train", capfdbinary)
    copies = {artifact.path: artifact for artifact in experiment.artifacts()}
    assert set(copies) == {"model.txt", "out/metrics.json"}
    assert Path(copies["model.txt"].file).read_text() == "3 steps"


def test_code_is_sent_once(executor: SlurmExecutor, project: Path, jobs_folder: Path) -> None:
    executor.packager = GitArchivePackager()
    for _ in range(2):
        experiment = run.Experiment("packages", executor=executor, clean_mode=True)
        for i in range(2):
            experiment.add(
                script("test -e src/slurm_work.py && echo x >> src/slurm_work.py; cat src/slurm_work.py"), name=f"j{i}"
            )
        launch(experiment)
    base = Path(executor.tunnel.job_dir)
    packages = [path for path in (base / ".packages").iterdir() if path.is_dir()]
    assert len(packages) == 1
    assert "x\n" not in (packages[0] / "src" / "slurm_work.py").read_text().splitlines(keepends=True)
    assert len(list(base.glob("packages/*/*/code/src/slurm_work.py"))) == 4


def test_code_that_lies_on_the_cluster_is_found_and_linked_to(
    executor: SlurmExecutor, project: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    executor.packager = GitArchivePackager()
    first = run.Experiment("first", executor=executor, clean_mode=True)
    first.add(script("ls src"), name="nemo-run")
    first.add(script("true"), name="other")
    assert launch(first)["nemo-run"].ok
    (project / "src" / "slurm_work.py").unlink()

    for past in (first, run.Experiment.from_title("first")):  # as it was held, and as it is stored
        jobs = past.tunnels[executor.tunnel.key].packaging_jobs
        folder = jobs[get_packaging_job_key(past._id, "nemo-run")].dst_path
        assert Path(folder, "src", "slurm_work.py").is_file()
        again = copy.deepcopy(executor)
        again.packager = GitArchivePackager(symlink_from_remote_dir=folder)
        second = run.Experiment("second", executor=again, clean_mode=True)
        second.add(script("ls src"), name="nemo-run")
        assert launch(second)["nemo-run"].ok
        assert b"slurm_work.py" in log_of(second, "nemo-run", capfdbinary)


def test_nothing_on_the_cluster_is_for_others(executor: SlurmExecutor) -> None:
    executor.env_vars = {"MY_TOKEN": "s3cr3t"}
    experiment = run.Experiment("modes", executor=executor, clean_mode=True)
    experiment.add(script('test "$MY_TOKEN" = s3cr3t'), name="a")
    experiment.add(script('umask > "$NEMO_RUN_ARTIFACTS/mask"'), name="b")
    assert launch(experiment)["a"].ok
    (mask,) = experiment.artifacts()
    assert Path(mask.file).read_text() == "0022\n", "it is the user's own"
    base = Path(executor.tunnel.job_dir)
    open_paths = [
        path
        for path in base.rglob("*")
        if path.name != "mask" and not path.is_symlink() and path.stat().st_mode & 0o077
    ]
    assert [path for path in open_paths if not path.name.startswith("sbatch_")] == []
    assert base.stat().st_mode & 0o077 == 0
    scripts = "".join(path.read_text() for path in base.rglob("job.sh"))
    assert "s3cr3t" not in scripts
    assert "set -x" not in scripts


def test_gpus_of_every_rank(executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    executor.nodes, executor.ntasks_per_node, executor.gpus_per_task = 4, 8, 1
    experiment = run.Experiment("gpus", executor=executor, clean_mode=True)
    experiment.add(script('echo "$SLURM_PROCID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"'), name="gpus")
    assert launch(experiment)["gpus"].ok
    lines = sorted(log_of(experiment, "gpus", capfdbinary).decode().splitlines(), key=lambda line: int(line.split()[1]))
    ranks = [line.split(" ", 1)[1].split() for line in lines]
    assert [(rank, node) for rank, node, _ in ranks] == [(str(i), f"node{i // 8 + 1}") for i in range(32)]
    assert [sorted(gpu for _, node, gpu in ranks if node == f"node{n}") for n in range(1, 5)] == [list("01234567")] * 4
    assert log_of(experiment, "gpus", capfdbinary, rank=17).decode().split()[1:] == ranks[17]


def test_array(executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    executor.array = "0-49"
    experiment = run.Experiment("array", executor=executor, clean_mode=True)
    experiment.add(script('echo "task $SLURM_ARRAY_TASK_ID"; [ "$SLURM_ARRAY_TASK_ID" -ne 7 ]'), name="array")
    result = launch(experiment)["array"]
    assert (result.state, result.exit_code) == (run.JobState.FAILED, 1)
    assert "1 of the 50 tasks of the array failed: 7" in result.reason
    lines = re.findall(rb"array/(\d+) task (\d+)\n", log_of(experiment, "array", capfdbinary))
    assert sorted((int(label), int(task)) for label, task in lines) == [(i, i) for i in range(50)]
    assert log_of(experiment, "array", capfdbinary, rank=33).endswith(b"task 33\n")


def test_group_in_one_allocation(executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    experiment = run.Experiment("group", executor=executor, clean_mode=True)
    members = [
        script(f'echo "member {i} $SLURM_JOB_ID $SLURM_STEP_ID"; sleep 1', env={"WHO": str(i)}) for i in range(2)
    ]
    experiment.add(members, name="pair")
    assert launch(experiment)["pair"].ok
    lines = log_of(experiment, "pair", capfdbinary).decode().splitlines()
    words = sorted(line.split()[-3:] for line in lines)
    assert len(words) == 2, lines
    assert [word[0] for word in words] == ["0", "1"]
    assert words[0][1] == words[1][1]
    assert words[0][2] != words[1][2]


def test_a_failing_member_ends_its_group(executor: SlurmExecutor) -> None:
    experiment = run.Experiment("group", executor=executor, clean_mode=True)
    experiment.add([script("sleep 300"), script("exit 3")], name="pair")
    began = time.monotonic()
    result = launch(experiment)["pair"]
    assert (result.state, result.exit_code) == (run.JobState.FAILED, 3)
    assert time.monotonic() - began < 60


def test_heterogeneous_group(executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    executor.heterogeneous = True
    other = executor.clone()
    other.nodes, other.gpus_per_node = 2, 4
    experiment = run.Experiment("het", clean_mode=True)
    say = script('echo "$SLURM_JOB_NUM_NODES $CUDA_VISIBLE_DEVICES $het_group_host_0 $het_group_host_1"')
    experiment.add([say, say], executor=[executor, other], name="het")
    assert launch(experiment)["het"].ok
    lines = {line.split(" ", 1)[1] for line in log_of(experiment, "het", capfdbinary).decode().splitlines()}
    assert len(lines) == 2
    assert {line.split()[0] for line in lines} == {"1", "2"}
    assert any(" 0,1,2,3 " in line for line in lines)
    assert all(re.search(r"node\d node\d$", line) for line in lines)


def test_a_chain_is_left_to_slurm(executor: SlurmExecutor, cluster: SlurmCluster) -> None:
    experiment = run.Experiment("chain", executor=executor, clean_mode=True)
    before: list[str] = []
    for i in range(5):
        text = "exit 4" if i == 2 else 'until [ -e "$GO" ]; do sleep 0.1; done' if i == 0 else "true"
        go = f"{Path(executor.tunnel.job_dir).parent}/go"
        before = [experiment.add(script(text, env={"GO": go}), name=f"link{i}", dependencies=before)]
    with experiment:
        experiment.run(detach=True)
        assert cluster.ask("squeue", "-h", "-t", "PD", "-O", "Dependency:|").count("afterok:") == 4
        assert not experiment._its_store.is_driven(), "Slurm goes on without us"
        assert all(job.launched and job.handle for job in experiment.jobs)
        document = run.Experiment.from_id(experiment.id).status(return_dict=True)
        assert document is not None
        assert not any("resume" in entry["reason"] for entry in document.values())
        Path(go).touch()
    eventually(lambda: not cluster.ask("squeue", "-h", "-u", USER, "-t", "PD,R,CG").strip())
    past = run.Experiment.from_id(experiment.id)
    assert past.progress()["link0"].state is run.JobState.SUCCEEDED, "status asks Slurm"
    assert past._its_store.read_summary() is None
    past.wait()
    assert past._its_store.read_summary()
    states = {name: result.state.name for name, result in past.results().items()}
    assert states == {
        "link0": "SUCCEEDED", "link1": "SUCCEEDED", "link2": "FAILED", "link3": "CANCELLED", "link4": "CANCELLED",
    }  # fmt: skip
    assert past.results()["link2"].exit_code == 4
    assert "depends on" in past.results()["link4"].reason


def test_detached_launches_are_refused_here(executor: SlurmExecutor) -> None:
    wrong = executor.clone()
    wrong.partition = "nowhere"
    experiment = run.Experiment("refused", executor=executor, clean_mode=True)
    experiment.add(script("true"), name="good")
    bad = experiment.add(script("true"), executor=wrong, name="bad")
    experiment.add(script("true"), name="after", dependencies=[bad])
    with experiment, pytest.raises(ExecutorError, match=r"bad.*nowhere"):
        experiment.run(detach=True)
    assert not experiment._its_store.is_driven()
    experiment.wait()
    states = {name: result.state.name for name, result in experiment.results().items()}
    assert states == {"good": "SUCCEEDED", "bad": "FAILED", "after": "CANCELLED"}


def test_what_only_we_can_do_keeps_a_controller(executor: SlurmExecutor) -> None:
    experiment = run.Experiment("ours", executor=executor, clean_mode=True)
    first = experiment.add(script("echo x > kept.txt"), name="first", artifacts=["*.txt"])
    experiment.add(script("true"), executor=run.LocalExecutor(), name="here", dependencies=[first])
    with experiment:
        experiment.run(detach=True)
    assert experiment._its_store.is_driven()
    experiment.wait()
    assert all(result.ok for result in experiment.results().values())
    assert [one.path for one in experiment.artifacts()] == ["kept.txt"]


def test_one_job_of_several_that_are_left_to_slurm_is_cancelled(executor: SlurmExecutor) -> None:
    experiment = run.Experiment("some", executor=executor, clean_mode=True)
    experiment.add(script("sleep 300"), name="a")
    experiment.add(script("sleep 300"), name="b")
    with experiment:
        experiment.run(detach=True)
    experiment.cancel("a")
    assert experiment._its_store.is_left_to_engines()
    assert {name: job.state.is_final for name, job in experiment.progress().items()} == {"a": True, "b": False}
    experiment.cancel_jobs()


def test_retries_go_back_into_the_queue(executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    executor.retries = 2
    experiment = run.Experiment("retries", executor=executor, clean_mode=True)
    experiment.add(script('echo "restart ${SLURM_RESTART_COUNT:-0}"; [ "${SLURM_RESTART_COUNT:-0}" -eq 1 ]'), name="a")
    assert launch(experiment)["a"].ok
    assert log_of(experiment, "a", capfdbinary) == b"a/0 restart 0\na/0 restart 1\n"


def test_signal_and_memory(executor: SlurmExecutor, cluster: SlurmCluster) -> None:
    executor.time = "00:01:00"
    executor.signal = "USR1@60"
    experiment = run.Experiment("limits", executor=executor, clean_mode=True)
    experiment.add(script("trap 'exit 9' USR1; while :; do sleep 0.1; done"), name="signal")
    greedy = script("exec python3 -c 'import time; x = bytearray(400 << 20); time.sleep(60)'")
    experiment.add(greedy, name="greedy")
    results = launch(experiment)
    assert results["signal"].exit_code == 9
    assert (results["greedy"].state, results["greedy"].reason) == (
        run.JobState.FAILED,
        "it used more memory than it had asked for",
    )


def test_a_node_that_dies(executor: SlurmExecutor, cluster: SlurmCluster) -> None:
    executor.additional_parameters = {"no-requeue": True, "nodelist": "node4"}
    experiment = run.Experiment("node", executor=executor, clean_mode=True)
    begun = Path(executor.tunnel.job_dir).parent / "begun"
    experiment.add(script('touch "$BEGUN"; exec sleep 300', env={"BEGUN": str(begun)}), name="a")
    with experiment:
        experiment.run(detach=True)
        eventually(begun.exists)  # what is started while the node is killed could still tell of an end
        cluster.kill_node("node4")
        try:
            result = eventually(lambda: (r := experiment.results()["a"]).state.is_final and r, within=90)
        finally:
            cluster.start_node("node4")
    assert result.state is run.JobState.FAILED
    assert "node failed" in result.reason


def test_a_controller_that_does_not_answer(executor: SlurmExecutor, cluster: SlurmCluster) -> None:
    go = Path(executor.tunnel.job_dir).parent / "go"
    experiment = run.Experiment("frozen", executor=executor, clean_mode=True)
    text = ': > "$GO.begun"; until [ -e "$GO" ]; do sleep 0.1; done'
    experiment.add(script(text, env={"GO": str(go)}), name="a", artifacts=["*.nothing"])  # so that a controller stays
    with experiment:
        experiment.run(detach=True)
        eventually(lambda: experiment.progress()["a"].state is run.JobState.RUNNING)
        eventually(go.with_suffix(".begun").exists)  # srun needs the controller until then
        cluster.signal("slurmctld", signal.SIGSTOP)
        try:
            stored = experiment._its_store.read_progress
            eventually(lambda: "unreachable" in stored(experiment._prepared.job("a")).reason)
        finally:
            cluster.signal("slurmctld", signal.SIGCONT)
        go.touch()
        result = eventually(lambda: (r := experiment.results()["a"]).state.is_final and r, within=60)
    assert result.ok, result


def test_cancel_pending_and_running(executor: SlurmExecutor) -> None:
    pending = executor.clone()
    pending.additional_parameters = {"begin": "now+1hour"}
    experiment = run.Experiment("cancel", executor=executor, clean_mode=True)
    experiment.add(script("sleep 300"), name="running")
    experiment.add(script("true"), executor=pending, name="pending")
    with experiment:
        experiment.run(detach=True)
        eventually(lambda: experiment.progress()["running"].state is run.JobState.RUNNING)
        waiting = eventually(lambda: (p := experiment.progress()["pending"]).state is run.JobState.PENDING and p)
        assert "start" in waiting.reason
        experiment.cancel_jobs()
    assert {result.state for result in experiment.results().values()} == {run.JobState.CANCELLED}


def test_a_failed_array_shows_the_log_of_the_task_that_failed(executor: SlurmExecutor) -> None:
    executor.array = "1-6"
    experiment = run.Experiment("fails", executor=executor, clean_mode=True)
    text = 'for i in $(seq 20); do echo "task $SLURM_ARRAY_TASK_ID $i"; done; [ "$SLURM_ARRAY_TASK_ID" -ne 3 ]'
    experiment.add(script(text), name="array")
    result = launch(experiment)["array"]
    assert result.log_tail == tuple(f"task 3 {i}" for i in range(11, 21))


def test_files_that_are_gone_from_the_cluster_are_said_to_be_gone(
    executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    experiment = run.Experiment("gone", executor=executor, clean_mode=True)
    for name in ("log", "all"):
        experiment.add(script("echo hello"), name=name)
    launch(experiment)
    (job,) = Path(executor.tunnel.job_dir).glob("gone/*/log")
    for log in job.glob("log-*"):
        log.unlink()
    assert log_of(experiment, "log", capfdbinary).endswith(f"(gone from the cluster: {log})\n".encode())
    shutil.rmtree(job.parent / "all")
    said = log_of(experiment, "all", capfdbinary)
    assert f"(gone from the cluster: {job.parent}/all/attempts/1)\n".encode() in said


def test_logs_survive_a_lost_connection(
    executor: SlurmExecutor, login: Sshd, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    experiment = run.Experiment("logs", executor=executor, clean_mode=True)
    experiment.add(script("for i in $(seq 40); do echo line $i; sleep 0.1; done"), name="a")
    with experiment:
        experiment.run(detach=True)
        eventually(lambda: experiment.progress()["a"].state is run.JobState.RUNNING)
        code = f"import nemo_run as run; run.Experiment.from_id({experiment.id!r}).logs('a')"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as follower:
            assert follower.stdout is not None
            first = follower.stdout.readline()
            login.kill()
            time.sleep(1)
            login.start()
            rest = follower.stdout.read()
    assert (first + rest).decode() == "".join(f"a/0 line {i}\n" for i in range(1, 41))


def test_many_jobs_in_few_commands(executor: SlurmExecutor, login: Sshd) -> None:
    program = login.folder / "bin" / "ssh"
    plain = program.read_text()
    count = login.folder / "count"
    program.write_text(plain.replace("exec ", f'case "$*" in *" -O "*) ;; *) echo x >> {count} ;; esac\nexec '))
    try:
        experiment = run.Experiment("many", executor=executor, clean_mode=True)
        for i in range(60):
            experiment.add(script("true"), name=f"j{i}")
        with experiment:
            experiment.run(detach=True)
            queued = Path(executor.tunnel.job_dir, "many", experiment.id)
            eventually(lambda: len([f for f in queued.glob("*/attempts/1/job_id") if f.stat().st_size]) == 60)
            submitting = len(count.read_text().split())
            count.write_text("")
            experiment.results()
            asking = len(count.read_text().split())
            eventually(lambda: all(result.state.is_final for result in experiment.results().values()), within=120)
    finally:
        program.write_text(plain)
    assert all(result.ok for result in experiment.results().values())
    assert submitting <= 12, "the controller asks for states meanwhile"
    assert asking <= 6


def test_dryrun_shows_all_and_sends_nothing(executor: SlurmExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    executor.env_vars = {"HF_TOKEN": "s3cr3t"}
    executor.container_image = "nvcr.io/nvidia/nemo:25.01"
    executor.tunnel = SSHTunnel(host="no.such.host", user="me", job_dir="/scratch/me")
    experiment = run.Experiment("dry", executor=executor)
    experiment.add(script("echo hello"), name="a")
    experiment.dryrun()
    text = capsys.readouterr().out
    assert "#SBATCH --time=00:10:00" in text
    assert "--container-image=nvcr.io/nvidia/nemo:25.01" in text
    assert "/nemo_run/scripts/a.sh" in text
    assert "s3cr3t" not in text


def test_without_slurm_it_says_so(executor: SlurmExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor.tunnel = LocalTunnel(job_dir="")
    (tmp_path / "git").symlink_to(shutil.which("git") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    experiment = run.Experiment("none", executor=executor, clean_mode=True)
    experiment.add(script("true"), name="a")
    with pytest.raises(run.errors.ExecutorError, match="no Slurm commands"):
        experiment.run()


def test_status_document_is_json(executor: SlurmExecutor) -> None:
    experiment = run.Experiment("status", executor=executor, clean_mode=True)
    experiment.add(script("true"), name="a")
    launch(experiment)
    assert json.dumps(experiment.status(return_dict=True))
    assert executor.info() == f"SlurmExecutor on {executor.tunnel.key}"


def test_time_limit(overtime: tuple[SlurmBackend, str], cluster: SlurmCluster) -> None:
    backend, handle = overtime
    status = eventually(lambda: (s := backend.states([handle])[handle]).state.is_final and s, within=150)
    assert (status.state, status.reason) == (run.JobState.FAILED, "its time limit was reached")


@pytest.mark.needs("torch")
@pytest.mark.filterwarnings("ignore:The pynvml package:FutureWarning")
def test_training_over_two_nodes(
    executor: SlurmExecutor, here: LocalTunnel, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    import torch

    executor.tunnel, executor.launcher, executor.mem = here, "torchrun", "4G"
    executor.nodes, executor.ntasks_per_node = 2, 2
    executor.env_vars = {"OMP_NUM_THREADS": "1"}
    experiment = run.Experiment("training", executor=executor, clean_mode=True)
    experiment.add(run.Partial(training.fit), name="fit")
    result = launch(experiment)["fit"]
    log = log_of(experiment, "fit", capfdbinary).decode()
    assert result.ok, log
    placed = dict(re.findall(r"rank (\d) of 4 on (node\d)", log))
    assert sorted(placed) == ["0", "1", "2", "3"]
    assert sorted(placed.values()) == ["node1", "node1", "node2", "node2"]
    # PyTorch numbers the nodes of a c10d rendezvous as it likes: processes are counted along Slurm's nodes.
    logs = [log_of(experiment, "fit", capfdbinary, rank=rank).decode() for rank in range(4)]
    assert sorted("".join(re.findall(r"rank (\d) of 4", text)) for text in logs) == ["0", "1", "2", "3"]
    assert ["node1" in text for text in logs] == [True, True, False, False]
    (model,) = experiment.artifacts()
    weights = torch.load(model.file)
    assert weights["weight"].item() == pytest.approx(3, abs=0.05)
    assert weights["bias"].item() == pytest.approx(1, abs=0.05)


def test_packager_kept_by_the_cluster(executor: SlurmExecutor, jobs_folder: Path) -> None:
    there = jobs_folder / "code on the cluster"
    there.mkdir()
    there.chmod(0o755)
    (there / "hello.txt").write_text("hello")
    executor.packager = Packager(symlink_from_remote_dir=str(there))
    experiment = run.Experiment("link", executor=executor, clean_mode=True)
    experiment.add(script("grep hello hello.txt"), name="a")
    assert launch(experiment)["a"].ok


@pytest.mark.parametrize(
    ("policy", "first", "states"),
    [
        ("any", "true", ["SUCCEEDED", "CANCELLED"]),
        ("failure", "exit 3", ["FAILED", "CANCELLED"]),
        ("never", "exit 3", ["FAILED", "SUCCEEDED"]),
    ],
)
def test_what_ends_a_group(executor: SlurmExecutor, policy: str, first: str, states: list[str]) -> None:
    second = "sleep 2" if policy == "never" else "sleep 300"
    experiment = run.Experiment("group", executor=executor, clean_mode=True)
    experiment.add([script(first), script(second)], name="pair", end_group_on=policy)
    launch(experiment)
    tasks = experiment.progress()["pair"].tasks
    assert [task.state.name for task in tasks] == states
    assert policy == "never" or tasks[1].reason == "ended with its group"


@pytest.mark.parametrize(
    ("kind", "before", "state"),
    [
        ("afterok", "true", "SUCCEEDED"),
        ("afterok", "exit 1", "CANCELLED"),
        ("afterany", "true", "SUCCEEDED"),
        ("afterany", "exit 1", "SUCCEEDED"),
        ("afternotok", "true", "CANCELLED"),
        ("afternotok", "exit 1", "SUCCEEDED"),
        ("after", "sleep 1; exit 1", "SUCCEEDED"),
    ],
)
@pytest.mark.parametrize("holder", ["controller", "slurm"])
def test_types_of_dependencies(executor: SlurmExecutor, holder: str, kind: str, before: str, state: str) -> None:
    executor.dependency_type = kind
    experiment = run.Experiment("types", executor=executor, clean_mode=True)
    first = executor if holder == "slurm" else run.LocalExecutor()
    after = [experiment.add(script(before), executor=first, name="before")]
    experiment.add(script("true"), name="after", dependencies=after)
    assert launch(experiment)["after"].state.name == state
