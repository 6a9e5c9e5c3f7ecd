"""A configuration as a plain document, and back."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import types
from typing import Any

import fiddle as fdl
import pytest
from fiddle import selectors
from hypothesis import given

import nemo_run as run
from nemo_run.config.document import check_storable, from_document, path_text, to_document
from nemo_run.errors import ConfigTypeError, SerializationError, UnknownFieldError
from tests.config.stored import QUICK, VALUES, Important, Model, Node, all_configs, configured, function, plain, same
from tests.support import value_id

HERE = "tests.config.stored"


def is_plain(document: Any) -> bool:
    if type(document) is dict:
        return all(type(name) is str for name in document) and all(map(is_plain, document.values()))
    if type(document) is list:
        return all(map(is_plain, document))
    return type(document) in (str, int, float, bool, type(None))


# ---------------------------------------------------------------- every value
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value_id(value)[:20]}")
def test_each_type_of_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    document = to_document(run.Config(plain, a=value))
    assert is_plain(document)
    config = from_document(document)
    assert type(config) is run.Config
    assert same(config.a, value)


@QUICK
@given(all_configs())
def test_whatever_is_in_a_configuration_comes_back(config: Any) -> None:
    document = to_document(config)
    assert is_plain(document)
    assert same(from_document(document), config)


def test_the_document_is_what_hydra_writes() -> None:
    config = run.Partial(Node, 1, run.Config(Node.Inner, a=[2]), c=run.Config(Node.of))
    assert to_document(config) == {
        "_target_": f"{HERE}.Node",
        "_partial_": True,
        "a": 1,
        "b": {"_target_": f"{HERE}.Node.Inner", "a": [2]},
        "c": {"_target_": f"{HERE}.Node.of"},
    }


def test_arguments_by_position() -> None:
    config = run.Config(function, 1, 2, 3, c=4)
    document = to_document(config)
    assert document == {"_target_": f"{HERE}.function", "_args_": [1, 2, 3], "c": 4}
    assert from_document(document) == config


def test_a_bound_partial_as_target_is_taken_apart() -> None:
    import functools

    document = to_document(run.Config(functools.partial(function, 1, c=2), 5, d=3))
    assert document == {"_target_": f"{HERE}.function", "_args_": [1], "c": 2, "b": 5, "d": 3}


def test_the_order_of_assignments_does_not_matter() -> None:
    one, other = run.Config(Model), run.Config(Model, name="x", size=3)
    one.size, one.name = 3, "x"
    assert json.dumps(to_document(one)) == json.dumps(to_document(other))


@pytest.mark.parametrize(
    ("target", "arguments"),
    [("pathlib.Path", ["x"]), ("builtins.dict", []), ("datetime.timedelta", [1])],
)
def test_a_configuration_of_a_value_type_stays_one(target: str, arguments: list[Any]) -> None:
    value = from_document({"_target_": target, "_args_": arguments})
    config = from_document({"_target_": target, "_args_": arguments, "_partial_": False})
    assert not isinstance(value, fdl.Buildable)
    assert isinstance(config, run.Config)
    assert from_document(to_document(config)) == config


def test_plain_fiddle_configurations_come_back_as_ours() -> None:
    loaded = from_document(to_document(fdl.Partial(plain, a=fdl.Config(plain, b=1))))
    assert loaded == run.Partial(plain, a=run.Config(plain, b=1))


@pytest.mark.parametrize(
    "config", [run.Config(configured), run.Config(configured, model=None), run.Config(configured, bind_args=False)]
)
def test_what_an_annotation_fills_in_comes_back_as_it_was(config: Any) -> None:
    assert from_document(to_document(config)) == config


def test_what_an_annotation_asks_for_is_filled_in_for_a_person() -> None:
    assert from_document({"_target_": f"{HERE}.configured"}).model == run.Config(Model)


def test_tags_and_factories_come_back() -> None:
    config = run.Partial(plain, a=fdl.ArgFactory(list), b=[Important.new(3)])
    fdl.add_tag(config, "b", Important)
    loaded = from_document(to_document(config))
    assert same(loaded, config)
    assert type(loaded.a) is fdl.ArgFactory
    selectors.select(loaded, tag=Important).replace(7)
    assert loaded.b == 7


def test_numpy_and_torch_values_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class dtype:  # as torch.dtype: no constructor, a name for repr
        def __init__(self, name: str) -> None:
            self.name = name

        def __repr__(self) -> str:
            return f"torch.{self.name}"

    torch = types.ModuleType("torch")
    torch.dtype, torch.bfloat16 = dtype, dtype("bfloat16")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    document = to_document(torch.bfloat16)
    assert document == {"_target_": "hydra.utils.get_object", "path": "torch.bfloat16"}
    assert from_document(document) is torch.bfloat16


# ---------------------------------------------------------------- sharing
def test_what_is_shared_stays_shared() -> None:
    node, items = run.Config(Node, a=1), [1, 2]
    config = run.Config(Node, a={"odd key": [node]}, b=[node, items, items], c=("x", node))
    document = to_document(config)
    assert document["b"] == ['${a["odd key"][0]}', [1, 2], "${b[1]}"]
    loaded = from_document(json.loads(json.dumps(document)))
    assert loaded.a["odd key"][0] is loaded.b[0] is loaded.c[1]
    assert loaded.b[1] is loaded.b[2]
    assert loaded == config


def test_equal_is_not_shared() -> None:
    loaded = from_document(to_document(run.Config(Node, a=run.Config(Node), b=run.Config(Node))))
    assert loaded.a is not loaded.b


def test_a_reference_may_come_before_what_it_refers_to() -> None:
    loaded = from_document({"_target_": f"{HERE}.Node", "a": "${b}", "b": {"_target_": f"{HERE}.Node"}, "c": "${b}"})
    assert loaded.a is loaded.b is loaded.c


def test_text_that_looks_like_a_reference_to_nothing_is_text() -> None:
    text = {"a": "${HOME}", "b": "${oc.env:HOME}", "c": "${a"}
    assert from_document(text) == text


def test_text_that_is_escaped_for_hydra() -> None:
    assert from_document({"a": "\\${b} \\\\${b} \\\\\\${b}", "b": 1})["a"] == "${b} \\\\${b} \\${b}"


@pytest.mark.parametrize("document", [{"a": "${a}"}, {"a": {"b": ["${a}"]}}, {"a": "${b}", "b": "${a}"}])
def test_circular_references_are_refused(document: Any) -> None:
    with pytest.raises(SerializationError, match="leads back to itself"):
        from_document(document)


def test_a_configuration_that_contains_itself_is_refused() -> None:
    config = run.Config(Node, a=[])
    config.a.append(config)
    with pytest.raises(SerializationError, match=r"^a\[0\]: it contains itself"):
        to_document(config)


# ---------------------------------------------------------------- what cannot be stored
def _local() -> Any:
    def inner() -> None: ...

    return inner


UNSTORABLE = [
    (lambda: 1, "a lambda has no name"),
    (_local(), "defined inside a function"),
    (io.StringIO(), "open file; pass its path"),
    (json, "module 'json'"),
    (object(), r"pass run.Config\(object"),
    (types.SimpleNamespace(a=1), r"pass run.Config\(SimpleNamespace"),
    ((number for number in [1]), "of type generator"),
    (Node(), r"pass run.Config\(Node"),
    (type("Lost", (), {"__module__": HERE}), "importing 'Lost'"),
]


@pytest.mark.parametrize(("value", "message"), UNSTORABLE, ids=[message for _, message in UNSTORABLE])
def test_what_cannot_be_stored_is_refused_with_its_path(value: Any, message: str) -> None:
    config = run.Partial(plain, a=run.Config(Node, a={"callbacks": [0, 1, (run.Config(Node, c=value),)]}))
    with pytest.raises(SerializationError, match=rf"^a\.a\.callbacks\[2\]\[0\]\.c: .*{message}"):
        check_storable(config)


def test_the_path_has_the_keys_of_any_dict() -> None:
    with pytest.raises(SerializationError, match=r"^a\[\(1, 2\)\]\[0\]: .*lambda"):
        check_storable(run.Config(plain, a={(1, 2): [lambda: 1]}))


def test_the_path_names_a_target_that_cannot_be_stored() -> None:
    with pytest.raises(SerializationError, match=r"^a: cannot store <function .*lambda"):
        check_storable(run.Config(plain, a=run.Config(lambda x: x, x=1)))


def test_a_reserved_argument_name_is_refused() -> None:
    with pytest.raises(SerializationError, match="an argument cannot be named '_args_'"):
        check_storable(run.Config(dict, _args_=1))


def test_depth_is_no_traceback_of_python() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(SerializationError, match="nested too deeply"):
        check_storable(value)
    with pytest.raises(SerializationError, match="nested too deeply"):
        from_document(value)


# ---------------------------------------------------------------- what cannot be loaded
BAD = [
    ({"_target_": "os.nothing"}, "cannot find 'os.nothing'"),
    ({"_target_": "nowhere_at_all.x"}, "cannot find 'nowhere_at_all.x'"),
    ({"_target_": "plain"}, "'plain' is not a dotted name"),
    ({"_target_": "os.path"}, "cannot find 'os.path'"),
    ({"_target_": "sys.path"}, "cannot be called"),
    ({"_target_": 3}, "3 is not the dotted name"),
    ({"_target_": "a..b"}, "not a dotted name"),
    ({"_target_": f"{HERE}.plain", "_args_": 1}, "`_args_` must be a list"),
    ({"_target_": f"{HERE}.plain", "_args_": [1, 2, 3]}, "too many positional"),
    ({"_target_": f"{HERE}.plain", "_partial_": "yes"}, "`_partial_` must be true or false"),
    ({"_target_": f"{HERE}.plain", "_recursive_": False}, "`_recursive_`"),
    ({"_target_": "base64.b64decode", "_args_": ["?"]}, "base64.b64decode cannot be built from"),
    ({"_target_": "builtins.bytearray", "_args_": [10**12]}, "cannot be built from"),
    ({"_target_": "zoneinfo.ZoneInfo", "_args_": ["../x"]}, "cannot be built from"),
    ({"_target_": "builtins.set", "_args_": [[[]]]}, "cannot be built from"),
    ({"_target_": "hydra.utils.get_object", "path": "os.environ"}, "neither a class, a function nor an enum member"),
]


@pytest.mark.parametrize(("document", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_loaded_is_refused_with_its_path(document: Any, message: str) -> None:
    with pytest.raises(SerializationError, match=rf"^x\[1\]: .*{message}"):
        from_document({"x": [0, document]})


def test_an_unknown_argument_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownFieldError, match=r"^a: .*Model has no argument 'siez'; did you mean 'size'"):
        from_document({"a": {"_target_": f"{HERE}.Model", "siez": 1}})


def test_types_are_checked_if_asked() -> None:
    document = {"a": {"_target_": f"{HERE}.Model", "size": "big"}}
    assert from_document(document)["a"].size == "big"
    with pytest.raises(ConfigTypeError, match=r"^a: Model\.size: expected int"):
        from_document(document, validate=True)


def test_classes_as_nemo_run_wrote_them() -> None:
    assert from_document({"_call_": False, "_target_": f"{HERE}.Model"}) is Model


# ---------------------------------------------------------------- nothing is run
def test_loading_calls_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    effects = tmp_path / "effects.py"
    effects.write_text(
        textwrap.dedent("""
        from dataclasses import dataclass
        import enum
        called = []
        def boom(*args, **kwargs): called.append("boom")
        class Meta(type):
            def __call__(cls, *args, **kwargs): called.append("meta")
        class Thing(metaclass=Meta):
            def __new__(cls, *args): called.append("new")
            def __init__(self, *args): called.append("init")
        @dataclass
        class Data:
            x: int = 0
            def __post_init__(self): called.append("post_init")
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    marker = tmp_path / "marker"
    hostile = {
        "a": {"_target_": "os.system", "command": f"touch {marker}"},
        "b": {"_target_": "subprocess.Popen", "_args_": [["touch", str(marker)]]},
        "c": {"_target_": "effects.boom", "_args_": [1], "x": {"_target_": "effects.Thing"}},
        "d": {"_target_": "effects.boom", "_partial_": True, "_convert_": "object"},
        "e": {"_target_": "effects.Data", "_convert_": "object", "x": 1},
        "f": {"_target_": "builtins.eval", "_args_": [f"open({str(marker)!r}, 'w')"]},
        "g": {"_target_": "hydra.utils.get_method", "path": "effects.boom"},
        "h": {
            "_target_": "builtins.tuple",
            "_args_": [{"_target_": "effects.boom"}],
            "_convert_": "object",
            "_partial_": False,
        },
    }
    loaded = from_document(hostile)
    assert isinstance(loaded["a"], run.Config)
    assert loaded["a"].__fn_or_cls__ is __import__("os").system
    assert not marker.exists()
    assert __import__("effects").called == []
    check_storable(loaded)
    assert __import__("effects").called == []


