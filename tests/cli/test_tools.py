"""``nemorun config``, ``executors`` and ``doctor``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nemo_run as run
from tests.cli.conftest import Nemorun
from tests.cli.samples import Adam, Net, everything

CONFIG = run.Partial(everything, i=5, net=run.Config(Net, width=8), opt=run.Config(Adam, rate=0.5), oi=None)
FOREIGN = "_target_: nowhere.train\nnet:\n  _target_: nowhere.Net\n  width: 8\nnothing: null\n"


@pytest.fixture
def files(here: Path) -> Path:
    CONFIG.to_yaml(here / "a.yaml")
    CONFIG.clone().broadcast(width=9).to_toml(here / "b.toml")
    (here / "foreign.yaml").write_text(FOREIGN)
    return here


def test_show(files: Path, nemorun: Nemorun) -> None:
    assert nemorun("config", "show", "foreign.yaml").stdout == FOREIGN
    assert nemorun("config", "show", "foreign.yaml:net").stdout == "_target_: nowhere.Net\nwidth: 8\n"
    assert "nowhere" not in sys.modules


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/stdin:net"])
def test_what_comes_through_a_pipe(files: Path, name: str) -> None:
    command = [sys.executable, "-m", "nemo_run", "config", "show", name, "--json"]
    done = subprocess.run(command, input=FOREIGN, capture_output=True, text=True, check=True)
    shown = json.loads(done.stdout)
    assert (shown if name.endswith(":net") else shown["net"])["width"] == 8


def test_for_programs(files: Path, nemorun: Nemorun) -> None:
    assert json.loads(nemorun("config", "show", "foreign.yaml", "--json").stdout)["net"]["width"] == 8
    good = json.loads(nemorun("config", "validate", "a.yaml", "--json").stdout)
    assert good == {"file": "a.yaml", "valid": True, "target": "tests.cli.samples.everything"}
    refused = nemorun("config", "validate", "foreign.yaml", "--json", code=2)
    bad = json.loads(refused.stdout)
    assert (bad["file"], bad["valid"]) == ("foreign.yaml", False)
    assert bad["error"] in refused.stderr


def test_diff(files: Path, nemorun: Nemorun) -> None:
    shown = nemorun("config", "diff", "a.yaml", "b.toml", "--exit-code", code=1).stdout
    assert "net.width: 8 -> 9" in shown
    assert "opt" not in shown
    nemorun("config", "diff", "a.yaml", "a.yaml", "--exit-code")


@pytest.mark.parametrize("name", ["c.toml", "c.json", "c.yml"])
def test_convert(files: Path, nemorun: Nemorun, name: str) -> None:
    nemorun("config", "convert", "a.yaml", name)
    assert run.load_config(files / name) == CONFIG
    nemorun("config", "convert", "foreign.yaml", name)
    nemorun("config", "convert", name, "back.yaml")
    nemorun("config", "diff", "foreign.yaml", "back.yaml", "--exit-code")


def test_convert_to_python(files: Path, nemorun: Nemorun) -> None:
    nemorun("config", "convert", "a.yaml", "c.py")
    names: dict[str, object] = {}
    exec((files / "c.py").read_text(), names)
    assert names["config"] == CONFIG


def test_validate(files: Path, nemorun: Nemorun) -> None:
    said = "a valid configuration of tests.cli.samples.everything"
    assert said in nemorun("config", "validate", "a.yaml").stdout
    assert "a valid configuration of tests.cli.samples.Net" in nemorun("config", "validate", "a.yaml:net").stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["show", "nothing.yaml"], "there is no file 'nothing.yaml'"),
        (["show", "a.yml"], "did you mean 'a.yaml'"),
        (["show", "a.yaml:nett"], "has no section 'nett'; did you mean 'net'"),
        (["show", "no/where.yaml"], "nor a folder 'no'"),
        (["convert", "a.yaml", "a.txt"], "no format has this ending"),
        (["validate", "foreign.yaml"], "cannot find 'nowhere.train'"),
        (["validate", "bad.yaml"], "i: expected int"),
        (["validate", "typo.yaml"], "did you mean 'width'"),
        (["validate", "lacks.yaml"], "needs a value for 'rate' (float)"),
        (["validate", "plain.yaml"], "there is no `_target_` at the top"),
        (["validate", "main.yaml"], "python SCRIPT --yaml FILE --dryrun"),
        (["valdate", "a.yaml"], "did you mean 'validate'"),
    ],
)
def test_mistakes(files: Path, nemorun: Nemorun, argv: list[str], said: str) -> None:
    (files / "bad.yaml").write_text("_target_: tests.cli.samples.everything\ni: many\n")
    (files / "typo.yaml").write_text("_target_: tests.cli.samples.Net\nwidht: 1\n")
    (files / "lacks.yaml").write_text("_target_: tests.cli.samples.Adam\n")
    (files / "plain.yaml").write_text("a: 1\n")
    (files / "main.yaml").write_text("_target_: __main__.nothing\n")
    assert said in nemorun("config", *argv, code=2).stderr


def test_executors(nemorun: Nemorun) -> None:
    found = {entry["name"]: entry for entry in json.loads(nemorun("executors", "--json").stdout)}
    assert found["local"] == {"name": "local", "class": "run.LocalExecutor", "why_not": ""}
    assert found["slurm"]["class"] == "run.SlurmExecutor"
    shown = nemorun("executors").stdout
    assert "run.LocalExecutor" in shown


def test_an_engine_that_is_not_there(nemorun: Nemorun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setenv("PATH", "/nowhere")
    found = {entry["name"]: entry["why_not"] for entry in json.loads(nemorun("executors", "--json").stdout)}
    assert "/nowhere/docker.sock" in found["docker"]
    assert "SSHTunnel" in found["slurm"]


def test_doctor(nemorun: Nemorun, nemorun_home: Path) -> None:
    found = {entry["what"]: entry for entry in json.loads(nemorun("doctor", "--json").stdout)}
    assert str(nemorun_home) in found["home"]["text"]
    assert found["home"]["state"] == "ok"
    assert list(nemorun_home.iterdir()) == []
    nemorun_home.chmod(0o755)
    assert "others can look into" in nemorun("doctor").stdout


@pytest.mark.needs("unprivileged user")
def test_doctor_without_a_home(nemorun: Nemorun, nemorun_home: Path) -> None:
    nemorun_home.mkdir()
    nemorun_home.chmod(0o500)
    assert "set NEMORUN_HOME" in nemorun("doctor", code=1).stdout


def test_doctor_where_the_home_is_a_file(nemorun: Nemorun, nemorun_home: Path) -> None:
    nemorun_home.write_text("")
    shown = nemorun("doctor", code=1).stdout
    assert "broken" in shown
    assert "set NEMORUN_HOME" in shown
    assert os.path.isfile(nemorun_home)  # noqa: PTH113


def test_version(nemorun: Nemorun) -> None:
    assert nemorun("--version").stdout == f"nemo-run {run.__version__}\n"
