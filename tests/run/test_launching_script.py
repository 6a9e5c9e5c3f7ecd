"""Functions and classes of the launching script are in a task what they are in the script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("script_of_a_user.py")
# What each task prints; the same as the function called by itself.
PRINTED = {
    "caches": [55, True, ["token0", "token1"], "fibonacci"],
    "dispatch": ["number 3", "something", "list of number 1, number 2", "text", "object"],
    "decorated": [5, "decorated"],
    "own_classes": [[True] * 8, {"x": 1, "y": 2}, True, 4.0],
    "dataclasses_stay_such": [3, ["step"], 2, []],
    "class_level_state": [["a", "a"], ["b", "b", "b"], 2, True],
    "weak_and_locked": True,
    "pool": [0, 1, 4, 9],
    "own_error_of_a_child": [7],
    "fork": [0, 1, 4],
    "spawn": [0, 1, 4],
    "forkserver": [0, 1, 4],
    "hints": [True, True, 2],
    "source": ["def square(x: int) -> int:\n    return x * x", "class Point(NamedTuple):", "train.py"],
    "main_module": ["__main__", True, "__main__", "train.py"],
    "awaited": [0, 1],
    "trainer": "trained",
}


class Launched:
    """An experiment that a script launched."""

    def __init__(self, home: Path, title: str) -> None:
        (self.folder,) = (home / "runs" / "experiments" / title).glob(f"{title}_*")

    def end(self, job: str) -> tuple[str, int | None]:
        """State and exit code of a job."""
        (task,) = json.loads((self.folder / job / "state.json").read_text())["tasks"]
        return task["state"], task["exit_code"]

    def log(self, job: str) -> str:
        return (self.folder / job / "attempts" / "1" / "log").read_text()

    def printed(self, job: str) -> Any:
        return json.loads(self.log(job).splitlines()[-1])


def launch(folder: Path, title: str, *arguments: str, text: str | None = None) -> Launched:
    env = {**os.environ, "NEMORUN_HOME": str(folder / "runs")}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=env, input=text, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return Launched(folder, title)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """All of that script's tasks."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "train.py").write_text(SCRIPT.read_text())
    return launch(folder, "script", "train.py")


@pytest.mark.parametrize("job", PRINTED)
def test_a_task_does_what_its_function_does(launched: Launched, job: str) -> None:
    assert launched.end(job) == ("SUCCEEDED", 0), launched.log(job)
    assert launched.printed(job) == PRINTED[job]


def test_a_traceback_has_the_file_and_the_lines_of_the_script(launched: Launched) -> None:
    assert launched.end("fails") == ("FAILED", 1)
    line = next(i for i, text in enumerate(SCRIPT.read_text().splitlines(), 1) if "a traceback shows" in text)
    log = launched.log("fails")
    assert f'train.py", line {line}, in fails\n    int(text)  # the line that a traceback shows\n' in log


def test_the_exit_code_of_a_coroutine_is_that_of_the_task(launched: Launched) -> None:
    assert launched.end("exits") == ("FAILED", 3)


