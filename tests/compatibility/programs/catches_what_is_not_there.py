"""A tool that asks for experiments that may not exist, and tells apart how it failed by the types it catches."""

import json
from pathlib import Path

import nemo_run as run


def greet(name: str = "you", times: int = 1):
    print(name * times)


def caught(kind, action):
    try:
        action()
    except kind:
        return True
    except Exception as error:
        return type(error).__name__
    return False


def circle():
    with run.Experiment("circle") as exp:
        exp.add(run.Script(inline="true"), name="a")
        exp.add(run.Script(inline="true"), name="b", dependencies=["a"])
        exp.jobs[0].dependencies.append("b")
        exp.run()


def group(*executors, name="group"):
    with run.Experiment("groups") as exp:
        exp.add([run.Script(inline="true"), run.Script(inline="true")], executor=list(executors), name=name)


def unknown_dependency():
    with run.Experiment("dependency") as exp:
        exp.add(run.Partial(greet), dependencies=["nobody"])


seen = {
    "from_title": caught(FileNotFoundError, lambda: run.Experiment.from_title("never-launched")),
    "from_id": caught(AssertionError, lambda: run.Experiment.from_id("never-launched_1")),
    "catalog": run.Experiment.catalog("never-launched"),
    "script": caught(AssertionError, run.Script),
    "entrypoint": caught(AssertionError, lambda: run.Script("x.sh", m=True)),
    "unknown argument": caught(TypeError, lambda: run.Config(greet, nobody=1)),
    "unknown attribute": caught(AttributeError, lambda: setattr(run.Partial(greet), "nobody", 1)),
    "unset": caught(AttributeError, lambda: run.Config(group).executors),
    "no nodes": caught(NotImplementedError, run.Executor(packager=run.Packager()).nnodes),
    "circle": caught(AssertionError, circle),
    "group without a name": caught(AssertionError, lambda: group(run.LocalExecutor(), name="")),
    "unknown dependency": caught(AssertionError, unknown_dependency),
    "no file of executors": caught(FileNotFoundError, lambda: run.import_executor("gpu")),
}
Path("result.json").write_text(json.dumps(seen, indent=1))
