"""Types, functions and factories that the tests of the command line configure."""

from __future__ import annotations

import abc
import collections
import datetime
import decimal
import enum
import fractions
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, TypedDict, TypeVar

import nemo_run as run

if TYPE_CHECKING:
    from nowhere import Tokenizer


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Box(TypedDict, total=False):
    width: int
    name: str


@dataclass
class Net:
    """A net.

    Args:
        width: How wide it is.
        act: What comes after each layer.
    """

    width: int = 4
    act: str = "relu"
    sizes: list[int] = field(default_factory=lambda: [1, 2])


@dataclass
class Deep(Net):
    depth: int = 8


@dataclass
class Adam:
    rate: float
    betas: tuple[float, float] = (0.9, 0.99)


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    def __init__(self, side: float = 1) -> None:
        self.side = side

    def area(self) -> float:
        return self.side**2


T = TypeVar("T", bound=int)
Port = NewType("Port", int)

CALLED: list[str] = []


def half(x: float) -> float:
    return x / 2


def unregistered() -> Net:
    CALLED.append("unregistered")
    return Net()


@run.cli.factory
@run.autoconvert
def small(width: int = 2, act: str = "tanh") -> Net:
    """A small net."""
    return Net(width=width, act=act)


@run.cli.factory
def deep(depth: int = 3) -> run.Config[Deep]:
    """A deep net."""
    return run.Config(Deep, depth=depth)


@run.cli.factory
def nets() -> list[Net]:
    return [run.Config(Net, width=1), run.Config(Deep, depth=2)]  # type: ignore[list-item]


@run.cli.factory
def adam(rate: float = 0.1, beta: float = 0.5) -> run.Config[Adam]:
    """Adam.

    Args:
        rate: How fast.
    """
    if rate < 0:
        raise ValueError("rate must not be negative")
    return run.Config(Adam, rate=rate, betas=(beta, 0.9))


@run.cli.factory
def tokenizer_spec() -> run.Config[dict[str, int]]:
    return run.Config(dict, size=1)


def everything(
    i: int = 3,
    f: float = 1.5,
    s: str = "text",
    b: bool = False,
    c: complex = 1j,
    by: bytes = b"x",
    n: None = None,
    p: Path = Path("a"),
    dec: decimal.Decimal = decimal.Decimal(1),
    fr: fractions.Fraction = fractions.Fraction(1),
    uid: uuid.UUID | None = None,
    when: datetime.datetime | None = None,
    day: datetime.date | None = None,
    clock: datetime.time | None = None,
    span: datetime.timedelta = datetime.timedelta(seconds=1),
    rx: re.Pattern[str] | None = None,
    oi: int | None = None,
    u: int | str = 1,
    fu: float | list[float] | None = None,
    lit: Literal["a", "b", 3, True] = "a",
    col: Colour = Colour.RED,
    lev: Level = Level.LOW,
    mode: Mode = Mode.READ,
    li: list[int] = [1, 2],  # noqa: B006
    ls: list[str] = [],  # noqa: B006
    lf: Sequence[float] = (1.0,),
    ll: list[list[int]] = [],  # noqa: B006
    tu: tuple[int, str] = (1, "a"),
    tv: tuple[int, ...] = (1,),
    se: set[str] = set(),  # noqa: B006
    fs: frozenset[int] = frozenset({1}),
    dq: collections.deque[int] | None = None,
    di: dict[str, int] = {"a": 1},  # noqa: B006
    dk: Mapping[int, float] = {},
    dd: dict[str, dict[str, int]] = {},  # noqa: B006
    box: Box = {"width": 1},  # noqa: B006
    a: Any = None,
    un=None,  # type: ignore[no-untyped-def]
    ann: Annotated[int, "note"] = 1,
    port: Port = Port(1),
    net: Net = Net(),  # noqa: B008
    on: Net | None = None,
    ln: list[Net] = [Net(width=7)],  # noqa: B006, B008
    dn: dict[str, Net] = {},  # noqa: B006
    un2: Net | Adam | None = None,
    opt: Adam | None = None,
    shape: Shape | None = None,
    cfg: run.Config[Net] | None = None,
    fn: Callable[[float], float] | None = None,
    ty: type[Net] = Net,
    tok: Tokenizer | None = None,
    req: Net | None = None,
    **more: int,
) -> dict[str, Any]:
    """Takes everything."""
    return {**locals()}
