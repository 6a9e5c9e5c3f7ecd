"""Experiments as they are received: launched in the home of a sender, copied into that of the reader, and changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import no_process_left as no_process_left, work as work

_LAUNCH = """
import nemo_run as run
with run.Experiment("got", clean_mode=True) as exp:
    exp.add(run.Script(inline="echo x > $NEMO_RUN_ARTIFACTS/a.txt; echo said"), name="job")
    exp.run()
"""


@dataclass
class Received:
    """An experiment of somebody else in the reader's home."""

    top: Path

    @property
    def home(self) -> Path:
        return self.top / "home"

    @property
    def folder(self) -> Path:
        return next(self.home.glob("experiments/got/got_*"))

    @property
    def id(self) -> str:
        return self.folder.name

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change one of its JSON files."""
        document = json.loads((self.folder / name).read_text())
        change(document)
        (self.folder / name).write_text(json.dumps(document))

    def is_running(self, engine: str, connection: dict[str, Any], handle: str, **spec: Any) -> None:
        """Let its files say that it runs on an engine."""
        (self.folder / "summary.json").unlink(missing_ok=True)
        (self.folder / "job/attempts/1/exit.json").unlink(missing_ok=True)
        state = {"state": "RUNNING", "exit_code": None, "ended": None, "handle": handle}
        self.edit("job/state.json", lambda doc: doc["tasks"][0].update(state))
        self.edit(
            "job/plan.json", lambda doc: (doc.update(engine=engine, connection=connection), doc["spec"].update(spec))
        )

    def nemorun(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Type a command in the reader's home."""
        return subprocess.run(
            [sys.executable, "-m", "nemo_run", *words], cwd=self.top, env=self.env(**env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=120, check=False,
        )  # fmt: skip

    def python(self, code: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the reader's home."""
        return subprocess.run(
            [sys.executable, "-c", code], cwd=self.top, env=self.env(**env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=120, check=False,
        )  # fmt: skip

    def env(self, **more: str) -> dict[str, str]:
        return {**os.environ, "NEMORUN_HOME": str(self.home), "NO_COLOR": "1", **more}


@pytest.fixture(scope="session")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a sender, with one experiment that has ended."""
    top = tmp_path_factory.mktemp("sender")
    env = {**os.environ, "NEMORUN_HOME": str(top / "home")}
    subprocess.run([sys.executable, "-c", _LAUNCH], cwd=top, env=env, stdin=subprocess.DEVNULL, check=True, timeout=120)
    return top / "home"


@pytest.fixture
def received(sent: Path, tmp_path: Path) -> Received:
    """An experiment that was received: the sender's key is not there."""
    shutil.copytree(sent / "experiments/got", tmp_path / "home/experiments/got")
    return Received(tmp_path)
