"""Takes up its own experiments by their ids: they are reset in the very script that defines their functions."""

import json
from dataclasses import dataclass
from pathlib import Path

import nemo_run as run


@dataclass
class Model:
    size: int = 1


def double(x: int) -> int:
    return 2 * x


def train(model: Model, folder: str, steps: int = 1):
    with Path(folder, "trained.txt").open("a") as file:
        file.write(f"{type(model).__name__} {double(model.size)} {steps}\n")


def main() -> None:
    seen = {}
    with run.Experiment("mine") as exp:
        exp.add(run.Partial(train, model=run.Config(Model, size=3), folder=str(Path.cwd())), name="train")
        exp.run()
    first = exp._id

    loaded = run.Experiment.from_id(first)
    loaded.reset()
    seen["same function"] = loaded.tasks[0].__fn_or_cls__ is train
    seen["equal"] = loaded.tasks[0] == run.Partial(train, model=run.Config(Model, size=3), folder=str(Path.cwd()))
    with loaded:
        loaded.tasks[0].model.size = 5
        loaded.run()
    seen["new id"] = loaded._id != first

    last = run.Experiment.from_title("mine").reset()
    with last:
        last.tasks[0].steps = 2
        last.run()

    seen["experiments"] = len(run.Experiment.catalog("mine"))
    Path("result.json").write_text(json.dumps(seen, indent=1))


if __name__ == "__main__":
    main()
