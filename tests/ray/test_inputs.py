"""What is found before anything is launched, and what is shown of it; needs no Ray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nemo_run import LocalExecutor, Packager, PatternPackager
from nemo_run.core.execution.base import Executor
from nemo_run.core.ray.engine import get_engine
from nemo_run.errors import (
    ConfigError,
    ExecutorError,
    JobNotFoundError,
    MissingExtraError,
    NemoRunError,
    PackagingError,
)
from nemo_run.run.ray import RayCluster, RayJob, packages, runtime_env


class NoRay(Executor):
    engine = "no such engine"


@pytest.mark.parametrize(
    ("options", "start", "message"),
    [
        ({"name": ""}, {}, "cannot be the title"),
        ({"log_level": "LOUD"}, {}, "log_level='LOUD'"),
        ({"executor": NoRay()}, {}, "no Ray clusters on the engine 'no such engine'"),
        ({"executor": LocalExecutor(nodes=0)}, {}, "nodes must be at least 1"),
        ({"executor": LocalExecutor(env_vars={"a b": ""})}, {}, "'a b' is not a name"),
        ({}, {"command": " "}, "command=' '"),
        ({}, {"workdir": "/no/such/folder"}, "no folder '/no/such/folder'"),
        ({}, {"runtime_env_yaml": "/no/such/file"}, "'/no/such/file' cannot be read"),
        ({"cluster_name": "nowhere"}, {}, "no Ray cluster 'nowhere' that runs"),
    ],
)
def test_what_is_wrong_is_said(
    options: dict[str, Any], start: dict[str, Any], message: str, nemorun_home: Path
) -> None:
    with pytest.raises(NemoRunError, match=re.escape(message)):
        RayJob(**{"name": "job", "executor": LocalExecutor(), **options}).start(
            **{"command": "true", "workdir": "", **start}
        )
    assert not list(nemorun_home.glob("ray/local/job/*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- a", "is a mapping"),
        ("env_vars: [A]", "env_vars is a mapping"),
        ("pip: none.txt", "'none.txt' cannot be read"),
        ("env_var: {A: 1}", "no field 'env_var'; did you mean 'env_vars'"),
        ("config: {setup_timeout_second: 5}", "no field config.'setup_timeout_second'"),
    ],
)
def test_what_is_wrong_in_a_runtime_environment(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        runtime_env.read_runtime_env(file)
    assert str(file) in str(caught.value)


def test_a_runtime_environment_is_read_as_ray_does(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# ours\nnumpy==2.0\n\nscipy\n")
    (tmp_path / "conda.yml").write_text("dependencies: [pip]")
    (tmp_path / "env.yaml").write_text(
        "env_vars: {A: 1, B: true, C: }\npip: requirements.txt\nconda: conda.yml\nconfig: {setup_timeout_seconds: 5}\n"
    )
    assert runtime_env.read_runtime_env(tmp_path / "env.yaml") == {
        "env_vars": {"A": "1", "B": "true", "C": ""},
        "pip": ["numpy==2.0", "scipy"],
        "conda": {"dependencies": ["pip"]},
        "config": {"setup_timeout_seconds": 5},
    }


def names(
    folder: Path, packager: Packager | None = None, env: dict[str, Any] | None = None, name: str = ""
) -> list[str]:
    with packages.packed(folder, packager or Packager(), env or {}, name) as package:
        return zipfile.ZipFile(package).namelist()


@pytest.mark.needs("git")
@pytest.mark.parametrize("in_repository", [False, True])
def test_a_folder_is_sent_less_what_git_ignores(project: Path, in_repository: bool) -> None:
    (project / "tool").write_text("#!/bin/sh")
    (project / "tool").chmod(0o755)
    (project / "sub").mkdir()
    (project / "sub" / "link").symlink_to("../hello.txt")
    if in_repository:
        subprocess.run(["git", "init", "-q", str(project.parent)], check=True)
        subprocess.run(["git", "add", "."], cwd=project, check=True)
    subprocess.run(["git", "init", "-q", str(project / "inner")], check=True)
    (project / "inner" / "a.txt").write_text("a")
    assert names(project) == [".gitignore", "hello.txt", "inner/a.txt", "sub/link", "tool"]
    assert names(project, env={"excludes": ["hello*", "/sub/"]}) == [".gitignore", "inner/a.txt", "tool"]
    assert "project/hello.txt" in names(project, env={"py_modules": [str(project)]}, name=str(project))
    with packages.packed(project, Packager(), {}, "") as package, zipfile.ZipFile(package) as zipped:
        assert zipped.read("sub/link") == b"hello\n"
        assert [entry.external_attr >> 16 & 0o777 for entry in zipped.infolist()[-2:]] == [0o644, 0o755]


def test_what_is_too_large_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    tree = {"weights.bin": 104, "sub/data.bin": 2, "small.bin": 0}
    for name, mebibytes in tree.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(mebibytes << 20))
    with pytest.raises(PackagingError, match=r"100 MiB.*weights\.bin \(104 MiB\), sub/data\.bin \(2 MiB\)"):
        names(tmp_path / "code")
    assert names(tmp_path / "code", env={"excludes": ["weights.bin"]}) == ["small.bin", "sub/data.bin"]
    (tmp_path / "code.zip").write_bytes((tmp_path / "code" / "weights.bin").read_bytes())
    with pytest.raises(PackagingError, match=r"code\.zip \(104 MiB\)"):
        names(tmp_path / "code.zip")


def test_links_and_empty_folders_are_sent_and_pipes_are_not(tmp_path: Path) -> None:
    (tmp_path / "code" / "outputs").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").touch()
    (tmp_path / "code" / "data").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "code" / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "code" / "pipe")
    assert names(tmp_path / "code") == ["data/a.txt", "outputs/"]
    (tmp_path / "code" / "above").symlink_to("..")
    with pytest.raises(PackagingError, match="leads to a folder above itself"):
        names(tmp_path / "code")


@pytest.mark.parametrize("name", ["mine-1.0-py3-none-any.whl", "code.zip", "code.tar.gz"])
def test_archives_and_wheels_are_sent_as_they_are(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"as it is")
    with packages.packed(tmp_path / name, Packager(), {}, name) as package:
        assert package.read_bytes() == b"as it is"
        assert package.name == name if name.endswith(".whl") else package.name.startswith("_ray_pkg_")
        assert package.name.endswith(name.partition(".")[2] if "tar" in name else Path(name).suffix)


def test_what_ray_cannot_unpack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code.rar").touch()
    with pytest.raises(ConfigError, match="no file that Ray unpacks"):
        runtime_env.local_folders({}, str(tmp_path / "code.rar"))


def test_requirements_are_looked_for_where_ray_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "requirements.txt").write_text("of-here")
    (tmp_path / "requirements.txt").write_text("beside-the-file")
    (tmp_path / "env.yaml").write_text("uv: {packages: requirements.txt}\npip: requirements.txt")
    monkeypatch.chdir(tmp_path / "here")
    found = runtime_env.read_runtime_env(tmp_path / "env.yaml")
    assert (found["uv"], found["pip"]) == ({"packages": ["of-here"]}, ["of-here"])
    (tmp_path / "here" / "requirements.txt").unlink()
    assert runtime_env.read_runtime_env(tmp_path / "env.yaml")["pip"] == ["beside-the-file"]


def test_a_packager_says_what_is_sent(project: Path) -> None:
    packager = PatternPackager(include_pattern=f"{project}/*.ckpt", relative_path=str(project))
    assert names(project, packager) == ["large.ckpt"]


def test_the_same_code_is_the_same_package(project: Path) -> None:
    def package() -> str:
        with packages.packed(project, Packager(), {}, "") as path:
            return path.name

    before = package()
    (project / "hello.txt").touch()
    assert package() == before
    (project / "hello.txt").write_text("bye\n")
    assert package() != before


def test_code_is_replaced_by_what_it_is_called_there() -> None:
    env = {"py_modules": ["mine", "s3://theirs"], "excludes": ["x"], "pip": ["a"]}
    assert runtime_env.with_code(env, "here", lambda name: f"gcs://{name}") == {
        "working_dir": "gcs://here",
        "py_modules": ["gcs://mine", "s3://theirs"],
        "pip": ["a"],
    }


def test_a_dry_run_shows_all_but_secrets(project: Path, nemorun_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = RayJob("dry", LocalExecutor(nodes=2, env_vars={"HF_TOKEN": "hush", "A": "1"}))
    job.start("python train.py", str(project), pre_ray_start_commands=["module load cuda"], dryrun=True)
    RayCluster("dry", LocalExecutor()).start(dryrun=True)
    shown = capsys.readouterr().out
    for text in ("python train.py", str(project), "module load cuda", '"nodes": 2', '"A": "1"'):
        assert text in shown
    assert "hush" not in shown
    assert not (nemorun_home / "ray" / "local" / "dry").exists()


def test_what_is_not_known() -> None:
    job = RayJob("never", LocalExecutor())
    assert job.status(display=False)["state"] == "UNKNOWN"
    for question in (job.logs, job.wait, job.stop):
        with pytest.raises(JobNotFoundError, match="never"):
            question()
    cluster = RayCluster("never", LocalExecutor())
    assert cluster.status(display=False)["state"] == "unknown"
    with pytest.raises(ExecutorError, match="start it first"):
        cluster.port_forward()
    cluster.stop()


@pytest.mark.parametrize("missing", ["httpx", "websockets", "ray"])
def test_what_is_not_installed_is_named(missing: str, nemorun_home: Path) -> None:
    code = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == {missing!r} else find(name, package)
import nemo_run as run
run.ray.job.RayJob("x", run.LocalExecutor()).start("true", "")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert MissingExtraError.__name__ in done.stderr
    assert missing in done.stderr.splitlines()[-1]
    assert "pip install 'nemo-run[ray" in done.stderr


def test_engines_have_no_state() -> None:
    assert vars(get_engine("local")) == {}
