"""A driver that runs an experiment, and again with other arguments, through `reset`."""

import json
from pathlib import Path

import nemo_run as run


def script(x: int) -> run.Script:
    return run.Script(inline=f"echo {x} >> $WORK/x.txt", env={"WORK": str(Path.cwd())})


if __name__ == "__main__":
    seen = {}
    with run.Experiment("again") as exp:
        exp.add(script(1), name="note")
        exp.run()
    first = exp._id
    loaded = run.Experiment.from_id(first)
    seen["loaded"] = [loaded._title, loaded._id == first, [job.id for job in loaded.jobs]]
    seen["launched"] = [job.launched for job in loaded.jobs]
    with loaded.reset():
        loaded.tasks[0].inline = script(2).inline
        loaded.run()
    seen["another"] = loaded._id != first
    with exp.reset():
        exp.jobs[0].task.inline = script(3).inline
        exp.run()
    seen["ids"] = len({first, loaded._id, exp._id})
    seen["catalog"] = len(run.Experiment.catalog("again"))
    seen["last"] = run.Experiment.from_title("again")._id == exp._id
    Path("result.json").write_text(json.dumps(seen, indent=1))
