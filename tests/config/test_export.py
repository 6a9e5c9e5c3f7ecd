"""Configurations as text, and back."""

from __future__ import annotations

import itertools
import json
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import fiddle as fdl
import pytest
import yaml
from hypothesis import given

import nemo_run as run
from nemo_run.config.export import load_config, load_words, to_json, to_python, to_toml, to_yaml, write_document
from nemo_run.errors import ConfigTypeError, SerializationError, UnknownFieldError
from tests.config.stored import QUICK, VALUES, Important, Model, Node, all_configs, function, plain, same
from tests.support import value_id

HERE = "tests.config.stored"


def run_source(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(compile(source, "exported.py", "exec"), names)
    return names["config"]


LOAD = {to_yaml: load_config, to_toml: load_config, to_json: load_config, to_python: run_source}
FORMATS = pytest.mark.parametrize("write", LOAD, ids=lambda write: write.__name__)


# ---------------------------------------------------------------- round trips
@FORMATS
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value_id(value)[:20]}")
def test_each_type_of_value_comes_back(write: Any, value: Any) -> None:
    config = run.Config(plain, a=value, b=[value, {"x": value}])
    assert same(LOAD[write](write(config)), config)


@FORMATS
def test_whatever_is_in_a_configuration_comes_back(write: Any) -> None:
    @QUICK
    @given(all_configs())
    def check(config: Any) -> None:
        assert same(LOAD[write](write(config)), config)

    check()


@FORMATS
def test_tags_and_factories_come_back(write: Any) -> None:
    config = run.Partial(plain, a=fdl.ArgFactory(list), b=run.Config(plain, a=1))
    fdl.add_tag(config.b, "a", Important)
    assert same(LOAD[write](write(config)), config)


@FORMATS
def test_arguments_named_as_those_of_the_constructor_come_back(write: Any) -> None:
    config = run.Config(dict, a=1)
    config.fn_or_cls, config.bind_args, config.validate, config.format = 1, 2, 3, 4
    assert same(LOAD[write](write(config)), config)


@FORMATS
def test_nan_comes_back(write: Any) -> None:
    assert same(LOAD[write](write(run.Config(plain, a=float("nan")))), run.Config(plain, a=float("nan")))


