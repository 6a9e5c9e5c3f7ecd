"""Values that are stored as JSON: they come back as they were, and reading them runs no code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from nemo_run.core.values import PlainObject, decode, encode
from nemo_run.errors import SerializationError

_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
    st.datetimes().map(lambda moment: moment.replace(fold=0)),
    st.dates(),
    st.timedeltas(),
)
_KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner) | st.lists(inner).map(tuple) | st.frozensets(_KEYS),
    max_leaves=20,
)


@given(VALUES)
def test_plain_data_comes_back(value: Any) -> None:
    found = decode(json.loads(json.dumps(encode(value))))
    assert found == value
    assert type(found) is type(value)


def test_numbers_that_json_has_not() -> None:
    nan, low, large = decode(json.loads(json.dumps(encode((float("nan"), float("-inf"), 2**50000)))))
    assert (str(nan), str(low), large == 2**50000) == ("nan", "-inf", True)


@given(st.recursive(_LEAVES.filter(lambda v: isinstance(v, str | int | float | None)), lambda i: st.dictionaries(
    st.sampled_from(["$", "type", "fields", "items", "value", "npy", "name"]), i | st.sampled_from(
        ["object", "enum", "namedtuple", "dict", "array", "scalar", "tuple", "int", "path", "os:system", "timedelta"]
    ))))  # fmt: skip
def test_no_document_ends_in_another_error(document: Any) -> None:
    try:
        decode(document)
    except SerializationError:
        pass


def test_where_something_else_lies_is_said() -> None:
    with pytest.raises(SerializationError, match=r"\['a'\]\[1\] is a builtins.object"):
        encode({"a": [1, object()]})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SerializationError, match="nested"):
        encode(endless)


def test_classes_are_imported_only_where_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "classes_of_a_value.py").write_text(
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\n"
        "    def __post_init__(self):\n        raise RuntimeError('called')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    document = {"$": "object", "type": "classes_of_a_value:A", "fields": {"x": 3}}
    found = decode(document)
    assert isinstance(found, PlainObject)
    assert (found.x, found.type_name, "classes_of_a_value" in sys.modules) == (3, "classes_of_a_value:A", False)
    assert type(decode(document, may_import=True)).__name__ == "A"
    gone = {"$": "enum", "type": "no_such_module_7:E", "name": "X"}
    assert decode(gone, may_import=True).name == "X"
