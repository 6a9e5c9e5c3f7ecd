"""What an experiment's files say acts on no terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import nemo_run as run
from tests.support import bash

ACTING = "\x1b\x07\x9b\u202e"
EVIL = "\x1b]0;OWNED\x07\x1b[2J\x1b[31m\r\x9b31m\u202e"


@pytest.fixture(params=["FAILED", "SUCCEEDED"])
def evil(request: pytest.FixtureRequest) -> str:
    """The id of an experiment with escape sequences wherever there is a text."""
    state: str = request.param
    with run.Experiment("got", clean_mode=True) as exp:
        exp.add(bash("echo x > $NEMO_RUN_ARTIFACTS/a.txt"), name="job")
        exp.run()

    def edit(name: str, change: Callable[[Any], Any]) -> None:
        document = json.loads((exp.directory / name).read_text())
        change(document)
        (exp.directory / name).write_text(json.dumps(document))

    def definition(doc: Any) -> None:
        doc["title"] = f"t{EVIL}"
        doc["jobs"][0]["id"] = f"j{EVIL}"
        doc["jobs"][0]["tasks"][0].update(name=f"n{EVIL}", executor=f"E{EVIL}")

    edit("experiment.json", definition)
    edit(
        "job/state.json",
        lambda doc: doc["tasks"][0].update(reason=f"r{EVIL}", node=f"n{EVIL}", state=state, exit_code=1),
    )
    edit("job/artifacts.json", lambda doc: doc[0].update(path=f"p{EVIL}"))
    edit("summary.json", lambda doc: doc.update(counts={f"X{EVIL}": 1}))
    (exp.directory / "labels.json").write_text(json.dumps({"tags": ["paper", f"t{EVIL}"], "note": f"n{EVIL}"}))
    metrics = [{"step": step, "metrics": {f"m{EVIL}": step}} for step in range(3)]
    (exp.directory / "job/artifacts/metrics.jsonl").write_text("\n".join(map(json.dumps, metrics)))
    value = {"$": "object", "type": f"a:B{EVIL}", "fields": {f"f{EVIL}": f"v{EVIL}", f"n{EVIL}": 1}}
    (exp.directory / "job/artifacts/.nemo_run").mkdir()
    (exp.directory / "job/artifacts/.nemo_run/value.json").write_text(json.dumps({"value": value}))
    return exp.id


@pytest.mark.parametrize(
    "words",
    [
        "list", "list --json", "status ID", "status ID --json", "artifacts ID", "diff ID ID", "cancel ID nope",
        "results ID", "results ID --json", "metrics ID", "metrics ID --csv", "metrics ID --json", "metrics ID --plot",
        "compare ID", "compare ID --csv", "compare ID --json", "show ID", "show ID --json", "list -t paper", "logs ID",
    ],
)  # fmt: skip
def test_it_is_shown_escaped(words: str, evil: str) -> None:
    argv = words.replace("ID", evil).split()
    done = subprocess.run(
        [sys.executable, "-m", "nemo_run", "experiment", *argv],
        capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert [hex(ord(c)) for c in ACTING if c in done.stdout + done.stderr] == []
