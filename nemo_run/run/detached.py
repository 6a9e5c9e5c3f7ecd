"""A controller as a process of its own, which lives on without the one that launched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nemo_run.core.execution.local.supervisor import MARKER
from nemo_run.core.runners.interpreter import import_environment
from nemo_run.errors import ExperimentError
from nemo_run.run.store import ExperimentStore


def spawn(store: ExperimentStore) -> int:
    """Start a controller for an experiment and wait until it drives it; its pid.

    Raises:
        ExperimentError: It did not come up; the message has the last lines of its log.
    """
    # It is no process of the task, if this is one, that launches: it outlives that.
    environment = {name: value for name, value in os.environ.items() if name != MARKER}
    log = store.path / "controller.log"
    log.touch(mode=0o600)
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb") as ready,
        log.open("ab") as out,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "nemo_run.run.detached", str(store.path), str(writer)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, pass_fds=(writer,),
            env={**environment, **import_environment()},
        )  # fmt: skip
        os.close(writer)
        if ready.read(1) == b"1":
            process.returncode = 0  # it is on its own from here: nobody waits for it
            return process.pid
    process.wait()
    lines = log.read_text(errors="replace").splitlines()[-5:]
    raise ExperimentError(f"the controller of {store.id!r} did not start; the end of {log}:\n" + "\n".join(lines))


def main() -> None:
    """Drive the experiment in the folder that the first argument names."""
    from nemo_run.run.controller import Controller

    path, fd = Path(sys.argv[1]), int(sys.argv[2])

    def say_ready() -> None:
        os.write(fd, b"1")
        os.close(fd)

    Controller(ExperimentStore(path)).run(say_ready)


if __name__ == "__main__":
    main()
