"""Times what is done with large configurations, beside any other package that provides ``nemo_run``.

::

    python benchmarks/configuration.py                                  this interpreter only
    python benchmarks/configuration.py peer=/path/to/peer/bin/python    beside the peer, and with ratios

Every operation runs in a fresh process, the interpreters taking turns, ``REPEATS`` times; shown is the median. What
takes longer than ``LIMIT`` seconds is given up, and shown as a bound.  Prints a Markdown table.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPEATS = 3
LIMIT = 60.0
SIZES = {"1k": (6, 3, 5), "10k": (60, 4, 6)}  # blocks, and width and depth of a tree of nested arguments
OPERATIONS = (
    "construct",
    "clone",
    "build",
    "fdl.build",
    "broadcast",
    "walk",
    "equal",
    "serialise",
    "load",
    "diff",
    "add",
)


@dataclass
class Layer:
    width: int = 64
    dropout: float = 0.1
    activation: str = "relu"
    sizes: list[int] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)


@dataclass
class Block:
    name: str = "block"
    layers: list[Layer] = field(default_factory=list)
    by_name: dict[str, Layer] = field(default_factory=dict)


@dataclass
class Node:
    width: int = 64
    rate: float = 0.1
    name: str = "node"
    a: Node | None = None
    b: Node | None = None
    c: Node | None = None
    d: Node | None = None


@dataclass
class Model:
    blocks: list[Block] = field(default_factory=list)
    tree: Node | None = None


def train(model: Model, seed: int = 0) -> Model:
    """The task whose configuration is measured."""
    return model


def make(size: str) -> Any:
    """A Partial with about a thousand or ten thousand leaves."""
    import nemo_run as run

    blocks, width, depth = SIZES[size]

    def layer(i: int) -> Any:
        return run.Config(Layer, width=i, activation="gelu", sizes=[i, 2, 3], extra={"a": 0.5, "b": 1.5})

    def node(levels: int) -> Any:
        children = {name: node(levels - 1) for name in "abcd"[:width]} if levels > 1 else {}
        return run.Config(Node, width=levels, rate=0.25, **children)

    def block(i: int) -> Any:
        layers = [layer(i + k) for k in range(8)]
        return run.Config(Block, name=f"block{i}", layers=layers, by_name={k: layer(i) for k in "wxyz"})

    model = run.Config(Model, blocks=[block(i) for i in range(blocks)], tree=node(depth))
    return run.Partial(train, model=model, seed=1)


def operation(name: str, size: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """What prepares an operation, and the operation itself."""
    import fiddle as fdl

    import nemo_run as run
    from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer

    if name == "construct":
        return (lambda: None), (lambda: make(size))
    task = make(size)
    serializer, made = ZlibJSONSerializer(), {"copy": task.clone()}
    if name == "load":
        made["text"] = serializer.serialize(task)
    if name == "diff":
        made["copy"].seed = 2
        made["copy"].model.tree.width = 99

    def fresh() -> None:
        if name in ("broadcast", "walk"):
            made["copy"] = task.clone()

    def add() -> None:
        with run.Experiment("benchmark", executor=run.LocalExecutor()) as exp:
            exp.add(task, name="task")

    work = {
        "clone": task.clone,
        "build": getattr(task, "build", lambda: fdl.build(task)),
        "fdl.build": lambda: fdl.build(task),
        "broadcast": lambda: made["copy"].broadcast(width=7),
        "walk": lambda: made["copy"].walk(rate=lambda config: config.rate * 2),
        "equal": lambda: task == made["copy"],
        "serialise": lambda: serializer.serialize(task),
        "load": lambda: serializer.deserialize(made["text"]),
        "diff": lambda: made["copy"].diff(task),
        "add": add,
    }
    return fresh, work[name]


def measure(name: str, size: str) -> float:
    """Seconds that an operation takes; the least of up to five runs of quick ones."""
    prepare, work = operation(name, size)
    times: list[float] = []
    while not times or (len(times) < 5 and sum(times) < 0.5):
        prepare()
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def measured(python: str, name: str, size: str) -> float | None:
    """The same in a process of its own; ``None`` where it takes too long."""
    command = [python, __file__, "--one", name, size]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, cwd=Path(__file__).parent, check=True
        )
    except subprocess.TimeoutExpired:
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


def shown(seconds: float | None) -> str:
    """A time as it stands in the table."""
    if seconds is None:
        return f"> {LIMIT:.0f} s"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def main() -> None:
    """Print the table."""
    labels = {"this": sys.executable, **dict(argument.split("=", 1) for argument in sys.argv[1:])}
    others = [label for label in labels if label != "this"]
    head = ["operation", "leaves", *labels, *(f"this / {label}" for label in others)]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for size in SIZES:
        for name in OPERATIONS:
            runs: dict[str, list[float | None]] = {label: [] for label in labels}
            for _ in range(REPEATS):
                for label, python in labels.items():
                    if None not in runs[label]:
                        runs[label].append(measured(python, name, size))
            medians = {
                k: None if None in v else statistics.median([t for t in v if t is not None]) for k, v in runs.items()
            }
            mine = medians["this"]
            ratios = []
            for label in others:
                other = medians[label]
                bound = "< " if other is None else ""
                ratios.append("-" if mine is None else f"{bound}{mine / (other or LIMIT):.2g}")
            print(f"| {' | '.join([name, size, *map(shown, medians.values()), *ratios])} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3])))
    else:
        main()
