"""A group of tasks on this machine, with a plugin that is called for each of them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import nemo_run as run


@dataclass(kw_only=True)
class Numbered(run.Plugin):
    seen: list = field(default_factory=list)

    def setup(self, task, executor):
        self.seen.append(type(task).__name__)
        task.env["NUMBER"] = str(len(self.seen))
        executor.env_vars["OUT"] = str(Path.cwd())


if __name__ == "__main__":
    plugin = Numbered()
    tasks = [run.Script(inline=f'echo "{name} $NUMBER" > $OUT/{name}.txt') for name in ("a", "b", "c")]
    with run.Experiment("group") as exp:
        name = exp.add(tasks, executor=[run.LocalExecutor() for _ in tasks], name="members", plugins=[plugin])
        seen = {"name": name, "plugin": plugin.seen, "given": [task.env for task in tasks]}
        seen["set"] = [task.env for task in exp.jobs[0].tasks]
        exp.dryrun(log=False)
    Path("result.json").write_text(json.dumps(seen, indent=1))
