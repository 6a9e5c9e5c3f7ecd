"""What is different between two configurations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import nemo_run as run
from nemo_run.config.diff import Change, diff
from nemo_run.config.document import to_document
from tests.config.stored import QUICK, Colour, Handmade, Model, Node, all_configs, equal, function, plain

HERE = "tests.config.stored"


def found(new: Any, old: Any) -> list[tuple[str, str, Any, Any]]:
    return [(change.kind, change.path, change.old, change.new) for change in diff(new, old).changes]


# ---------------------------------------------------------------- what is found
TABLE: list[tuple[Any, Any, list[tuple[str, str, Any, Any]]]] = [
    (run.Config(plain, a=2), run.Config(plain, a=1), [("changed", "a", 1, 2)]),
    (run.Config(dict, a=1), run.Config(dict), [("added", "a", None, 1)]),
    (run.Config(dict), run.Config(dict, a=1), [("removed", "a", 1, None)]),
    (run.Config(plain, a=True), run.Config(plain, a=1), [("changed", "a", 1, True)]),
    (run.Config(plain, a=1.0), run.Config(plain, a=1), [("changed", "a", 1, 1.0)]),
    (run.Config(plain, a="é"), run.Config(plain, a=b"e"), [("changed", "a", b"e", "é")]),
    (run.Config(plain, a=Path("/b")), run.Config(plain, a=Path("/a")), [("changed", "a", Path("/a"), Path("/b"))]),
    (run.Config(plain, a={1, 2}), run.Config(plain, a={1}), [("changed", "a", {1}, {1, 2})]),
    (run.Config(plain, a=Model), run.Config(plain, a=Node), [("changed", "a", Node, Model)]),
    # a default stands for what is not given
    (run.Config(Model, size=1), run.Config(Model), []),
    (run.Config(Model, size=3), run.Config(Model), [("changed", "size", 1, 3)]),
    (run.Config(Model), run.Config(Model, size=3), [("changed", "size", 3, 1)]),
    (run.Config(Model, layers=[1]), run.Config(Model), [("added", "layers", None, [1])]),
    # another class or function, another kind
    (
        run.Config(plain, a=run.Config(Node, a=1)),
        run.Config(plain, a=run.Config(Model, size=2)),
        [("target", "a", f"{HERE}.Model", f"{HERE}.Node"), ("added", "a.a", None, 1), ("removed", "a.size", 2, None)],
    ),
    (run.Partial(plain), run.Config(plain), [("target", "", f"{HERE}.plain", f"Partial[{HERE}.plain]")]),
    (run.Config(plain, a=run.Config(Node)), run.Config(plain, a=[1]), [("changed", "a", [1], run.Config(Node))]),
    # paths
    (
        run.Config(plain, a={"x": [0, run.Config(Node, a=(1, {"y z": 2}))]}),
        run.Config(plain, a={"x": [0, run.Config(Node, a=(1, {"y z": 3}))]}),
        [("changed", 'a.x[1].a[1]["y z"]', 3, 2)],
    ),
    (run.Config(function, 1, 2, 3), run.Config(function, 1, 2, 4), [("changed", "[2]", 4, 3)]),
    ({1: "a", (2, 3): "b"}, {1: "b", (2, 3): "c"}, [("changed", "[1]", "b", "a"), ("changed", "[(2, 3)]", "c", "b")]),
    # lists
    ([1, 2, 3, 4], [1, 2, 4], [("added", "[2]", None, 3)]),
    ([1, 4], [1, 2, 3, 4], [("removed", "[1]", 2, None), ("removed", "[2]", 3, None)]),
    ([1, 5, 3], [1, 2, 3], [("changed", "[1]", 2, 5)]),
    ([], [1], [("removed", "[0]", 1, None)]),
    ((1, 2), [1, 2], [("changed", "", [1, 2], (1, 2))]),
    (
        [run.Config(Model, size=1), run.Config(Node), run.Config(Model, size=9)],
        [run.Config(Model, size=1), run.Config(Model, size=2)],
        [("added", "[1]", None, run.Config(Node)), ("changed", "[2].size", 2, 9)],
    ),
    # nothing
    (run.Config(plain, a=float("nan")), run.Config(plain, a=float("nan")), []),
    (run.Config(plain, b=1, a=[{"x": 1, "y": 2}]), run.Config(plain, a=[{"y": 2, "x": 1}], b=1), []),
]


@pytest.mark.parametrize(("new", "old", "changes"), TABLE, ids=range(len(TABLE)))
def test_what_is_found(new: Any, old: Any, changes: list[Any]) -> None:
    assert found(new, old) == changes
    assert bool(diff(new, old)) is bool(changes)


@QUICK
@given(all_configs(), all_configs())
def test_whatever_is_compared(one: Any, other: Any) -> None:
    assert found(one, one.clone()) == []
    assert bool(diff(one, other)) is bool(diff(other, one))
    documents = to_document(one), to_document(other)
    assert found(documents[0], to_document(one.clone())) == []
    assert diff(*documents) or equal(*documents) or "-0.0" in str(documents)


def test_a_shared_node_is_told_once() -> None:
    old = run.Config(Node, a=1)
    new = run.Config(Node, a=2)
    assert found(run.Config(plain, a=new, b=[new]), run.Config(plain, a=old, b=[old])) == [("changed", "a.a", 1, 2)]


def test_a_node_that_contains_itself_is_no_trouble() -> None:
    one, other = run.Config(Node, a=[1]), run.Config(Node, a=[2])
    one.a.append(one)
    other.a.append(other)
    assert ("changed", "a[0]", 2, 1) in found(one, other)


def test_what_cannot_be_stored_is_compared_all_the_same() -> None:
    thing = object()
    assert found(run.Config(plain, a=thing, b=lambda: 1), run.Config(plain, a=thing, b=lambda: 1)) == []
    assert len(found(run.Config(plain, a=thing), run.Config(plain, a=object()))) == 1
    assert found(run.Config(plain, a=Handmade(1, 2)), run.Config(plain, a=Handmade(1, 2))) == []


def test_one_change_among_many_is_one_line() -> None:
    old = run.Config(plain, a=[run.Config(Node, a=run.Config(Model, size=n), b={"x": [n]}) for n in range(2_000)])
    new = old.clone()
    new.a[1234].b["x"][0] = -1
    assert str(diff(new, old)) == "~ a[1234].b.x[0]: 1234 -> -1"
    del new.a[7]
    assert str(diff(new, old)).splitlines()[0].startswith("- a[7]: Node(a=Model(size=7)")
    assert len(diff(new, old).changes) == 2


# ---------------------------------------------------------------- documents
def test_two_documents_without_importing_anything() -> None:
    program = """
