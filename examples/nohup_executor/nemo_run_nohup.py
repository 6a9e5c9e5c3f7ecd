"""An executor of one's own: every attempt of a task is a process that goes on when its launcher ends, thanks to nohup.

The folder of an attempt has all that is known of it: ``claimed`` (by its process, or by ``recover``), ``pid``, ``log``,
``cancel`` (it was asked to end) and ``exit`` (its exit code). What each method has to do is said in ``base.Backend``.
"""
# ruff: noqa: D102

import os
import shlex
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from nemo_run.core.execution.base import Backend, Capabilities, Executor, JobState, Plan, TaskStatus, one_by_one
from nemo_run.core.execution.shared.attempt_files import attempt_folder, copy_matching, open_log
from nemo_run.core.execution.shared.inherited import read_environment
from nemo_run.core.masking import masked, masked_arguments
from nemo_run.errors import ExecutorError

# This shell claims the attempt, outlives the signals that end the task, and writes down how the task ended.
RUN = """cd -- "$1" && mkdir claimed || exit
trap : TERM; echo $$ > pid.new && mv pid.new pid; code=143; folder=$1; cwd=$2; shift 2
[ -e cancel ] || { (cd -- "$cwd" && exec "$@") & while wait $!; code=$?; kill -0 $! 2>/dev/null; do :; done; }
trap "" TERM; echo $code > exit.new && mv exit.new exit"""


class NohupExecutor(Executor):
    """Runs each task as a process of this machine."""

    engine = "nohup"

    def nnodes(self):
        return 1

    nproc_per_node = nnodes


class NohupBackend(Backend):
    """Starts the processes, and looks after them."""

    name, executor, can, poll_interval = "nohup", NohupExecutor, Capabilities(shares_files=True), 0.1

    def render(self, requests):
        return [Plan(self.name, request.job_id, request.directory, _spec(request)) for request in requests]

    def describe(self, plan):
        env = [f"{name}={value}" for name, value in masked(plan.spec["env"]).items()]
        return shlex.join(["nohup", "env", *env, *masked_arguments(plan.spec["argv"])])

    def submit(self, submissions):
        return one_by_one(submissions, _start)

    def recover(self, plan, attempt):
        folder = attempt_folder(plan, attempt)
        with suppress(FileExistsError):
            (folder / "claimed").mkdir(parents=True)
            (folder / "void").touch()  # now it never runs
        return None if (folder / "void").exists() else str(folder)

    def states(self, handles):
        return {handle: _state(Path(handle)) for handle in handles}

    def cancel(self, handles):
        for folder in (Path(handle) for handle in handles if _state(Path(handle)).state < JobState.SUCCEEDED):
            (folder / "cancel").touch()
            with suppress(FileNotFoundError, ProcessLookupError):
                os.killpg(int((folder / "pid").read_text()), signal.SIGTERM)

    def open_log(self, handle, rank=None, tail=None):
        return open_log(Path(handle), rank, tail)

    def fetch_artifacts(self, plan, handle, patterns, folder):
        copy_matching(Path(plan.spec["cwd"]), patterns, folder)


def _spec(request):
    if not isinstance(request.executor, NohupExecutor):
        raise ExecutorError(f"job {request.job_id!r}: the nohup engine needs a NohupExecutor")
    cwd = str(Path(request.cwd, request.command.cwd))
    own = {"argv": list(request.command.argv), "env": dict(request.command.env)}
    return {**own, "cwd": cwd, "inherited": request.environment_file}


def _start(plan, attempt):
    spec, folder = plan.spec, attempt_folder(plan, attempt)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    env = {**read_environment(spec["inherited"]), **spec["env"], "NEMO_RUN_ATTEMPT": str(attempt)}
    argv = ["sh", "-c", 'nohup setsid sh -c "$0" "$@" &', RUN, "sh", str(folder), spec["cwd"], *spec["argv"]]
    (folder / "log").touch(mode=0o600)
    with (folder / "log").open("ab") as log:
        subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    return str(folder)


def _state(folder):
    if (folder / "exit").exists():
        code, cancelled = int((folder / "exit").read_text()), (folder / "cancel").exists()
        state = JobState.CANCELLED if cancelled else JobState.FAILED if code else JobState.SUCCEEDED
        started, ended = ((folder / name).stat().st_mtime for name in ("pid", "exit"))
        return TaskStatus(state, code, started=started, ended=ended)
    if not (folder / "pid").exists():
        return TaskStatus(JobState.SUBMITTED if (folder / "log").exists() else JobState.UNKNOWN)
    if not Path("/proc", (folder / "pid").read_text().strip()).exists() and not (folder / "exit").exists():
        return TaskStatus(JobState.FAILED, reason="its process was killed", lost=True)
    return TaskStatus(JobState.RUNNING, started=(folder / "pid").stat().st_mtime)
