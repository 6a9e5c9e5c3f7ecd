"""`import nemo_run` is light, every public name is there, and `nemo_run.run` is the function in every import order."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


def test_looking_at_an_experiment_loads_nothing_heavy() -> None:
    loaded = python("import sys, nemo_run; nemo_run.Experiment.catalog(); print(*sys.modules)").split()
    stood_for = {"libcst", "absl"}  # by something light
    heavy = HEAVY - stood_for | {"absl.flags", "ssl", "pickle", "nemo_run.run.controller"}
    assert sorted(heavy & set(loaded)) == []


def test_every_public_name_is_there() -> None:
    assert len(set(nemo_run.__all__)) == len(nemo_run.__all__)
    for name in nemo_run.__all__:
        getattr(nemo_run, name)
        assert name in dir(nemo_run)


def names_for_type_checkers(package: ModuleType) -> dict[str, tuple[str, str]]:
    """The module of each name, and its name there, as the block for type checkers says."""
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    seen = {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in block.body:
        if isinstance(node, ast.Assign):
            (new,), old = node.targets, node.value
            assert isinstance(new, ast.Name)
            assert isinstance(old, ast.Name)
            seen[new.id] = seen.pop(old.id)
    return seen


def test_type_checkers_see_the_names_that_programs_see() -> None:
    modules = {name: tuple(module.rsplit(".", 1)) for name, module in nemo_run._MODULES.items()}
    assert names_for_type_checkers(nemo_run) == nemo_run._WHERE | modules


LAZY = (*("core.execution", "core.packaging", "core.tunnel"), *("cli", "config", "devspace"))


@pytest.mark.parametrize("name", LAZY)
def test_names_of_a_package_are_imported_when_they_are_used(name: str) -> None:
    package = importlib.import_module(f"nemo_run.{name}")
    table = package._MODULE_OF
    assert names_for_type_checkers(package) == {
        public: (f"{package.__name__}.{module}", public) for public, module in table.items()
    }
    listed, first = python(f"""
import {package.__name__} as package
name = {min(table)!r}
print(*dir(package))
assert name not in vars(package)
print(getattr(package, name).__name__)
assert vars(package)[name] is getattr(package, name)
""").splitlines()
    assert set(table) <= set(listed.split())
    assert first == min(table)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'Misspelt'"):
        package.Misspelt  # noqa: B018


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


@pytest.mark.parametrize("first", range(len(IMPORTS)), ids=IMPORTS)
def test_run_is_the_function_in_every_import_order(first: int) -> None:
    imports = "\n".join(IMPORTS[first:] + IMPORTS[:first])
    python(f"""
{imports}
import importlib, inspect, sys, types, nemo_run
package = sys.modules["nemo_run.run"]
assert inspect.isfunction(nemo_run.run), nemo_run.run
assert isinstance(package, types.ModuleType)
assert package.api.run is nemo_run.run
importlib.reload(package)
assert inspect.isfunction(nemo_run.run), nemo_run.run
""")


def test_no_module_takes_the_place_of_a_public_name() -> None:
    python("""
import importlib, inspect, pkgutil, nemo_run
for module in pkgutil.walk_packages(nemo_run.__path__, "nemo_run."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
modules = {name for name in nemo_run.__all__ if inspect.ismodule(getattr(nemo_run, name))}
assert modules == set(nemo_run._MODULES), modules
hidden = [name for name in nemo_run.config._MODULE_OF if inspect.ismodule(getattr(nemo_run.config, name))]
assert hidden == [], hidden
""")


def loaded_by(*command: str) -> set[str]:
    """The modules that a command loads, beyond those that this interpreter begins with."""
    begin = set(python("import sys; print(*sys.modules)").split())
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('\\n', *sys.modules, file=sys.__stdout__))\n"
        f"sys.argv = ['nemorun', *{command!r}]\n"
        "from nemo_run.__main__ import main\n"
        "main()"
    )
    return set(python(code).splitlines()[-1].split()) - begin


@pytest.mark.parametrize(
    "command", [("--help",), ("experiment", "list"), ("experiment", "list", "title", "--state", "failed", "-t", "a")]
)
def test_a_command_whose_arguments_are_text_loads_no_pydantic(command: tuple[str, ...]) -> None:
    loaded = loaded_by(*command)
    assert "typer" in loaded
    of_typer = set(python("import sys, typer; print(*sys.modules)").split())  # before 0.19, it loads Rich itself
    assert sorted({"pydantic", "fiddle", "rich", "yaml"} & loaded - of_typer) == []


def test_a_launch_loads_only_what_it_needs(tmp_path: Path) -> None:
    script = tmp_path / "launch.py"
    script.write_text(
        "import sys\nbegin = set(sys.modules)\nimport nemo_run as run\n"
        "run.run(run.Script(inline='true'), executor=run.LocalExecutor(), check=True)\n"
        "print('\\n', *(set(sys.modules) - begin))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", script], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if Path(path).is_dir())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    needless = {
        *("absl.flags", "cloudpickle", "rich", "yaml", "pydantic", "typer", "libcst._nodes"),
        *(
            "platform",
            "uuid",
            "decimal",
            "fractions",
            "zoneinfo",
            "tarfile",
            "zipfile",
            "concurrent.futures",
            "email",
            "html",
            "calendar",
        ),
        *(f"nemo_run.run.{name}" for name in ("foreign", "sweep", "space", "rerun", "adopting")),
    }
    assert "nemo_run.run.controller" in loaded
    assert sorted(needless & loaded) == []
