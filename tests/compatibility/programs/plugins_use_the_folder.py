"""Plugins that look at what the executor says of its experiment and of the job's folder."""

import json
from dataclasses import dataclass
from pathlib import Path

import nemo_run as run

SEEN = []


@dataclass(kw_only=True)
class Notes(run.Plugin):
    text: str = "a note"

    def setup(self, task, executor):
        folder = Path(executor.job_dir)
        executor.env_vars["NOTES"] = f"{self.text} of {folder.name}"
        executor.env_vars["LOGS"] = str(folder / "logs")
        SEEN.append([folder.name, folder.is_absolute(), Path(executor.experiment_dir) == folder.parent])
        SEEN.append([self.experiment_id == executor.experiment_id, folder.parent.name == executor.experiment_id])
        if isinstance(task, run.Script):
            task.env["KIND"] = "script"
        else:
            task.kind = "function"


def note(kind: str, target: str):
    import os

    Path(target).write_text(f"{kind}: {os.environ['NOTES']}")


if __name__ == "__main__":
    work = Path.cwd()
    function, script = (
        run.Partial(note, target=str(work / "function.txt")),
        run.Script(inline=f'echo "$KIND: $NOTES" > {work}/script.txt'),
    )
    executor = run.LocalExecutor()
    with run.Experiment("noted", executor=executor) as exp:
        exp.add(function, name="function", plugins=[Notes()])
        exp.add(script, name="script", plugins=[Notes(text="another")])
        jobs = [[Path(job.executor.job_dir).name, job.executor.experiment_id == exp._id] for job in exp.jobs]
        exp.run()
    seen = {"plugins": SEEN, "jobs": jobs, "executor": [executor.env_vars, executor.experiment_id], "env": script.env}
    Path("result.json").write_text(json.dumps(seen, indent=1))