@pytest.mark.parametrize("write", [to_yaml, to_toml, to_json])
def test_only_what_is_referred_to_is_imported(write: Any, tmp_path: Path) -> None:
    (tmp_path / "wanted.py").write_text("def f(x=0): return x\n")
    (tmp_path / "unwanted.py").write_text("raise SystemExit('imported')\n")
    text = write(run.Config(plain, a="unwanted.f")).replace(f"{HERE}.plain", "wanted.f").replace('"a"', '"x"')
    text = text.replace("\na:", "\nx:").replace("\na =", "\nx =")
    program = f"""
import sys, yaml, json, nemo_run.config.export, nemo_run.config.export_yaml, nemo_run.config.buildable
from nemo_run.config.export import load_config, load_document
load_config({write(run.Config(dict, a=1))!r})
before = set(sys.modules)
assert load_document({text!r})["x"] == "unwanted.f"
assert set(sys.modules) == before
assert load_config({text!r}).x == "unwanted.f"
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("['wanted']\n", 0), done.stderr


# ---------------------------------------------------------------- what it looks like
CONFIG = run.Partial(
    Node,
    a=run.Config(Model, size=2, layers=[1, 2], name="no"),
    b=None,
    c={"path": Path("/data"), "text": "two\nlines\n"},
)


def test_yaml_reads_well() -> None:
    assert to_yaml(CONFIG) == textwrap.dedent("""\
        _target_: tests.config.stored.Node
        _convert_: all
        _partial_: true
        a:
          _target_: tests.config.stored.Model
          size: 2
          layers: [1, 2]
          name: 'no'
        b: null
        c:
          path:
            _target_: pathlib.Path
            _args_: [/data]
          text: |
            two
            lines
        """)


def test_toml_reads_well() -> None:
    assert to_toml(CONFIG) == textwrap.dedent("""\
        _target_ = "tests.config.stored.Node"
        _convert_ = "all"
        _partial_ = true

        [a]
        _target_ = "tests.config.stored.Model"
        size = 2
        layers = [
            1,
            2,
        ]
        name = "no"

        [b]
        _target_ = "json.loads"
        _args_ = [
            "null",
        ]

        [c]
        text = "two\\nlines\\n"

        [c.path]
        _target_ = "pathlib.Path"
        _args_ = [
            "/data",
        ]
        """)


def test_json_is_strict() -> None:
    text = to_json(run.Config(plain, a=float("inf"), b="é"))
    assert json.loads(text, parse_constant=pytest.fail) == {
        "_target_": f"{HERE}.plain",
        "a": {"_target_": "builtins.float", "_args_": ["inf"]},
        "b": "é",
    }


def test_python_reads_well() -> None:
    shared = run.Config(Model, size=3)
    config = run.Partial(Node, a=shared, b=[shared, run.Config(Node.Inner)], c=CONFIG.c, more_1=(Node.of, dict))
    assert to_python(config) == textwrap.dedent("""\
        import nemo_run as run
        from pathlib import Path
        from tests.config.stored import Model, Node

        a = run.Config(Model, size=3)

        config = run.Partial(
            Node,
            a=a,
            b=[a, run.Config(Node.Inner)],
            c={"path": Path("/data"), "text": "two\\nlines\\n"},
            more_1=(Node.of, dict),
        )
        """)


def test_python_tells_homonyms_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("first_homonym", "second_homonym"):
        (tmp_path / f"{module}.py").write_text("def Model(a=0): ...\ndef print(a=0): ...\ndef config(a=0): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    first, second = __import__("first_homonym"), __import__("second_homonym")
    config = run.Config(
        Node, a=run.Config(first.Model), b=run.Config(second.Model), c=run.Config(first.print), d=first.config
    )
    source = to_python(config)
    assert "from second_homonym import Model as second_homonym_Model" in source
    assert same(run_source(source), config)


def test_python_keeps_validation_off_where_it_was() -> None:
    config = run.Config(Model, validate=False, size="big")
    assert "run.Config(Model, validate=False, size=" in to_python(config)
    assert same(run_source(to_python(config)), config)


@FORMATS
def test_what_cannot_be_stored_is_refused(write: Any) -> None:
    with pytest.raises(SerializationError, match=r"^a\[1\]: .*lambda"):
        write(run.Config(plain, a=[0, lambda: 1]))


def test_toml_needs_a_table() -> None:
    with pytest.raises(SerializationError, match="a TOML file is a table, which list is not"):
        to_toml([run.Config(plain)])


# ---------------------------------------------------------------- files
@pytest.mark.parametrize("suffix", ["yaml", "yml", "toml", "json"])
def test_a_file_by_its_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"config.{suffix}"
    write = {"toml": to_toml, "json": to_json}.get(suffix, to_yaml)
    text = write(CONFIG, path)
    assert path.read_text() == text
    assert same(load_config(path), CONFIG)
    assert same(load_config(str(path)), CONFIG)


def test_a_file_of_another_suffix_by_looking(tmp_path: Path) -> None:
    for write in (to_yaml, to_toml, to_json):
        path = tmp_path / write.__name__
        write(CONFIG, path)
        assert same(load_config(str(path)), CONFIG)
    assert same(load_config(to_json(CONFIG), format="yaml"), CONFIG)


def test_an_export_replaces_a_file_at_once(tmp_path: Path) -> None:
    path, link = tmp_path / "config.yaml", tmp_path / "link.yaml"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    to_yaml(CONFIG, link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml", "link.yaml"]
    with pytest.raises(SerializationError, match=r"cannot write .*no_folder.*No such file"):
        to_yaml(CONFIG, tmp_path / "no_folder" / "config.yaml")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SerializationError, match=r"cannot write .*folder"):
        to_yaml(CONFIG, tmp_path / "folder")
    assert path.read_text() == to_yaml(CONFIG)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml", "folder", "link.yaml"]


_LAUGHS = "".join(f"{y}: &{y} [{', '.join([f'*{x}'] * 9)}]\n" for x, y in itertools.pairwise("abcdefghi"))
BAD_FILES = [
    ("missing.yaml", None, "cannot read '.*missing.yaml': .*No such file"),
    ("script.py", "x = 1", "is Python source, which is not loaded"),
    ("broken.yaml", "a: [1", "cannot read .*broken.yaml as YAML: .*line 1"),
    ("broken.json", '{"a": 1', "cannot read .*broken.json as JSON"),
    ("broken.toml", "a = [1", "cannot read .*broken.toml as TOML"),
    ("object.yaml", "!!python/object/apply:os.system ['true']", "cannot read .*object.yaml as YAML: .*python/object"),
    ("twice.yaml", "b:\n  a: 1\n  a: 2", "the key 'a' is there twice in one mapping, in line 3"),
    ("twice.json", '{"a": 1, "a": 2}', "the key 'a' is there twice"),
    ("binary.yaml", b"\xff\xfe\x00", "cannot read .*binary.yaml"),
    ("empty.yaml", "", "holds no configuration"),
    ("deep.json", "[" * 100_000, "nested too deeply"),
    ("cycle.yaml", "a: &a [*a]", "its aliases make more than"),
    (
        "laughs.yaml",
        f"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n{_LAUGHS}",
        "its aliases make more than",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[name for name, _, _ in BAD_FILES])
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SerializationError, match=f"(?s){message}"):
        load_config(str(tmp_path / name))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(SerializationError, match="unknown format 'xml'; it is one of yaml, toml, json"):
        load_config("a: 1", format="xml")  # type: ignore[arg-type]


def test_what_a_person_typed_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "typed.yaml"
    path.write_text(f"_target_: {HERE}.Model\nsize: big\n")
    with pytest.raises(ConfigTypeError, match=r"typed\.yaml: Model\.size: expected int"):
        load_config(path)
    assert load_config(path, validate=False).size == "big"
    path.write_text(f"model: {{_target_: {HERE}.Model, naem: x}}\n")
    with pytest.raises(UnknownFieldError, match=r"typed\.yaml: model: .*did you mean 'name'"):
        load_config(path)


TYPED = """
_target_: tests.config.stored.Node
a: 1e-3          # a number, though not to YAML 1.1
b: &defaults {x: 1, y: 2024-01-02}
c: {<<: *defaults, y: [1.5e3, '1e-3', 0x10]}
more_1: *defaults
more_2: ${b.x}
more_3: ${HOME}
"""


def test_yaml_as_a_person_types_it() -> None:
    import datetime

    day = datetime.date(2024, 1, 2)
    config = load_config(TYPED)
    assert (config.a, config.b, config.c) == (0.001, {"x": 1, "y": day}, {"x": 1, "y": [1500.0, "1e-3", 16]})
    assert config.more_1 == config.b
    assert config.more_1 is not config.b  # an alias is a copy
    assert (config.more_2, config.more_3) == (1, "${HOME}")


def test_the_yaml_is_the_same_to_every_reader() -> None:
    for word in ("no", "on", "1e-3", "1.5e3", "0o17", "017", "1:30", "2024-01-02", "~", "=", "<<"):
        text = to_yaml(run.Config(plain, a=word))
        assert yaml.safe_load(text)["a"] == word
        assert f"'{word}'" in text or f'"{word}"' in text, "a reader of YAML 1.2 may read it otherwise"


# ---------------------------------------------------------------- methods and names
def test_the_methods_of_a_configuration(tmp_path: Path) -> None:
    for name in ("to_yaml", "to_toml", "to_json"):
        path = tmp_path / name
        text = getattr(CONFIG, name)(path)
        assert path.read_text() == text
        assert same(load_config(text), CONFIG)
    assert same(run_source(CONFIG.to_python(tmp_path / "config.py")), CONFIG)


def test_arguments_by_position_in_python() -> None:
    assert "run.Config(function, 1, 2, 3, c=4)" in to_python(run.Config(function, 1, 2, 3, c=4))


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("yaml", "n: " + "1:" * 20_000 + "1"),
        ("yaml", "n: " + "9" * 100_000),
        ("yaml", "n: [1, {a: 0x" + "f" * 100_000 + "}]"),
        ("yaml", "? " + "1:" * 20_000 + "1\n: x"),
        ("toml", "n = 0x" + "f" * 100_000),
        ("json", '{"n": ' + "9" * 100_000 + "}"),
    ],
)
def test_a_number_that_is_too_long_is_refused_with_the_name_of_the_file(suffix: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / f"long.{suffix}"
    file.write_text(text)
    with pytest.raises(SerializationError, match=f"long.{suffix}"):
        load_words(file)


def test_a_number_of_a_thousand_digits_is_read(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text("n: " + "9" * 1000)
    assert load_words(tmp_path / "n.yaml") == {"n": int("9" * 1000)}


def test_a_text_that_yaml_cannot_hold_is_told() -> None:
    with pytest.raises(SerializationError, match="use JSON"):
        write_document({"name": "x\ud800"}, "yaml")
