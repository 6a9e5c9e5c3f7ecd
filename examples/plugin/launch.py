"""A plugin that seeds every task that takes a seed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import nemo_run as run


@dataclass(kw_only=True)
class Seeded(run.Plugin):
    """Gives a task its seed, and the processes of it the same one.

    Attributes:
        seed: The seed.
    """

    seed: int = 0

    def setup(self, task: run.Partial[Any] | run.Script, executor: run.Executor) -> None:
        """Change both before the launch."""
        if isinstance(task, run.Partial):
            task.seed = self.seed
        executor.env_vars["PYTHONHASHSEED"] = str(self.seed)

    def cleanup(self, task: run.Partial[Any] | run.Script, executor: run.Executor) -> None:
        """Say what was done."""
        print(f"seeded with {self.seed}: train", flush=True)


def train(seed: int) -> str:
    """Return what it was given."""
    return f"trains with seed {seed}, PYTHONHASHSEED is {os.environ['PYTHONHASHSEED']}"


def main() -> None:
    """Launch a task with the plugin."""
    with run.Experiment("plugin", executor=run.LocalExecutor(), skip_status_at_exit=True) as exp:
        exp.add(run.Partial(train, seed=1), name="train", plugins=[Seeded(seed=7)])
        exp.run(check=True)
        print(exp.result("train"), flush=True)


if __name__ == "__main__":
    main()
