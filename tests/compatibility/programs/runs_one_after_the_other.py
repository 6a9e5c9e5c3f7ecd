"""A sequence of scripts, each of which reads what the one before wrote."""

import json
from pathlib import Path

import nemo_run as run


def main():
    executor = run.LocalExecutor(env_vars={"W": str(Path.cwd())})
    with run.Experiment("sequence", executor=executor) as exp:
        exp.add(run.Script(inline="echo 1 > $W/n.txt"), name="first")
        exp.add(run.Script(inline="echo $(( $(cat $W/n.txt) + 1 )) > $W/n.txt"), name="second")
        exp.add(run.Script(inline="echo $(( $(cat $W/n.txt) * 10 )) > $W/n.txt"), name="third")
        exp.run(sequential=True)
    seen = {"states": {name: str(state["status"]) for name, state in exp.status(return_dict=True).items()}}
    Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
