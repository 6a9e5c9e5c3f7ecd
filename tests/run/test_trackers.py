"""Trackers have what tasks log: read back with the trackers' own libraries."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import MissingExtraError
from tests.services import environment, trackers

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
        exp.add(run.Script(inline={_SHELL!r}), name="shell", plugins=[*plugins])
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
    return json.loads(said[0]) if said else done.stdout + done.stderr


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
    assert said == {"x": [[0, 1.0], [0, 2.0]]}


# --- without and before --------------------------------------------------------------------------------------------


def test_a_package_that_is_missing_is_told_before_the_launch(work: Path) -> None:
    exp = run.Experiment("missing", executor=run.LocalExecutor())
    with pytest.raises(MissingExtraError, match=r"TensorBoardPlugin.*pip install 'nemo-run\[tensorboard\]'"):
        exp.add(run.Script(inline="true"), name="a", plugins=[run.TensorBoardPlugin()])
