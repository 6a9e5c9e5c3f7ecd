"""Factories and entrypoints by name: registered, in a workspace file, in installed packages."""

from __future__ import annotations

import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.cli import registry
from nemo_run.cli.api import Entrypoint, create_cli
from nemo_run.errors import CommandLineError, OverrideError
from tests.cli import samples
from tests.cli.conftest import Nemorun
from tests.cli.samples import Adam, Deep, Net, adam, small

WORKSPACE = """
import nemo_run as run
from tests.cli.samples import Net

@run.cli.factory
def of_workspace() -> run.Config[Net]:
    return run.Config(Net, width=77)

@run.cli.entrypoint(namespace="tools")
def hello(name: str = "you", net: Net = of_workspace()):
    '''Say hello.'''
    print("HELLO", name, net.width)
"""
SCRIPT = """
import nemo_run as run
@run.cli.entrypoint
def main(n: int = 1): ...
if __name__ == "__main__":
    run.cli.main(main)
"""

PACKAGE = WORKSPACE.replace("of_workspace", "of_package").replace("77", "88").replace('"tools"', '"lab.models"')


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that announces itself, and one that is broken."""
    site = tmp_path / "site"
    info = site / "lab-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nemo_run.cli]\nlab = lab_commands\nbroken = lab_broken\n")
    (site / "lab_commands.py").write_text(PACKAGE)
    (site / "lab_broken.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "lab_commands", raising=False)
    return site


# ---------------------------------------------------------------- factories
def test_a_factory_is_still_a_function() -> None:
    assert small(5) == run.Config(Net, width=5, act="tanh")
    assert small.__name__ == "small"
    assert small.__factory__ is True
    assert small.wrapped(5) == small(5)


@pytest.mark.parametrize("target", [Net, Net | None, typing.Union[Net, str], "tests.cli.samples.Net"])  # noqa: UP007
def test_resolving_a_factory(target: object) -> None:
    assert run.cli.resolve_factory(target, "small")(3).width == 3


def test_a_factory_that_is_not_there() -> None:
    with pytest.raises(CommandLineError, match=r"No factory found for .*Net.* under 'smal'; did you mean 'small'"):
        run.cli.resolve_factory(Net, "smal")
    with pytest.raises(ValueError, match="No factory found"):
        run.cli.resolve_factory("nowhere", "small")


def test_listing_factories() -> None:
    assert run.cli.list_factories(Net) == [small]
    assert run.cli.list_factories("tests.cli.samples.Adam") == [adam]
    assert run.cli.list_factories(int) == []


def test_other_names_and_places() -> None:
    def train(net: Net, other: Net | None = None) -> None: ...

    @run.cli.factory(name="tiny", is_target_default=True)
    def make_tiny() -> run.Config[Net]:
        return run.Config(Net, width=1)

    @run.cli.factory(target=Net, namespace="corner")
    def hidden() -> run.Config[Net]:
        return run.Config(Net, width=-1)

    assert run.cli.parse_partial(train, "net=tiny").net.width == 1
    assert run.cli.parse_partial(train, "net=default").net.width == 1
    assert run.cli.resolve_factory("corner", "hidden")().width == -1
    with pytest.raises(OverrideError, match="got 'hidden'"):
        run.cli.parse_partial(train, "net=hidden")


def test_factories_of_a_function() -> None:
    def train(net: Net, rate: float = 0.1) -> None: ...

    @run.cli.factory(target=train)
    def recipe(width: int = 3) -> run.Partial[train]:  # type: ignore[valid-type]
        return run.Partial(train, net=run.Config(Net, width=width), rate=0.5)

    ctx = run.cli.RunContext(name="x", factory="recipe(width=4)")
    assert ctx.parse_fn(train, ["rate*=2"]) == run.Partial(train, net=run.Config(Net, width=4), rate=1.0)


def test_the_nearest_type_wins() -> None:
    def train(net: Deep) -> None: ...

    @run.cli.factory(name="same")
    def for_deep() -> run.Config[Deep]:
        return run.Config(Deep, depth=1)

    @run.cli.factory(name="same")
    def for_net() -> run.Config[Net]:
        return run.Config(Net)

    def either(net: Net) -> None: ...

    assert run.cli.parse_partial(train, "net=same").net == for_deep()
    assert run.cli.parse_partial(either, "net=same").net == for_net()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"target_arg": "net"}, "`target_arg` cannot be used without"), ({}, "Missing return type annotation")],
)
def test_factories_that_make_no_sense(arguments: dict[str, str], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):

        @run.cli.factory(**arguments)
        def nothing_said():  # type: ignore[no-untyped-def]
            return 1


def test_no_function() -> None:
    with pytest.raises(TypeError, match="is no function"):
        run.cli.factory(Adam(1.0))  # type: ignore[type-var]


# ---------------------------------------------------------------- workspace
def test_the_workspace_file(here: Path, nemorun: Nemorun, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "workspace.py").write_text(WORKSPACE)
    inside = here / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)

    def train(net: Net) -> None: ...

    assert run.cli.parse_partial(train, "net=of_workspace").net.width == 77
    assert nemorun("tools", "hello", "name=me", "net.width+=1").stdout == "HELLO me 78\n"


def test_the_private_workspace_comes_first(here: Path, nemorun: Nemorun) -> None:
    (here / "workspace.py").write_text("raise SystemExit(9)")
    (here / "workspace_private.py").write_text(WORKSPACE)
    assert nemorun("tools", "hello").stdout == "HELLO you 77\n"


def test_no_workspace(here: Path, nemorun: Nemorun, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "workspace.py").write_text(WORKSPACE)
    monkeypatch.setenv("INCLUDE_WORKSPACE_FILE", "false")
    assert "No such command 'tools'" in nemorun("tools", "hello", code=2).stderr


def test_a_broken_workspace(here: Path, nemorun: Nemorun) -> None:
    (here / "workspace.py").write_text("1 / 0\n")
    said = nemorun("tools", code=2).stderr
    assert "workspace.py: the workspace file cannot be loaded: ZeroDivisionError" in said
    assert nemorun("experiment", "list").stdout == ""
    assert "ZeroDivisionError" in nemorun("doctor", code=1).stdout


# ---------------------------------------------------------------- whose workspace
@pytest.mark.needs("root")
@pytest.mark.parametrize("who", ["the file", "the folder", "the link", "where the link leads"])
def test_a_workspace_of_another_user_is_not_executed(who: str, here: Path) -> None:
    real = here / "real"
    real.mkdir()
    (real / "workspace.py").write_text(f"open({str(here / 'executed')!r}, 'w')\n")
    inside = here / "shared" / "mine"
    inside.mkdir(parents=True)
    (inside.parent / "workspace.py").symlink_to(real / "workspace.py")
    theirs = {
        "the file": real / "workspace.py",
        "the folder": inside.parent,
        "the link": inside.parent / "workspace.py",
        "where the link leads": real,
    }
    os.lchown(theirs[who], 12345, -1)
    (inside / "t.py").write_text(SCRIPT)
    for argv, code in ((("-m", "nemo_run", "nosuch"), 2), (("t.py", "--help"), 0)):
        done = subprocess.run([sys.executable, *argv], cwd=inside, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        what = f"{inside.parent / 'workspace.py'} is not executed: {theirs[who]} belongs to user 12345"
        assert what in done.stderr, argv
    assert not (here / "executed").exists()


def test_a_workspace_where_everybody_can_write_is_not_executed(here: Path, nemorun: Nemorun) -> None:
    (here / "workspace.py").write_text("raise SystemExit(9)\n")
    here.chmod(0o1777)  # beside it, others can put what it imports
    said = nemorun("nosuch", code=2).stderr
    assert f"{here / 'workspace.py'} is not executed: everybody can write to {here}" in said


def test_a_workspace_that_is_not_trusted_hides_no_other(
    here: Path, nemorun: Nemorun, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "workspace.py").write_text(WORKSPACE)
    inside = here / "open"
    inside.mkdir()
    inside.chmod(0o777)
    (inside / "workspace.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(inside)
    assert nemorun("tools", "hello").stdout == "HELLO you 77\n"


@pytest.mark.needs("root")
def test_a_user_can_trust_a_workspace(here: Path, nemorun: Nemorun, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "workspace.py").write_text(WORKSPACE)
    os.chown(here / "workspace.py", 12345, -1)
    monkeypatch.setenv("INCLUDE_WORKSPACE_FILE", "always")
    assert nemorun("tools", "hello").stdout == "HELLO you 77\n"


# ---------------------------------------------------------------- packages
def test_commands_of_packages(package: Path, nemorun: Nemorun) -> None:
    listed = nemorun("--help")
    assert "lab" in listed.stdout
    assert "lab_commands" not in sys.modules
    assert nemorun("lab", "models", "hello", "name=me").stdout == "HELLO me 88\n"
    assert "lab_broken" not in sys.modules
    assert "Say hello." in nemorun("lab", "models", "--help").stdout
    assert "did you mean 'hello'" in nemorun("lab", "models", "helo", code=2).stderr
    assert "did you mean 'lab'" in nemorun("labb", code=2).stderr


def test_a_package_that_cannot_be_loaded(package: Path, nemorun: Nemorun) -> None:
    done = nemorun("broken", code=2)
    assert (
        "warning: lab_broken, which provides 'broken', cannot be loaded: No module named 'not_there_at_all'"
        in done.stderr
    )


def test_factories_of_packages(package: Path) -> None:
    def train(net: Net) -> None: ...

    assert run.cli.parse_partial(train, "net=of_package").net.width == 88


# ---------------------------------------------------------------- entrypoints
def test_listing_entrypoints() -> None:
    @run.cli.entrypoint(namespace="one.two", name="shown", skip_confirmation=True)
    def task(x: int = 1) -> None:
        """Do it.

        Args:
            x: Something.
        """

    assert run.cli.list_entrypoints("one") == {"one": {"two": {"task": task.cli_entrypoint}}}
    assert task.cli_entrypoint.path == "one.two.task"
    assert (task.cli_entrypoint.name, task.cli_entrypoint.summary) == ("shown", "Do it.")
    assert task.cli_entrypoint.parse_partial(["x=3"]).x == 3
    assert run.cli.list_entrypoints("nothing") == {}


def test_a_task_cannot_take_an_executor() -> None:
    with pytest.raises(ValueError, match="cannot have an argument named `executor`"):

        @run.cli.entrypoint
        def task(executor: str) -> None: ...


def test_an_entrypoint_of_ones_own_class(nemorun: Nemorun) -> None:
    class Mine(Entrypoint):
        """Prints before it is called."""

    @run.cli.entrypoint(entrypoint_cls=Mine, enable_executor=False, namespace="own")
    def plain(net: Net = small()) -> None:  # noqa: B008
        print("PLAIN", net)

    assert isinstance(plain.cli_entrypoint, Mine)
    assert nemorun("own", "plain", "net.width=3").stdout == "PLAIN Net(width=3, act='tanh', sizes=[1, 2])\n"
    assert "did you mean 'width'" in nemorun("own", "plain", "net.widht=3", code=2).stderr


def test_the_app_is_typer() -> None:
    import typer

    assert isinstance(create_cli(), typer.Typer)


def test_everything_is_where_it_was() -> None:
    import nemo_run.cli.api as api

    for name in ("RunContext", "create_cli", "entrypoint", "factory", "main", "resolve_factory", "list_factories"):
        assert getattr(run.cli, name) is getattr(api, name)
    assert callable(run.cli.entrypoint)
    assert registry.factories()
    assert samples.CALLED == []
