"""Experiments on a real cluster with a real node."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.kubernetes import KubernetesExecutor
from tests.docs import markdown
from tests.services.kubernetes import IMAGE, KubernetesCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("kubernetes node")

GUIDE = Path(__file__).parents[2] / "docs" / "kubernetes.md"


@pytest.fixture
def make(namespace: str) -> Any:
    def make(**options: Any) -> KubernetesExecutor:
        given = {"image": IMAGE, "namespace": namespace, "packager": run.Packager(), "grace": 2}
        return KubernetesExecutor(**{**given, **options})

    return make


def log_of(exp: run.Experiment, capfdbinary: pytest.CaptureFixture[bytes], job: str = "job0") -> list[str]:
    capfdbinary.readouterr()
    exp.logs(job, follow=False)
    return [re.sub(r"^.*?/\d+ ", "", line) for line in capfdbinary.readouterr().out.decode().splitlines()]


def test_functions_of_a_script_run_and_what_they_leave_comes_back(
    make: Any, namespace: str, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (work / "launch.py").write_text(f"""
import os, sys
import nemo_run as run

def train(size: int):
    print("trained", size, "in", os.getcwd(), "on", sys.argv[0].rpartition("/")[2])
    with open(os.environ["NEMO_RUN_ARTIFACTS"] + "/model", "w") as f:
        f.write(str(size))

if __name__ == "__main__":
    executor = run.KubernetesExecutor(image={IMAGE!r}, namespace={namespace!r}, packager=run.Packager())
    with run.Experiment("exp", executor=executor) as exp:
        exp.add(run.Partial(train, size=7), name="job0", tail_logs=True)
        exp.run()
    print("ended as", exp.results()["job0"].state.name)
    print("left", [artifact.path for artifact in exp.artifacts("job0")])
""")
    done = subprocess.run([sys.executable, "launch.py"], capture_output=True, text=True, check=False)
    assert "trained 7 in / on" in done.stdout, done.stdout + done.stderr
    assert "ended as SUCCEEDED" in done.stdout


def test_packaged_code_runs_and_failures_are_tried_again(
    make: Any, work: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (work / "lib").mkdir()
    (work / "lib" / "part.py").write_text("WORD = 'packaged'\n")
    (work / "main.py").write_text(
        "import os, sys\nfrom lib.part import WORD\nprint(WORD, sys.argv[1:], os.getcwd())\n"
        "sys.exit(int(os.environ['NEMO_RUN_ATTEMPT']) < 2)\n"
    )
    for argv in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *argv], check=True, capture_output=True)
    executor = make(packager=run.GitArchivePackager(), retries=1, retry_delay=0)
    with run.Experiment("exp", executor=executor, clean_mode=True) as exp:
        exp.add(run.Script("main.py", entrypoint="python", args=["a b", "$(HOME)"]), name="job0")
        exp.run()
    assert exp.results()["job0"].state is JobState.SUCCEEDED
    assert log_of(exp, capfdbinary) == ["packaged ['a b', '$(HOME)'] /nemo_run/code"] * 2


@pytest.mark.parametrize("volume", [True, False])
def test_packaged_functions_run_and_their_files_come_back(
    make: Any,
    kubernetes_node: KubernetesCluster,
    own_namespace: str,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    volume: bool,
) -> None:
    (work / "pod_recipe.py").write_text(
        "import os\n"
        "def train(text):\n"
        "    open('result.txt', 'w').write(text)\n"
        "    open(os.environ['NEMO_RUN_ARTIFACTS'] + '/model', 'w').write(text * 2)\n"
        "    print(os.path.basename(os.getcwd()))\n"
    )
    monkeypatch.syspath_prepend(str(work))
    monkeypatch.delitem(sys.modules, "pod_recipe", raising=False)
    from pod_recipe import train  # type: ignore[import-not-found]

    options = {"namespace": own_namespace}
    if volume:
        kubernetes_node.make_volume(own_namespace, "work")
        options |= {"workdir_pvc": "work", "workdir_pvc_path": "/mnt/my work"}
    packager = run.PatternPackager(include_pattern=str(work / "*.py"), relative_path=str(work))
    with run.Experiment("exp", executor=make(packager=packager, **options), clean_mode=True) as exp:
        exp.add(run.Partial(train, "é"), name="job0", artifacts=["*.txt"])
        exp.run()
    assert exp.results()["job0"].state is JobState.SUCCEEDED
    assert log_of(exp, capfdbinary) == ["code"]
    found = {path.name: path.read_text() for path in Path(exp.directory, "job0", "artifacts").iterdir()}
    assert found == ({"result.txt": "é", "model": "éé"} if volume else {"model": "éé"})
    assert ("workdir_pvc" in exp.results()["job0"].reason) == (not volume)


ALL_REDUCE = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
print("rank", dist.get_rank(), "of", dist.get_world_size(), "sums to", total.item(), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.needs("torch")
def test_a_real_torch_over_two_pods(make: Any, work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The image has no torch: that of this machine is mounted, with the system's libraries that it needs."""
    site = sysconfig.get_path("purelib")
    needed = subprocess.run(["ldd", f"{site}/torch/lib/libtorch_cpu.so"], capture_output=True, text=True, check=True)
    system = {found for found in re.findall(r"=> (/\S+)", needed.stdout) if not found.startswith(site)}
    (work / "lib").mkdir()
    of_glibc = [f"{Path(library).parent}/{name}" for library in system for name in ("libpthread.so.0", "libdl.so.2")]
    for library in {*system, *filter(os.path.exists, of_glibc)}:
        if not Path(library).name.startswith("libc.so"):  # the image has its own
            shutil.copy(library, work / "lib")
    folders = {"site": site, "lib-torch": str(work / "lib")}
    executor = make(
        launcher="torchrun",
        num_nodes=2,
        volumes=[{"name": name, "hostPath": {"path": path}} for name, path in folders.items()],
        volume_mounts=[{"name": name, "mountPath": f"/{name}"} for name in folders],
        env_vars={"PYTHONPATH": "/site", "LD_LIBRARY_PATH": "/lib-torch"},
    )
    with run.Experiment("exp", executor=executor, clean_mode=True) as exp:
        exp.add(run.Script(inline=ALL_REDUCE, entrypoint="python3"), name="job0")
        exp.run()
    lines = log_of(exp, capfdbinary)
    assert sorted(line[line.index("rank") :] for line in lines if "sums to" in line) == [
        "rank 0 of 2 sums to 3.0",
        "rank 1 of 2 sums to 3.0",
    ], lines


