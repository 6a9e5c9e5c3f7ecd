"""Overrides: every type and every operator, with what comes of it or what is said."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import inspect
import os.path
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import nemo_run as run
from nemo_run.cli.overriding.parse import OPERATORS
from nemo_run.errors import OverrideError
from tests.cli import samples
from tests.cli.samples import Adam, Colour, Deep, Level, Mode, Net, Square, everything


@pytest.fixture(autouse=True)
def nothing_else_is_called() -> Iterator[None]:
    samples.CALLED.clear()
    yield
    assert samples.CALLED == []


GOOD: list[tuple[str, Any]] = [
    # numbers
    ("i=7", 7),
    ("i=-7", -7),
    ("i=1_000", 1000),
    ("i=0x1F", 31),
    ("i=1e3", 1000),
    ("i=2.5e1", 25),
    ("i= 7 ", 7),
    ("i+=2", 5),
    ("i-=5", -2),
    ("i*=3", 9),
    ("i*=1.0", 3),
    ("i/=3", 1),
    ("i|=4", 7),
    ("i&=2", 2),
    ("f=2", 2.0),
    ("f=-1e-3", -0.001),
    ("f=inf", float("inf")),
    ("f+=1", 2.5),
    ("f-=1", 0.5),
    ("f*=2", 3.0),
    ("f/=3", 0.5),
    ("c=1+2j", 1 + 2j),
    ("c*=2", 2j),
    ("dec=1.10", decimal.Decimal("1.10")),
    ("dec+=1", decimal.Decimal(2)),
    ("fr=1/3", fractions.Fraction(1, 3)),
    ("fr/=2", fractions.Fraction(1, 2)),
    ("ann=4", 4),
    ("port=80", 80),
    ("extra=5", 5),
    # text
    ("s=word", "word"),
    ("s=two words", "two words"),
    ("s='quoted'", "quoted"),
    ('s="a\\"b"', 'a"b'),
    ("s=", ""),
    ("s=[1, 2", "[1, 2"),
    ("s=3", "3"),
    ("s=none", "none"),
    ("s=@a.yaml", "@a.yaml"),
    ("s=f(x)", "f(x)"),
    ("s=a=b", "a=b"),
    ("s=$(id) `id`", "$(id) `id`"),
    ("s+= more", "textmore"),
    ("s+=' more'", "text more"),
    ("by=b'\\xff'", b"\xff"),
    ("by=ab", b"ab"),
    ("by+=b'y'", b"xy"),
    # truth, nothing
    ("b=true", True),
    ("b=True", True),
    ("b=YES", True),
    ("b=on", True),
    ("b=1", True),
    ("b=off", False),
    ("b=no", False),
    ("b=0", False),
    ("b|=true", True),
    ("b&=true", False),
    ("n=none", None),
    ("n=null", None),
    ("oi=None", None),
    ("oi=null", None),
    ("oi=5", 5),
    # paths, times and the like
    ("p=a/b (c)!.txt", Path("a/b (c)!.txt")),
    ("p='x y'", Path("x y")),
    ("p/=b", Path("a/b")),
    ("p=C:\\dir", Path("C:\\dir")),
    ("uid=12345678-1234-5678-1234-567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("when=2024-01-02T03:04:05", datetime.datetime(2024, 1, 2, 3, 4, 5)),
    ("day=2024-01-02", datetime.date(2024, 1, 2)),
    ("clock=03:04", datetime.time(3, 4)),
    ("span=90", datetime.timedelta(seconds=90)),
    ("span=01:30:00", datetime.timedelta(hours=1.5)),
    ("span=2d 12:00:00", datetime.timedelta(days=2.5)),
    ("rx=a+", re.compile("a+")),
    # one of several types
    ("u=5", 5),
    ("u='5'", "5"),
    ("u=five", "five"),
    ("fu=2", 2.0),
    ("fu=[1]", [1.0]),
    ("fu=none", None),
    ("fu=1e3", 1000.0),
    ("lit=b", "b"),
    ("lit='b'", "b"),
    ("lit=3", 3),
    ("lit=true", True),
    ("col=GREEN", Colour.GREEN),
    ("col=green", Colour.GREEN),
    ("col=Colour.GREEN", Colour.GREEN),
    ("col=g", Colour.GREEN),
    ("lev=high", Level.HIGH),
    ("lev=2", Level.HIGH),
    ("mode=write", Mode.WRITE),
    ("mode|=WRITE", Mode.READ | Mode.WRITE),
    ("mode=READ|WRITE", Mode.READ | Mode.WRITE),
    # containers
    ("li=[3, 4]", [3, 4]),
    ("li=[]", []),
    ("li=(3,)", [3]),
    ("li+=[3]", [1, 2, 3]),
    ("li[0]=9", [9, 2]),
    ("li[-1]*=5", [1, 10]),
    ("ls=[a, 'b c', 1, f(x)]", ["a", "b c", "1", "f(x)"]),
    ("lf=[1, 2.5]", [1.0, 2.5]),
    ("ll=[[1], []]", [[1], []]),
    ("tu=(2, b)", (2, "b")),
    ("tu[0]=5", (5, "a")),
    ("tu[1]+=z", (1, "az")),
    ("tv=(1, 2, 3)", (1, 2, 3)),
    ("tv+=(2,)", (1, 2)),
    ("tv=()", ()),
    ("se={a, b}", {"a", "b"}),
    ("se={}", set()),
    ("se=[a]", {"a"}),
    ("se|={a}", {"a"}),
    ("fs&={2}", frozenset()),
    ("fs-={1}", frozenset()),
    ("dq=[1, 2]", collections.deque([1, 2])),
    ("di={b: 2}", {"b": 2}),
    ("di={'b c': 2}", {"b c": 2}),
    ("di=dict(b=2)", {"b": 2}),
    ("di|={b: 2}", {"a": 1, "b": 2}),
    ("di['b c']=2", {"a": 1, "b c": 2}),
    ("di.b=2", {"a": 1, "b": 2}),
    ("di.a+=1", {"a": 2}),
    ("dk={1: 2}", {1: 2.0}),
    ("dd={a: {b: 1}}", {"a": {"b": 1}}),
    ("box={width: 3, name: x}", {"width": 3, "name": "x"}),
    ("box.name=y", {"width": 1, "name": "y"}),
    # any type
    ("a=3", 3),
    ("a=3.5", 3.5),
    ("a=true", True),
    ("a=null", None),
    ("a=[1, {b: (2,)}]", [1, {"b": (2,)}]),
    ("a='3'", "3"),
    ("a=007", "007"),
    ("a=word", "word"),
    ("a=os.system(x)", "os.system(x)"),
    ("a={1, 2}", {1, 2}),
    ("a=set()", set()),
    ("a=dict(x=1)", {"x": 1}),
    ("un=3", 3),
]


@pytest.mark.parametrize(("typed", "value"), GOOD, ids=[typed for typed, _ in GOOD])
def test_values(typed: str, value: object) -> None:
    config = run.cli.parse_partial(everything, typed)
    name = re.split(r"\W", typed)[0]
    found = config.__arguments__[name]
    assert found == value
    assert type(found) is type(value)
    assert list(config.__arguments__) == [name]


CONFIGURED: list[tuple[list[str], Any]] = [
    (["net=small"], Net(2, "tanh")),
    (["net=small(5)"], Net(5, "tanh")),
    (["net=small(5, act=gelu)"], Net(5, "gelu")),
    (["net=tests.cli.samples.small(act='a, b')"], Net(2, "a, b")),
    (["net=Net"], Net()),
    (["net=Deep(depth=2)"], Deep(depth=2)),
    (["net=tests.cli.samples.Deep"], Deep()),
    (["net=deep"], Deep(depth=3)),
    (["net={width: 9, sizes: [3]}"], Net(9, sizes=[3])),
    (["net.width=9"], Net(9)),
    (["net.width*=2", "net.act=x"], Net(8, "x")),
    (["net.sizes[1]=5"], Net(sizes=[1, 5])),
    (["net.sizes+=[3]"], Net(sizes=[1, 2, 3])),
    (["net.width=9", "net=small"], Net(9, "tanh")),  # the whole comes first
    (["on=none"], None),
    (["on=small"], Net(2, "tanh")),
    (["on.width=9"], Net(9)),
    (["ln=[small, Deep(depth=1), {width: 3}]"], [Net(2, "tanh"), Deep(depth=1), Net(3)]),
    (["ln=nets"], [Net(1), Deep(depth=2)]),
    (["ln+=[small(8)]"], [Net(7), Net(8, "tanh")]),
    (["ln[0].width+=1"], [Net(8)]),
    (["ln+=[deep]", "ln[1].depth=5"], [Net(7), Deep(depth=5)]),
    (["dn={a: small}"], {"a": Net(2, "tanh")}),
    (["dn={a: small}", "dn.a.width=3"], {"a": Net(3, "tanh")}),
    (["un2=adam"], Adam(0.1, (0.5, 0.9))),
    (["un2=Deep"], Deep()),
    (["un2=none"], None),
    (["opt=adam(rate=1e-2)", "opt.betas[0]=0.1"], Adam(0.01, (0.1, 0.9))),
    (["opt=Adam(0.5)"], Adam(0.5)),
    (["opt.rate=3"], Adam(3.0)),
]


@pytest.mark.parametrize(("typed", "value"), CONFIGURED, ids=[" ".join(typed) for typed, _ in CONFIGURED])
def test_configurations(typed: list[str], value: object) -> None:
    config = run.cli.parse_partial(everything, *typed)
    name = re.split(r"\W", typed[0])[0]
    assert run.Config(dict, x=config.__arguments__[name]).build()["x"] == value


def test_classes_functions_and_unions_of_them() -> None:
    config = run.cli.parse_partial(
        everything, "ty=Deep", "fn=half", "shape=Square(side=3)", "cfg=small", "tok=tokenizer_spec"
    )
    assert (config.ty, config.fn) == (Deep, samples.half)
    assert config.shape.__fn_or_cls__ is Square
    assert config.cfg.width == 2
    assert config.tok.size == 1
    config = run.cli.parse_partial(everything, "ty=tests.cli.samples.Deep", "fn=os.path.basename", "tok=some text")
    assert (config.ty, config.fn, config.tok) == (Deep, os.path.basename, "some text")


BAD: list[tuple[str, str]] = [
    ("i=x", "i: expected int, got 'x'"),
    ("i=3.5", "i: expected int, got '3.5'"),
    ("i='3'", "i: expected int"),
    ("i=", "i: expected int, got ''"),
    ("i=" + "9" * 5000, "i: expected int"),
    ("i/=2", r"i/=2 gives 1.5 \(float\), but expected is int"),
    ("i/=0", "i: i/=0 cannot be computed.*division by zero"),
    ("i*=x", "i: expected float, got 'x'"),
    ("f=fast", "f: expected float, got 'fast'"),
    ("b=maybe", r"b: expected bool, got 'maybe' \(write true or false\)"),
    ("n=x", "n: expected None, got 'x'"),
    ("c=x", "c: expected complex"),
    ("dec=x", "dec: expected Decimal"),
    ("uid=x", "uid: expected UUID | None"),
    ("when=soon", "when: expected datetime | None, got 'soon'"),
    ("span=long", "span: expected timedelta.*write seconds"),
    ("rx=(", "rx: expected Pattern.*unterminated"),
    ("oi=x", r"oi: expected int \| None, got 'x'"),
    ("fu=[a]", r"fu\[0\]: expected float, got 'a'"),
    ("lit=c", "lit: expected Literal.*got 'c'"),
    ("lit=1", "lit: expected"),
    ("col=GREN", "col: expected Colour, got 'GREN'.*did you mean 'GREEN'"),
    ("lev=3", "lev: expected Level.*LOW, HIGH"),
    ("mode=READ|X", "mode: expected Mode"),
    ("li=5", r"li: expected list\[int\], got '5'"),
    ("li=[1, x]", r"li\[1\]: expected int, got 'x'"),
    ("li=[1, 2", r"li: expected list\[int\], got '\[1, 2' \(it ends where ',' or ']' is missing\)"),
    ("li={1}", "li: expected"),
    ("li[5]=1", r"li\[5\].*out of range"),
    ("li[a]=1", "is not an override"),
    ("li-=[1]", "li: li-=.*cannot be computed"),
    ("li.x=1", "li"),
    ("ll=[[1, x]]", r"ll\[0\]\[1\]: expected int"),
    ("tu=(1,)", "it has 1 elements, not 2"),
    ("tu=(1, 2, 3)", "it has 3 elements, not 2"),
    ("tu[0]=x", r"tu\[0\]: expected int"),
    ("fs={x}", r"fs\[0\]: expected int"),
    ("di={a: x}", r"di\['a'\]: expected int, got 'x'"),
    ("di={a: 1, b}", "some of what is in braces"),
    ("di=[1]", r"di: expected dict\[str, int\]"),
    ("dk={x: 1}", "dk key 'x': expected int"),
    ("box={widht: 1}", "it has no key 'widht'; did you mean 'width'"),
    ("box={width: x}", r"box\['width'\]: expected int"),
    ("a={[1]: 2}", "a: expected Any"),
    ("ii=x", "ii: expected int"),
    # names
    ("net=smal", "net: expected Net, got 'smal'.*did you mean 'small'"),
    ("net=5", "net: expected Net, got '5'"),
    ("net=small(widht=3)", "net=small has no argument 'widht'; did you mean 'width'"),
    ("net=small(width=x)", "net=small.width: expected int, got 'x'"),
    ("net=small(1, 2, 3)", "net=small: it takes 2 arguments; '3' is one too many"),
    ("net=small(1, width=2)", "net=small: 'width' is given twice"),
    ("net=adam", "net: expected Net, got 'adam'"),
    ("net=Adam", "net: expected Net"),
    ("net={widht: 3}", "net: Net has no argument 'widht'; did you mean 'width'"),
    ("net={width: x}", "net.width: expected int"),
    ("net.widht=3", "net: Net has no argument 'widht'; did you mean 'width'"),
    ("net.width.x=3", "net.width.x"),
    ("on.widht=3", "on: Net has no argument 'widht'"),
    ("ln[3].width=3", r"ln\[3\]: there is no \[3\]"),
    ("ln[0].widht=3", r"ln\[0\]: Net has no argument 'widht'"),
    ("un2.rate=1", "un2 has no value yet.*un2=..."),
    ("opt=adam(rate=-1)", "opt=adam.*failed: ValueError: rate must not be negative"),
    ("shape.side=3", "shape has no value yet"),
    ("shape=Shape", "shape"),
    ("ty=Adam", "ty: expected type"),
    ("ty=tests.cli.samples.Adam", "ty: expected type"),
    ("fn=nothing", "fn: expected"),
    ("fn=nowhere.nothing", "cannot find 'nowhere.nothing'"),
    ("oi+=1", r"oi: oi\+=1 cannot be computed, as it is None"),
    # nothing else is called, and nothing imported where no class can stand
    ("net=unregistered", "there is no factory or class of this name"),
    ("net=unregistered()", "there is no factory"),
    ("net=tests.cli.samples.unregistered", "neither a class that fits nor a registered factory"),
    ("net=tests.cli.samples.unregistered()", "neither a class"),
    ("net=os.system", "neither a class"),
    ("net=os.system('true')", "neither a class"),
    ("net=subprocess.Popen('true')", "subprocess.Popen is no Net"),
    ("net=eval('1')", "there is no factory or class"),
    ("net=__import__('os')", "there is no factory"),
    ("i=os.system('true')", "i: expected int"),
    ("li=[os.system('true')]", r"li\[0\]: expected int"),
    ("i=(lambda: 1)()", "i: expected int"),
    ("net=nowhere.Model", "cannot find 'nowhere.Model'"),
    ("net.__class__=1", "Net has no argument '__class__'"),
    ("s.__class__.x=1", "s"),
    ("__class__.x=1", "__class__"),
]


@pytest.mark.parametrize(("typed", "said"), BAD, ids=[typed[:60] for typed, _ in BAD])
def test_mistakes(typed: str, said: str) -> None:
    with pytest.raises(OverrideError, match=said) as caught:
        run.cli.parse_partial(everything, typed)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_there_are_enough_of_them() -> None:
    assert len(GOOD) + len(CONFIGURED) + len(BAD) >= 240


def test_defaults_stay_as_they_are() -> None:
    run.cli.parse_partial(everything, "ln[0].width=1", "li[0]=5", "di.a=7", "net.width=1")
    assert everything()["ln"] == [Net(width=7)]
    assert everything()["li"] == [1, 2]
    assert everything()["di"] == {"a": 1}
    assert everything()["net"] == Net()


def test_positional_values() -> None:
    assert run.cli.parse_partial(everything, "5", "2", "i*=2").__arguments__ == {"i": 10, "f": 2.0}
    with pytest.raises(OverrideError, match="'5' comes after 'f=2'"):
        run.cli.parse_partial(everything, "f=2", "5")
    with pytest.raises(OverrideError, match="'2' is one value too many; half takes the 1 arguments x"):
        run.cli.parse_partial(samples.half, "1", "2")


def test_near_names_of_arguments() -> None:
    def train(model: Net, rate: float) -> None: ...

    with pytest.raises(
        OverrideError, match=r"train has no argument 'modle'; did you mean 'model'\? There are: model, rate"
    ):
        run.cli.parse_partial(train, "modle=small")
    with pytest.raises(OverrideError, match=r"rate has no value yet, so \+= cannot change it"):
        run.cli.parse_partial(train, "rate+=1")
    assert run.cli.parse_partial(train, "model.width=3").model == run.Config(Net, width=3)


def test_a_factory_for_one_argument() -> None:
    @run.cli.factory(target=everything, target_arg="req")
    def only_here(width: int = 11) -> run.Config[Net]:
        return run.Config(Net, width=width)

    assert run.cli.parse_partial(everything, "req=only_here").req.width == 11
    with pytest.raises(OverrideError, match="got 'only_here'"):
        run.cli.parse_partial(everything, "on=only_here")


def test_the_default_factory_of_a_type() -> None:
    class Engine:
        def __init__(self, power: int, gears: int) -> None: ...

    def drive(engine: Engine) -> None: ...

    @run.cli.factory(target=Engine, is_target_default=True)
    def standard() -> run.Config[Engine]:
        return run.Config(Engine, power=1, gears=5)

    assert run.cli.parse_partial(drive, "engine=default").engine == standard()
    assert run.cli.parse_partial(drive, "engine.power=2").engine == run.Config(Engine, power=2, gears=5)


_PATHS = [*inspect.signature(everything).parameters, "net.width", "li[0]", "di.a", "ln[0].act", "nix.x", "tu[1]"]
_PIECES = [*"[](){},:='\"1a.", "small", "(", "none", "true", "1e9", "@x.yaml", "os.system"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(_PATHS),
    st.sampled_from(OPERATORS),
    st.one_of(st.text(max_size=30), st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)),
)
def test_only_its_own_error_ever_comes_out(path: str, operator: str, value: str) -> None:
    try:
        run.cli.parse_partial(everything, f"{path}{operator}{value}")
    except OverrideError:
        pass
    except ValueError as error:  # a file that is not there
        assert "there is no file" in str(error)