def test_where_the_script_is_not_its_lines_are_known_all_the_same(launched: Launched, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for job in ("fails", "source", "spawn"):
        for name in ("task.json", "main.pkl"):
            (folder / job).mkdir(exist_ok=True)
            (folder / job / name).write_bytes((launched.folder / job / name).read_bytes())
    script = launched.folder.parents[3] / "train.py"
    hidden = script.rename(script.with_suffix(".hidden"))
    try:
        failed, source, spawn = (
            subprocess.run(
                [sys.executable, "-m", "nemo_run.core.runners.fdl_runner", str(folder / job / "task.json")],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=100,
            )
            for job in ("fails", "source", "spawn")
        )
    finally:
        hidden.rename(script)
    assert "    int(text)  # the line that a traceback shows\n" in failed.stderr
    assert json.loads(source.stdout) == PRINTED["source"], source.stderr
    assert json.loads(spawn.stdout) == PRINTED["spawn"], spawn.stderr


_SMALL = """
import nemo_run as run
from dataclasses import dataclass

@dataclass
class Item:
    number: int

def work():
    import json, pickle, sys
    main = sys.modules["__main__"]
    again = pickle.loads(pickle.dumps(Item(3))) == Item(3)
    print(json.dumps([again, getattr(main.__spec__, "name", ""), main.__package__, hasattr(main, "__file__")]))

if __name__ == "__main__":
    with run.Experiment("small", executor=run.LocalExecutor(), clean_mode=True) as exp:
        exp.add(run.Partial(work), name="work")
        exp.run(detach=False)
"""


def test_a_script_that_is_a_module_stays_that_module(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "helper.py").write_text("ANSWER = 42\n")
    relative = _SMALL.replace("import json, pickle", "from .helper import ANSWER\n    import json, pickle")
    (tmp_path / "package" / "train.py").write_text(relative)
    done = launch(tmp_path, "small", "-m", "package.train")
    assert done.printed("work") == [True, "package.train", "package", True]


def test_a_session_without_a_file_launches_its_functions(tmp_path: Path) -> None:
    assert launch(tmp_path, "small", "-", text=_SMALL).printed("work") == [True, "", None, False]


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    unguarded = _SMALL.replace('if __name__ == "__main__":', 'open("times", "a").write("once\\n")\nif True:')
    (tmp_path / "train.py").write_text(unguarded)
    assert launch(tmp_path, "small", "train.py").end("work") == ("SUCCEEDED", 0)
    assert (tmp_path / "times").read_text() == "once\n"


def test_an_entrypoint_uses_a_pool_of_processes(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("""
from concurrent.futures import ProcessPoolExecutor
import nemo_run as run

def square(x: int) -> int:
    return x * x

@run.cli.entrypoint
def train(workers: int = 2):
    with ProcessPoolExecutor(workers) as pool:
        print(list(pool.map(square, range(4))))

if __name__ == "__main__":
    run.cli.main(train)
""")
    assert "[0, 1, 4, 9]" in launch(tmp_path, "train", "train.py", "--yes", "run.executor=local").log("train")


def test_what_a_task_uses_and_cannot_be_copied_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("""
import nemo_run as run
from nemo_run.errors import SerializationError

FILE = open(__file__, "a")

def note():
    FILE.write("")

def train():
    note()

if __name__ == "__main__":
    with run.Experiment("named", executor=run.LocalExecutor()) as exp:
        exp.add(run.Partial(train), name="train")
        try:
            exp.run()
        except SerializationError as error:
            print(error)
""")
    env = {**os.environ, "NEMORUN_HOME": str(tmp_path / "runs")}
    command = [sys.executable, "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True, timeout=100)
    assert "__main__.train cannot be sent to the task's process, as FILE of the launching script" in done.stdout


_RESETS = """
import sys
import nemo_run as run

class Model:
    def __init__(self, size: int = 1):
        self.size = size

def train(model: Model):
    open("out.txt", "a").write(f"{VERSION} {model.size}\\n")

VERSION = "stored"

if __name__ == "__main__":
    if len(sys.argv) == 1:
        with run.Experiment("first", executor=run.LocalExecutor(), clean_mode=True) as exp:
            exp.add(run.Partial(train, model=run.Config(Model, size=2)), name="train")
            exp.run(check=True)
    else:
        exp = run.Experiment.from_title("first").reset()
        assert (exp.tasks[0].__fn_or_cls__ is globals()["train"]) is SAME
        exp.tasks[0].model.size = 3
        exp.run(check=True)
"""


@pytest.mark.parametrize(("script", "printed"), [("train.py", "today 3\n"), ("another.py", "stored 3\n")])
def test_a_past_experiment_is_reset_with_the_code_of_the_same_script(tmp_path: Path, script: str, printed: str) -> None:
    (tmp_path / "train.py").write_text(_RESETS)
    env = {**os.environ, "NEMORUN_HOME": str(tmp_path / "runs")}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=env, check=True, timeout=100)
    changed = _RESETS.replace('"stored"', '"today"').replace("SAME", str(script == "train.py"))
    (tmp_path / script).write_text(changed)
    subprocess.run([sys.executable, script, "again"], cwd=tmp_path, env=env, check=True, timeout=100)
    assert (tmp_path / "out.txt").read_text() == f"stored 2\n{printed}"


def test_two_different_things_of_one_name_in_a_task_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(_RESETS)
    env = {**os.environ, "NEMORUN_HOME": str(tmp_path / "runs")}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=env, check=True, timeout=100)
    (tmp_path / "other.py").write_text("""
import nemo_run as run

class Wide:
    size = 9

def pair(one, other):
    pass

exp = run.Experiment.from_title("first").reset()
theirs = exp.tasks[0].model
exp.tasks[0].model = run.Config(Wide)
exp.run(check=True)

class Model:
    size = 8

with run.Experiment("pair") as exp:
    exp.add(pair, one=theirs, other=run.Config(Model), name="pair")
    try:
        exp.run()
    except run.NemoRunError as error:
        open("out.txt", "a").write(str(error))
""")
    subprocess.run([sys.executable, "-W", "ignore", "other.py"], cwd=tmp_path, env=env, check=True, timeout=100)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert lines[1] == "stored 9"
    assert "two different things named '__main__.Model'" in lines[2]


def test_a_task_may_have_the_name_of_an_option(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(_SMALL.replace('name="work"', 'name="-x"'))
    launched = launch(tmp_path, "small", "train.py")
    (folder,) = (path.parent.name for path in launched.folder.glob("*/state.json"))
    assert launched.end(folder) == ("SUCCEEDED", 0)


def test_the_cells_of_a_notebook_are_the_source_of_its_functions(tmp_path: Path) -> None:
    # A notebook's code is known to linecache only, under a name that is no file.
    (tmp_path / "notebook.py").write_text(f"""
import linecache, sys
cell, name = {_SMALL!r}, "<ipython-input-1>"
cell = cell.replace("import json, pickle", "import inspect, json, pickle")
cell = cell.replace("main.__package__", "inspect.getsource(work)")
linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
del sys.modules["__main__"].__file__
exec(compile(cell, name, "exec"), globals())
""")
    again, _, source, has_file = launch(tmp_path, "small", "notebook.py").printed("work")
    assert (again, has_file) == (True, False)
    assert source.startswith("def work():\n    import inspect")


def test_a_task_of_the_workspace_uses_what_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "workspace.py").write_text("""
import functools, json, pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
import nemo_run as run

@dataclass
class Item:
    number: int

@functools.cache
def square(x: int) -> int:
    return x * x

def squared(item: Item) -> Item:
    return Item(square(item.number))

@run.cli.entrypoint
async def train(workers: int = 2):
    with ProcessPoolExecutor(workers) as pool:
        print(json.dumps([item.number for item in pool.map(squared, map(Item, range(4)))]))
""")
    launched = launch(tmp_path, "train", "-m", "nemo_run", "workspace", "train", "--yes", "run.executor=local")
    (job,) = (path.parent.name for path in launched.folder.glob("*/state.json"))
    assert launched.printed(job) == [0, 1, 4, 9]
