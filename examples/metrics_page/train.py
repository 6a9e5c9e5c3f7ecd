"""Two trainings whose metrics are compared."""

from __future__ import annotations

import math

import nemo_run as run


def train(rate: float, steps: int = 50) -> float:
    """Log the loss of each step; return the last one."""
    loss = 1.0
    for step in range(steps):
        loss = math.exp(-rate * step)
        run.log_metrics({"loss": loss}, step=step)
    return loss


def main() -> None:
    """Launch both, and show the last losses."""
    with run.Experiment("curves", executor=run.LocalExecutor(), skip_status_at_exit=True) as exp:
        for rate in (0.1, 0.2):
            exp.add(train, rate=rate, name=f"rate-{rate}")
        exp.run(check=True)
    for job in exp.jobs:
        print(job.id, f"{exp.metrics(job.id)['loss'].last:.4f}")


if __name__ == "__main__":
    main()
