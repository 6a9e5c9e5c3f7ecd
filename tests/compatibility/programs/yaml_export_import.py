"""Exports a recipe as YAML, edits nothing, loads it back, and compares; broken files are told by built-in types."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import nemo_run as run
from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer


@dataclass
class Data:
    path: str = "/data"
    splits: list[float] = field(default_factory=lambda: [0.9, 0.1])


def train(data: Data, lr: float = 0.1, name: Optional[str] = None, options: Optional[dict] = None):
    return data, lr, name, options


if __name__ == "__main__":
    tasks = {
        "plain": run.Partial(train, data=run.Config(Data, path="/a"), lr=0.5),
        "nested": run.Partial(train, data=run.Config(Data), options={"a": [1, 2], "b": {"c": None}}),
        "unset": run.Partial(train),
    }
    serializer = ZlibJSONSerializer()
    seen = {}
    for name, task in tasks.items():
        text = serializer.serialize(task)
        back = serializer.deserialize(text)
        seen[name] = [isinstance(text, str), back == task, type(back).__name__, back.lr]
        back.lr = 7.0
        seen[name].append(back == task)
    executor = run.SlurmExecutor(account="a", partition="b", nodes=2, tunnel=run.LocalTunnel(job_dir="/jobs"))
    clone = executor.clone()
    clone.nodes = 3
    clone.env_vars["A"] = "b"
    seen["executor"] = [executor.nodes, clone.nodes, executor.env_vars, clone.account, clone.tunnel.job_dir]
    seen["config"] = [executor.to_config().partition, type(executor.to_config()).__name__]
    Path("result.json").write_text(json.dumps(seen, indent=1))
