"""A launching script with all that users put into one; ``test_launching_script.py`` runs it and looks at its tasks."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import enum
import functools
import inspect
import json
import multiprocessing
import pickle
import sys
import threading
import typing
import weakref
from concurrent.futures import ProcessPoolExecutor
from dataclasses import MISSING, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import nemo_run as run

T = TypeVar("T")
LOCK = threading.Lock()
WEAK: weakref.WeakValueDictionary[str, object] = weakref.WeakValueDictionary()
# What no task uses, and cannot be copied.
OPEN_FILE = Path(__file__).open()  # noqa: SIM115
THREAD = threading.Thread(target=print)
GENERATOR = (i for i in range(3))


@functools.lru_cache(maxsize=None)  # noqa: UP033
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.cache
def vocabulary(size: int) -> tuple[str, ...]:
    return tuple(f"token{i}" for i in range(size))


@functools.singledispatch
def shown(value: object) -> str:
    return "something"


@shown.register
def _(value: int) -> str:
    return f"number {value}"


@shown.register(list)
def _of_list(value: list[object]) -> str:
    return "list of " + ", ".join(map(shown, value))


def logged(function: typing.Callable[..., T]) -> typing.Callable[..., T]:
    """A decorator that keeps the function's name."""

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> T:
        with LOCK:
            print("calling", function.__name__)
        return function(*args, **kwargs)

    return wrapper


def adder(amount: int) -> typing.Callable[[int], int]:
    return lambda x: x + amount


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: int
    y: int = 2


@dataclass
class Checkpoint:
    step: int
    colour: Colour = Colour.RED
    history: list[int] = field(default_factory=list)


@dataclass(order=True)
class Best(Checkpoint):
    score: float = 0.5


class Box(Generic[T]):
    made: typing.ClassVar[dict[str, int]] = {}
    guard = threading.RLock()

    def __init__(self, value: T) -> None:
        self.value = value
        with self.guard:
            self.made[type(value).__name__] = self.made.get(type(value).__name__, 0) + 1

    @functools.cached_property
    def doubled(self) -> list[T]:
        return [self.value] * 2

    @functools.lru_cache  # noqa: B019
    def times(self, n: int) -> list[T]:
        return [self.value] * n

    @functools.singledispatchmethod
    def kind(self, value: object) -> str:
        return "object"

    @kind.register
    def _(self, value: str) -> str:
        return "text"

    class Lid:
        colour = Colour.BLUE


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    side = 2.0

    def area(self) -> float:
        return self.side**2


class TrainingError(RuntimeError):
    def __init__(self, step: int) -> None:
        super().__init__(step)


def square(x: int) -> int:
    return x * x


def fail_in_child(step: int) -> None:
    raise TrainingError(step)


# ---------------------------------------------------------------- tasks
def caches() -> object:
    again = fibonacci(10)
    return again, fibonacci.cache_info().hits > 0, vocabulary(2), fibonacci.__name__


def dispatch() -> object:
    return shown(3), shown("x"), shown([1, 2]), Box(1).kind("x"), Box(1).kind(2)


@logged
def decorated() -> object:
    return adder(2)(3), decorated.__name__


def _same(value: object) -> bool:
    again = pickle.loads(pickle.dumps(value))
    return type(again) is type(value) and (again == value or vars(again) == vars(value))


def own_classes() -> object:
    values = [
        Checkpoint(1), Best(2, score=0.7), Colour.RED, Flag.A | Flag.B, Point(1), Box(3), Square(), Box.Lid(),
    ]  # fmt: skip
    return [_same(value) for value in values], Point(1)._asdict(), isinstance(Best(1), Checkpoint), Square().area()


def dataclasses_stay_such() -> object:
    @dataclass
    class Longer(Checkpoint):
        extra: int = 3

    required = [one.name for one in fields(Checkpoint) if one.default is MISSING and one.default_factory is MISSING]
    return Longer(1).extra, required, replace(Checkpoint(1), step=2).step, Checkpoint(1).history


def class_level_state() -> object:
    return Box("a").doubled, Box("b").times(3), Box.made["str"], Box.__orig_bases__[0].__args__[0] is T


def weak_and_locked() -> object:
    box = Box(1)
    WEAK["box"] = box
    with LOCK, contextlib.suppress(KeyError):
        return WEAK["box"] is box
    return False


def pool() -> object:
    with ProcessPoolExecutor(2) as workers:
        return list(workers.map(square, range(4)))


def own_error_of_a_child() -> object:
    with ProcessPoolExecutor(1) as workers:
        try:
            workers.submit(fail_in_child, 7).result()
        except TrainingError as error:
            return error.args
    return None


def processes(method: str) -> object:
    with multiprocessing.get_context(method).Pool(2) as workers:
        return workers.map(square, range(3))


def source() -> object:
    return inspect.getsource(square).strip(), inspect.getsource(Point).splitlines()[0], Path(__file__).name


def hints() -> object:
    return [
        typing.get_type_hints(Checkpoint)["colour"] is Colour,
        typing.get_type_hints(takes_fraction)["value"] is Fraction,
        run.Config(Checkpoint, step=2).step,
    ]


def takes_fraction(value: Fraction) -> Point: ...  # the class is used in annotations only


def main_module() -> object:
    main = sys.modules["__main__"]
    return __name__, main.square is square, square.__module__, Path(main.__file__).name


async def awaited() -> object:
    await asyncio.sleep(0)
    return await asyncio.gather(*(_number(i) for i in range(2)))


async def _number(i: int) -> int:
    return i


class Trainer:
    async def __call__(self) -> None:
        await asyncio.sleep(0)
        print(json.dumps("trained"))


def report(task: typing.Callable[..., object], argument: str = "") -> None:
    """Call a task of the script and print what it returns."""
    print(json.dumps(task(argument) if argument else task()))


async def report_later(task: typing.Callable[..., typing.Awaitable[object]]) -> None:
    print(json.dumps(await task()))


def fails() -> None:
    text = "not a number"
    int(text)  # the line that a traceback shows


async def exits() -> None:
    raise SystemExit(3)


PLAIN = (
    caches, dispatch, decorated, own_classes, dataclasses_stay_such, class_level_state, weak_and_locked, pool,
    own_error_of_a_child, source, hints, main_module,
)  # fmt: skip


def launch() -> None:
    with run.Experiment("script", executor=run.LocalExecutor(), clean_mode=True) as exp:
        for task in PLAIN:
            exp.add(run.Partial(report, task), name=task.__name__)
        for method in ("fork", "spawn", "forkserver"):
            exp.add(run.Partial(report, processes, method), name=method)
        exp.add(run.Partial(report_later, awaited), name="awaited")
        exp.add(run.Partial(run_trainer, run.Config(Trainer)), name="trainer")
        exp.add(run.Partial(fails), name="fails")
        exp.add(run.Partial(exits), name="exits")
        exp.run(detach=False)


def run_trainer(trainer: Trainer) -> typing.Awaitable[None]:
    return trainer()


if __name__ == "__main__":
    launch()
