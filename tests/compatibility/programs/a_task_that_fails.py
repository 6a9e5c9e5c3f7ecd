"""A driver that looks at what became of tasks: one raises, one exits, one is well; then it exits with a code."""

import json
import sys
from pathlib import Path

import nemo_run as run


def task(kind: str, folder: str):
    Path(folder, f"{kind}.txt").write_text("started\n")
    if kind == "raises":
        raise ValueError("no")
    if kind == "exits":
        raise SystemExit(4)


def main() -> int:
    with run.Experiment("outcomes") as exp:
        for kind in ("raises", "exits", "well"):
            exp.add(run.Partial(task, kind=kind, folder=str(Path.cwd())), name=kind)
        exp.run()
    states = {name: str(entry["status"]) for name, entry in exp.status(return_dict=True).items()}
    failed = sorted(name for name, state in states.items() if state != "SUCCEEDED")
    seen = {"states": [states[job.id] for job in exp.jobs], "failed": failed}
    seen["jobs"] = [str(job.state) for job in exp.jobs]
    Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
