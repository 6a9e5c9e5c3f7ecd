"""An executor of one's own: every attempt of a task is a process that goes on when its launcher ends, thanks to nohup.

What is known of an attempt is in its folder: ``claimed`` (once: by its process, or by ``recover``), ``pid``, ``log``,
``cancel`` (it was asked to end) and ``exit`` (its exit code). What each method has to do is said in ``base.Backend``.
"""
# ruff: noqa: D102

import json
import os
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nemo_run.core.execution.base import Executor, JobState, Plan, TaskStatus
from nemo_run.core.execution.shared.attempt_files import attempt_folder, copy_matching, open_log, rank_logs
from nemo_run.core.masking import masked, masked_arguments
from nemo_run.errors import ExecutorError

# This shell claims the attempt, outlives the signals that end the task, and writes down how the task ended.
RUN = """cd -- "$1" && mkdir claimed || exit
trap : TERM; echo $$ > pid.new && mv pid.new pid; code=143; folder=$1; cwd=$2; shift 2
[ -e cancel ] || { (cd -- "$cwd" && exec "$@") & while wait $!; code=$?; kill -0 $! 2>/dev/null; do :; done; }
trap "" TERM; echo $code > exit.new && mv exit.new exit"""


@dataclass(kw_only=True)
class NohupExecutor(Executor):
    """Runs each task as a process of this machine."""

    engine = "nohup"

    def nnodes(self):
        return 1

    def nproc_per_node(self):
        return 1


class NohupBackend:
    """Starts the processes, and looks after them."""

    name, executor = "nohup", NohupExecutor
    supports_dependencies, supports_groups, shares_files, poll_interval = False, False, True, 0.1

    def render(self, request):
        if not isinstance(request.executor, NohupExecutor):
            raise ExecutorError(f"job {request.job_id!r}: the nohup engine needs a NohupExecutor")
        env = {**request.executor.env_vars, **request.command.env}
        cwd = str(Path(request.cwd, request.command.cwd))
        spec = {"argv": list(request.command.argv), "env": env, "cwd": cwd, "inherited": request.environment_file}
        return Plan(self.name, request.job_id, request.directory, spec)

    def describe(self, plan):
        env = [f"{name}={value}" for name, value in masked(plan.spec["env"]).items()]
        return shlex.join(["nohup", "env", *env, *masked_arguments(plan.spec["argv"])])

    def preflight(self, plans):
        """Nothing has to be there before."""

    def handle(self, plan, attempt):
        return str(attempt_folder(plan, attempt))

    def submit(self, plan, attempt):
        spec, folder = plan.spec, attempt_folder(plan, attempt)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        env = {**json.loads(Path(spec["inherited"]).read_bytes()), **spec["env"], "NEMO_RUN_ATTEMPT": str(attempt)}
        argv = ["sh", "-c", 'nohup setsid sh -c "$0" "$@" &', RUN, "sh", str(folder), spec["cwd"], *spec["argv"]]
        (folder / "log").touch(mode=0o600)
        with (folder / "log").open("ab") as log:
            subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        return str(folder)

    def recover(self, plan, attempt):
        folder = attempt_folder(plan, attempt)
        with suppress(FileExistsError):
            (folder / "claimed").mkdir(parents=True)
            (folder / "void").touch()  # now it never runs
        return None if (folder / "void").exists() else str(folder)

    def states(self, handles):
        return {handle: _state(Path(handle)) for handle in handles}

    def cancel(self, handles):
        for folder in map(Path, handles):
            if folder.is_dir() and not (folder / "exit").exists():
                (folder / "cancel").touch()
                with suppress(FileNotFoundError, ProcessLookupError):
                    os.killpg(int((folder / "pid").read_text()), signal.SIGTERM)

    def wait(self, handles, timeout):
        time.sleep(max(0.0, min(timeout, self.poll_interval) if handles else timeout))
        return list(handles)

    def ranks(self, handle):
        return sorted(rank_logs(Path(handle)))

    def open_log(self, handle, rank=None, tail=None):
        return open_log(Path(handle), rank, tail)

    def fetch_artifacts(self, plan, handle, patterns, folder):
        copy_matching(Path(plan.spec["cwd"]), patterns, folder)

    def close(self):
        """Nothing is open."""


def _state(folder):
    if (folder / "exit").exists():
        code, cancelled = int((folder / "exit").read_text()), (folder / "cancel").exists()
        state = JobState.CANCELLED if cancelled else JobState.FAILED if code else JobState.SUCCEEDED
        started, ended = ((folder / name).stat().st_mtime for name in ("pid", "exit"))
        return TaskStatus(state, code, started=started, ended=ended)
    if not (folder / "pid").exists():
        return TaskStatus(JobState.SUBMITTED if (folder / "log").exists() else JobState.UNKNOWN)
    if not Path("/proc", (folder / "pid").read_text().strip()).exists() and not (folder / "exit").exists():
        return TaskStatus(JobState.FAILED, reason="its process was killed", ended=time.time(), lost=True)
    return TaskStatus(JobState.RUNNING, started=(folder / "pid").stat().st_mtime)
