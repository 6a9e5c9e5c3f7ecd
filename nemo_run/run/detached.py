"""A controller as a process of its own, which lives on without the one that launched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nemo_run.core.runners.detached import start_detached
from nemo_run.errors import ExperimentError
from nemo_run.run.store import ExperimentStore


def spawn(store: ExperimentStore) -> int:
    """Start a controller for an experiment and wait until it drives it; its pid.

    Raises:
        ExperimentError: It did not come up; the message has the last lines of its log.
    """
    log = store.path / "controller.log"
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as ready:
        process = start_detached("nemo_run.run.detached", [str(store.path), str(writer)], log, pass_fds=[writer])
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
