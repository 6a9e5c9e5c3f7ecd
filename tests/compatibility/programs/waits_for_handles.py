"""A tool that starts one experiment, and whose next one waits for the handles of the first."""

import json
from pathlib import Path

import nemo_run as run


def main():
    work = Path.cwd()
    seen = {}
    with run.Experiment("first", executor=run.LocalExecutor(env_vars={"WORK": str(work)})) as exp:
        exp.add(run.Script(inline="echo one > $WORK/one.txt"), name="one")
        exp.add(run.Script(inline="exit 3"), name="fails")
        exp.run()
    states = exp.status(return_dict=True)
    seen["states"] = {name: str(entry["status"]) for name, entry in states.items()}
    seen["keys"] = [key in states["one"] for key in ("name", "status", "executor", "job_id", "handle", "local_dir")]
    seen["executor"] = states["one"]["executor"]
    seen["handles"] = [bool(job.handle) for job in exp.jobs]
    again = run.Experiment.from_title("first")
    seen["again"] = [job.id for job in again.jobs]
    seen["same handles"] = [a.handle == b.handle for a, b in zip(exp.jobs, again.jobs)]
    if any(state == "FAILED" for state in seen["states"].values()):
        (work / "failed.txt").write_text("the first one failed\n")
    with run.Experiment("second") as exp:
        exp.add(run.Script(inline=f"cat {work}/one.txt {work}/failed.txt > {work}/both.txt"), name="two")
        exp.run(sequential=True)
    seen["second"] = str(exp.status(return_dict=True)["two"]["status"])
    (work / "result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
