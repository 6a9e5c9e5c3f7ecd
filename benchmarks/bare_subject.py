"""The floor: the same effect with bare commands and the standard library. See :mod:`benchmarks.nemo_run_subject`."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import tasks
from benchmarks.measure import Figures, Sizes, check_ran, main, memory, process, program, repository, seconds, talk

COMMAND = """
import argparse
from dataclasses import dataclass

@dataclass
class Model:
    size: int = 256

parser = argparse.ArgumentParser()
for option in ("dryrun", "yes", "detach", "verbose"):
    parser.add_argument("--" + option, action="store_true")
parser.add_argument("overrides", nargs="*", help="model optimizer epochs; an experiment")
given = dict(text.split("=", 1) for text in parser.parse_args().overrides)
print("RAN", Model(int(given.get("model.size", 256))), given.get("optimizer.rate"))
"""


def start(sizes: Sizes) -> Figures:
    """An interpreter that does nothing; options read by argparse."""
    took, used = process([sys.executable, "-c", "pass"])
    yield "import", took
    yield "import names", took
    yield "memory import names", used
    command = program("command", COMMAND)
    took = process([*command, "--help"], "optimizer")[0]
    yield "help", took
    yield "help script", took
    took, used = process([*command, "--dryrun", "model.size=1024"], "1024")
    yield "dry run", took
    yield "memory dry run", used
    yield "direct", took


def launch(sizes: Sizes) -> Figures:
    """A script that runs a command."""
    took, used = process(program("script", "import subprocess; subprocess.run(['bash', '-c', 'true'], check=True)"))
    yield "launch script", took
    yield "memory launch script", used
    inner = "from benchmarks.tasks import touch; touch('mark')"
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    yield "launch function", process(program("function", text))[0]
    begun = time.perf_counter()
    subprocess.run(["bash", "-c", "sleep 0.5"], check=True)
    yield "launch sleep", time.perf_counter() - begun


def many(sizes: Sizes) -> Figures:
    """Scripts in files, each run by bash in a session of its own."""
    mark = Path("mark").absolute()

    def run(i: int) -> None:
        script = Path(f"t{i}.sh")
        script.write_text(f"echo {i} >> {mark}\n")
        with Path(f"t{i}.log").open("wb") as log:
            subprocess.run(["bash", str(script)], stdout=log, stderr=log, start_new_session=True, check=True)

    for count in sizes.tasks:
        begun = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(run, range(count)))
        yield f"tasks {count}", time.perf_counter() - begun
        check_ran(mark, count)
    yield "memory tasks", memory()
    begun = time.perf_counter()
    for i in range(sizes.chain):
        run(i)
    yield "chain", time.perf_counter() - begun
    check_ran(mark, sizes.chain, in_order=True)


def _plain(cls: Any, **arguments: Any) -> Any:
    return cls(**arguments)


def _as_dict(cls: Any, **arguments: Any) -> dict[str, Any]:
    return {"_target_": cls.__qualname__, **arguments}


def _set_all(root: Any, name: str, value: Any) -> None:
    todo = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo += node
        elif isinstance(node, dict):
            todo += node.values()
        elif hasattr(node, "__dataclass_fields__"):
            if name in vars(node):
                setattr(node, name, value)
            todo += vars(node).values()


def configurations(sizes: Sizes) -> Figures:
    """The same objects without configurations; dicts that are pickled, compared and written as JSON."""
    for size, shape in sizes.leaves.items():
        data, built = tasks.make_model(_as_dict, shape), tasks.make_model(_plain, shape)
        other = copy.deepcopy(data)
        text = zlib.compress(json.dumps(data).encode())
        construct = seconds(lambda shape=shape: tasks.make_model(_plain, shape))
        yield f"construct {size}", construct
        yield f"clone {size}", seconds(lambda data=data: pickle.loads(pickle.dumps(data, 5)))
        yield f"build {size}", construct
        yield f"fdl.build {size}", construct
        yield f"broadcast {size}", seconds(lambda built=built: _set_all(built, "width", 7))
        yield f"walk {size}", seconds(lambda built=built: _set_all(built, "rate", 0.5))
        yield f"equal {size}", seconds(lambda data=data, other=other: data == other)
        yield f"serialise {size}", seconds(lambda data=data: zlib.compress(json.dumps(data).encode()))
        yield f"load {size}", seconds(lambda text=text: json.loads(zlib.decompress(text)))


def package(sizes: Sizes) -> Figures:
    """git archive, and tar; neither compresses."""
    folder = str(repository(sizes.files))
    for name, command in (
        ("git", ["git", "-C", folder, "archive", "--format=tar", "-o", str(Path("git.tar").absolute()), "HEAD"]),
        ("pattern", ["tar", "-C", folder, "-cf", "pattern.tar", "src"]),
    ):
        yield f"package {name}", process(command)[0]


def catalogue(sizes: Sizes) -> Figures:
    """Folders that are listed by age; a file with the states of all jobs."""
    base, states = Path("folders"), Path("states.json")
    if not base.exists():
        for i in range(sizes.experiments):
            (base / f"sweep_{i}").mkdir(parents=True)
    job = {"handle": "local://x/y", "state": "SUCCEEDED", "folder": "/a/b/c"}
    states.write_text(json.dumps([{"id": f"t{i}", **job} for i in range(sizes.jobs)]))
    took = seconds(lambda: sorted(_by_age(base)))
    yield "catalog()", took
    yield "status()", seconds(lambda: json.loads(states.read_text()))
    code = "import os; print(len(sorted((e.stat().st_ctime, e.name) for e in os.scandir('folders'))))"
    yield "list", process([sys.executable, "-c", code])[0]
    took, used = process([sys.executable, "-c", "import json; print(json.load(open('states.json')))"], "SUCCEEDED")
    yield "status", took
    yield "memory status", used


def _by_age(base: Path) -> Iterator[tuple[float, str]]:
    with os.scandir(base) as entries:
        for entry in entries:
            yield entry.stat().st_ctime, entry.name


def logs(sizes: Sizes) -> Figures:
    """The command that writes the log, into a file; and that file, copied."""
    begun = time.perf_counter()
    with Path("log").open("wb") as log:
        subprocess.run(["bash", "-c", talk(sizes.lines)], stdout=log, check=True)
    yield "follow", time.perf_counter() - begun
    yield "replay", process(["cp", "log", "copy"])[0]


def slurm(sizes: Sizes) -> Figures:
    """Files of the same number and about the same size."""
    begun = time.perf_counter()
    for i in range(sizes.sbatch):
        folder = Path("jobs", f"{time.time_ns()}", f"t{i}")
        folder.mkdir(parents=True)
        (folder / "script.sh").write_text("#!/bin/bash\n" + f"#SBATCH --job-name=t{i}\n" * 30)
        (folder / "task.sh").write_text("echo hi\n")
    yield "sbatch", time.perf_counter() - begun


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
