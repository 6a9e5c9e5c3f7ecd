"""Launches a task with code that a packager of our own has chosen."""

from __future__ import annotations

from own_packager import Stamped

import nemo_run as run


def main() -> None:
    """Show what the task finds in its folder."""
    executor = run.LocalExecutor(packager=Stamped(include=["*.py"]))
    with run.Experiment("packager", executor=executor, skip_status_at_exit=True) as exp:
        exp.add(run.Script(inline="echo the task found: *; cat BUILT"), name="look")
        exp.run(check=True)
    exp.logs("look")


if __name__ == "__main__":
    main()
