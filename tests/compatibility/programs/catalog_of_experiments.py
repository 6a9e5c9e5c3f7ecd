"""A housekeeper that lists experiments, loads each of them, and reports their jobs."""

import json
from pathlib import Path

import nemo_run as run


def main():
    for number in range(2):
        with run.Experiment("nightly") as exp:
            for part in range(number + 1):
                exp.add(run.Script(inline=f"echo {part}"), name=f"part{part}")
            exp.run()
    with run.Experiment("only-looked-at") as exp:
        exp.add(run.Script(inline="true"))
        exp.dryrun(log=False)
    names = run.Experiment.catalog("nightly")
    loaded = [run.Experiment.from_id(name) for name in names]
    seen = {
        "count": len(names),
        "by title": all(name.startswith("nightly_") for name in names),
        "jobs": [[job.id for job in exp.jobs] for exp in loaded],
        "tasks": [[task.inline for task in exp.tasks] for exp in loaded],
        "last": run.Experiment.from_title("nightly")._id == names[-1],
        "looked at": run.Experiment.catalog("only-looked-at"),
        "executors": [type(exp.jobs[0].executor).__name__ for exp in loaded],
    }
    Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