def test_only_what_is_referred_to_is_imported(tmp_path: Any) -> None:
    (tmp_path / "wanted.py").write_text("def f(x=0): return x\n")
    (tmp_path / "unwanted.py").write_text("raise SystemExit('imported')\n")
    document = {"_target_": "wanted.f", "x": ["unwanted.f", {"note": "unwanted.f"}]}
    program = f"""
import sys
from nemo_run.config.document import from_document
from nemo_run.config import Config
before = set(sys.modules)
config = from_document({document!r})
assert config.__fn_or_cls__.__module__ == "wanted"
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("['wanted']\n", 0), done.stderr


# ---------------------------------------------------------------- names
def test_the_names_of_symbols_are_the_callers_business() -> None:
    secret = _local()
    document = to_document(run.Config(plain, a=secret), reference=lambda symbol: "x.y" if symbol is secret else "p.q")
    assert document == {"_target_": "p.q", "a": {"_target_": "hydra.utils.get_method", "path": "x.y"}}
    assert from_document(document, resolve={"p.q": plain, "x.y": secret}.__getitem__) == run.Config(plain, a=secret)


def test_a_module_of_the_same_name_as_a_function(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "homonym"
    package.mkdir()
    (package / "__init__.py").write_text("from homonym.train import train\n")
    (package / "train.py").write_text("class train:\n class Plan: ...\nclass Plan: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    train = from_document({"_target_": "homonym.train.train"}).__fn_or_cls__
    assert train.__module__ == "homonym.train"
    assert from_document({"_target_": "homonym.train"}).__fn_or_cls__ is train
    plan = __import__("sys").modules["homonym.train"].Plan
    for cls in (train, train.Plan, plan):
        assert from_document(to_document(cls)) is cls


def test_an_error_in_an_imported_module_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_one.py").write_text("raise RuntimeError('no GPU')\n")
    (tmp_path / "broken_two.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SerializationError, match=r"'broken_one' for .* failed with RuntimeError: no GPU"):
        from_document({"_target_": "broken_one.f"})
    with pytest.raises(SerializationError, match="needs 'not_there_at_all', which is not installed"):
        from_document({"_target_": "broken_two.f"})


def test_functions_of_the_main_script_by_name(tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        from nemo_run.config.document import from_document, to_document
        import nemo_run as run
        def train(x=0): return x
        document = to_document(run.Config(train, x=1))
        assert document["_target_"] == "__main__.train", document
        assert from_document(document).__fn_or_cls__ is train
        """)
    )
    subprocess.run([sys.executable, str(script)], check=True)


def test_paths_as_they_are_typed() -> None:
    assert path_text(["a", 0, "b-c", "d e", 'f"', 12, (1, "x")]) == 'a[0].b-c["d e"]["f\\""][12][(1, \'x\')]'
