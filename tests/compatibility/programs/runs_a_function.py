"""A notebook's way: `run.run` and `dryrun_fn` of functions and scripts."""

import json
from pathlib import Path

import nemo_run as run


def write(name: str, text: str = "text"):
    Path(name).write_text(text + "\n")


if __name__ == "__main__":
    here = Path.cwd()
    seen = {}
    run.run(run.Partial(write, name=str(here / "one.txt")), executor=run.LocalExecutor(), name="one")
    run.run(run.Script(inline=f"echo two > {here}/two.txt"), executor=run.LocalExecutor(), name="two")
    run.run(run.Partial(write, name=str(here / "dry.txt")), executor=run.LocalExecutor(), name="dry", dryrun=True)
    try:
        run.run("not a task")
    except TypeError:
        seen["text"] = "TypeError"
    seen["titles"] = [len(run.Experiment.catalog(name)) for name in ("one", "two")]
    Path("result.json").write_text(json.dumps(seen, indent=1))
