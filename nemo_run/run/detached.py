"""A controller as a process of its own, which lives on without the one that launched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nemo_run.core.runners.detached import start_detached
from nemo_run.errors import ExperimentError
from nemo_run.run.store import ExperimentStore


def spawn(store: ExperimentStore, lock: int | None = None) -> int:
    """Start a controller for an experiment, wait until it drives it, and return its process id.

    Args:
        store: The experiment.
        lock: Descriptor of the experiment's lock, where this process holds it: the controller gets it.

    Raises:
        ExperimentError: It did not come up; the message has the last lines of its log.
    """
    log = store.path / "controller.log"
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as ready:
        passed = [writer] if lock is None else [writer, lock]
        process = start_detached("nemo_run.run.detached", [str(store.path), *map(str, passed)], log, pass_fds=passed)
        os.close(writer)
        if ready.read(1) == b"1":
            process.returncode = 0  # it is on its own from here, and is not waited for
            return process.pid
    process.wait()
    lines = log.read_text(errors="replace").splitlines()[-5:]
    raise ExperimentError(f"the controller of {store.id!r} did not start; the end of {log}:\n" + "\n".join(lines))


def main() -> None:
    """Drive the experiment in the folder that the first argument names."""
    from nemo_run.run.controller import Controller

    path, (fd, *lock) = Path(sys.argv[1]), map(int, sys.argv[2:])

    def say_ready() -> None:
        os.write(fd, b"1")
        os.close(fd)

    Controller(ExperimentStore(path)).run(say_ready, *lock)


if __name__ == "__main__":
    main()
