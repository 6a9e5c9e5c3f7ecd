"""Scripts and functions on this machine; what each writes; what the experiment says of them."""

import json
import os
from pathlib import Path

import nemo_run as run

HERE = Path(os.environ.setdefault("HERE", str(Path.cwd())))


def write(name: str, text: str = "x", times: int = 1):
    (HERE / name).write_text(text * times + os.environ.get("WORD", ""))


def states(exp):
    return {name: one["status"].name for name, one in exp.status(return_dict=True).items()}


def local(**options):
    return run.LocalExecutor(**options)


if __name__ == "__main__":
    seen = {}
    inline = run.Script(
        inline=f"cat {HERE}/first > {HERE}/second\necho \"$A\" '$A' >> {HERE}/second", env={"A": "a  b"}
    )
    Path("given.sh").write_text(f'echo "$#" "$2" > {HERE}/given\n')
    with run.Experiment("graph", executor=local(env_vars={"WORD": "!"})) as exp:
        first = exp.add(run.Partial(write, name="first", times=3), name="first")
        second = exp.add(inline, name="second", dependencies=[first])
        exp.add(run.Script(path="given.sh", args=["one", "two words"]), name="given", dependencies=[second])
        exp.add(run.Script(path=str(HERE / "given.sh")), name="absolute", dependencies=["given"])
        seen["jobs"] = [[job.id, job.dependencies, type(job.task).__name__] for job in exp.jobs]
        exp.run(sequential=False)
    seen["graph"] = states(exp)
    with run.Experiment("parallel") as exp:
        tasks = [run.Partial(write, name=f"member-{n}", text=str(n)) for n in range(2)]
        exp.add(run.Script(inline="exit 3"), executor=local(), name="bad")
        for task in tasks:
            exp.add(task, executor=local(env_vars={"WORD": "?"}), name=task.name)
        exp.run()
    seen["parallel"] = states(exp)
    with run.Experiment("single", executor=local(launcher=None)) as exp:
        exp.add(run.Partial(write, name="last"), name="last")
        exp.run(sequential=True, tail_logs=True)
    again = run.Experiment.from_title("graph")
    seen["again"] = [states(again), [job.id for job in again.jobs], again._id == run.Experiment.catalog("graph")[-1]]
    seen["titles"] = [len(run.Experiment.catalog(title)) for title in ("graph", "parallel", "single", "nobody")]
    Path("given.sh").unlink()
    Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))
