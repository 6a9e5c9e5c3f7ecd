"""What is configured and run by the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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


def touch(path: str) -> None:
    """The task that is launched."""
    Path(path).write_text("x")


def make_model(make: Callable[..., Any], size: tuple[int, int, int]) -> Any:
    """A model out of many parts.

    Args:
        make: What makes a part: given its class, and its arguments by name.
        size: Blocks, and width and depth of a tree.
    """
    blocks, width, depth = size

    def layer(i: int) -> Any:
        return make(Layer, width=i, activation="gelu", sizes=[i, 2, 3], extra={"a": 0.5, "b": 1.5})

    def node(levels: int) -> Any:
        children = {name: node(levels - 1) for name in "abcd"[:width]} if levels > 1 else {}
        return make(Node, width=levels, rate=0.25, **children)

    def block(i: int) -> Any:
        layers = [layer(i + k) for k in range(8)]
        return make(Block, name=f"block{i}", layers=layers, by_name={k: layer(i) for k in "wxyz"})

    return make(Model, blocks=[block(i) for i in range(blocks)], tree=node(depth))
