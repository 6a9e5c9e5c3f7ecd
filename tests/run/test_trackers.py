"""Trackers have what tasks log: read back with the trackers' own libraries."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import MissingExtraError
from tests.services import environment, trackers
from tests.support import eventually

_TRAINING = """
import os
import nemo_run as run

def train(steps, lr=0.1, api_key=""):
    for step in range(steps):
        run.log_metrics({"loss": 1 / (step + 1)}, step=step)
    return steps

def stumble():
    run.log_metrics({"x": float(os.environ["NEMO_RUN_ATTEMPT"])}, step=0)
    raise SystemExit(os.environ["NEMO_RUN_ATTEMPT"] == "1")
"""
_SHELL = r"""
for step in 1 2 3; do echo "{\"metrics\": {\"accuracy\": $step}}" >> "$NEMO_RUN_METRICS"; done
printf '{"step": 9, "metrics": {"accuracy": 4}}' >> "$NEMO_RUN_METRICS"
exit 3
"""
_EXPERIMENT = f"""
import time
import nemo_run as run
import training
from training import *

def launch(*plugins, detach=False, direct=False):
    with run.Experiment("tracked", executor=run.LocalExecutor(), clean_mode=True) as exp:
        exp.add(run.Partial(train, steps=2500, api_key="s3cr3t-1"), name="function", plugins=[*plugins])
        exp.add(run.Script(inline={_SHELL!r}, args=["--token", "s3cr3t-2"]), name="shell", plugins=[*plugins])
        exp.run(detach=detach, direct=direct, check=False)
    exp.wait()
    while exp._its_store.is_driven():  # its controller waits for trackers
        time.sleep(0.05)
    return exp
"""


def in_environment(code: str, work: Path, **variables: str) -> Any:
    """Run a program where trackers are installed; what it says at last, and what it prints before."""
    (work / "training.py").write_text(_TRAINING)
    (work / "experiment.py").write_text(_EXPERIMENT)
    (work / "program.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": str(environment.ROOT), **variables}
    done = subprocess.run(
        [trackers.PYTHON, "program.py"], capture_output=True, text=True, env=env, cwd=work, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout.partition("RESULT")[2].splitlines()
    return {**json.loads(said[0]), "errors": done.stderr} if said else done.stdout + done.stderr


# --- TensorBoard ---------------------------------------------------------------------------------------------------

_BOARD = """
import json, sys
from experiment import *
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

