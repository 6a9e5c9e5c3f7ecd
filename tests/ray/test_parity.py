"""Side by side with ``ray job submit`` on one cluster: the same files, modules, variables and outcome."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nemo_run import LocalExecutor
from nemo_run.run.ray import RayCluster, RayJob
from nemo_run.run.ray.watching import WatchedJob

pytestmark = pytest.mark.needs("ray")

PROBE = """
import hashlib, importlib.util, json, os, sys
found = {"in": os.getcwd()} if "bare" in sys.argv else {}
for top, folders, files in [] if found else os.walk(".", followlinks=True):
    for name in folders:
        if not os.listdir(os.path.join(top, name)):
            found[os.path.join(top, name)] = "empty"
    for name in files:
        path = os.path.join(top, name)
        digest = hashlib.sha256(open(path, "rb").read()).hexdigest()[:8]
        found[path] = [digest, os.stat(path).st_mode & 0o777, os.path.islink(path)]
variables = {name: value for name, value in os.environ.items() if name.startswith("V_")}
modules = {name: importlib.util.find_spec(name) is not None for name in ("mine", "wheeled", "piped")}
print("PROBE", json.dumps([found, variables, modules], sort_keys=True))
"""

THEIRS = """
import json, os, shlex, sys
from ray.dashboard.modules.job.cli import job_cli_group
for folder, options, command, name in json.load(sys.stdin):
    os.chdir(folder)
    arguments = ["submit", "--address", sys.argv[1], "--no-wait", "--submission-id", name, *options]
    try:
        job_cli_group.main([*arguments, "--", *shlex.split(command)], standalone_mode=False)
    except (Exception, SystemExit) as e:
        sys.exit(f"Ray refuses {name}: {e!r}")
