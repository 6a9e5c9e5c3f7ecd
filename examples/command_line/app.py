"""A training with a command line: any argument, also of what is inside, can be set there."""

from __future__ import annotations

from dataclasses import dataclass

import nemo_run as run


@dataclass
class Model:
    """A model.

    Args:
        width: Units in each layer.
        layers: Number of layers.
    """

    width: int = 512
    layers: int = 12


@dataclass
class Adam:
    """An optimizer.

    Args:
        rate: Learning rate.
    """

    rate: float = 1e-3


@run.cli.factory
@run.autoconvert
def small(layers: int = 2) -> Model:
    """A model for a quick look."""
    return Model(width=64, layers=layers)


@run.cli.entrypoint
def train(model: Model, optimizer: Adam = Adam(), steps: int = 10) -> None:  # noqa: B008
    """Train a model.

    Args:
        model: What is trained.
        optimizer: How.
        steps: How long.
    """
    print(f"{model.width} wide, {model.layers} deep, rate {optimizer.rate}, {steps} steps")


if __name__ == "__main__":
    run.cli.main(train)
