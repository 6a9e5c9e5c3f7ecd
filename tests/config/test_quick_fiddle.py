"""Fiddle is imported without libcst and absl.logging, and these are there when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def python(code: str, tmp_path: Path) -> str:
    """What a script prints in a process of its own."""
    (tmp_path / "script.py").write_text(code)
    command = [sys.executable, "-W", "error::ImportWarning", str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout


BEGIN = """
import sys
import nemo_run as run
run.Config(dict, a=1).build()
loaded = lambda: "libcst._nodes" in sys.modules
"""


def test_it_is_not_loaded(tmp_path: Path) -> None:
    code = "@run.autoconvert\ndef make() -> complex: return complex(1, 2)\nprint(make().build(), loaded())"
    assert python(f"{BEGIN}{code}", tmp_path) == "(1+2j) False\n"


@pytest.mark.parametrize("name", ["LazyEntrypoint", "help", "Experiment", "config.build", "cli.create_cli"])
def test_no_public_name_loads_it(name: str, tmp_path: Path) -> None:
    code = f"import sys\nimport nemo_run as run\nrun.{name}\nprint('libcst._nodes' in sys.modules)"
    assert python(code, tmp_path) == "False\n"


def test_looking_at_all_modules_does_not_load_it(tmp_path: Path) -> None:
    code = "files = [getattr(module, '__file__', None) for module in list(sys.modules.values())]"
    code += "\nprint(sys.modules['libcst'].__file__ in files, loaded())"
    assert python(f"{BEGIN}{code}", tmp_path) == "True False\n"


def test_neither_a_launch_nor_its_task_loads_it(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("import sys\ndef look(): print('in the task:', 'libcst._nodes' in sys.modules)")
    code = "import work\nrun.run(run.Partial(work.look), executor=run.LocalExecutor())\nprint('here:', loaded())"
    shown = python(f"import os; os.environ['NEMORUN_HOME'] = {str(tmp_path)!r}{BEGIN}{code}", tmp_path)
    assert [line for line in shown.splitlines() if line.endswith(("True", "False"))] == [
        "work.look/0 in the task: False",
        "here: False",
    ]


def test_a_lambda_needs_it(tmp_path: Path) -> None:
    code = "make = run.autoconvert(lambda: complex(1, 2))\nprint(make().build(), loaded())"
    assert python(f"{BEGIN}{code}", tmp_path) == "(1+2j) True\n"


@pytest.mark.parametrize(
    "use",
    [
        "import libcst; libcst.parse_module('a = 1')",
        "from libcst import parse_module; parse_module('a = 1')",
        "import libcst.matchers as m; m.Name",
        "from libcst.metadata import MetadataWrapper",
        "import libcst.metadata, libcst; libcst.CSTVisitor, libcst.metadata.PositionProvider.__name__",
        "import importlib.util; assert importlib.util.find_spec('libcst').name == 'libcst'; import libcst; libcst.Name",
        "from fiddle.codegen import codegen; codegen.codegen_dot_syntax",
    ],
)
def test_others_get_the_real_one(use: str, tmp_path: Path) -> None:
    code = f"{use}\nprint(loaded())\nmake = run.autoconvert(lambda: complex(1, 2))\nprint(make().build())"
    assert python(f"{BEGIN}{code}", tmp_path).split("\n")[1] == "(1+2j)"


def test_where_fiddle_was_there_first(tmp_path: Path) -> None:
    code = (
        "import fiddle\nimport libcst\n" + BEGIN + "print(loaded(), run.autoconvert(lambda: complex(1, 2))().build())"
    )
    assert python(code, tmp_path) == "True (1+2j)\n"


def test_logging_of_absl_is_not_loaded(tmp_path: Path) -> None:
    assert python(f"{BEGIN}print('absl.flags' in sys.modules)", tmp_path) == "False\n"


@pytest.mark.parametrize(
    "use",
    [
        "from absl import logging",
        "import absl.logging; logging = absl.logging",
        "import absl.logging as logging",
        "from absl import app, logging",
        "from fiddle._src.reraised_exception import logging",
    ],
)
def test_others_get_the_real_logging_of_absl(use: str, tmp_path: Path) -> None:
    code = f"{use}\nlogging.set_verbosity(logging.WARNING)\nprint(logging.get_verbosity(), 'absl.flags' in sys.modules)"
    assert python(f"{BEGIN}{code}", tmp_path) == "-1 True\n"


def test_an_error_that_fiddle_cannot_explain_is_still_reported(tmp_path: Path) -> None:
    code = """
import fiddle as fdl
class Refuses(Exception):
    def __init_subclass__(cls): raise TypeError("no subclasses")
def fail(): raise Refuses("as it was")
try:
    fdl.build(fdl.Config(fail))
except Refuses as error:
    print(error, 'absl.flags' in sys.modules)
"""
    assert python(f"{BEGIN}{code}", tmp_path) == "as it was True\n"
