"""Entrypoints that are imported late."""

from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import fiddle as fdl
import pytest

import nemo_run as run
from nemo_run.cli.lazy import LazyName, LazyTarget
from nemo_run.errors import CommandLineError, OverrideError
from tests.cli.conftest import Nemorun
from tests.cli.samples import Net, half

SCRIPT = """
from __future__ import annotations
from dataclasses import dataclass
import nemo_run as run

@dataclass
class Net:
    width: int = 4

@run.cli.factory
def wide(width: int = 99) -> run.Config[Net]:
    return run.Config(Net, width=width)

@run.cli.entrypoint
def train(net: Net = wide(), steps: int = 1):
    print("LATE", net, steps)

if __name__ == "__main__":
    run.cli.main(train)
"""


def test_setting_and_resolving() -> None:
    task = run.LazyEntrypoint("tests.cli.samples.everything", overwrites=["li=[5]"])
    task.i = 7
    task.p = "a/b"
    task.oi = None
    task.net.width = 3
    task.net.act = "x"
    task.net.width += 2
    task.f *= 2
    task.di = {"k": 1}
    task.col = "green"
    assert task.is_lazy
    found = task.resolve()
    assert isinstance(found, run.Partial)
    assert (found.i, found.f, found.li, found.di) == (7, 3.0, [5], {"k": 1})
    assert (found.p, found.oi, found.col.name) == (Path("a/b"), None, "GREEN")
    assert (found.net.width, found.net.act) == (5, "x")


def test_a_function_and_a_factory() -> None:
    def train(net: Net, rate: float = 0.1) -> None: ...

    @run.cli.factory(target=train)
    def recipe() -> run.Partial[train]:  # type: ignore[valid-type]
        return run.Partial(train, net=run.Config(Net), rate=0.5)

    for factory in ("recipe", recipe):
        task = run.LazyEntrypoint(train, factory=factory)
        task.net.width = 3000
        assert task.resolve() == run.Partial(train, net=run.Config(Net, width=3000), rate=0.5)


@pytest.mark.parametrize(
    "source",
    ["net:\n  width: 8\ni: 2\n", {"net": {"width": 8}, "i": 2}, "file", "omegaconf"],
    ids=["text", "dict", "file", "omegaconf"],
)
def test_files(source: Any, tmp_path: Path) -> None:
    if source == "file":
        source = tmp_path / "task.toml"
        source.write_text("i = 2\n[net]\nwidth = 8\n")
    elif source == "omegaconf":
        source = pytest.importorskip("omegaconf").OmegaConf.create({"net": {"width": 8}, "i": 2})
    found = run.LazyEntrypoint("tests.cli.samples.everything", yaml=source).resolve()
    assert (found.net.width, found.i) == (8, 2)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere.nothing", "cannot find 'nowhere.nothing'"),
        ("nothing here", "there is no command 'nothing'"),
        ("not_there.py", "the script 'not_there.py' cannot be read"),
    ],
)
def test_targets_that_are_not_there(target: str, said: str) -> None:
    with pytest.raises(CommandLineError, match=said):
        run.LazyEntrypoint(target).resolve()


def test_what_does_not_fit_is_found_when_it_is_resolved() -> None:
    task = run.LazyEntrypoint("tests.cli.samples.everything")
    task.i = "many"
    task.nothing = 1
    with pytest.raises(OverrideError, match="i: expected int, got 'many'"):
        task.resolve()


def test_a_context() -> None:
    def experiment(ctx: run.cli.RunContext, steps: int = 1) -> None: ...

    task = run.LazyEntrypoint(experiment, overwrites=["steps=3"])
    with pytest.raises(CommandLineError, match="takes a `ctx`"):
        task.resolve()
    assert task.resolve(ctx=run.cli.RunContext(name="x")).steps == 3


def test_fiddle_builds_it() -> None:
    task = run.LazyEntrypoint("tests.cli.samples.half", overwrites=["x=5"])
    assert isinstance(task, fdl.Buildable)
    assert fdl.build(task)() == 2.5
    assert run.LazyEntrypoint(half, overwrites=["x=5"]).resolve().build()() == 2.5


def test_it_runs_where_its_code_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is imported here: the module is found only by the task."""
    (tmp_path / "only_there.py").write_text("def train(steps: int = 1):\n    print('THERE', steps)\n")
    task = run.LazyEntrypoint("only_there.train")
    task.steps = 4
    executor = run.LocalExecutor(env_vars={"PYTHONPATH": str(tmp_path)})
    result = run.run(task.to_task(), executor=executor, name="late")
    assert result.ok
    assert "THERE 4" in capfd.readouterr().out
    assert "only_there" not in sys.modules


def test_a_script_goes_with_the_task(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    (here / "late.py").write_text(SCRIPT)
    task = run.LazyEntrypoint("late.py steps=3", factory=None).to_task(overwrites=["net=wide(7)"])
    (here / "late.py").unlink()
    run.run(task, executor=run.LocalExecutor(), name="late")
    assert "LATE Net(width=7) 3" in capfd.readouterr().out


def test_lazy_imports() -> None:
    really_import = builtins.__import__
    with run.lazy_imports():
        import nowhere.models as models
        from nowhere.models import pretrain
    assert builtins.__import__ is really_import
    assert (models.name, pretrain.name) == ("nowhere.models", "nowhere.models.pretrain")
    task = run.LazyEntrypoint(pretrain)
    assert task._target_ == LazyTarget("nowhere.models.pretrain")
    with pytest.raises(CommandLineError, match=r"cannot find 'nowhere.models.pretrain'"):
        pretrain()


def test_lazy_imports_of_what_is_there() -> None:
    with run.lazy_imports(fallback_to_lazy=True):
        import json

        from nowhere import thing
    assert json.loads("1") == 1
    assert isinstance(thing, LazyName)
    with run.lazy_imports():
        from tests.cli.samples import half as late
    assert late(3) == 1.5


def test_nemorun_lazy(here: Path, nemorun: Nemorun) -> None:
    (here / "workspace.py").write_text(SCRIPT.replace("@run.cli.entrypoint", '@run.cli.entrypoint(namespace="w")'))
    done = subprocess.run(
        [sys.executable, "-m", "nemo_run", "w", "train", "--lazy", "run.executor=local", "steps=8", "net.width=2"],
        cwd=here,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "LATE Net(width=2) 8" in done.stdout


def test_a_name_that_is_not_installed_here_is_stored_and_looked_at(capsys) -> None:
    with run.lazy_imports():
        import notinstalled as n

    config = run.Config(n.nn.Linear, 3, act=n.nn.relu)
    assert config.clone() == config
    for text in (config.to_yaml(), config.to_json(), config.to_toml()):
        assert "notinstalled.nn.Linear" in text
        assert "notinstalled.nn.relu" in text
    assert "notinstalled.nn" in config.to_python()
    with run.Experiment("lazy", executor=run.LocalExecutor()) as exp:
        exp.add(run.Partial(dict, layer=config), name="layer")
        exp.dryrun()
    assert "layer" in capsys.readouterr().out


def test_a_name_that_was_imported_lazily_is_what_it_stands_for_in_the_task() -> None:
    with run.lazy_imports():
        import fractions

    config = run.Config(fractions.Fraction, 1, 2)
    assert run.load_config(config.to_yaml()).build() == 0.5
    assert run.Partial(dict, half=config).build()()["half"] == 0.5
