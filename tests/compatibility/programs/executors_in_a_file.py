"""Executors that stand in a file of their own, as in `$NEMORUN_HOME/executors.py`."""

import json
import os
from pathlib import Path

import nemo_run as run

TEXT = """
import nemo_run as run


def gpu(nodes: int = 1) -> run.SlurmExecutor:
    return run.SlurmExecutor(account="a", partition="b", nodes=nodes, tunnel=run.LocalTunnel(job_dir="/jobs"))


here = run.LocalExecutor(ntasks_per_node=3)
"""

home = Path(os.environ["NEMORUN_HOME"])
home.mkdir(parents=True)
(home / "executors.py").write_text(TEXT)
Path("mine.py").write_text(TEXT.replace("=3", "=4"))
seen = {
    "gpu": [run.import_executor("gpu").nodes, run.import_executor("gpu", nodes=4).nodes],
    "here": run.import_executor("here").ntasks_per_node,
    "mine": run.import_executor("here", file_path="mine.py").ntasks_per_node,
    "kind": type(run.import_executor("gpu")).__name__,
}
Path("result.json").write_text(json.dumps(seen, indent=1))
