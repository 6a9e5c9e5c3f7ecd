"""``RunContext`` in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import CommandLineError, OverrideError
from tests.cli.samples import Net, everything, half


@dataclass(kw_only=True)
class Note(run.Plugin):
    text: str = "none"
    size: int = 1


@pytest.fixture(autouse=True)
def factories() -> None:
    @run.cli.factory
    @run.autoconvert
    def note(text: str = "hi") -> run.Plugin:
        return Note(text=text)

    @run.cli.factory
    def notes() -> list[run.Plugin]:
        return [run.Config(Note, text="one"), run.Config(Note, text="two")]  # type: ignore[list-item]

    @run.cli.factory
    @run.autoconvert
    def bench() -> run.LocalExecutor:
        return run.LocalExecutor(ntasks_per_node=2)


def test_what_it_is_without_anything() -> None:
    ctx = run.cli.RunContext(name="test")
    assert (ctx.executor, ctx.plugins, ctx.direct, ctx.factory) == (None, [], False, None)
    assert ctx.to_config().name == "test"
    assert "command line" in run.cli.RunContext.get_help()


@pytest.mark.parametrize(
    ("args", "tasks", "texts"),
    [
        (["executor=bench"], 2, []),
        (["executor=bench", "executor.ntasks_per_node=4"], 4, []),
        (["executor=local"], 1, []),
        (["executor=LocalExecutor(ntasks_per_node=3)"], 3, []),
        (["executor=nemo_run.LocalExecutor"], 1, []),
        (["plugins=note"], None, ["hi"]),
        (["plugins=note(text='a b')", "plugins.size=3"], None, ["a b"]),
        (["plugins=notes", "plugins[1].text=three"], None, ["one", "three"]),
        (["plugins=[note, note(x)]"], None, ["hi", "x"]),
        (["plugins=Note(text=y)"], None, ["y"]),
    ],
)
def test_executors_and_plugins(args: list[str], tasks: int | None, texts: list[str]) -> None:
    ctx = run.cli.RunContext(name="test")
    ctx.parse_args(args)
    assert getattr(ctx.executor, "ntasks_per_node", None) == tasks
    assert [plugin.text for plugin in ctx.plugins] == texts  # type: ignore[attr-defined]


def test_options() -> None:
    ctx = run.cli.RunContext(name="test")
    ctx.parse_args(["detach=true", "name=other", "tail_logs=yes"])
    assert (ctx.detach, ctx.name, ctx.tail_logs) == (True, "other", True)


def test_configurations_by_name() -> None:
    ctx = run.cli.RunContext(name="test")
    assert ctx.parse_executor("bench", "ntasks_per_node=5") == run.Config(run.LocalExecutor, ntasks_per_node=5)
    assert ctx.parse_plugin("note", "text=x") == run.Config(Note, text="x")
    assert [plugin.text for plugin in ctx.parse_plugin("notes", "[0].text=z")] == ["z", "two"]
    for parse in (ctx.parse_executor, ctx.parse_plugin):
        with pytest.raises(ValueError, match="there is no factory or class of this name"):
            parse("nothing")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["executer=local"], "run.executer: there is no such option; did you mean 'executor'"),
        (["executor=locl"], "did you mean 'local'"),
        (["executor=small"], "run.executor: expected Executor"),
        (["executor=local", "executor.nodes=x"], "run.executor.nodes: expected int"),
        (["plugins=notez"], "did you mean 'notes'"),
        (["detach=perhaps"], "run.detach: expected bool"),
        (["executor.retries=3"], "say which executor"),
    ],
)
def test_mistakes(args: list[str], said: str) -> None:
    with pytest.raises(OverrideError, match=said):
        run.cli.RunContext(name="test").parse_args(args)


def test_configuring_a_function() -> None:
    ctx = run.cli.RunContext(name="test")
    assert ctx.parse_fn(everything, ["i=3", "net=small(9)"], s="set") == run.Partial(
        everything, i=3, net=run.Config(Net, width=9, act="tanh"), s="set"
    )


def test_an_unknown_kind_of_entrypoint() -> None:
    with pytest.raises(CommandLineError, match="Unknown entrypoint type: other"):
        run.cli.RunContext(name="test").cli_execute(half, [], "other")  # type: ignore[arg-type]


def test_missing_arguments(capfd: pytest.CaptureFixture[str]) -> None:
    def train(net: Net, rate: float, steps: int = 1) -> None:
        print("TRAIN", net, rate)

    ctx = run.cli.RunContext(name="test", skip_confirmation=True)
    with pytest.raises(OverrideError, match=r"'net' \(Net\), 'rate' \(float\).*see --help"):
        ctx.cli_execute(train, [])
    ctx.cli_execute(train, ["net=small", "rate=2"])
    assert capfd.readouterr().out == "TRAIN Net(width=2, act='tanh', sizes=[1, 2]) 2.0\n"


def test_an_experiment_gets_configurations_where_it_wants_them() -> None:
    got: dict[str, Any] = {}

    recipe_by_default, net_by_default, left_alone = run.Partial(half, x=1.0), Net(), run.Config(Net)

    def experiment(
        ctx: run.cli.RunContext,
        recipe: run.Partial = recipe_by_default,
        net: Net = net_by_default,
        left: Any = left_alone,
    ) -> None:
        got.update(ctx=ctx, recipe=recipe, net=net, left=left)

    ctx = run.cli.RunContext(name="test")
    ctx.cli_execute(experiment, ["recipe.x=3", "net.width=2"], "experiment")
    assert got == {"ctx": ctx, "recipe": run.Partial(half, x=3.0), "net": Net(2), "left": run.Config(Net)}


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise AssertionError("asked")

    monkeypatch.setattr("typer.confirm", refuse)
    run.cli.RunContext(name="test").cli_execute(half, ["x=3"])
