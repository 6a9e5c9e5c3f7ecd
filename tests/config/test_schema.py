"""JSON Schema of configuration files: it accepts what can be loaded, and refuses slips."""

from __future__ import annotations

import dataclasses
import enum
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest

import nemo_run as run
from nemo_run.config.schema import schema


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Model:
    """A model."""

    layers: int = 2
    child: Model | None = None


def train(
    model: Model,
    lr: float = 0.1,
    name: str | None = None,
    colour: Colour = Colour.RED,
    mode: Literal["a", "b"] = "a",
    sizes: list[int] | None = None,
    pair: tuple[int, str] = (1, "x"),
    extra: dict[str, float] | None = None,
    path: Path = Path(),
    anything: Any = None,
) -> None:
    """Train it."""


GOOD: list[dict[str, Any]] = [
    {}, {"lr": 1}, {"lr": 0.5, "name": None}, {"colour": "BLUE"}, {"colour": "blue"}, {"mode": "b"}, {"sizes": [1, 2]},
    {"pair": [1, "y"]}, {"extra": {"a": 1.5}}, {"path": "/x"}, {"anything": {"a": [1]}},
    {"model": "my_model(layers=3)"},
    {"model": {"_target_": "m.Model", "layers": 3, "child": {"layers": 1}}}, {"_target_": "m.train"},
]  # fmt: skip
BAD: list[dict[str, Any]] = [
    {"lrr": 1}, {"lr": "x"}, {"name": 3}, {"colour": "GREEN"}, {"mode": "c"}, {"sizes": ["x"]}, {"pair": [1, 2]},
    {"pair": [1, "x", 3]}, {"extra": {"a": "b"}}, {"model": {"layers": "many"}}, {"model": {"depth": 1}}, {"model": 3},
]  # fmt: skip


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_what_can_be_loaded_is_accepted(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema(train)).validate(document)


@pytest.mark.parametrize("document", BAD, ids=str)
def test_slips_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema(train)).validate(document)


def test_defaults_and_first_lines_are_shown() -> None:
    found = schema(train)
    assert found["description"] == "Train it."
    assert found["properties"]["lr"]["default"] == 0.1
    assert found["properties"]["colour"]["default"] == "RED"


@pytest.mark.parametrize("name", [name for name in run.__all__ if name.endswith("Executor")])
def test_every_executor_has_a_schema(name: str) -> None:
    found = schema(getattr(run, name))
    jsonschema.Draft202012Validator.check_schema(found)
    json.dumps(found)


def test_a_configuration_that_is_written_is_accepted() -> None:
    config = run.Config(
        run.SlurmExecutor, account="a", nodes=2, tunnel=run.Config(run.SSHTunnel, host="h", user="u", job_dir="/x")
    )
    from nemo_run.config.document import to_document

    jsonschema.Draft202012Validator(schema(run.SlurmExecutor)).validate(to_document(config))


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def train(lr: float = 0.1, steps: int = 3): ...\n")
    command = [sys.executable, "-m", "nemo_run", "config", "schema"]
    done = subprocess.run([*command, "mine.train"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["properties"]["steps"] == {"type": "integer", "default": 3}
    done = subprocess.run([*command, "mine.train", "s.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "yaml-language-server: $schema=s.json" in done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["title"].endswith("train")
    for wrong in ("nowhere.train", "mine.nothing", "mine", ""):
        done = subprocess.run([*command, wrong], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
