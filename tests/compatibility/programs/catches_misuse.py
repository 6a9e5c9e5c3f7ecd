"""A tool that goes on where what it does with experiments, launchers and files of executors is refused."""

import json
from pathlib import Path

import nemo_run as run
from nemo_run.core.execution.launcher import LAUNCHER_MAP, SlurmTemplate
from nemo_run.exceptions import SetValueError

SEEN = {}


def caught(name, kind, action):
    try:
        action()
    except kind:
        SEEN[name] = "caught"
    else:
        SEEN[name] = "accepted"


class Model:
    def __init__(self, size: int = 1):
        self.size = size


def fail(code: int = 0):
    if code:
        raise SystemExit(code)
    raise KeyError("no")


def here(task):
    with run.Experiment("here", executor=run.LocalExecutor()) as exp:
        exp.add(task, name="task")
        exp.run(direct=True)


def nothing(**options):
    with run.Experiment("nothing") as exp:
        exp.run(**options)
    SEEN[f"launched {options}"] = exp._launched


class Quiet(run.Torchrun):
    pass


if __name__ == "__main__":
    Path("executors.py").write_text("import nemo_run\nlocal = nemo_run.LocalExecutor(ntasks_per_node=2)\n")
    caught("name", AttributeError, lambda: run.import_executor("nobody", "executors.py"))
    caught("file", FileNotFoundError, lambda: run.import_executor("local", "nothing.py"))
    SEEN["imported"] = run.import_executor("local", "executors.py").ntasks_per_node
    caught("launcher", KeyError, lambda: run.LocalExecutor(launcher="nobody").get_launcher())
    caught("class", AssertionError, lambda: run.LocalExecutor(launcher=run.Torchrun).get_launcher())
    caught("template", ValueError, lambda: SlurmTemplate().get_template_content())
    LAUNCHER_MAP["quiet"] = Quiet
    SEEN["own launcher"] = type(run.LocalExecutor(launcher="quiet").get_launcher()).__name__
    caught("path", SetValueError, lambda: run.config.set_value(run.Config(Model), "size.deep", 1))
    caught("argument", SetValueError, lambda: run.config.set_value(run.Config(Model), "nobody", 1))
    caught("raised", KeyError, lambda: here(run.Partial(fail)))
    caught("left", SystemExit, lambda: here(run.Partial(fail, code=3)))
    nothing()
    nothing(direct=True)
    both = run.Script(path="nothing.sh", inline=f"echo text > {Path.cwd()}/both.txt")
    SEEN["both"] = [both.path, both.get_name()]
    with run.Experiment("both") as exp:
        exp.add(both, name="both")
        exp.run()
    Path("result.json").write_text(json.dumps(SEEN, indent=1))
