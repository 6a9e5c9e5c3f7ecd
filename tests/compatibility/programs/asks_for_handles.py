"""A pipeline tool that asks experiments for the handles of their jobs, before and after they ran."""

import json
from pathlib import Path

import nemo_run as run
from nemo_run.run.job import AppState

ACTIVE = [AppState.RUNNING, AppState.PENDING, AppState.SUBMITTED, AppState.UNKNOWN]


def handles(experiment, ignore_finished: bool = True) -> list[str]:
    return [job.handle for job in experiment.jobs if not ignore_finished or job.status(experiment._runner) in ACTIVE]


def handles_of(title: str) -> list[str]:
    try:
        with run.Experiment.from_title(title) as experiment:
            return handles(experiment)
    except (FileNotFoundError, AssertionError):
        return ["nothing"]


if __name__ == "__main__":
    seen = {"none": handles_of("tool")}
    with run.Experiment("tool", skip_status_at_exit=True, serialize_metadata_for_scripts=False) as exp:
        exp.add(run.Script(inline="true"), name="one")
        exp.add([run.Script(inline="true"), run.Script(inline="exit 0")], name="two")
        exp._initialize_tunnels(extract_from_executors=True)
        seen["early"] = {name: str(entry["status"]) for name, entry in exp.status(return_dict=True).items()}
        seen["early jobs"] = [str(job.status(exp._runner)) for job in exp.jobs]
        seen["tasks"] = [len(task) if isinstance(task, list) else task.inline for task in exp.tasks]
        seen["tunnels"] = len(exp.tunnels)
        exp.run()
    seen["handles"] = [bool(handle) for handle in handles(exp, ignore_finished=False)]
    seen["active"] = handles(exp)
    seen["later"] = handles_of("tool")
    again = run.Experiment.from_id(exp._id)
    seen["late jobs"] = [str(job.status(again._runner)) for job in again.jobs]
    seen["late tasks"] = [len(task) if isinstance(task, list) else task.inline for task in again.tasks]
    Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))
