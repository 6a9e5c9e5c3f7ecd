"""The command line as a person meets it: a process of its own, in a folder of its own, without a terminal."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nemo_run.cli import app, registry
from nemo_run.cli.running import run_app

Shell = Callable[..., "subprocess.CompletedProcess[str]"]
Nemorun = Callable[..., "Done"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs Python with arguments in an empty folder, and gives what came of it."""
    folder = tmp_path / "here"
    folder.mkdir()

    def run(*argv: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", *argv],
            cwd=folder,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        if code == 2:
            assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it, and nothing is remembered of its folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # a workspace adds its folder
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    monkeypatch.setattr(registry, "_entrypoints", dict(registry._entrypoints))
    for remembered in (
        registry.workspace_file,
        registry._load_workspace_once,
        registry.packages,
        registry._load_package,
    ):
        remembered.cache_clear()


@dataclass
class Done:
    """What came of a command."""

    stdout: str
    stderr: str


@pytest.fixture
def nemorun(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nemorun:
    """Runs ``nemorun`` in this process, in the folder of ``shell``."""
    monkeypatch.chdir(here)

    def run(*argv: str, code: int = 0) -> Done:
        capfd.readouterr()
        found = run_app(app.nemorun, argv)
        done = Done(*capfd.readouterr())
        assert found == code, f"exit code {found}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def script(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nemorun:
    """Runs a script in this process, as ``python SCRIPT ...`` would, in the folder of ``shell``."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONWARNINGS", "error")

    def run(*argv: str, code: int = 0) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", list(argv))
        found: object = 0
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            found = end.code
        finally:
            forget_scripts()
        done = Done(*capfd.readouterr())
        assert found == code, f"exit code {found}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def forget_scripts() -> None:
    """Forget the modules that scripts run as, which go by their own names, too."""
    scripts = [name for name, module in sys.modules.items() if getattr(module, "__name__", "") == "__main__" != name]
    for name in scripts:
        del sys.modules[name]


@pytest.fixture
def here(shell: Shell, tmp_path: Path) -> Path:
    """The folder in which ``shell`` and ``nemorun`` run."""
    return tmp_path / "here"
