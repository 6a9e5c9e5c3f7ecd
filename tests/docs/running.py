"""Runs code as a reader of the documentation would: as a script, or in a shell, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs import markdown

SHOWN_ONLY = {"text", "yaml", "toml", "json"}  # any other language is run


@dataclass(frozen=True)
class Reader:
    """Someone with an empty folder, an empty store, and nemo-run installed for ``interpreter``."""

    folder: Path
    patience: float = 120.0  # seconds for one piece of code
    environment: Mapping[str, str] = field(default_factory=dict)
    interpreter: str = sys.executable

    def python(self, code: str, name: str) -> str:
        """Save ``code`` as the file ``name`` and run it; what it prints."""
        (self.folder / name).write_text(code, encoding="utf-8")
        return self._run([self.interpreter, name], what=name)

    def bash(self, code: str, name: str) -> str:
        """Run ``code`` in a shell that stops at the first error; what it prints."""
        return self._run(["bash", "-euo", "pipefail", "-c", code], what=name)

    def page(self, page: Path) -> None:
        """Do what the blocks of a page say, one after the other, and see that they print what it says."""
        printed = ""
        for block in markdown.blocks(page.read_text(encoding="utf-8")):
            name = f"{page.stem}_line_{block.line}"
            if block.file is not None:
                (self.folder / block.file).write_text(block.code, encoding="utf-8")
            elif block.is_output:
                assert markdown.prints(block.code, printed), f"{name}: the block before printed\n{printed}"
            elif block.not_run is None and block.language not in SHOWN_ONLY:
                run = {"python": self.python, "bash": self.bash}[block.language]
                printed = run(block.code, f"{name}.py")

    def _run(self, command: list[str], what: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.patience,
            check=False,
        )
        assert done.returncode == 0, f"{what} ended with exit code {done.returncode}:\n{done.stdout}"
        return done.stdout

    def _environment(self) -> dict[str, str]:
        programs = os.pathsep.join([str(Path(self.interpreter).parent), os.environ.get("PATH", os.defpath)])
        return {
            "PATH": programs,
            "HOME": str(self.folder),
            "NEMORUN_HOME": str(self.folder / "nemorun-home"),
            "LANG": "C.UTF-8",
            "COLUMNS": "120",
            "PYTHONWARNINGS": "error",
            **self.environment,
        }
