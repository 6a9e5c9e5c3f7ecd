"""What is measured of any package that provides ``nemo_run``; only its public interface is used.

``python -m benchmarks.nemo_run_subject NAME SIZES``, in an empty folder; see :func:`benchmarks.measure.main`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import tasks
from benchmarks.measure import (
    Figures,
    Sizes,
    TooLongError,
    WrongError,
    check_ran,
    main,
    memory,
    process,
    program,
    repository,
    seconds,
    talk,
)

COMMAND = """
from dataclasses import dataclass, field
import nemo_run as run

@dataclass
class Attention:
    heads: int = 8

@dataclass
class Model:
    size: int = 256
    attention: Attention = field(default_factory=Attention)

@dataclass
class Optimizer:
    rate: float = 1e-3

@run.cli.entrypoint
def train(model: Model, optimizer: Optimizer, epochs: int = 10):
    "Train a model."
    print("RAN", model.size, optimizer.rate, epochs)

if __name__ == "__main__":
    run.cli.main(train)
"""


def start(sizes: Sizes) -> Figures:
    """Imports, and the command line."""
    names = "import nemo_run as run; run.Config; run.Experiment; run.LocalExecutor"
    yield "import", process([sys.executable, "-c", "import nemo_run"])[0]
    took, used = process([sys.executable, "-c", names])
    yield "import names", took
    yield "memory import names", used
    nemorun = str(Path(sys.executable).with_name("nemorun"))
    yield "help", process([nemorun if Path(nemorun).exists() else nemorun[:-3], "--help"], "experiment")[0]
    typed = ["--yes", "model.size=1024", "optimizer.rate=0.5"]
    yield "help script", process([*program("command", COMMAND), "--help"], "optimizer")[0]
    took, used = process([*program("command", COMMAND), "--dryrun", *typed], "1024")
    yield "dry run", took
    yield "memory dry run", used
    yield "direct", process([*program("command", COMMAND), *typed], "RAN 1024 0.5 10")[0]


def launch(sizes: Sizes) -> Figures:
    """One task, launched and waited for."""
    begin = "import sys\nimport nemo_run as run\nfrom benchmarks.tasks import touch\nif __name__ == '__main__':\n"
    script = 'run.run(run.Script(inline="true"), executor=run.LocalExecutor())'
    took, used = process(program("launch_script", f"{begin}    {script}\n"))
    yield "launch script", took
    yield "memory launch script", used
    partial = "run.run(run.Partial(touch, path='mark'), executor=run.LocalExecutor())"
    took = process(program("launch_function", f"{begin}    {partial}\n"))[0]
    if not Path("mark").exists():
        raise WrongError("the task has not run")
    yield "launch function", took
    import nemo_run as run

    begun = time.perf_counter()
    run.run(run.Script(inline="sleep 0.5"), executor=run.LocalExecutor())
    yield "launch sleep", time.perf_counter() - begun


def _experiment(count: int, line: str, *, chain: bool = False) -> float:
    """Seconds that an experiment with so many tasks takes; ``{i}`` in a line is the number of the task."""
    import nemo_run as run

    mark = Path("mark").absolute()
    mark.unlink(missing_ok=True)  # what an earlier one that failed has left
    begun = time.perf_counter()
    with run.Experiment("many", executor=run.LocalExecutor()) as exp:
        last: list[str] = []
        for i in range(count):
            script = run.Script(inline=line.format(i=i, mark=mark))
            name = exp.add(script, name=f"t{i}", dependencies=last or None)
            last = [name] if chain else []
        exp.run()
    took = time.perf_counter() - begun
    check_ran(mark, count, in_order=chain)
    return took


def many(sizes: Sizes) -> Figures:
    """Tasks of one experiment. The most come last: NeMo-Run does not always bear them."""
    *few, most = sizes.tasks
    yield "chain", _experiment(sizes.chain, "echo {i} >> {mark}", chain=True)
    for count in few:
        yield f"tasks {count}", _experiment(count, "echo {i} >> {mark}")
    yield "memory tasks", memory()
    yield f"tasks {most}", _experiment(most, "echo {i} >> {mark}")


def configurations(sizes: Sizes) -> Figures:
    """What is done with large configurations."""
    for size in sizes.leaves:
        yield from _configuration(size, sizes)
    yield "memory configurations", memory()


def _configuration(size: str, sizes: Sizes) -> Figures:
    import fiddle as fdl

    import nemo_run as run
    from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer

    def make() -> Any:
        return run.Partial(tasks.train, model=tasks.make_model(run.Config, sizes.leaves[size]), seed=1)

    task, serializer = make(), ZlibJSONSerializer()
    changed = task.clone()
    changed.seed, changed.model.tree.width = 2, 99

    def add() -> None:
        with run.Experiment("add", executor=run.LocalExecutor()) as exp:
            exp.add(task, name="task")

    work: dict[str, tuple[Callable[..., Any], Callable[[], Any] | None]] = {
        "construct": (make, None),
        "clone": (task.clone, None),
        "build": (getattr(task, "build", lambda: fdl.build(task)), None),
        "fdl.build": (lambda: fdl.build(task), None),
        "broadcast": (lambda copy: copy.broadcast(width=7), task.clone),
        "walk": (lambda copy: copy.walk(rate=lambda config: config.rate * 2), task.clone),
        "equal": (lambda copy: copy == task, task.clone),
        "serialise": (lambda: serializer.serialize(task), None),
        "load": (serializer.deserialize, lambda: serializer.serialize(task)),
        "diff": (lambda: changed.diff(task), None),
        "add": (add, None),
    }
    for name, (operation, prepare) in work.items():
        figure = f"{name} {size}"
        if figure in sizes.skip:
            continue
        try:
            yield figure, seconds(operation, prepare, sizes.limit)
        except TooLongError:
            yield figure, float("inf")


def package(sizes: Sizes) -> Figures:
    """Packaging a repository."""
    import tarfile

    import nemo_run as run

    folder = repository(sizes.files)
    pattern = run.PatternPackager(include_pattern=str(folder / "src"), relative_path=str(folder))
    for name, packager in (("git", run.GitArchivePackager()), ("pattern", pattern)):
        begun = time.perf_counter()
        made = packager.package(folder, str(Path.cwd()), f"{name}-{time.time_ns()}")
        took = time.perf_counter() - begun
        with tarfile.open(made) as archive:
            count = sum(member.isfile() for member in archive)
        if count != sizes.files:
            raise WrongError(f"{count} files of {sizes.files} are in the package")
        yield f"package {name}", took


def catalogue(sizes: Sizes) -> Figures:
    """Finding experiments among many, and the status of one with many jobs."""
    import nemo_run as run

    if not Path("filled").exists():
        for _ in range(sizes.experiments):
            with run.Experiment("sweep", executor=run.LocalExecutor()) as exp:
                exp.add(run.Script(inline="true"), name="t")
                exp.dryrun(log=False, delete_exp_dir=False)
        _experiment(sizes.jobs, "echo {i} >> {mark}")
        Path("filled").touch()
    found = run.Experiment.catalog("sweep")
    if len(found) != sizes.experiments:
        raise WrongError(f"{len(found)} experiments of {sizes.experiments} are found")
    yield "catalog()", seconds(lambda: run.Experiment.catalog("sweep"))
    exp = run.Experiment.from_id(run.Experiment.catalog("many")[-1])
    yield "status()", seconds(lambda: exp.status(return_dict=True))
    nemorun = str(Path(sys.executable).with_name("nemorun"))
    nemorun = nemorun if Path(nemorun).exists() else nemorun[:-3]
    yield "list", process([nemorun, "experiment", "list", "sweep"], found[-1].rpartition("sweep_")[2])[0]
    last = f"t{sizes.jobs - 1}"
    took, used = process([nemorun, "experiment", "status", exp._id], last)  # noqa: SLF001  # no other name in both
    yield "status", took
    yield "memory status", used


def logs(sizes: Sizes) -> Figures:
    """A log that is followed, and one that is shown again."""
    import nemo_run as run

    def lines_since(offset: int) -> int:
        sys.stdout.flush()
        with Path("output").open("rb") as output:
            output.seek(offset)
            return sum(b"line 0" in line and b"xxxx" in line for line in output)

    at = Path("output").stat().st_size
    begun = time.perf_counter()
    with run.Experiment("talk", executor=run.LocalExecutor()) as exp:
        exp.add(run.Script(inline=talk(sizes.lines)), name="talk", tail_logs=True)
        exp.run()
    took = time.perf_counter() - begun
    if (count := lines_since(at)) < sizes.lines:
        raise WrongError(f"{count} lines of {sizes.lines} were shown")
    yield "follow", took
    yield "memory follow", memory()
    at = Path("output").stat().st_size
    begun = time.perf_counter()
    exp.logs("talk")
    took = time.perf_counter() - begun
    if (count := lines_since(at)) < sizes.lines:
        raise WrongError(f"{count} lines of {sizes.lines} were shown again")
    yield "replay", took


def slurm(sizes: Sizes) -> Figures:
    """Scripts for many jobs of a cluster."""
    import nemo_run as run

    home = Path(os.environ["NEMORUN_HOME"])
    executor = run.SlurmExecutor(
        account="acct", partition="part", nodes=2, ntasks_per_node=8, gpus_per_node=8, time="00:30:00",
        container_image="image:tag", container_mounts=["/a:/a"], env_vars={"A": "1"}, packager=run.Packager(),
        tunnel=run.LocalTunnel(job_dir=str(home / "experiments")),
    )  # fmt: skip
    before = _scripts(home)
    begun = time.perf_counter()
    with run.Experiment("slurm", executor=executor) as exp:
        for i in range(sizes.sbatch):
            exp.add(run.Script(inline=f"echo {i}"), name=f"t{i}")
        exp.dryrun(log=False, delete_exp_dir=False)
    took = time.perf_counter() - begun
    if (count := _scripts(home) - before) != sizes.sbatch:
        raise WrongError(f"{count} scripts of {sizes.sbatch} were written")
    yield "sbatch", took
    yield "memory sbatch", memory()


def _scripts(home: Path) -> int:
    return sum("#SBATCH --account=acct" in path.read_text() for path in home.rglob("*.sh"))


WORK = {
    "start": start,
    "launch": launch,
    "many": many,
    "configurations": configurations,
    "package": package,
    "catalogue": catalogue,
    "logs": logs,
    "slurm": slurm,
}

if __name__ == "__main__":
    main(WORK)
