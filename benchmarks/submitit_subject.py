"""What is measured of submitit: launching on this machine. See :mod:`benchmarks.nemo_run_subject`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.measure import Figures, Sizes, check_ran, main, memory, process, program

_MOST = 64  # at once: each is two Python processes that poll, and a small machine drowns in them


def start(sizes: Sizes) -> Figures:
    """Imports."""
    took, used = process([sys.executable, "-c", "import submitit"])
    yield "import", took
    yield "import names", took
    yield "memory import names", used


def launch(sizes: Sizes) -> Figures:
    """One task, launched and waited for."""
    begin = (
        "import submitit\nfrom benchmarks.tasks import touch\nif __name__ == '__main__':\n"
        "    executor = submitit.LocalExecutor('jobs')\n"
    )
    script = "executor.submit(submitit.helpers.CommandFunction(['bash', '-c', 'true'], verbose=False)).result()"
    took, used = process(program("launch_script", f"{begin}    {script}\n"))
    yield "launch script", took
    yield "memory launch script", used
    partial = "executor.submit(touch, 'mark').result()"
    yield "launch function", process(program("launch_function", f"{begin}    {partial}\n"))[0]
    import submitit

    executor = submitit.LocalExecutor("jobs")
    begun = time.perf_counter()
    executor.submit(submitit.helpers.CommandFunction(["sleep", "0.5"], verbose=False)).result()
    yield "launch sleep", time.perf_counter() - begun


def many(sizes: Sizes) -> Figures:
    """Tasks that run at once, and one after the other."""
    import submitit

    mark = Path("mark").absolute()
    executor = submitit.LocalExecutor("jobs")

    def submit(i: int) -> submitit.Job[str]:
        command = ["bash", "-c", f"echo {i} >> {mark}"]
        return executor.submit(submitit.helpers.CommandFunction(command, verbose=False))

    for count in sizes.tasks:
        if count > _MOST:
            break
        begun = time.perf_counter()
        for job in [submit(i) for i in range(count)]:
            job.result()
        yield f"tasks {count}", time.perf_counter() - begun
        check_ran(mark, count)
    yield "memory tasks", memory()
    begun = time.perf_counter()
    for i in range(sizes.chain):
        submit(i).result()
    yield "chain", time.perf_counter() - begun
    check_ran(mark, sizes.chain, in_order=True)


WORK = {"start": start, "launch": launch, "many": many}

if __name__ == "__main__":
    main(WORK)
