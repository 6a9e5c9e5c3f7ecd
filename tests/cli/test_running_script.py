"""A script is one module under two names: ``__main__``, and the one that files and other modules know it by."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Nemorun, Shell

SCRIPT = """
from dataclasses import dataclass
from os import getcwd

import nemo_run as run


@dataclass
class Model:
    width: int = 1


@dataclass
class Wide(Model):
    extra: int = 2


@run.cli.factory
def registered(width: int = 16) -> run.Config[Model]:
    return run.Config(Model, width=width)


def own(width: int = 8) -> run.Config[Model]:
    return run.Config(Wide, width=width)


def recipe(steps=7):
    return run.Partial(train, steps=steps)


@run.autoconvert
def converted(width: int = 5) -> Model:
    return Model(width=width)


def number():
    return 3


@run.cli.entrypoint
def train(model: Model = run.Config(Model), steps: int = 1):
    print(f"trained {model} for {steps}")


if __name__ == "__main__":
    run.cli.main(train)
"""


@pytest.fixture
def folder(here: Path) -> Path:
    (here / "train.py").write_text(SCRIPT)
    (here / "wide.yaml").write_text("model:\n  _target_: train.Wide\n  extra: 9\n")
    (here / "main.yaml").write_text("model:\n  _target_: __main__.Wide\n  extra: 9\n")
    return here


# ---------------------------------------------------------------- one module, two names
@pytest.mark.parametrize(
    "typed",
    [
        ["model=train.Wide", "model.extra=9"],
        ["model=__main__.Wide", "model.extra=9"],
        ["model=Wide(extra=9)"],
        ["--yaml", "wide.yaml"],
        ["--yaml", "main.yaml"],
        ["model=@wide.yaml:model"],
    ],
)
def test_a_class_of_the_script_has_both_names(folder: Path, script: Nemorun, typed: list[str]) -> None:
    assert script("train.py", "--yes", *typed).stdout == "trained Wide(width=1, extra=9) for 1\n"


@pytest.mark.parametrize("name", ["train", "__main__"])
@pytest.mark.parametrize("kind", ["yaml", "toml", "json"])
def test_what_a_script_exports_loads_in_its_next_run(folder: Path, script: Nemorun, name: str, kind: str) -> None:
    script("train.py", f"model={name}.Wide", "steps=3", f"--to-{kind}", f"out.{kind}")
    assert script("train.py", "--yes", "--yaml", f"out.{kind}").stdout == "trained Wide(width=1, extra=2) for 3\n"
    assert script("train.py", "--yes", "--factory", f"@out.{kind}", "steps+=1").stdout.endswith("for 4\n")


def test_a_module_run_as_a_script_has_its_whole_name(folder: Path, shell: Shell) -> None:
    (folder / "package").mkdir()
    (folder / "train.py").rename(folder / "package" / "fit.py")
    assert "Wide(" in shell("-m", "package.fit", "--yes", "model=package.fit.Wide").stdout


def test_another_module_of_the_same_name_stays_what_it_is(here: Path, shell: Shell) -> None:
    (here / "json.py").write_text(SCRIPT.replace("if __name__", "import json\nprint(json.__name__)\nif __name__"))
    assert shell("-P" if sys.version_info >= (3, 11) else "-I", "json.py", "--yes").stdout.startswith("json\ntrained")


def test_a_class_of_the_script_in_a_task_on_an_executor(folder: Path, shell: Shell) -> None:
    done = shell("train.py", "--yes", "--yaml", "wide.yaml", "run.executor=local")
    assert "trained Wide(width=1, extra=9) for 1" in done.stdout


# ---------------------------------------------------------------- imported again by the workspace file
IMPORTING = """
import nemo_run as run
from train import Model, registered

@run.cli.entrypoint(namespace="models")
def count(model: Model = registered()):
    print(model.width)