import sys
from nemo_run.config.diff import diff
document = {
    "_target_": "nowhere.train", "_partial_": True,
    "optim": {"_target_": "nowhere.Adam", "lr": 0.1, "betas": {"_target_": "builtins.tuple", "_args_": [[0.9, 0.99]]}},
    "path": {"_target_": "pathlib.PurePosixPath", "_args_": ["/a"]},
    "device": {"_target_": "torch.device", "_args_": ["cuda"]},
    "cls": {"_target_": "hydra.utils.get_class", "path": "nowhere.Net"},
    "text": {"_target_": "builtins.str.join", "_args_": ["$", ["echo ", "{HOME}"]]},
    "steps": {"_target_": "builtins.dict", "_args_": [[[1, "a"], [2, "b"]]]},
}
other = {**document,
    "optim": {"_target_": "nowhere.SGD", "lr": 0.1, "betas": {"_target_": "builtins.tuple", "_args_": [[0.9, 0.9]]}},
    "path": {"_target_": "pathlib.PurePosixPath", "_args_": ["/b"]},
    "device": {"_target_": "torch.device", "_args_": ["cpu"]},
    "cls": {"_target_": "hydra.utils.get_class", "path": "nowhere.Other"},
    "text": "echo",
    "steps": {"_target_": "builtins.dict", "_args_": [[[1, "a"], [2, "c"]]]},
}
diff(document, {}).to_text()
before = set(sys.modules)
print(diff(other, document))
diff(other, document)._repr_html_()
assert set(sys.modules) == before, set(sys.modules) - before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "~ optim: nowhere.Adam -> nowhere.SGD",
        "~ optim.betas[1]: 0.99 -> 0.9",
        "~ path: PurePosixPath('/a') -> PurePosixPath('/b')",
        "~ device: torch.device('cuda') -> torch.device('cpu')",
        "~ cls: nowhere.Net -> nowhere.Other",
        "~ text: 'echo ${HOME}' -> 'echo'",
        "~ steps[2]: 'b' -> 'c'",
    ]


