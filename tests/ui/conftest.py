"""Real experiments, the real server, and a real browser."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

PROGRAM = """
import os, sys, time
import nemo_run as run

def train(lr: float = 0.1, layers: int = 2) -> dict:
    for step in range(20):
        run.log_metrics({"loss": 1 / (1 + step * lr)}, step=step)
        print(f"step {step} \\x1b[32mgood\\x1b[0m", flush=True)
    with open(os.path.join(os.environ["NEMO_RUN_ARTIFACTS"], "table.csv"), "w") as file:
        file.write("name,value\\nfirst,1\\n")
    return {"accuracy": 1 - lr / layers}

def evaluate(x: int = 3) -> None:
    raise ValueError(f"{x} is too large")

def wait(flag: str) -> None:
    print("waiting", flush=True)
    number = 0
    while not os.path.exists(flag):
        number += 1
        print("tick", number, flush=True)
        time.sleep(0.2)
    print("\\u5b66\\u7fd2 done", flush=True)

def talk(lines: int) -> None:
    for number in range(lines):
        print(f"line {number} of a long log, with some words", flush=False)

if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    executor = run.LocalExecutor()
    with run.Experiment(what) as exp:
        if what == "sweep":
            space = {"lr": run.choice(0.1, 0.5), "layers": run.choice(1, 2, 4)}
            exp.sweep(run.Partial(train), space, executor=executor, objective="accuracy")
        elif what == "pipeline":
            first = exp.add(run.Partial(train), executor=executor, name="train")
            second = exp.add(run.Partial(evaluate), executor=executor, name="evaluate", dependencies=[first])
            exp.add(run.Partial(train), executor=executor, name="report", dependencies=[second])
        elif what == "waiting":
            exp.add(run.Partial(wait, flag=rest[0]), executor=executor, name="wait")
        else:
            exp.add(run.Partial(talk, lines=int(rest[0])), executor=executor, name="talk")
        exp.run(detach=what == "waiting")
    print(exp.id)
"""


def launch(home: Path, *args: str) -> str:
    """Launch an experiment; its id."""
    script = home.parent / "program.py"
    script.write_text(PROGRAM)
    env = {**os.environ, "NEMORUN_HOME": str(home)}
    done = subprocess.run([sys.executable, script, *args], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@dataclass
class Served:
    """The page of a home."""

    home: Path
    address: str
    process: subprocess.Popen[str]

    @property
    def base(self) -> str:
        return self.address.partition("?")[0]

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Ask as a browser does that has opened the page."""
        with httpx.Client(base_url=self.base, timeout=60) as client:
            assert client.get(self.address).status_code == 200
            yield client

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)


def serve(home: Path, *options: str) -> Served:
    command = [sys.executable, "-m", "nemo_run", "ui", "--no-browser", "--home", str(home), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + process.stdout.read()
    return Served(home, found[0], process)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with experiments that have ended; it is not changed."""
    home = tmp_path_factory.mktemp("page") / "home"
    for args in (("sweep",), ("pipeline",), ("talking", "20000")):
        launch(home, *args)
    return home


@pytest.fixture(scope="session")
def looking(finished: Path) -> Iterator[Served]:
    """The page of these, only to be looked at."""
    served = serve(finished, "--read-only")
    yield served
    served.stop()


@pytest.fixture
def served(finished: Path, tmp_path: Path) -> Iterator[Served]:
    """The page of a copy of these, which may be changed."""
    home = tmp_path / "copy" / "home"
    shutil.copytree(finished, home, symlinks=True)
    served = serve(home)
    yield served
    served.stop()


def id_of(home: Path, title: str) -> str:
    """Return the id of the newest experiment with a title."""
    return sorted(home.glob(f"experiments/{title}/{title}_*"))[-1].name


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """An empty page; an error of a script, or anything that is asked of another host, fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    own = ("http://127.0.0.1:", "file:", "data:")
    page.on("request", lambda request: None if request.url.startswith(own) else errors.append(request.url))
    yield page
    context.close()
    assert not errors
