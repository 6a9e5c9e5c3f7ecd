"""Without the packages that executors need: what is raised, what is stored, what the commands say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core import extras
from nemo_run.errors import MissingExtraError
from tests import bare

# Executors as a user makes them, and the extra that each needs.
EXECUTORS = {
    "DockerExecutor(container_image='x')": "docker",
    "KubernetesExecutor(image='x')": "kubernetes",
    "KubeflowExecutor(image='x')": "kubernetes",
    "SkypilotExecutor(gpus='A100')": "skypilot",
    "SkypilotJobsExecutor(gpus='A100')": "skypilot",
    "LeptonExecutor(container_image='x', nemo_run_dir='/nemo', resource_shape='cpu', node_group='n', "
    "mounts=[{'path': '/a', 'mount_path': '/nemo'}])": "lepton",
    "DGXCloudExecutor(base_url='http://localhost:1/api', kube_apiserver_url='http://localhost:1', client_id='a', "
    "client_secret='b', project_name='p', container_image='x', pvc_nemo_run_dir='/nemo', "
    "pvcs=[{'name': 'n', 'path': '/nemo'}])": "dgxcloud",
    "SlurmExecutor(account='a', launcher=run.SlurmTemplate(template_inline='{{ command }}'))": "slurm",
}
RAY = {
    "KubeRayExecutor()": "kubernetes",
    "LocalExecutor()": "ray",
    **{call: extra for call, extra in EXECUTORS.items() if extra in ("lepton", "dgxcloud")},
}
_TRY = """
import json, sys
import nemo_run as run
from nemo_run.run.ray.cluster import RayCluster

def launch(executor):
    with run.Experiment("experiment", executor=executor) as exp:
        exp.add(run.Script(inline="echo hi"), name="hi")
        exp.run(detach=True)

def start(executor):
    RayCluster("cluster", executor).start()

def outcome(what, executor):
    executor.packager = run.Packager()
    try:
        what(executor)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]

EXECUTORS, RAY = json.loads(sys.argv[1])
json.dump({
    **{call: outcome(launch, eval("run." + call)) for call in EXECUTORS},
    **{f"ray {call}": outcome(start, eval("run." + call)) for call in RAY},
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment without any extra."""
    return bare.make(tmp_path_factory.mktemp("bare") / "venv")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def run_python(python: Path, home: Path, *arguments: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "NEMORUN_HOME": str(home / "runs")}
    command = [str(python), *arguments]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def outcomes(python: Path, home: Path) -> dict[str, list[str]]:
    """What a launch on each executor and a start of each Ray cluster raises."""
    found: dict[str, list[str]] = json.loads(run_python(python, home, "-c", _TRY, json.dumps([[*EXECUTORS], [*RAY]])))
    return found


@pytest.mark.parametrize("call", [*EXECUTORS, *(f"ray {call}" for call in RAY)], ids=lambda call: call.split("(")[0])
def test_a_launch_names_the_command_that_installs_what_is_missing(call: str, outcomes: dict[str, list[str]]) -> None:
    extra = RAY[call[4:]] if call.startswith("ray ") else EXECUTORS[call]
    kind, message = outcomes[call]
    assert kind == MissingExtraError.__name__, message
    assert f"pip install 'nemo-run[{extra}]'" in message


@pytest.mark.usefixtures("outcomes")
def test_nothing_is_stored_of_such_a_launch(home: Path) -> None:
    stored = [path for path in (home / "runs").rglob("*") if path.is_file() and path.suffix != ".lock"]
    of_the_home = (".gitignore", f".key-{os.geteuid()}")
    assert [path for path in stored if path.name not in of_the_home] == []


def test_the_commands_say_what_does_not_work_and_how_to_get_it(python: Path, home: Path) -> None:
    listed = json.loads(run_python(python, home, "-m", "nemo_run", "executors", "--json"))
    reasons = {entry["name"]: entry["why_not"] for entry in listed}
    assert reasons.pop("local") == ""
    reasons.pop("slurm")  # it needs a cluster, not a package
    assert len(reasons) == 8
    assert [name for name, why in reasons.items() if "pip install 'nemo-run[" not in why] == []

    findings: list[dict[str, Any]] = json.loads(run_python(python, home, "-m", "nemo_run", "doctor", "--json"))
    said = {finding["what"].removeprefix("run on "): finding["text"] for finding in findings}
    assert said["local"] == "yes"
    assert {name: said[name] for name in reasons} == {name: f"no: {why}" for name, why in reasons.items()}


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("run.SSHTunnel(host='h', user='u', job_dir='/j').session", "compat"),
        ("packaging.merge_executables([], 'app')", "compat"),
        ("run.ray.job.RayJob('x', run.LocalExecutor()).start('true', '')", "ray-jobs"),
    ],
)
def test_other_parts_name_their_extra_too(python: Path, home: Path, code: str, extra: str) -> None:
    program = (
        "import nemo_run as run\nfrom nemo_run.run.torchx_backend import packaging\n"
        f"try:\n    {code}\nexcept run.errors.MissingExtraError as error:\n    print(error)"
    )
    assert f"pip install 'nemo-run[{extra}]'" in run_python(python, home, "-c", program)


def test_what_goes_wrong_unexpectedly_is_never_told_as_working(tmp_path: Path) -> None:
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky" / "__init__.py").write_text("1 / 0\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "nemo_run", "executors", "--json"]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=100).stdout
    reasons = {entry["name"]: entry["why_not"] for entry in json.loads(shown)}
    assert "ZeroDivisionError" in reasons["skypilot"]
    assert reasons["local"] == ""


def test_a_folder_of_the_name_of_a_package_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dockerfiles_of_a_project").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"pip install 'nemo-run\[docker\]'"):
        extras.load("dockerfiles_of_a_project", "docker", "this test")


def test_a_package_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"No module named 'not_there_at_all'.*pip install"):
        extras.load("half_installed", "docker", "this test")


def test_what_packages_announce_is_found_in_folders_and_in_zip_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "empty"), str(tmp_path / "folder")])
    assert extras.entry_points("nemo_run.cli") == []
    info = tmp_path / "folder/lab-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    assert extras.entry_points("nemo_run.cli") == []
    (info / "entry_points.txt").write_text("[other]\nx = y\n[nemo_run.cli]\nlab = lab_commands\n")
    assert [(point.name, point.value) for point in extras.entry_points("nemo_run.cli")] == [("lab", "lab_commands")]
    assert extras.entry_points("nemo_run.cl") == []
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        for file in info.iterdir():
            packed.write(file, f"packed-1.0.dist-info/{file.name}")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packed.zip")])
    assert [point.name for point in extras.entry_points("nemo_run.cli")] == ["lab"]