def board(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    texts = {name: found.Tensors(name)[0].tensor_proto.string_val[0].decode() for name in found.Tags()["tensors"]}
    scalars = {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}
    times = [one.wall_time for name in scalars for one in found.Scalars(name)]
    return {"scalars": scalars, "texts": texts, "times": times, "sessions": sorted(found.summary_metadata)}
"""


@pytest.mark.needs("trackers")
@pytest.mark.parametrize("how", ["", "detach=True", "direct=True"])
def test_tensorboard_has_every_point_and_the_configuration(work: Path, how: str) -> None:
    said = in_environment(
        f"""{_BOARD}
plugin = run.TensorBoardPlugin(folder="boards", tags={{"team": "vision"}})
exp = launch(plugin, {how})
folders = {{name: board("boards/" + exp.id + "/" + name) for name in ("function", "shell")}}
times = exp.metrics("function")["loss"].times
print("RESULT" + json.dumps({{"id": exp.id, "times": times, **folders}}))
""",
        work,
    )
    function, shell = said["function"], said["shell"]
    points = function["scalars"]["loss"]
    assert [step for step, _ in points] == list(range(2500))
    assert [value for _, value in points] == pytest.approx([1 / (step + 1) for step in range(2500)])
    assert function["times"] == said["times"]
    assert "| steps | 2500 |" in function["texts"]["configuration"]
    assert "| api_key | **** |" in function["texts"]["configuration"]
    assert "s3cr3t" not in json.dumps(said)
    assert f"| nemo_run.experiment | {said['id']} |" in function["texts"]["tags"]
    assert "| nemo_run.task | function |" in function["texts"]["tags"]
    assert "| team | vision |" in function["texts"]["tags"]
    assert [one for one in function["sessions"] if one.startswith("_hparams_")] == [
        "_hparams_/session_end_info",
        "_hparams_/session_start_info",
    ]
    assert shell["scalars"] == {"accuracy": [[0, 1.0], [1, 2.0], [2, 3.0], [9, 4.0]]}


@pytest.mark.needs("trackers")
def test_every_attempt_is_forwarded_and_files_lie_with_the_experiment(work: Path) -> None:
    said = in_environment(
        f"""{_BOARD}
with run.Experiment("again", executor=run.LocalExecutor(retries=1, retry_delay=0), clean_mode=True) as exp:
    exp.add(run.Partial(stumble), name="a", plugins=[run.TensorBoardPlugin()])
    exp.run()
print("RESULT" + json.dumps(board(str(exp.directory) + "/tensorboard/a")["scalars"]))
""",
        work,
    )
    assert said["x"] == [[0, 1.0], [0, 2.0]]


# --- MLflow --------------------------------------------------------------------------------------------------------

_RUNS = """
import json, os, sys
from experiment import *
from mlflow.tracking import MlflowClient

def runs(uri, experiment="tracked"):
    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {
        run.data.tags["nemo_run.task"]: {
            "name": run.info.run_name, "status": run.info.status, "params": run.data.params, "tags": run.data.tags,
            "metrics": {
                name: [(one.step, one.value, one.timestamp) for one in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            },
        }
        for run in found
    } if len(found) == len({run.data.tags["nemo_run.task"] for run in found}) else "a run is there twice"
"""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with trackers.mlflow_server(tmp_path_factory.mktemp("mlflow"), trackers.free_port()) as address:
        yield address


@pytest.mark.needs("trackers")
def test_mlflow_has_every_point_and_the_configuration(work: Path, mlflow: str) -> None:
    said = in_environment(
        f"""{_RUNS}
exp = launch(run.MLflowPlugin(tags={{"team": "vision"}}))
print("RESULT" + json.dumps({{"id": exp.id, **runs({mlflow!r})}}))
""",
        work,
        MLFLOW_TRACKING_URI=mlflow,
        MLFLOW_TRACKING_TOKEN="t0k3n-of-mlflow",
    )
    function, shell = said["function"], said["shell"]
    assert (function["name"], function["status"]) == (f"{said['id']}/function", "FINISHED")
    points = sorted(function["metrics"]["loss"])
    assert [step for step, _, _ in points] == list(range(2500))
    assert [value for _, value, _ in points] == pytest.approx([1 / (step + 1) for step in range(2500)])
    assert function["params"]["steps"] == "2500"
    assert function["params"]["api_key"] == "****"
    assert function["tags"]["nemo_run.experiment"] == said["id"]
    assert function["tags"]["team"] == "vision"
    assert shell["status"] == "FAILED"
    assert [(step, value) for step, value, _ in sorted(shell["metrics"]["accuracy"])] == [
        (0, 1),
        (1, 2),
        (2, 3),
        (9, 4),
    ]
    assert files_with(b"t0k3n-of-mlflow", work.parent) == []


def files_with(secret: bytes, top: Path) -> list[str]:
    return [str(path) for path in top.rglob("*") if path.is_file() and secret in path.read_bytes()]


_NOTICES = """
until grep -q Exception "$NEMO_RUN_ARTIFACTS/../../trackers/0/problem.json"; do sleep 0.1; done
sleep 3  # in which its controller looks several times
"""


@pytest.mark.needs("trackers")
def test_a_tracker_that_is_away_is_warned_of_once_and_gets_all_when_it_is_back(work: Path) -> None:
    port = trackers.free_port()
    said = in_environment(
        f"""{_RUNS}
away = run.MLflowPlugin(uri="http://127.0.0.1:{port}")
with run.Experiment("noticed", executor=run.LocalExecutor(), clean_mode=True) as noticed:
    noticed.add(run.Script(inline={_NOTICES!r}), name="a", plugins=[away])
    noticed.run()
print("NEXT", file=sys.stderr)
exp = launch(away, run.TensorBoardPlugin())
print("RESULT" + json.dumps({{"state": exp.results()["function"].state.name, "folder": str(exp.directory),
    "noticed": str(noticed.directory)}}))
""",
        work,
        MLFLOW_TRACKING_TOKEN="t0k3n-of-mlflow",
    )
    assert said["state"] == "SUCCEEDED"
    for part in said["errors"].split("NEXT"):
        warnings = [line for line in part.splitlines() if "not forwarded" in line]
        assert len(warnings) == 1
        assert "to mlflow: " in warnings[0]
    assert "t0k3n" not in said["errors"]
    assert list(Path(said["folder"], "tensorboard", "function").iterdir()) != []  # one does not wait for the other
    with trackers.mlflow_server(work, port) as address:  # the process that forwards is still there
        tasks = ((said["folder"], "function"), (said["folder"], "shell"), (said["noticed"], "a"))
        there = [Path(folder, "trackers", "0", f"task-{name}.json") for folder, name in tasks]
        eventually(lambda: all(path.exists() and json.loads(path.read_text())["ended"] for path in there), within=240)
        found = in_environment(f"{_RUNS}\nprint('RESULT' + json.dumps(runs({address!r})))", work)
    assert len(found["function"]["metrics"]["loss"]) == 2500
    assert found["function"]["status"] == "FINISHED"


_WAITS = """
echo '{"metrics": {"x": 1}}' >> "$NEMO_RUN_METRICS"
until [ -e go ]; do sleep 0.1; done
echo '{"metrics": {"x": 2}}' >> "$NEMO_RUN_METRICS"
"""


@pytest.mark.needs("trackers")
def test_it_goes_on_when_launcher_and_controller_are_killed(work: Path, mlflow: str) -> None:
    said = in_environment(
        f"""{_RUNS}
import signal, time
with run.Experiment("orphan", executor=run.LocalExecutor(), clean_mode=True) as exp:
    exp.add(run.Script(inline={_WAITS!r}), name="a", plugins=[run.MLflowPlugin(uri={mlflow!r})])
    exp.run(detach=True)
mark = str(exp.directory) + "/trackers/0/task-a.json"
while not os.path.exists(mark) or json.load(open(mark))["lines"] < 1:
    time.sleep(0.1)
os.kill(exp._its_store.controller()["pid"], signal.SIGKILL)
open("go", "w").close()
while json.load(open(mark))["ended"] < 1:
    time.sleep(0.1)
print("RESULT" + json.dumps(runs({mlflow!r}, "orphan")))
""",
        work,
    )
    assert [(step, value) for step, value, _ in said["a"]["metrics"]["x"]] == [(0, 1), (1, 2)]
    assert said["a"]["status"] == "FINISHED"


# --- Weights & Biases ----------------------------------------------------------------------------------------------

_RECORDS = """
import json, struct, sys
from pathlib import Path
from experiment import *
from wandb.proto import wandb_internal_pb2

def records(path):  # a log of LevelDB with a header of its own; what is in it, the library itself decodes
    data, place, begun = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        begun, place = begun + data[place + 7 : place + 7 + length], place + 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(begun)
            yield record
            begun = b""

def offline_run(folder, name):
    (path,) = Path(folder).glob(f"trackers/0/wandb/offline-run-*/run-*-{name}.wandb")
    found = {"history": []}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["name"], found["project"] = record.run.display_name, record.run.project
            found["tags"], found["group"] = list(record.run.tags), record.run.run_group
            found["config"] = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            row = {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
            found["history"].append(row)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found
"""


@pytest.mark.needs("trackers")
def test_wandb_has_every_point_and_the_configuration(work: Path) -> None:
    said = in_environment(
        f"""{_RECORDS}
exp = launch(run.WandbPlugin(project="vision", mode="offline", tags={{"team": "vision"}}))
found = {{name: offline_run(exp.directory, name) for name in ("function", "shell")}}
print("RESULT" + json.dumps({{"id": exp.id, "times": exp.metrics("function")["loss"].times, **found}}))
""",
        work,
        WANDB_API_KEY="k3y-of-wandb-0123456789012345678901234567",
    )
    function, shell = said["function"], said["shell"]
    assert (function["name"], function["project"]) == (f"{said['id']}/function", "vision")
    assert (function["group"], function["tags"]) == (said["id"], ["team:vision"])
    assert [row["step"] for row in function["history"]] == list(range(2500))
    values = [row["loss"] for row in function["history"]]
    assert values == pytest.approx([1 / (step + 1) for step in range(2500)])
    assert [row["_timestamp"] for row in function["history"]] == said["times"]
    assert function["config"]["steps"] == 2500
    assert function["config"]["api_key"] == "****"
    assert function["config"]["nemo_run"]["nemo_run.experiment"] == said["id"]
    assert (function["exit"], shell["exit"]) == (0, 1)
    assert [(row["step"], row["accuracy"]) for row in shell["history"]] == [(0, 1), (1, 2), (2, 3), (9, 4)]
    assert files_with(b"k3y-of-wandb", work.parent) == []


# --- without and before --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TensorBoard", "MLflow", "Wandb"])
def test_a_package_that_is_missing_is_told_before_the_launch(work: Path, name: str) -> None:
    exp = run.Experiment("missing", executor=run.LocalExecutor())
    plugin = getattr(run, f"{name}Plugin")()
    with pytest.raises(MissingExtraError, match=rf"{name}Plugin needs.*pip install 'nemo-run\[{name.lower()}\]'"):
        exp.add(run.Script(inline="true"), name="a", plugins=[plugin])


@pytest.mark.needs("trackers")
@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("MLflowPlugin()", 'no server is known; give uri="https://...", or set MLFLOW_TRACKING_URI'),
        ("MLflowPlugin(uri='https://me:hunter22@mlflow.example')", "uri= has a password in it"),
        ("WandbPlugin(mode='somewhere')", "it is 'online' or 'offline'"),
        ("TensorBoardPlugin(tags={'a': 1})", "tags are texts by their names; 'a' has no text"),
    ],
)
def test_settings_that_cannot_be_used_are_told_before_the_launch(work: Path, plugin: str, words: str) -> None:
    said = in_environment(
        f"""
from experiment import *
try:
    launch(run.{plugin})
except run.ExperimentError as e:
    print(e)
""",
        work,
    )
    assert words in said
    assert "hunter22" not in said
