"""Help and completion."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.cli.completion import complete, factory_names
from nemo_run.cli.context import RunContext
from nemo_run.cli.help import argument_docs, argument_rows
from tests.cli.samples import Adam, Deep, Net, Shape, adam, everything, small


def train(
    net: Net,
    opt: Adam = adam(rate=0.25),  # type: ignore[assignment]  # noqa: B008
    shape: Shape | None = None,
    deep: Deep = Deep(),  # noqa: B008
    resume: bool = False,
    **more: int,
) -> None:
    """Train.

    Args:
        net (Net): The net that
            is trained.
        opt: The optimiser.
        **more: Anything else.

    Returns:
        net: not an argument.
    """


def test_arguments() -> None:
    rows = {row.path: (row.type, row.default, row.doc) for row in argument_rows(train)}
    assert rows["net"] == ("Net", "", "The net that is trained.")
    assert rows["net.width"] == ("int", "4", "How wide it is.")
    assert rows["net.sizes"] == ("list[int]", "[1, 2]", "")
    assert rows["opt"] == ("Adam", "Adam(rate=0.25, betas=(0.5, 0.9))", "The optimiser.")
    assert rows["opt.rate"] == ("float", "0.25", "")
    assert rows["shape"] == ("Shape | None", "None", "")
    assert rows["**more"] == ("int", "", "Anything else.")
    assert not any(path.startswith("shape.") for path in rows)


class Inner:
    def __init__(self, x: int = 1) -> None: ...


class Middle:
    def __init__(self, inner: Inner, y: int = 2) -> None: ...


class Outer:
    def __init__(self, middle: Middle) -> None: ...


def go(outer: Outer, where: Path = Path()) -> None: ...


@dataclasses.dataclass
class Momentum:
    momentum: float = 0.9


def test_arguments_of_a_default_are_shown_with_its_values_also_in_a_union() -> None:
    def fit(either: Adam | Momentum = Momentum(momentum=3.0), opt: Adam = Adam(rate=0.5)) -> None: ...  # noqa: B008

    shown = {row.path: row.default for row in argument_rows(fit)}
    assert shown["either.momentum"] == "3.0"
    assert shown["opt.rate"] == "0.5"


def test_nothing_but_the_first_levels() -> None:
    assert [row.path for row in argument_rows(go)] == [
        *("outer", "outer.middle", "outer.middle.inner", "outer.middle.y", "where")
    ]


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run.help(train)
    shown = capsys.readouterr().out
    assert "Arguments\n  net" in shown
    assert "small(width=2, act='tanh')" in shown
    assert "A small net." in shown
    run.help(train, with_docs=False)
    assert "A small net." not in capsys.readouterr().out
    run.help(max)
    assert capsys.readouterr().out == "\n"


@pytest.mark.parametrize("width", [80, 200])
def test_what_is_drawn(width: int) -> None:
    from rich.console import Console

    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    run.help(train, console=console)
    text = console.export_text()
    assert "opt.rate" in text
    assert "Factories" in text
    assert max(map(len, text.splitlines())) <= width


def test_docs_of_an_attributes_section() -> None:
    class Thing:
        """A thing.

        Attributes:
            a: First.
            b (int): Second.

        Example:
            c: no argument
        """

    assert argument_docs(Thing) == {"a": "First.", "b": "Second."}


def test_docs_of_inherited_attributes() -> None:
    class Base:
        """A base.

        Attributes:
            a: First.
            b: Second.
        """

    class Thing(Base):
        """A thing.

        Attributes:
            b: Its own.
        """

    assert argument_docs(Thing) == {"a": "First.", "b": "Its own."}


# ---------------------------------------------------------------- completion
@pytest.mark.parametrize(
    ("before", "word", "wanted", "unwanted"),
    [
        ([], "", ["net=", "net.", "resume=", "resume=true", "run.executor=", "run."], ["more=", "ctx="]),
        ([], "ne", ["net=", "net."], ["opt="]),
        ([], "net.", ["net.width=", "net.act=", "net.act=relu"], []),
        ([], "net=", ["net=small", "net=deep", "net=Net", "net=Deep"], ["net=adam"]),
        ([], "net=sm", ["net=small"], ["net=deep"]),
        (["net=deep"], "net.d", ["net.depth="], ["net.width="]),
        ([], "opt.r", ["opt.rate=", "opt.rate=0.25"], []),
        ([], "shape=", ["shape=none", "shape=Square"], ["shape=Shape"]),
        ([], "resume=", ["resume=true", "resume=false"], []),
        ([], "run.", ["run.executor=", "run.plugins=", "run.detach=", "run.detach=true"], ["run.load="]),
        ([], "run.executor=", ["run.executor=local", "run.executor=none"], []),
        (["run.executor=local"], "run.executor.env", ["run.executor.env_vars="], []),
        ([], "nothing.", [], ["nothing."]),
        ([], "nothing=", [], []),
        (["net=(("], "opt.", ["opt.rate="], []),
    ],
)
def test_completion(before: list[str], word: str, wanted: list[str], unwanted: list[str]) -> None:
    found = [text for text, _ in complete(train, RunContext, before, word)]
    assert set(wanted) <= set(found)
    assert not set(unwanted) & set(found)
    assert all(text.startswith(word) for text in found)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("lit=", {"lit=a", "lit=b", "lit=3", "lit=True"}), ("col=", {"col=RED", "col=GREEN"}), ("oi=", {"oi=none"})],
)
def test_choices(word: str, wanted: set[str]) -> None:
    assert {text for text, _ in complete(everything, RunContext, [], word)} == wanted


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "a.yaml").touch()
    (tmp_path / "conf" / "b.toml").touch()
    (tmp_path / "c.txt").touch()
    assert [text for text, _ in complete(train, RunContext, [], "net=@")] == ["net=@a.yaml", "net=@conf/"]
    assert [text for text, _ in complete(train, RunContext, [], "net=@conf/")] == ["net=@conf/b.toml"]
    assert factory_names(train, "@conf/") == [("@conf/b.toml", "file")]


def test_factories_of_the_function() -> None:
    @run.cli.factory(target=train)
    def recipe() -> Any:
        """Everything."""

    assert factory_names(train, "re") == [("recipe", "Everything.")]


SCRIPT = """#!{python}
import nemo_run as run
from tests.cli.samples import Net, small

