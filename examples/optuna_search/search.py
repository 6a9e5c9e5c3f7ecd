"""Looks for the lowest point of a bowl, two trials at a time."""

from __future__ import annotations

import optuna

import nemo_run as run


def bowl(x: float, y: float) -> float:
    """Return how far a point is from (2, -1), squared."""
    return (x - 2) ** 2 + (y + 1) ** 2


def main() -> None:
    """Search, and show the best point."""
    with run.Experiment("search", executor=run.LocalExecutor(), skip_status_at_exit=True) as exp:
        exp.sweep(
            run.Partial(bowl),
            {"x": run.uniform(-5, 5), "y": run.uniform(-5, 5)},
            sampler=optuna.samplers.TPESampler(seed=1),
            trials=12,
            max_parallel=2,
            direction="minimize",
        )
        exp.run(check=True)
    best = exp.compare()[0]
    print(f"the best of {len(exp.compare())}: {best.objective:.3f} at {best.parameters}")


if __name__ == "__main__":
    main()
