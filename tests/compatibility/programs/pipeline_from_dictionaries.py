"""A pipeline tool: an experiment is built from a dictionary of stages, and mistakes in it are caught and told."""

import json
from pathlib import Path

import nemo_run as run

PIPELINE = {
    "download": {"command": "echo data > $WORK/data.txt"},
    "clean": {"command": "tr a-z A-Z < $WORK/data.txt > $WORK/clean.txt", "needs": ["download"]},
    "count": {"command": "wc -c < $WORK/clean.txt | tr -d ' ' > $WORK/count.txt", "needs": ["clean"]},
}
BROKEN = [
    {"command": "true", "needs": ["never"]},
    {"command": ["echo a", "echo b"]},
    {"command": ""},
    {"command": "true", "executor": "local"},
]


def add(exp, name, stage, executor):
    command = stage["command"]
    if isinstance(command, list):
        task = [run.Script(inline=line) for line in command]
    else:
        task = run.Script(inline=command)
    return exp.add(task, executor=stage.get("executor", executor), name=name, dependencies=stage.get("needs"))


def main():
    executor = run.LocalExecutor(env_vars={"WORK": str(Path.cwd())})
    seen = {"failures": []}
    with run.Experiment("broken", executor=executor) as exp:
        for stage in BROKEN:
            try:
                add(exp, "", stage, executor)
            except AssertionError:
                seen["failures"].append("AssertionError")
            except Exception as error:
                seen["failures"].append(type(error).__name__)
        seen["left"] = len(exp.jobs)
    with run.Experiment("pipeline", executor=executor) as exp:
        seen["added"] = [add(exp, name, stage, executor) for name, stage in PIPELINE.items()]
        seen["dependencies"] = [job.dependencies for job in exp.jobs]
        exp.run()
    states = run.Experiment.from_title("pipeline").status(return_dict=True)
    seen["states"] = {name: str(states[name]["status"]) for name in PIPELINE}
    Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
