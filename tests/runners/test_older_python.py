"""Function tasks run on Python 3.9, the python3 of current enterprise distributions, by what the bundle adds to it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nemo_run
from nemo_run.config import Partial
from nemo_run.core.runners.bundle import runner_bundle
from tests.runners.test_bundle import run, store_task


def _found(version: str) -> str:
    """Return a Python of this version, from PATH or as pyenv keeps them; empty where there is none."""
    kept = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob(f"versions/{version}.*/bin/python")
    for python in filter(None, [shutil.which(f"python{version}"), *map(str, kept)]):
        if subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0:
            return python
    return ""


OLD = _found("3.9") or sys.executable


def test_a_module_of_a_user_uses_every_public_name_on_python_3_9(tmp_path: Path) -> None:
    bundle = runner_bundle(tmp_path / "bundle")
    names = [name for name in nemo_run.__all__ if name not in ("ray", "cli", "DevSpace", "help", "lazy_imports", "run")]
    (tmp_path / "theirs.py").write_text(
        "import sys\nimport nemo_run as run\n"
        f"for name in {names}: getattr(run, name)\n"
        "@run.cli.factory\n@run.autoconvert\n"
        "def inner(width: int = 3) -> run.Config[dict]: return run.Config(dict, w=width)\n"
        "@run.cli.entrypoint\ndef work(width: int, text: str = ''): print(sys.version_info[:2], inner(width), text)\n"
        "def executor() -> run.SlurmExecutor:\n"
        "  return run.SlurmExecutor(tunnel=run.SSHTunnel(host='h', user='u', job_dir='/j'))\n"
        "print(executor().tunnel.key)\n"
    )
    task = store_task(tmp_path, Partial(dict))
    stored = json.loads(Path(task).read_text())
    document = {"_target_": "theirs.work", "_partial_": True, "width": 4, "text": "it's"}
    Path(task).write_text(json.dumps({**stored, "config": document}))
    result = run(OLD, bundle, task, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "u@h"
    assert result.stdout.splitlines()[1].startswith(("(3, 9)", str(sys.version_info[:2])))
    assert "it's" in result.stdout


def test_a_python_that_is_too_old_is_told_of_with_the_way_out(tmp_path: Path) -> None:
    main = zipfile.ZipFile(runner_bundle(tmp_path)).read("__main__.py").decode()
    (tmp_path / "main.py").write_text(f"import sys\nsys.version_info = (3, 6, 8)\n{main}")
    result = run(_found("3.8") or sys.executable, tmp_path / "main.py", "task.json", cwd=tmp_path)
    assert "this task needs Python 3.9 or newer, but runs on Python 3.6" in result.stderr
    assert "python= of its executor" in result.stderr
    assert result.returncode == 1


def test_nothing_is_added_to_a_python_that_is_new_enough() -> None:
    older = importlib.import_module("nemo_run.core.runners.older_python")
    before = zip
    older.complete()
    assert zip is before