# ---------------------------------------------------------------- what it looks like
NEW = run.Partial(plain, a=run.Config(Model, size=2, name="x"), b={"list": [1, 2], "text": "one\nthree\n"})
OLD = run.Partial(
    plain, a=run.Config(Model, size=2, layers=[3]), b={"list": [1], "text": "one\ntwo\n", "gone": Colour.RED}
)
TEXT = """\
~ a.name: 'm' -> 'x'
- a.layers: [3]
+ b.list[1]: 2
~ b.text:
@     @ -1,2 +1,2 @@
      one
-     two
+     three
- b.gone: tests.config.stored.Colour.RED"""


def test_the_text() -> None:
    assert str(NEW.diff(OLD)) == TEXT
    assert repr(NEW.diff(OLD)) == TEXT
    assert str(NEW.diff(NEW)) == "no differences"


def test_the_text_among_what_is_the_same() -> None:
    assert str(NEW.diff(OLD, trim=False)) == TEXT.replace("~ a.name", "  a.size: 2\n~ a.name").replace(
        "+ b.list", "  b.list[0]: 1\n+ b.list"
    )


def test_the_colours_of_a_terminal() -> None:
    lines = NEW.diff(OLD).to_text(colour=True).splitlines()
    assert lines[0] == "\x1b[33m~ a.name: 'm' -> 'x'\x1b[0m"
    assert lines[1].startswith("\x1b[31m- a.layers")
    assert lines[2].startswith("\x1b[32m+ b.list")
    assert "\x1b" not in NEW.diff(OLD).to_text()


def test_a_large_value_is_one_short_line() -> None:
    old = run.Config(plain, a=None)
    new = run.Config(plain, a=[run.Config(Node, a="x" * 10_000)] * 1000)
    (line,) = str(diff(new, old)).splitlines()
    assert len(line) < 120


def test_the_table_in_a_notebook() -> None:
    table = diff(run.Config(plain, a="<b>"), run.Config(plain, a=1))._repr_html_()
    assert "<code>&#x27;&lt;b&gt;&#x27;</code>" in table
    assert "<b>" not in table
    assert NEW.diff(NEW)._repr_html_() == "<p>no differences</p>"


def test_the_drawing() -> None:
    source = NEW.diff(OLD).to_graphviz().source
    assert "Partial[plain]" in source
    assert "&#x27;m&#x27; → &#x27;x&#x27;" in source
    assert ">size<" not in source
    assert ">size<" in NEW.diff(OLD, trim=False).to_graphviz().source


def test_what_has_a_default_only_on_one_side_is_not_drawn() -> None:
    new, old = run.Config(plain, a=run.Config(Model, size=1), b=2), run.Config(plain, a=run.Config(Model), b=1)
    assert "Model" not in diff(new, old).to_graphviz().source


@pytest.mark.needs("dot")
def test_it_can_be_used_as_the_drawing_that_nemo_run_returns(tmp_path: Path) -> None:
    difference = NEW.diff(OLD)
    assert difference.source == difference.to_graphviz().source
    assert difference.pipe(format="svg").startswith(b"<?xml")
    with pytest.raises(AttributeError, match="'ConfigDiff' object has no attribute 'nothing'"):
        _ = difference.nothing


def test_dataclasses_with_the_mixin() -> None:
    assert run.Script(inline="a").diff(run.Script(inline="b")).changes == [Change("inline", "changed", "b", "a")]
