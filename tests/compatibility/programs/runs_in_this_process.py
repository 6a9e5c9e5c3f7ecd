"""An experiment whose jobs run in this process, one after the other."""

import json
from pathlib import Path

import nemo_run as run

DONE = []


def work(x: int, name: str = "w"):
    DONE.append(name * x)
    Path(f"{name}.txt").write_text(f"{name} {x}\n")


if __name__ == "__main__":
    with run.Experiment("direct") as exp:
        exp.add(run.Partial(work, x=1), name="one")
        exp.add(run.Partial(work, x=3, name="b"), name="two")
        exp.run(direct=True)
    seen = {"done": DONE, "launched": [job.launched for job in exp.jobs], "states": []}
    seen["states"] = [str(state["status"]) for state in exp.status(return_dict=True).values()]
    run.run(run.Partial(work, x=2, name="call"), direct=True)
    seen["after"] = len(DONE)
    Path("result.json").write_text(json.dumps(seen, indent=1))
