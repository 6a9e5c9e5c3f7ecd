"""The override grammar."""

from __future__ import annotations

import ast

import pytest
from hypothesis import example, given, strategies as st

from nemo_run.cli.overriding.items import Call, Item, Pairs, Quoted, Several, Word
from nemo_run.cli.overriding.parse import OPERATORS, is_override, parse_override, parse_value
from nemo_run.errors import OverrideError


def outline(item: Item) -> object:
    """An item without the texts that it was read from."""
    if isinstance(item, Word):
        return f"?{item.source}" if item.problem else item.source
    if isinstance(item, Quoted):
        return ("quoted", item.value)
    if isinstance(item, Several):
        return (item.kind, [outline(one) for one in item.items])
    if isinstance(item, Pairs):
        return [(outline(key), outline(value)) for key, value in item.pairs]
    assert isinstance(item, Call)
    return (item.name, *map(outline, item.args), *((name, outline(value)) for name, value in item.kwargs))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ""),
        ("3", "3"),
        ("  a b  ", "a b"),
        ("a/b.c:d=e", "a/b.c:d=e"),
        ("'a'", ("quoted", "a")),
        ('"a\\"b\\n\\x41\\u00e9\\q"', ("quoted", 'a"b\nAé\\q')),
        ("b'a\\xff'", ("quoted", b"a\xff")),
        ("[]", ("list", [])),
        ("[1, b c , 'd',]", ("list", ["1", "b c", ("quoted", "d")])),
        ("[http://x:80, k=v]", ("list", ["http://x:80", "k=v"])),
        ("()", ("tuple", [])),
        ("(1)", "1"),
        ("(1,)", ("tuple", ["1"])),
        ("(1, (2, 3))", ("tuple", ["1", ("tuple", ["2", "3"])])),
        ("{}", []),
        ("{a, b}", ("set", ["a", "b"])),
        ("{a: 1, 'b:c': [2]}", [("a", "1"), (("quoted", "b:c"), ("list", ["2"]))]),
        ("{a: http://x:80}", [("a", "http://x:80")]),
        ("f()", ("f",)),
        ("a.b.f(1, [2], n=g(x), m = 3,)", ("a.b.f", "1", ("list", ["2"]), ("n", ("g", "x")), ("m", "3"))),
        ("@a/b.yaml:c", "@a/b.yaml:c"),
        # what is no item is a word as a whole, with a reason
        ("[1, 2", "?[1, 2"),
        ("[1, 2]]", "?[1, 2]]"),
        ("[,]", "?[,]"),
        ("it's", "?it's"),
        ("'a' 'b'", "?'a' 'b'"),
        ("{a: 1, b}", "?{a: 1, b}"),
        ("{a, b: 1}", "?{a, b: 1}"),
        ("f(a=1, 2)", "?f(a=1, 2)"),
        ("f(a=1, a=2)", "?f(a=1, a=2)"),
        ("f (x)", "?f (x)"),
        ("b'é'", ("quoted", b"\xe9")),
        ("b'€'", "?b'€'"),
        ("'\\U00110000'", "?'\\U00110000'"),
        ("[" * 60 + "]" * 60, "?" + "[" * 60 + "]" * 60),
    ],
)
def test_values(text: str, found: object) -> None:
    assert outline(parse_value(text)) == found


@pytest.mark.parametrize(
    ("text", "path", "operator", "value"),
    [
        ("a=1", "a", "=", "1"),
        ("a.b[2]['x=y'].c += 3", "a.b[2]['x=y'].c", "+=", "3"),
        ("a-=-3", "a", "-=", "-3"),
        ("a*=2", "a", "*=", "2"),
        ("a/=2", "a", "/=", "2"),
        ("a|=2", "a", "|=", "2"),
        ("a&=2", "a", "&=", "2"),
        ("a[-1]=x", "a[-1]", "=", "x"),
        ('a["b c"]=x', 'a["b c"]', "=", "x"),
        ("a=", "a", "=", ""),
        ("a=b=c", "a", "=", "b=c"),
        ("größe=1", "größe", "=", "1"),
        ("a=x\ny", "a", "=", "x\ny"),
    ],
)
def test_overrides(text: str, path: str, operator: str, value: str) -> None:
    found = parse_override(text)
    assert (found.path, found.operator, found.value.source, found.source) == (path, operator, value, text)


@pytest.mark.parametrize("text", ["", "a", "=1", "a%=2", "1a=2", "a..b=1", "a[x]=1", "a[]=1", "a.=1", "a b=1", "a-b=1"])
def test_what_is_no_override(text: str) -> None:
    with pytest.raises(OverrideError, match="is not an override; write one like"):
        parse_override(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("a=1", True), ("a%=1", True), ("-a=1", True), ("f(a=1)", False), ("http://x/?a=1", False), ("3", False)],
)
def test_what_is_meant_as_an_override(text: str, meant: bool) -> None:
    assert is_override(text) == meant


# ---------------------------------------------------------------- fuzzing
_PIECES = st.sampled_from(
    [*"[](){},:='\"\\ab1.-+*/|&@ \n", "b'", "f(", "a=", "\\x4", "\\U0011", "none", "1e3", "é", "\udcff", "\0"]
)
_TEXTS = st.one_of(st.text(), st.lists(_PIECES, max_size=60).map("".join))


@given(_TEXTS)
@example("[" * 10_000)
@example("'" + "\\" * 9_999)
@example("{" * 30 + ":" * 30)
def test_every_text_is_a_value(text: str) -> None:
    item = parse_value(text)
    assert isinstance(item.source, str)
    assert item.source in text


@given(_TEXTS)
@example("a" + "[0]" * 5_000 + "=1")
@example("a" + ".a" * 5_000)
@example("a['" + "\\'" * 5_000)
def test_every_text_is_an_override_or_a_clear_mistake(text: str) -> None:
    try:
        found = parse_override(text)
    except OverrideError as error:
        assert repr(text)[:20] in str(error)
    else:
        assert found.operator in OPERATORS


_LITERALS = st.recursive(
    st.one_of(st.integers(), st.text(), st.binary(), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(_LITERALS)
def test_python_literals_are_read_as_python_reads_them(value: object) -> None:
    from typing import Any

    from nemo_run.cli.overriding.place import Place
    from nemo_run.cli.overriding.values import convert

    text = repr(value)
    assert ast.literal_eval(text) == value
    assert convert(parse_value(text), Place("x", Any)) == value
