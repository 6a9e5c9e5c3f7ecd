#!/usr/bin/env python3
"""Takes pictures of every page of ``nemorun ui``, wide and narrow, light and dark, into a folder.

    python tools/picture_pages.py docs/pictures

Needs the extras ``ui`` and ``browser``, and Chromium. The experiments in the pictures are launched for them: a sweep,
a pipeline of which a job fails, and a job that is running.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
THEMES = ("light", "dark")
PROGRAM = '''
import os, random, sys, time
import nemo_run as run

def train(lr: float = 0.1, layers: int = 2) -> dict:
    """Pretend to learn."""
    loss = 2.0
    for step in range(200):
        loss = loss * (1 - lr / 10) + random.random() / 50
        run.log_metrics({"loss": loss, "lr": lr * (1 - step / 200)}, step=step)
        print(f"step {step:4d}  loss \\x1b[32m{loss:.4f}\\x1b[0m", flush=True)
    with open(os.path.join(os.environ["NEMO_RUN_ARTIFACTS"], "table.csv"), "w") as file:
        file.write("epoch,accuracy\\n1,0.61\\n2,0.74\\n3,0.81\\n")
    return {"accuracy": round(0.9 - loss / layers / 3, 4)}

def evaluate(split: str = "test") -> dict:
    if split == "test":
        raise ValueError("the test split has 0 rows; expected at least 1")
    return {"accuracy": 0.81}

def wait() -> None:
    for number in range(10_000):
        run.log_metrics({"images per second": 900 + random.random() * 50}, step=number)
        print(f"batch {number}: 900 images/s", flush=True)
        time.sleep(0.2)

what, executor = sys.argv[1], run.LocalExecutor()
with run.Experiment(what) as exp:
    if what == "digits-sweep":
        space = {"lr": run.choice(0.02, 0.1, 0.3, 0.6), "layers": run.choice(1, 2, 4)}
        exp.sweep(run.Partial(train), space, executor=executor, objective="accuracy", direction="maximize")
    elif what == "nightly-pipeline":
        data = exp.add(run.Script(inline="echo 60000 rows"), executor=executor, name="prepare-data")
        fits = [exp.add(run.Partial(train, lr=lr), executor=executor, name=f"train-lr-{lr}", dependencies=[data])
                for lr in (0.1, float(sys.argv[2]))]
        for split in ("validation", "test"):
            task = run.Partial(evaluate, split=split)
            exp.add(task, executor=executor, name=f"evaluate-{split}", dependencies=fits)
        exp.add(run.Script(inline="echo report"), executor=executor, name="report", dependencies=["evaluate-test"])
    else:
        exp.add(run.Partial(wait), executor=executor, name="pretrain")
    exp.run(detach=what == "long-training")
print(exp.id)
'''


def launch(home: Path, title: str, rate: str = "0.3") -> str:
    """Launch an experiment; its id."""
    script = home.parent / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    env = {**os.environ, "NEMORUN_HOME": str(home)}
    said = subprocess.run(
        [sys.executable, script, title, rate], env=env, cwd=home.parent, check=True, stdout=subprocess.PIPE
    )
    return said.stdout.decode().split()[-1]


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The page of a home; its address."""
    command = [sys.executable, "-m", "nemo_run", "ui", "--no-browser", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101
        found = re.search(r"http://\S+", process.stdout.readline())
        if not found:
            sys.exit("the page did not start")
        yield found[0]
        process.terminate()


def pages(sweep: str, before: str, pipeline: str, training: str) -> dict[str, str]:
    """Return what there is to be seen: names of pictures, and places in the page."""
    parts = ("timeline", "results", "metrics", "sweep", "artifacts", "code")
    job = f"e/{sweep}/job/{quote('lr=0.3,layers=4', safe='')}"
    return {
        "experiments": "",
        "experiment": f"e/{pipeline}",
        **{f"experiment-{part}": f"e/{sweep if part in ('sweep', 'metrics') else pipeline}/{part}" for part in parts},
        "job-log": f"e/{training}/job/pretrain",
        "job-configuration": f"{job}/configuration",
        "job-metrics": f"{job}/metrics",
        "job-result": f"e/{pipeline}/job/evaluate-test/result",
        "compare": f"compare?id={before}&id={pipeline}",
    }


def main(folder: Path) -> None:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        home = Path(temporary, "home")
        wanted = (("digits-sweep",), ("nightly-pipeline", "0.2"), ("nightly-pipeline",), ("long-training",))
        found = [launch(home, *one) for one in wanted]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            with served(home) as address:
                for size, (width, height) in SIZES.items():
                    for theme in THEMES:
                        view: Any = {"width": width, "height": height}
                        context = browser.new_context(viewport=view, color_scheme=theme, reduced_motion="reduce")
                        page = context.new_page()
                        page.goto(address)
                        page.wait_for_selector("#live:has-text('live')")
                        for name, place in pages(*found).items():
                            page.goto(f"{address.partition('?')[0]}#/{place}")
                            page.wait_for_timeout(800)
                            page.screenshot(path=folder / f"{name}-{size}-{theme}.png")
                        context.close()
        finally:
            browser.close()
            env = {**os.environ, "NEMORUN_HOME": str(home)}
            cancel = [sys.executable, "-m", "nemo_run", "experiment", "cancel", found[-1]]
            subprocess.run(cancel, env=env, check=False, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "pictures"))
