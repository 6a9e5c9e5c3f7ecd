"""Scripts with a command line, as people run them: in a process of their own, without a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nemo_run as run
from tests.cli.conftest import Nemorun, Shell

# What a user of the specification's "CLI System Example" has.
TRAIN = '''
from dataclasses import dataclass, field
import nemo_run as run

@dataclass
class Model:
    hidden_size: int = 512
    layers: int = 12
    size: int = 1

@dataclass
class Training:
    learning_rate: float = 1e-4
    batch_size: int = 32

@run.cli.entrypoint
def train(model: Model = Model(), training: Training = Training(), fail: bool = False):
    """Train a model.

    Args:
        model: The model.
        fail: Fail.
    """
    if fail:
        raise SystemExit(7)
    print("TRAINED", model, training)

if __name__ == "__main__":
    run.cli.main(train)
'''
BASE = """
_target_: __main__.train
_partial_: true
model:
  _target_: __main__.Model
  hidden_size: 64
"""
LOCAL = """
_target_: nemo_run.LocalExecutor
env_vars:
  WHO: me
"""


@pytest.fixture
def folder(here: Path) -> Path:
    (here / "train.py").write_text(TRAIN)
    (here / "configs").mkdir()
    (here / "configs" / "base.yaml").write_text(BASE)
    (here / "executors").mkdir()
    (here / "executors" / "slurm.yaml").write_text(LOCAL)
    return here


def model(hidden_size: int = 512, layers: int = 12, size: int = 1) -> str:
    return f"Model(hidden_size={hidden_size}, layers={layers}, size={size})"


def training(learning_rate: float = 1e-4, batch_size: int = 32) -> str:
    return f"Training(learning_rate={learning_rate}, batch_size={batch_size})"


# ---------------------------------------------------------------- the lines of the specification
def test_basic_parameter_overrides(folder: Path, shell: Shell) -> None:
    done = shell("train.py", "model.hidden_size=1024", "training.learning_rate=2e-4")
    assert done.stdout == f"TRAINED {model(1024)} {training(2e-4)}\n"


def test_configuration_file_loading(folder: Path, shell: Shell) -> None:
    done = shell("train.py", "--factory", "@configs/base.yaml", "model.layers=24")
    assert done.stdout == f"TRAINED {model(64, 24)} {training()}\n"


def test_nested_configuration_with_operations(folder: Path, shell: Shell) -> None:
    done = shell("train.py", "model.size*=2", "training.batch_size+=16")
    assert done.stdout == f"TRAINED {model(size=2)} {training(batch_size=48)}\n"


def test_factory_function_usage(folder: Path, shell: Shell) -> None:
    done = shell("train.py", "--factory", "executor=@executors/slurm.yaml")
    assert f"TRAINED {model()} {training()}\n" in done.stdout
    (experiment,) = run.Experiment.catalog()
    assert "nemorun experiment status " + experiment in done.stderr
    job = run.Experiment.from_id(experiment).jobs[0]
    assert job.executor.env_vars == {"WHO": "me"}


def test_dry_run_to_preview(folder: Path, shell: Shell) -> None:
    done = shell("train.py", "--dryrun", "model.size=512")
    assert "TRAINED" not in done.stdout
    assert "size: 512" in done.stdout
    assert run.Experiment.catalog() == []


@pytest.mark.parametrize("kind", ["yaml", "toml", "json"])
def test_what_is_exported_loads_back(folder: Path, script: Nemorun, kind: str) -> None:
    done = script("train.py", f"--to-{kind}", f"config.{kind}", "model.size=512")
    assert (done.stdout, done.stderr) == ("", f"written to config.{kind}; nothing is run\n")
    expected = f"TRAINED {model(size=512)} {training()}\n"
    assert script("train.py", "--yaml", f"config.{kind}").stdout == expected
    changed = script("train.py", "--factory", f"@config.{kind}", "model.layers=1").stdout
    assert changed == f"TRAINED {model(layers=1, size=512)} {training()}\n"
    script("train.py", f"--to-{kind}", f"model.{kind}:model", "model.size=512")
    assert script("train.py", f"model=@model.{kind}").stdout == expected


def test_python_source(folder: Path, script: Nemorun) -> None:
    done = script("train.py", "--to-python", "-", "model.size=512")
    assert "size=512" in done.stdout
    assert "config = run.Partial(" in done.stdout


# ---------------------------------------------------------------- failures
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["modle.size=3"], "train has no argument 'modle'; did you mean 'model'?"),
        (["model.sise=3"], "Model has no argument 'sise'; did you mean 'size'?"),
        (["model.size=big"], "model.size: expected int, got 'big'"),
        (["--dryrn"], "--dryrun"),
        (["--factory", "nothing"], "--factory nothing: there is no factory or class of this name"),
        (["--factory", "@configs/bse.yaml"], "there is no file 'configs/bse.yaml'; did you mean 'base.yaml'?"),
        (["--factory", "@configs/base.yaml:modl"], "has no section 'modl'; did you mean 'model'?"),
        (["run.executor=slrm"], "run.executor: expected Executor"),
        (["run.executr=local"], "run.executr: there is no such option; did you mean 'executor'?"),
        (["run.executor.env_vars={}"], "say which executor"),
        (["run.executor=local", "run.executor.env_var={}"], "did you mean 'env_vars'?"),
        (["run.executor=os.system('true')"], "neither a class that fits nor a registered factory"),
        (["--detach"], "--detach needs an executor"),
        (["--load", "x"], "--load is not supported"),
        (["--repl"], "--repl needs a terminal"),
        (["model=@broken.yaml"], "cannot read broken.yaml as YAML"),
        (["1", "2", "3", "4"], "'4' is one value too many"),
    ],
)
def test_what_makes_no_sense(folder: Path, script: Nemorun, argv: list[str], said: str) -> None:
    (folder / "broken.yaml").write_text("a: [1\n")
    done = script("train.py", *argv, code=2)
    assert said in done.stderr
    assert done.stdout == ""
    assert run.Experiment.catalog() == []


def test_a_failing_task(folder: Path, script: Nemorun) -> None:
    script("train.py", "fail=true", code=7)
    done = script("train.py", "fail=true", "run.executor=local", code=1)
    assert "ended as FAILED with exit code 7" in done.stderr


def test_a_task_on_an_executor(folder: Path, script: Nemorun) -> None:
    done = script(
        "train.py", "run.executor=local", "run.executor.env_vars={A: 'b c'}", "--name", "mine", "model.size=3"
    )
    assert f"TRAINED {model(size=3)}" in done.stdout
    job = run.Experiment.from_title("mine").jobs[0]
    assert job.executor.env_vars == {"A": "b c"}
    assert job.task.model.size == 3


def test_a_dry_run_on_an_executor_can_be_copied(folder: Path, script: Nemorun) -> None:
    done = script("train.py", "--dryrun", "run.executor=local", "run.executor.env_vars={A: 'b c'}")
    assert "A='b c'" in done.stdout
    assert "nothing is launched" in done.stdout
    assert run.Experiment.catalog() == []


def test_help(folder: Path, script: Nemorun) -> None:
    shown = script("train.py", "--help").stdout
    assert shown.index("Usage: train.py [OPTIONS] [ARGUMENT=VALUE]...") < shown.index("Arguments")
    assert "  model.hidden_size       int       512\n" in shown
    assert "  model                   Model     Model(hidden_size=512, layers=12, size=1)" in shown
    assert "The model." in shown
    assert "Train a model." in shown


# ---------------------------------------------------------------- scripts of NeMo-Run users
USERS = '''
from dataclasses import dataclass
from typing import List
import nemo_run as run

@dataclass
class Net:
    width: int
    act: str

@dataclass
class Opt:
    lr: float
    betas: List[float]

@run.cli.factory
@run.autoconvert
def net(width: int = 256, act: str = "relu") -> Net:
    """A net."""
    return Net(width=width, act=act)

@run.cli.factory
def opt(lr: float = 0.001, betas: List[float] = [0.9, 0.999]) -> run.Config[Opt]:
    return run.Config(Opt, lr=lr, betas=betas)

@run.cli.factory
@run.autoconvert
def workstation(threads: str = "4") -> run.LocalExecutor:
    return run.LocalExecutor(env_vars={"OMP_NUM_THREADS": threads})

@dataclass(kw_only=True)
class Note(run.Plugin):
    text: str = "none"

    def setup(self, task, executor):
        executor.env_vars["NOTE"] = self.text

@run.cli.factory
@run.autoconvert
def note() -> run.Plugin:
    return Note(text="hi")

@run.cli.factory
@run.autoconvert
def notes() -> List[run.Plugin]:
    return [Note(text="one"), Note(text="two")]

@run.cli.entrypoint
def fit(net: Net = net(), opt: Opt = opt(), epochs: int = 10):
    import os
    print("FIT", net, opt, epochs, os.environ.get("OMP_NUM_THREADS"), os.environ.get("NOTE"))

def defaults() -> run.Partial["fit"]:
    return run.Partial(fit, net=net(width=512), opt=opt(lr=0.5), epochs=40)

@run.cli.entrypoint(namespace="fits", type="experiment")
def fit_all(
    ctx: run.cli.RunContext,
    nets: List[Net] = [net(), net(width=512)],
    epochs: int = 1,
    sequential: bool = False,
):
    with run.Experiment("fit_all") as exp:
        for i, one in enumerate(nets):
            exp.add(run.Partial(fit, net=one, epochs=epochs), name=f"fit_{i}", executor=ctx.executor, tail_logs=True)
        ctx.launch(exp, sequential=sequential)

if __name__ == "__main__":
'''


def users(here: Path, main: str) -> str:
    (here / "users.py").write_text(f"{USERS}    {main}\n")
    return "users.py"


@pytest.mark.parametrize(
    ("argv", "net", "opt", "epochs"),
    [
        ([], "256, act='relu'", "0.001, betas=[0.9, 0.999]", 10),
        (["net.width=512", "opt.lr=0.01", "epochs=20"], "512, act='relu'", "0.01, betas=[0.9, 0.999]", 20),
        (["net=net(width=9,act='tanh')", "opt=opt(lr=0.005)"], "9, act='tanh'", "0.005, betas=[0.9, 0.999]", 10),
        (["net.width*=2", "opt.lr/=10", "epochs+=16"], "512, act='relu'", "0.0001, betas=[0.9, 0.999]", 26),
        (["opt.betas=[0.1,0.2]", "--yes"], "256, act='relu'", "0.001, betas=[0.1, 0.2]", 10),
    ],
)
def test_a_users_task(here: Path, script: Nemorun, argv: list[str], net: str, opt: str, epochs: int) -> None:
    name = users(here, "run.cli.main(fit)")
    assert script(name, *argv).stdout == f"FIT Net(width={net}) Opt(lr={opt}) {epochs} None None\n"


def test_default_factory_executor_and_plugins(here: Path, script: Nemorun) -> None:
    name = users(
        here,
        "run.cli.main(fit, default_factory=defaults, default_executor=workstation(), default_plugins=note(), "
        'cmd_defaults={"tail_logs": True})',
    )
    shown = script(name, "epochs=1", "run.executor.env_vars['X']=1").stdout
    assert "FIT Net(width=512, act='relu') Opt(lr=0.5, betas=[0.9, 0.999]) 1 4 hi" in shown
    shown = script(name, "run.executor=workstation(threads=8)", "run.plugins=notes", "run.plugins[1].text=three").stdout
    assert "8 three" in shown


def test_an_experiment_with_an_argument_is_quiet(here: Path, script: Nemorun) -> None:
    (here / "many.py").write_text(
        "import nemo_run as run\n"
        "@run.cli.entrypoint(type='experiment')\n"
        "def many(ctx: run.cli.RunContext, epochs: int = 2):\n    print('epochs', epochs)\n"
        "if __name__ == '__main__':\n    run.cli.main(many)\n"
    )
    done = script("many.py", "--yes", "epochs=1")
    assert "epochs 1" in done.stdout
    assert done.stderr == ""


def test_command_defaults(here: Path, script: Nemorun) -> None:
    name = users(here, 'run.cli.main(fit, cmd_defaults={"dryrun": True})')
    assert "FIT" not in script(name).stdout


def test_an_undecorated_function(here: Path, script: Nemorun) -> None:
    name = users(here, "run.cli.main(defaults.__class__(fit.__code__, globals(), 'plain', fit.__defaults__))")
    assert "FIT" in script(name, "epochs=1").stdout


@pytest.mark.parametrize(
    ("argv", "widths"),
    [
        ([], [256, 512]),
        (["nets[0].width=64"], [64, 512]),
        (["nets+=[net(width=8)]", "sequential=True"], [256, 512, 8]),
        (["nets=[net(1),net(2)]", "run.executor=workstation"], [1, 2]),
    ],
)
def test_a_users_experiment(here: Path, script: Nemorun, argv: list[str], widths: list[int]) -> None:
    name = users(here, "run.cli.main(fit_all)")
    shown = script(name, *argv).stdout
    for width in widths:
        assert f"FIT Net(width={width}, act='relu')" in shown
    assert len(run.Experiment.from_title("fit_all").jobs) == len(widths)


def test_a_failing_experiment_fails_the_script(here: Path, script: Nemorun) -> None:
    name = users(here, "run.cli.main(fit_all)")
    done = script(name, "run.executor=local", "run.executor.env_vars={PATH: ''}", "nets=[net]", code=0)
    assert "SUCCEEDED" in done.stderr
    (here / "bad.py").write_text(
        USERS.replace("import os\n", "raise ValueError(epochs)\n") + "    run.cli.main(fit_all)\n"
    )
    done = script("bad.py", "run.executor=local", "--no-tail-logs", code=1)
    assert "ValueError: 1" in done.stderr


def test_dry_run_of_an_experiment(here: Path, script: Nemorun) -> None:
    shown = script(users(here, "run.cli.main(fit_all)"), "--dryrun", "run.executor=local").stdout
    assert "fit_0" in shown
    assert "fit_1" in shown
    assert run.Experiment.catalog() == []


def test_files_with_factories(here: Path, script: Nemorun) -> None:
    (here / "opts").mkdir()
    (here / "opts" / "adam.yaml").write_text("_factory_: opt(lr=0.25)\nbetas: [0.5, 0.6]\n")
    (here / "task.yaml").write_text(
        "net:\n  _factory_: net\n  'width*=': 2\nopt: '@opts/adam.yaml'\nepochs: 3\n"
        "run:\n  executor:\n    _factory_: workstation\n    env_vars: {OMP_NUM_THREADS: '2'}\n  plugins: note\n"
    )
    shown = script(users(here, "run.cli.main(fit)"), "--yaml", "task.yaml").stdout
    assert "FIT Net(width=512, act='relu') Opt(lr=0.25, betas=[0.5, 0.6]) 3 2 hi" in shown
    shown = script("users.py", "--factory", "@task.yaml", "run.executor=none", "run.plugins=none", "epochs=4").stdout
    assert shown == "FIT Net(width=512, act='relu') Opt(lr=0.25, betas=[0.5, 0.6]) 4 None None\n"


@pytest.mark.parametrize(
    "text",
    [
        "_target_: os.system\n_args_: ['touch gone']\n",
        "_target_: subprocess.Popen\n_args_: [touch gone]\n",
        "_factory_: defaults\n",
    ],
)
def test_a_file_calls_nothing_else(here: Path, script: Nemorun, text: str) -> None:
    (here / "evil.yaml").write_text(text)
    name = users(here, "run.cli.main(fit)")
    for argv in (["net=@evil.yaml"], ["--yaml", "evil.yaml"], ["run.executor=@evil.yaml"]):
        script(name, *argv, code=2)
    assert not (here / "gone").exists()


def test_lazy(here: Path, script: Nemorun) -> None:
    name = users(here, "run.cli.main(fit)")
    shown = script(name, "--lazy", "run.executor=local", "epochs=2", "net=net(3)").stdout
    assert "FIT Net(width=3, act='relu') Opt(lr=0.001, betas=[0.9, 0.999]) 2" in shown
    assert "--lazy needs an executor" in script(name, "--lazy", code=2).stderr
    assert "--dryrun needs the code here" in script(name, "--lazy", "--dryrun", code=2).stderr


def test_a_subclass_of_the_context(here: Path, script: Nemorun) -> None:
    (here / "own.py").write_text(
        USERS.replace(
            "if __name__",
            """
@dataclass(kw_only=True)
class Context(run.cli.RunContext):
    cluster: str = "here"
    nodes: int = 1

    def launch(self, experiment, sequential=False):
        print("ON", self.cluster, self.nodes * 2)

@run.cli.entrypoint(type="experiment", run_ctx_cls=Context)
def own(ctx: Context):
    with run.Experiment("own") as exp:
        exp.add(run.Script(inline="true"), name="job")
        ctx.launch(exp)

if __name__""",
        )
        + "    run.cli.main(own)\n"
    )
    assert script("own.py", "run.cluster=there", "run.nodes=3").stdout == "ON there 6\n"
    assert "run.nodes: expected int" in script("own.py", "run.nodes=x", code=2).stderr


def test_json_status_of_what_was_launched(folder: Path, script: Nemorun, nemorun: Nemorun) -> None:
    script("train.py", "run.executor=local", "--detach", "--name", "later")
    nemorun("experiment", "attach", "later")
    shown = json.loads(nemorun("experiment", "status", "later", "--json").stdout)
    assert shown["state"] == "SUCCEEDED"