@run.cli.entrypoint
def train(net: Net = small(), steps: int = 1): ...

if __name__ == "__main__":
    run.cli.main(train)
    import sys
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["prog", "ne"], ["net=", "net."]),
        (["prog", "net", "="], ["small", "deep", "Net", "Deep"]),
        (["prog", "net", "=", "sm"], ["small"]),
        (["prog", "net", "=", "deep", "net.de"], ["net.depth=", "net.depth=3"]),
        (["prog", "--to-y"], ["--to-yaml"]),
        (["prog", "steps", "=", "1", "--dry"], ["--dryrun"]),
    ],
)
def test_bash_asks(words: list[str], wanted: list[str], tmp_path: Path) -> None:
    """As the script that ``--show-completion bash`` prints does: for bash, `=` is a word of its own."""
    prog = tmp_path / "prog"
    prog.write_text(SCRIPT.format(python=sys.executable))
    prog.chmod(0o755)
    env = {
        **os.environ,
        "_PROG_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    code = f"""
import runpy, sys
import typer.core  # it loads Rich by itself before Typer 0.17
before = set(sys.modules)
sys.argv = ["prog"]
try:
    runpy.run_path({str(prog)!r}, run_name="__main__")
finally:
    print("LOADED", *sorted({{"rich", "docker", "yaml", "asyncio"}} & (set(sys.modules) - before)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == wanted, done.stderr
    assert done.stderr == "LOADED\n"


def test_completion_scripts(tmp_path: Path) -> None:
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # not the one that runs the tests
    for shell in ("bash", "zsh", "fish"):
        argv = [sys.executable, "-m", "nemo_run", "--show-completion", shell]
        done = subprocess.run(argv, env=named, capture_output=True, text=True, check=False)
        assert "COMPLETE" in done.stdout or "COMPLETE" in done.stderr, (shell, done)


def test_small_is_used() -> None:
    assert small().width == 2
