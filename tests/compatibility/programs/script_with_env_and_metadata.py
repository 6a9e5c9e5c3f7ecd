"""Scripts with arguments, variables and metadata, as a client holds and runs them."""

import json
from pathlib import Path

import nemo_run as run

work = Path.cwd()
(work / "show.sh").write_text('echo "$GREETING $1 $2" > "$OUT/show.txt"\n')

script = run.Script(
    path=str(work / "show.sh"), args=["a b", "--flag=1"], env={"GREETING": "hi", "OUT": str(work)}, metadata={"ray": 1}
)
inline = run.Script(inline="  echo 'it is' \"me\"\n", entrypoint="bash")
module = run.Script("json.tool", m=True, entrypoint="python", args=["--help"])
seen = {
    "name": [script.get_name(), inline.get_name(), module.get_name()],
    "command": [one.to_command(with_entrypoint=True)[:-2] for one in (script, module)],
    "inline": [inline.to_command(with_entrypoint=True)[:2], inline.to_command()[0]],
    "m": module.to_command(),
    "metadata": [script.metadata, inline.metadata, inline.env, inline.args],
    "config": [script.to_config().path == script.path, script.to_config().env["GREETING"]],
}
with run.Experiment("scripts") as exp:
    seen["added"] = [
        exp.add(script),
        exp.add(inline, name="inline"),
        exp.add(inline, name="inline"),
    ]
    exp.run()
seen["states"] = {name: str(entry["status"]) for name, entry in exp.status(return_dict=True).items()}
Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))
