"""`import nemo_run` is light, every public name is there, and `nemo_run.run` is the function in every import order."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import nemo_run

HEAVY = {
    *("fiddle", "rich", "yaml", "typer", "click", "cloudpickle", "libcst", "graphviz", "absl", "jinja2", "omegaconf"),
    *("httpx", "requests", "docker", "kubernetes", "ray", "sky", "leptonai", "torch", "numpy", "hydra", "fabric"),
    *("asyncio", "multiprocessing", "unittest"),
}


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_loads_nothing_heavy() -> None:
    loaded = python("import sys, nemo_run; print(*sys.modules)").split()
    assert sorted(HEAVY & set(loaded)) == []
    own = [name for name in loaded if name.startswith("nemo_run.")]
    assert set(own) <= {"nemo_run.run", "nemo_run.run.api", "nemo_run.errors"}


def test_every_public_name_is_there() -> None:
    assert len(set(nemo_run.__all__)) == len(nemo_run.__all__)
    for name in nemo_run.__all__:
        getattr(nemo_run, name)
        assert name in dir(nemo_run)


def test_type_checkers_see_the_names_that_programs_see() -> None:
    tree = ast.parse(Path(str(nemo_run.__file__)).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    modules = {name: tuple(module.rsplit(".", 1)) for name, module in nemo_run._MODULES.items()}
    assert imported == nemo_run._WHERE | modules


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Experimant'"):
        nemo_run.Experimant  # noqa: B018


def test_the_version_is_the_one_of_the_distribution() -> None:
    assert importlib.metadata.version("nemo-run") == nemo_run.__version__


IMPORTS = (
    "import nemo_run",
    "import nemo_run.run",
    "import nemo_run.run.api",
    "import nemo_run.run.experiment",
    "from nemo_run.run import experiment",
    "from nemo_run import run",
    "from nemo_run import *",
)


@pytest.mark.parametrize("pair", itertools.permutations(IMPORTS, 2), ids=" ; ".join)
def test_run_is_the_function_in_every_import_order(pair: tuple[str, str]) -> None:
    imports = "\n".join(pair)
    python(f"""
{imports}
import importlib, inspect, sys, types, nemo_run
package = sys.modules["nemo_run.run"]
assert inspect.isfunction(nemo_run.run), nemo_run.run
assert isinstance(package, types.ModuleType)
assert package.api.run is nemo_run.run
importlib.import_module("nemo_run.run.experiment")
importlib.reload(package)
assert inspect.isfunction(nemo_run.run), nemo_run.run
""")
