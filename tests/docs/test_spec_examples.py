"""The examples that describe the product run as they are written; only names they take as given are defined before."""

from __future__ import annotations

from pathlib import Path

from tests.docs.running import Reader

EXAMPLES = Path(__file__).parent / "spec_examples"

TRAINING = """
import nemo_run as run

def train_model(model_size=1):
    print(f"trained a model of size {model_size}")

def evaluate_models():
    print("evaluated")
"""


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")


def test_configuration_system(tmp_path: Path) -> None:
    before = """
def train_model(model, training):
    return model.hidden_size, training.learning_rate
"""
    after = """
print(model)
print(train_fn.build()())
"""
    printed = Reader(tmp_path).python(before + example("configuration") + after, "train.py")
    assert printed.splitlines() == ["ModelConfig(hidden_size=1024, num_layers=24, dropout=0.1)", "(512, 0.0001)"]


def test_experiment_management(tmp_path: Path) -> None:
    launch, later = example("experiment_management").split("# Later reconstruction\n")
    before = f"{TRAINING}\nslurm_exec = run.LocalExecutor()\n"
    reader = Reader(tmp_path)
    reader.python(before + launch, "sweep.py")

    (real_id,) = reader.python(
        "import nemo_run as run\nprint(*run.Experiment.catalog('hyperparameter-sweep'))", "catalog.py"
    ).split()
    assert "hyperparameter-sweep_20241201_123456" in later
    code = "import nemo_run as run\n" + later.replace("hyperparameter-sweep_20241201_123456", real_id)
    printed = reader.python(
        code + "\nprint(*(job['status'].name for job in exp.status(return_dict=True).values()))", "later.py"
    )
    assert printed.splitlines()[-1] == "SUCCEEDED SUCCEEDED SUCCEEDED"
    assert "trained a model of size 1024" in printed
    assert "trained a model of size 512" not in printed


def test_plugin_system(tmp_path: Path) -> None:
    before = """
import os
from dataclasses import dataclass
import nemo_run as run

@dataclass
class Settings:
    logging: bool = False

def work(config: Settings):
    print("LOG_LEVEL is", os.environ["LOG_LEVEL"], "and logging is", config.logging)

config = run.Partial(work, config=run.Config(Settings))
executor = run.LocalExecutor()
"""
    printed = Reader(tmp_path).python(before + example("plugin_system"), "plugin.py")
    assert "LOG_LEVEL is DEBUG and logging is True" in printed
