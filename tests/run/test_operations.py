"""What a task costs its launcher, in file operations and processes: these do not depend on the machine's speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

COUNT = """
import collections, json, sys
import nemo_run as run

counts = collections.Counter()
exp = run.Experiment("count", executor=run.LocalExecutor())
for number in range(int(sys.argv[1])):
    exp.add(run.Script(inline="true"), name=f"task-{number}", tail_logs=False)
sys.addaudithook(lambda event, _: counts.update([event]))
exp.run()
print()
print(json.dumps(counts))
"""
FEWER, MORE = 4, 20
MOST = {
    "open": 34, "os.rename": 7, "os.mkdir": 7, "os.listdir": 2, "os.remove": 1, "os.scandir": 2, "os.chmod": 1,
    "subprocess.Popen": 0, "os.fork": 0, "os.posix_spawn": 0,  # one helper starts all of them
}  # fmt: skip  # pathlib of Python 3.13 scans folders where earlier ones list them


def operations(tasks: int, folder: Path) -> Counter[str]:
    """What the launcher did for so many tasks."""
    (folder / "count.py").write_text(COUNT)
    done = subprocess.run(
        [sys.executable, "count.py", str(tasks)], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "NEMORUN_HOME": str(folder / f"home-{tasks}")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Counter(json.loads(done.stdout.splitlines()[-1]))


def test_what_a_task_costs_its_launcher_is_bounded(tmp_path: Path) -> None:
    fewer, more = operations(FEWER, tmp_path), operations(MORE, tmp_path)
    each = {event: (more[event] - fewer[event]) / (MORE - FEWER) for event in MOST}
    assert {event: count for event, count in each.items() if count > MOST[event]} == {}