def test_members_of_a_group_run_together_and_end_together(make: Any, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    server = run.Script(inline='echo "$NEMO_RUN_GROUP_RANK $(hostname)"; exec sleep 300')
    worker = run.Script(inline='for host in ${NEMO_RUN_GROUP_HOSTS//,/ }; do echo "${host%%.*}"; done; exit 3')
    with run.Experiment("exp", executor=make(), clean_mode=True) as exp:
        exp.add([server, worker], name="job0")
        exp.run()
    assert exp.results()["job0"].state is JobState.FAILED
    assert sorted(log_of(exp, capfdbinary)) == ["0 node-0-0", "node-0-0", "node-1-0"]


FIND = """
import os, socket, time

for host in os.environ["NEMO_RUN_GROUP_HOSTS"].split(","):
    for pause in (0, 1, 2, 4, 8, 16, None):
        try:
            socket.gethostbyname(host)
            break
        except OSError:
            time.sleep(pause)  # after the last one: TypeError
"""


def test_members_of_a_group_find_each_other_when_they_are_tried_again(make: Any) -> None:
    script = run.Script(inline=f"[ $NEMO_RUN_ATTEMPT = 1 ] && exit 1; sleep 2; exec python3 -c {shlex.quote(FIND)}")
    with run.Experiment("exp", executor=make(retries=1, retry_delay=0), clean_mode=True) as exp:
        exp.add([script, script], name="job0")
        exp.run()
    assert exp.results()["job0"].state is JobState.SUCCEEDED


def test_cancel_of_a_detached_experiment(make: Any) -> None:
    with run.Experiment("exp", executor=make(), clean_mode=True) as exp:
        exp.add(run.Script(inline="exec sleep 300"), name="job0")
        exp.run(detach=True)
    eventually(lambda: exp.results()["job0"].state is JobState.RUNNING)
    exp.cancel("job0")
    exp.wait()
    assert exp.results()["job0"].state is JobState.CANCELLED


def test_the_api_is_away_while_a_job_ends(
    make: Any, kubernetes_node: KubernetesCluster, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with run.Experiment("exp", executor=make(), clean_mode=True) as exp:
        exp.add(run.Script(inline="echo begun; sleep 2; echo done; exit 4"), name="job0")
        exp.run(detach=True)
    eventually(lambda: exp.results()["job0"].state is JobState.RUNNING)
    kubernetes_node.stop_api()
    try:
        eventually(lambda: "does not answer" in exp.results()["job0"].reason)
        assert not exp.results()["job0"].state.is_final
    finally:
        kubernetes_node.start_api()
    exp.wait()
    assert (exp.results()["job0"].state, exp.results()["job0"].exit_code) == (JobState.FAILED, 4)
    assert log_of(exp, capfdbinary) == ["begun", "done"]


def test_the_rights_of_the_guide_are_enough(
    kubernetes_node: KubernetesCluster, own_namespace: str, make: Any, work: Path
) -> None:
    from kubernetes import client

    role = yaml.safe_load(next(block.code for block in markdown.blocks(GUIDE.read_text()) if block.file == "role.yaml"))
    api = client.RbacAuthorizationV1Api(kubernetes_node.core().api_client)
    api.create_namespaced_role(own_namespace, role)
    subjects = [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}]
    reference = {"kind": "Role", "name": "nemo-run", "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"metadata": {"name": "alice"}, "subjects": subjects, "roleRef": reference}
    api.create_namespaced_role_binding(own_namespace, binding)
    kubernetes_node.make_volume(own_namespace, "work")
    options = {"context": "alice", "namespace": own_namespace}
    with run.Experiment("exp", clean_mode=True) as exp:
        plain = make(**options, num_nodes=2, env_vars={"A_TOKEN": "x"})
        exp.add(run.Script(inline='touch "$NEMO_RUN_ARTIFACTS/a"'), name="plain", executor=plain)
        volume = make(**options, workdir_pvc="work")
        exp.add(run.Script(inline='touch "$NEMO_RUN_ARTIFACTS/b"'), name="volume", executor=volume)
        exp.add(run.Script(inline="exec sleep 300"), name="cancelled", executor=make(**options))
        exp.run(detach=True)
    eventually(lambda: exp.results()["cancelled"].state is JobState.RUNNING)
    exp.cancel("cancelled")
    exp.wait()
    states = {name: (result.state.name, result.reason) for name, result in exp.results().items()}
    assert states == {"plain": ("SUCCEEDED", ""), "volume": ("SUCCEEDED", ""), "cancelled": ("CANCELLED", "cancelled")}
    eventually(lambda: {artifact.path for artifact in exp.artifacts()} == {"a", "b"})  # the controller collects them