"""


def test_a_workspace_file_that_imports_the_script_changes_nothing(folder: Path, shell: Shell) -> None:
    (folder / "workspace.py").write_text(IMPORTING)
    help_of_script = shell("train.py", "--help").stdout
    assert help_of_script.count("registered(width=16)") == 1
    assert "registered" in shell("train.py", "--yes", "model=registerd", code=2).stderr
    assert "Model(width=4)" in shell("train.py", "--yes", "model=registered(4)").stdout
    assert shell("-m", "nemo_run", "models", "count", "--yes").stdout == "16\n"


def test_a_workspace_file_can_be_run_as_a_script(here: Path, shell: Shell) -> None:
    (here / "workspace.py").write_text("print('loaded')\n" + SCRIPT)
    assert shell("workspace.py", "--yes", "model=registered").stdout == "loaded\ntrained Model(width=16) for 1\n"
    (here / "other.py").write_text("import workspace\nworkspace.run.cli.main(workspace.train)\n")
    assert shell("other.py", "--yes", "model=registerd", code=2).stdout == "loaded\n"


def test_a_workspace_file_imports_its_neighbours(here: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "neighbour.py").write_text("X = 3\n")
    (here / "workspace.py").write_text(
        "import nemo_run as run\nfrom neighbour import X\n"
        "@run.cli.entrypoint(namespace='models')\ndef count(n: int = 2):\n"
        "    import neighbour\n    print('counted', n * X * neighbour.X)\n"
    )
    (here / "below").mkdir()
    (here / "below" / "neighbour.py").write_text("X = 100\n")
    command = "import os, sys; os.chdir('below'); sys.path[0] = 'elsewhere'; from nemo_run.__main__ import main; main()"
    assert shell("-c", command, "models", "count", "--yes").stdout == "counted 18\n"
    assert "counted 18" in shell("-c", command, "models", "count", "--yes", "run.executor=local").stdout


# ---------------------------------------------------------------- --factory NAME
@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("recipe", "Model(width=1) for 7"),
        ("recipe(9)", "Model(width=1) for 9"),
        ("recipe(steps=2)", "Model(width=1) for 2"),
        ("model=own", "Wide(width=8, extra=2) for 1"),
        ("model=own(width=3)", "Wide(width=3, extra=2) for 1"),
        ("model=converted", "Model(width=5) for 1"),
        ("model=registered", "Model(width=16) for 1"),
    ],
)
def test_a_function_of_the_script_is_a_factory_where_the_option_names_it(
    folder: Path, script: Nemorun, factory: str, said: str
) -> None:
    assert script("train.py", "--yes", "--factory", factory).stdout == f"trained {said}\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--factory", "number"], "--factory number: it gives 3, which is no configuration of train"),
        (["--factory", "getcwd"], "--factory getcwd: there is no factory or class of this name"),
        (["--factory", "recipy"], "--factory recipy: there is no factory or class of this name"),
        (["--factory", "model=recipe"], "model: expected Model, got 'recipe'"),
        (["--factory", "recipe", "--factory", "number"], "--factory is given 2 times: recipe, number; say one"),
        (["model=own"], "model: expected Model, got 'own'"),
        (["--yaml", "calls.yaml"], "model: expected Model, got 'own'"),
    ],
)
def test_no_other_function_is_called(folder: Path, script: Nemorun, typed: list[str], said: str) -> None:
    (folder / "calls.yaml").write_text("model: {_factory_: own}\n")
    assert said in script("train.py", "--yes", *typed, code=2).stderr


def test_a_function_of_the_script_configures_what_it_imports(folder: Path, shell: Shell) -> None:
    (folder / "launch.py").write_text(
        "import nemo_run as run\nfrom train import train\n"
        "def short():\n    return run.Partial(train, steps=2)\n"
        "if __name__ == '__main__':\n    run.cli.main(train)\n"
    )
    assert shell("launch.py", "--yes", "--factory", "short").stdout == "trained Model(width=1) for 2\n"
    assert shell("launch.py", "--yes", "--factory", "recipe").stdout == "trained Model(width=1) for 7\n"


# ---------------------------------------------------------------- experiments, variable arguments
def test_an_experiment_takes_plain_arguments_without_a_warning(here: Path, shell: Shell) -> None:
    (here / "many.py").write_text(
        "import nemo_run as run\n"
        "@run.cli.entrypoint(type='experiment')\n"
        "def many(ctx: run.cli.RunContext, epochs: int = 2, rates: list[float] = [0.1], tag: str | None = None):\n"
        "    print(epochs, rates, tag)\n"
        "if __name__ == '__main__':\n    run.cli.main(many)\n"
    )
    done = shell("many.py", "--yes", "epochs=1", "rates=[1,2]", "tag=x")
    assert (done.stdout, done.stderr) == ("1 [1.0, 2.0] x\n", "")


def test_help_offers_only_what_can_be_set(here: Path, script: Nemorun) -> None:
    (here / "rest.py").write_text(
        "import nemo_run as run\n"
        "@run.cli.entrypoint\ndef main(n: int = 1, *others: int, **more: float):\n    print(n, others, more)\n"
        "if __name__ == '__main__':\n    run.cli.main(main)\n"
    )
    said = script("rest.py", "--help").stdout
    assert "others" not in said
    assert "**more" in said
    assert script("rest.py", "--yes", "n=2", "a=1.5").stdout == "2 () {'a': 1.5}\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--n", "3"], "--n is no option: write n=3"),
        (["--n=3"], "--n is no option: write n=3"),
        (["--n"], "--n is no option: write n=VALUE"),
        (["--yaml", "empty.yaml"], "empty.yaml is empty"),
        (["--yaml", "folder.yaml"], "'folder.yaml' is a folder"),
    ],
)
def test_what_is_typed_in_another_way_is_told(here: Path, script: Nemorun, typed: list[str], said: str) -> None:
    (here / "small.py").write_text(
        "import nemo_run as run\n@run.cli.entrypoint\ndef main(n: int = 1):\n    print(n)\n"
        "if __name__ == '__main__':\n    run.cli.main(main)\n"
    )
    (here / "empty.yaml").touch()
    (here / "folder.yaml").mkdir()
    assert said in script("small.py", "--yes", *typed, code=2).stderr


def test_a_home_that_is_a_file_is_told(nemorun: Nemorun, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "home").touch()
    monkeypatch.setenv("NEMORUN_HOME", str(here / "home"))
    assert "Not a directory; set NEMORUN_HOME" in nemorun("experiment", "list", code=1).stderr


def test_an_entrypoint_whose_experiment_has_no_jobs_succeeds(here: Path, script: Nemorun) -> None:
    (here / "none.py").write_text(
        "import nemo_run as run\n@run.cli.entrypoint(type='experiment')\ndef main(ctx: run.cli.RunContext):\n"
        "    with run.Experiment('none') as exp:\n        ctx.launch(exp)\n"
        "if __name__ == '__main__':\n    run.cli.main(main)\n"
    )
    assert "error" not in script("none.py", "--yes").stderr  # and its exit code is 0