"""


@dataclass
class Case:
    """A working directory and a runtime environment, as a user has them."""

    make: Callable[[Path], object]
    env: dict[str, Any] = field(default_factory=dict)
    working_dir: str = "code"
    command: str = "true"
    probe: str = ""


def tree(top: Path, names: dict[str, str]) -> None:
    for name, text in names.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files(names: dict[str, str]) -> Callable[[Path], object]:
    """Make the folder ``code`` with these files."""
    return lambda top: tree(top, {os.path.normpath(f"code/{name}"): text for name, text in names.items()})


def links(top: Path) -> None:
    tree(top, {"code/a.txt": "a", "elsewhere/b.txt": "b", "elsewhere/deep/c.txt": "c"})
    (top / "code" / "folder").symlink_to("../elsewhere")
    (top / "code" / "file").symlink_to("a.txt")
    (top / "code" / "broken").symlink_to("nowhere")


def empty(top: Path) -> None:
    tree(top, {"code/a.txt": "a"})
    (top / "code" / "outputs" / "run").mkdir(parents=True)
    (top / "code" / "ignored").mkdir()
    (top / "code" / ".gitignore").write_text("ignored/\n")


def modes(top: Path) -> None:
    tree(top, {"code/tool": "#!/bin/sh\n", "code/plain": "x"})
    (top / "code" / "tool").chmod(0o755)


def wheel(path: Path, module: str) -> None:
    info = f"{module}-1.0.dist-info"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(f"{module}.py", "")
        out.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def zipped(top: Path) -> None:
    tree(top, {"code/a.txt": "a"})
    with zipfile.ZipFile(top / "code.zip", "w") as out:
        out.writestr("inside/a.txt", "a")
        out.writestr("b.txt", "b")


def wheels(top: Path) -> None:
    tree(top, {"code/a.txt": "a"})
    wheel(top / "wheeled-1.0-py3-none-any.whl", "wheeled")


def requirements(top: Path) -> None:
    tree(top, {"code/a.txt": "a"})
    wheel(top / "piped-1.0-py3-none-any.whl", "piped")
    (top / "requirements.txt").write_text(f"# ours\n{top / 'piped-1.0-py3-none-any.whl'}\n")


CASES = {
    "plain": Case(files({"a.txt": "a", "sub/b.txt": "b"})),
    "gitignore": Case(
        files({".gitignore": "*.ckpt\n/only-top\n", "x.ckpt": "", "only-top": "", "sub/only-top": "x"}),
    ),
    "nested ignore files": Case(
        files(
            {
                ".gitignore": "*.log\n",
                "a.log": "",
                "build/a": "b",
                "sub/.gitignore": "build/\n!keep.log\n",
                "sub/build/a": "",
                "sub/keep.log": "",
            }
        )
    ),
    "rayignore": Case(files({".rayignore": "data\n", "data/a": "", "b": "b", ".gitignore": "c\n", "c": ""})),
    "ignore file of a folder above": Case(files({"../.gitignore": "*\n", "a.txt": "a"})),
    "excludes": Case(
        files({"a.txt": "a", "sub/b.txt": "b", "sub/c.md": "c"}),
        {"excludes": ["*.txt", "!sub/b.txt"]},
    ),
    "links": Case(links),
    "empty folders": Case(empty),
    "left out by itself": Case(
        files({".git/config": "", ".venv/x": "", "sub/__pycache__/x.pyc": "", "venv.txt": "v"}),
    ),
    "modes": Case(modes),
    "odd names": Case(files({"with space.txt": "a", "ünï.txt": "b", "-dash": "c", "new\nline": "d"})),
    "an archive": Case(zipped, working_dir="code.zip"),
    "an address": Case(zipped, working_dir="file://TOP/code.zip"),
    "in the file": Case(files({"a.txt": "a"}), {"working_dir": "code"}, working_dir=""),
    "no code": Case(files({}), working_dir="", probe="bare"),
    "a module": Case(
        files({"a.txt": "a", "../mine/__init__.py": "", "../mine/data/x": "x"}),
        {"py_modules": ["mine"]},
    ),
    "a wheel": Case(wheels, {"py_modules": ["wheeled-1.0-py3-none-any.whl"]}),
    "requirements": Case(requirements, {"pip": "requirements.txt"}),
    "variables": Case(
        files({"a.txt": "a"}),
        {"env_vars": {"V_A": "1", "V_HOME": "${HOME}/x", "V_NOT": "${V_NOT_SET}y", "V_B": "${V_A}2", "V_C": " a b "}},
    ),
    "a failure": Case(files({"a.txt": "a"}), command="exit 7"),
    "a signal": Case(files({"a.txt": "a"}), command="kill -9 $$"),
}


def test_what_is_submitted_is_what_rays_own_tool_submits(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    tops = {name: tmp_path / re.sub(r"\W", "-", name) for name in CASES}
    commands, theirs = {}, []
    for name, case in CASES.items():
        top = tops[name]
        top.mkdir()
        case.make(top)
        (top / "code").mkdir(exist_ok=True)
        probe = f"python {tmp_path / 'probe.py'} {case.probe}; {case.command}"
        commands[name] = shlex.join(["sh", "-c", probe])
        (top / "env.yaml").write_text(json.dumps(case.env))
        where = ["--working-dir", case.working_dir.replace("TOP", str(top))] if case.working_dir else []
        theirs.append([str(top), ["--runtime-env", "env.yaml", *where], commands[name], f"theirs-{top.name}"])
    submit_theirs(cluster, theirs)
    ours = {name: submit_ours(tops[name], case, commands[name], monkeypatch) for name, case in CASES.items()}
    different = {}
    for name, top in tops.items():
        mine, other = outcome(ours[name]), outcome(as_submitted(ours[name], f"theirs-{top.name}"))
        if mine != other:
            different[name] = (mine, other)
    assert different == {}, json.dumps(different, indent=1)
    assert len(CASES) >= 15


def submit_theirs(cluster: RayCluster, jobs: list[list[Any]]) -> None:
    status = cluster.status(display=False)
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": status["token_file"]}
    arguments = [sys.executable, "-c", THEIRS, status["dashboard"]]
    done = subprocess.run(arguments, input=json.dumps(jobs), env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def submit_ours(top: Path, case: Case, command: str, monkeypatch: pytest.MonkeyPatch) -> RayJob:
    monkeypatch.chdir(top)
    job = RayJob(f"ours-{top.name}", LocalExecutor(), cluster_name="shared")
    job.start(command, case.working_dir.replace("TOP", str(top)), "env.yaml")
    return job


def as_submitted(job: RayJob, submission_id: str) -> RayJob:
    """The job of another submission to the same cluster."""
    other = RayJob(submission_id, job.executor, cluster_name="shared")
    other._own = replace(job.known(), name=submission_id, submission_id=submission_id)
    return other


def outcome(job: RayJob) -> list[Any]:
    with WatchedJob(job.known()) as watched:
        end = watched.wait()
        probed = [line for line in watched.log().splitlines() if line.startswith("PROBE ")]
    return [end["state"], end["exit_code"], *(json.loads(line.removeprefix("PROBE ")) for line in probed)]
