"""Configuration files, as arguments and as whole tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.cli.overriding.files import is_file, item_of, split_section
from nemo_run.errors import CommandLineError, ConfigError, NemoRunError, SerializationError
from tests.cli import samples
from tests.cli.samples import Adam, Deep, Net, adam, everything, small

ALL: dict[str, Any] = {
    "f": 0.1, "s": "@text: [", "b": True, "c": 2j, "by": b"\xff", "p": Path("a/b"), "oi": None, "u": "5", "lit": 3,
    "col": samples.Colour.GREEN, "lev": samples.Level.HIGH, "li": [3], "tu": (2, "b"), "se": {"a"}, "di": {"b": 2},
    "dk": {1: 2.0}, "box": {"width": 3}, "a": [1, {"b": None}], "net": run.Config(Net, width=8),
    "on": run.Config(Deep, depth=1), "ln": [run.Config(Net), run.Config(Deep)], "dn": {"x": run.Config(Net)},
    "opt": run.Config(Adam, rate=1e-5),
    "shape": run.Config(samples.Square, side=2), "fn": samples.half, "ty": Deep,
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    samples.CALLED.clear()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(*typed: str) -> Any:
    return run.cli.parse_partial(everything, *typed)


def task(path: str, *typed: str) -> Any:
    return run.cli.RunContext(name="x", yaml=path).parse_fn(everything, list(typed))


@pytest.mark.parametrize("kind", ["yaml", "toml", "json"])
def test_what_is_exported_loads_back_equal(kind: str) -> None:
    config = run.Partial(everything, **ALL)
    getattr(config, f"to_{kind}")(f"all.{kind}")
    assert task(f"all.{kind}") == config
    assert run.cli.RunContext(name="x", factory=f"@all.{kind}").parse_fn(everything, []) == config


@pytest.mark.parametrize("kind", ["yaml", "toml", "json"])
@pytest.mark.parametrize("name", ["net", "on", "ln", "dn", "opt", "shape", "di", "li"])
def test_a_part_of_a_file(name: str, kind: str) -> None:
    getattr(run.Partial(everything, **ALL), f"to_{kind}")(f"all.{kind}")
    assert parsed(f"{name}=@all.{kind}:{name}").__arguments__[name] == ALL[name]


def test_shared_parts_stay_shared() -> None:
    shared = run.Config(Net, width=8)
    run.Partial(everything, net=shared, ln=[shared, run.Config(Net)]).to_yaml("shared.yaml")
    found = task("shared.yaml")
    assert found.ln[0] is found.net
    assert found.ln[1] is not found.net


@pytest.mark.parametrize(
    ("text", "net"),
    [
        ("_factory_: small", small()),
        ("_factory_: small(width=5)\nact: x", small(5, "x")),
        ("_factory_: small\n'width*=': 3\nsizes: [1]", run.Config(Net, width=6, act="tanh", sizes=[1])),
        ("_target_: tests.cli.samples.Deep\ndepth: 4", run.Config(Deep, depth=4)),
        ("_target_: tests.cli.samples.Deep\n_args_: [9]\ndepth: 4", run.Config(Deep, 9, depth=4)),
        ("_target_: tests.cli.samples.small\nwidth: 4", small(4)),
        ("width: 3", run.Config(Net, width=3)),
        ("net:\n  width: 3", run.Config(Net, width=3)),
        ("width: '3'", run.Config(Net, width=3)),
    ],
)
def test_a_net(text: str, net: Any) -> None:
    Path("net.yaml").write_text(text)
    assert parsed("net=@net.yaml").net == net
    if text.startswith("net:"):  # a section is taken out where it has the name of the argument
        return
    assert parsed("ln=[small, @net.yaml]").ln == [small(), net]


def test_files_that_name_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "top.yaml").write_text(
        "net: '@b/net.toml'\nopt: '@../opt.json:fast'\nln: ['@b/net.toml', small]\n"
    )
    (tmp_path / "a" / "b" / "net.toml").write_text("_factory_ = 'small'\nwidth = 5\n")
    (tmp_path / "opt.json").write_text('{"fast": {"_factory_": "adam", "rate": "1e-1"}}')
    found = task("a/top.yaml", "net.act=z")
    assert found.net == small(5, "z")
    assert found.opt == adam(0.1)
    assert found.ln == [small(5), small()]


def test_what_a_file_says_of_a_configuration_changes_it() -> None:
    Path("task.yaml").write_text(
        "net:\n  width: 9\nopt:\n  rate: 2\n  'betas': [0.1, 0.2]\n'i+=': 4\nli: [7]\ndi: {z: 1}\n"
    )
    found = task("task.yaml", "net.act=y")
    assert found.net == run.Config(Net, width=9, act="y", sizes=[1, 2])
    assert found.opt == run.Config(Adam, rate=2.0, betas=(0.1, 0.2))
    assert (found.i, found.li, found.di) == (7, [7], {"z": 1})


def test_a_reference_in_a_value_of_python_may_not_lead_back_to_itself() -> None:
    with pytest.raises(SerializationError, match="leads back to itself"):
        item_of({"net": "${deep}", "deep": "${net}"})
    looped: dict[str, Any] = {"deep": {"net": "${deep}"}}
    with pytest.raises(SerializationError, match="leads back to itself"):
        item_of(looped)


def test_text_stays_text() -> None:
    Path("task.yaml").write_text(
        "s: '@nothing.yaml'\na: '3'\nun: yes it is\nls: [small, '1']\np: x\nwhen: '2024-01-02'\nlit: b\n"
    )
    found = task("task.yaml")
    assert (found.s, found.a, found.un, found.ls, found.p) == (
        "@nothing.yaml",
        "3",
        "yes it is",
        ["small", "1"],
        Path("x"),
    )
    assert (found.when.year, found.lit) == (2024, "b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("i: x", "i: expected int, got 'x'"),
        ("i: 1.5", "i: expected int, got '1.5'"),
        ("ii: 1\nnet: {widht: 1}", "did you mean 'width'"),
        ("net: smal", "did you mean 'small'"),
        ("net: {_factory_: smal}", "did you mean 'small'"),
        ("net: {_factory_: 3}", "`_factory_` must be the name of a factory"),
        ("net: {_target_: 3}", "`_target_` must be a dotted name"),
        ("net: {_target_: tests.cli.samples.Adam}", "tests.cli.samples.Adam is no Net"),
        ("net: {_target_: nowhere.Net}", "cannot find 'nowhere.Net'"),
        ("net: '@gone.yaml'", "there is no file"),
        ("net: '@task.yaml'", "leads back to itself"),
        ("net: '${on}'\non: '${net}'", "leads back to itself"),
        ("net: '${net}'", "leads back to itself"),
        ("s: 'a${s}'", "'\\${s}' leads back to itself"),
        ("s: '${un}b'\nun: 'c${s}'", "leads back to itself"),
        ("s: '${oc.env:NEMORUN_TEST_NOTHING}'", "the variable 'NEMORUN_TEST_NOTHING' .* is not set"),
        ("- 1\n- 2", "which are no arguments of everything"),
        (
            "_target_: tests.cli.samples.half\nx: 1",
            "is for tests.cli.samples.half, not for tests.cli.samples.everything",
        ),
        ("_target_: nowhere.train", "cannot find 'nowhere.train'"),
        ("_target_: tests.cli.samples.everything\n_args_: [1]", "`_args_` cannot be used"),
        ("run: 3", "which are no options of a run"),
        ("a: [", "cannot read task.yaml as YAML"),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    Path("task.yaml").write_text(text)
    with pytest.raises((CommandLineError, ConfigError), match=said):
        task("task.yaml")


def test_values_and_variables_inside_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMORUN_TEST_DATA", "/da ta")
    Path("task.yaml").write_text(
        "i: 3\n"
        "s: ${oc.env:NEMORUN_TEST_DATA}/${un}-${nothing}-${ls}-\\${i}\n"
        "un: i${i}\n"
        "ls: ['${i}${i}', '${oc.env:NEMORUN_TEST_NOTHING, x y}']\n"
    )
    found = task("task.yaml")
    assert found.s == "/da ta/i3-${nothing}-${ls}-${i}"
    assert (found.un, found.ls) == ("i3", ["33", "x y"])


EVIL = "{_target_: tests.cli.samples.unregistered}"


@pytest.mark.parametrize("place", ["net", "on", "a", "un", "shape", "tok", "ln", "dn", "cfg", "un2"])
@pytest.mark.parametrize(
    "text",
    [
        EVIL,
        f"[{EVIL}]",
        f"{{x: {EVIL}}}",
        "{_factory_: unregistered}",
        "{_factory_: tests.cli.samples.unregistered}",
        "unregistered()",
        "tests.cli.samples.unregistered()",
        f"{{_target_: nemo_run.config.document.buildable, _args_: [{EVIL}]}}",
        f"{{_target_: tests.cli.samples.Net, _convert_: object, width: {EVIL}, act: x, sizes: []}}",
        f"{{_target_: tests.cli.samples.Net, act: {EVIL}}}",
    ],
)
def test_nothing_else_is_called(place: str, text: str) -> None:
    """Whatever is accepted, building it calls no function that is neither registered nor named by the code itself."""
    Path("evil.yaml").write_text(f"{place}: {text}\n")
    for attempt in (
        lambda: task("evil.yaml"),
        lambda: parsed(f"{place}=@evil.yaml:{place}"),
        lambda: parsed(f"{place}={text}"),
    ):
        try:
            run.Config(dict, **attempt().__arguments__).build()
        except (NemoRunError, TypeError, AttributeError):
            pass
    assert samples.CALLED == []


def test_functions_that_the_code_itself_names() -> None:
    def train(net: Any = None) -> None: ...

    @run.cli.factory(target=train)
    def recipe() -> run.Partial[train]:  # type: ignore[valid-type]
        return run.Partial(train, net=run.Config(samples.unregistered))

    run.cli.RunContext(name="x", factory="recipe").parse_fn(train, []).net.to_yaml("net.yaml")
    assert run.cli.RunContext(name="x", factory="recipe").parse_fn(train, ["net=@net.yaml"]) == recipe()
    with pytest.raises(CommandLineError, match="neither a class that fits nor a registered factory"):
        run.cli.RunContext(name="x").parse_fn(train, ["net=@net.yaml"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("@a.yaml", ("a.yaml", "")),
        ("@a/b.toml:x.y", ("a/b.toml", "x.y")),
        ("a.json:x", ("a.json", "x")),
        ("@c:/a.yaml", ("c:/a.yaml", "")),
        ("out.yaml", ("out.yaml", "")),
    ],
)
def test_paths_and_sections(text: str, parts: tuple[str, str]) -> None:
    path, section = split_section(text)
    assert (str(path), section) == parts
    assert is_file("@a.YAML:b")
    assert not is_file("@someone")
