"""Dependencies, groups, retries and bounds: what runs when, and what does not, and why."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.local import system
from nemo_run.errors import DependencyError, ExecutorError
from nemo_run.run.controller import Controller
from tests.support import attempts, bash, eventually, states


def python(text: str) -> run.Script:
    return run.Script(inline=textwrap.dedent(text), entrypoint="python")


def local(**options: object) -> run.LocalExecutor:
    return run.LocalExecutor(**options)  # type: ignore[arg-type]


# dependencies


def test_dependencies_are_waited_for(work: Path) -> None:
    with run.Experiment("diamond") as exp:
        top = exp.add(bash("sleep 0.1; echo top >> ran"), name="top")
        late = bash("until grep right ran; do sleep 0.1; done; echo left >> ran")
        left = exp.add(late, name="left", dependencies=[top])
        right = exp.add(bash("echo right >> ran"), name="right", dependencies=[top])
        exp.add(bash("echo bottom >> ran"), name="bottom", dependencies=[left, right, left])
        exp.run(check=True)
    assert attempts(work) == ["top", "right", "left", "bottom"]


def test_a_dependency_given_twice_is_one(work: Path) -> None:
    with run.Experiment("twice") as exp:
        a = exp.add(bash("true"), name="a")
        exp.add(bash("echo x >> ran"), name="b", dependencies=[a, a])
        exp.run(check=True)
    assert attempts(work) == ["x"]


def test_failure_passes_on_with_reasons(work: Path) -> None:
    with run.Experiment("failing") as exp:
        bad = exp.add(bash("exit 9"), name="bad")
        good = exp.add(bash("true"), name="good")
        child = exp.add(bash("echo x >> ran"), name="child", dependencies=[bad, good])
        exp.add(bash("echo x >> ran"), name="grandchild", dependencies=[child])
        exp.add(bash("echo fine >> ran"), name="other", dependencies=[good])
        exp.run()
    assert states(exp) == {
        "bad": "FAILED", "good": "SUCCEEDED", "child": "CANCELLED", "grandchild": "CANCELLED", "other": "SUCCEEDED",
    }  # fmt: skip
    assert attempts(work) == ["fine"]
    results = exp.results()
    assert results["bad"].exit_code == 9
    assert results["child"].exit_code is None
    assert "'bad' ended as FAILED with exit code 9" in results["child"].reason
    assert "'child' ended as CANCELLED" in results["grandchild"].reason
    with pytest.raises(run.JobFailedError, match="bad") as failure:
        exp.raise_for_failure()
    assert failure.value.exit_code == 9


def test_a_cycle_is_an_error_before_anything_starts(work: Path) -> None:
    exp = run.Experiment("cycle")
    exp.add(bash("echo x >> ran"), name="a")
    exp.add(bash("echo x >> ran"), name="b", dependencies=["a"])
    exp.jobs[0].dependencies.append("b")
    with pytest.raises(DependencyError, match=r"wait for each other: (a -> b|b -> a)"):
        exp.run()
    exp.jobs[0].dependencies[:] = ["nobody"]
    with pytest.raises(DependencyError, match="nobody"):
        exp.run()
    assert attempts(work) == []


# how many at once


@pytest.mark.parametrize("limit", [1, 3])
def test_max_parallel_bounds_what_runs_at_once(limit: int, work: Path) -> None:
    (work / "now").mkdir()
    with run.Experiment("bounded") as exp:
        for i in range(8):
            exp.add(bash("touch now/$1; ls now | wc -l >> ran; sleep 0.05; rm now/$1", str(i)))
        exp.run(max_parallel=limit)
    assert set(states(exp).values()) == {"SUCCEEDED"}
    counts = [int(line) for line in attempts(work)]
    assert len(counts) == 8
    assert max(counts) <= limit


def test_64_tasks_are_waited_for_without_a_busy_loop(work: Path) -> None:
    with run.Experiment("many") as exp:
        for i in range(64):
            exp.add(bash("true"), name=f"job-{i}")
        exp.add(bash("sleep 3"), name="last", dependencies=["job-63"])
        begin, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        exp.run(max_parallel=16)
        wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF)
    assert set(states(exp).values()) == {"SUCCEEDED"}
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    assert cpu < wall / 2, f"{cpu:.2f} s of CPU time in {wall:.2f} s"


# groups


def test_members_of_a_group_run_at_once(work: Path) -> None:
    meet = 'touch "here$1"; until [ -e "here$((3 - $1))" ]; do sleep 0.02; done; echo "$1" >> ran'
    with run.Experiment("group") as exp:
        group = exp.add([bash(meet, "1"), bash(meet, "2")], name="group")
        exp.add(bash("echo after >> ran"), name="after", dependencies=[group])
        exp.run(max_parallel=1, check=True)
    assert sorted(attempts(work)[:2]) == ["1", "2"]
    assert attempts(work)[2:] == ["after"]


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("failure", 5, ["FAILED", "CANCELLED"]),
        ("failure", 0, ["SUCCEEDED", "SUCCEEDED"]),
        ("any", 5, ["FAILED", "CANCELLED"]),
        ("any", 0, ["SUCCEEDED", "CANCELLED"]),
        ("never", 5, ["FAILED", "SUCCEEDED"]),
    ],
)
def test_whose_end_ends_a_group(policy: str, code: int, expected: list[str], work: Path) -> None:
    long = 60 if "CANCELLED" in expected else 0.3
    with run.Experiment("policy") as exp:
        exp.add([bash("exit $1", str(code)), bash(f"sleep {long}")], name="group", end_group_on=policy)
        exp.run()
    assert [str(state) for state in exp.jobs[0].states] == expected
    if code:
        assert exp.results()["group"].exit_code == code


def test_a_group_with_executors_of_its_own(work: Path) -> None:
    with run.Experiment("group") as exp:
        exp.add(
            [bash('echo "$WHO" >> ran'), bash('echo "$WHO" >> ran')],
            name="group",
            executor=[local(env_vars={"WHO": "one"}), local(env_vars={"WHO": "two"})],
        )
        exp.run(check=True)
    assert sorted(attempts(work)) == ["one", "two"]


# retries


def test_retries_until_it_succeeds(work: Path) -> None:
    script = 'echo "$NEMO_RUN_ATTEMPT" >> ran; [ "$NEMO_RUN_ATTEMPT" -ge 3 ]'
    with run.Experiment("retried", executor=local(retries=3, retry_delay=0.01)) as exp:
        job = exp.add(bash(script), name="flaky")
        exp.add(bash("true"), name="after", dependencies=[job])
        exp.run(check=True)
    assert attempts(work) == ["1", "2", "3"]
    document = exp.status(return_dict=True)
    assert document is not None
    assert document["flaky"]["tries"] == 3


def test_retries_end(work: Path) -> None:
    with run.Experiment("hopeless", executor=local(retries=2, retry_delay=0.01)) as exp:
        exp.add(bash("echo x >> ran; exit 6"), name="job")
        exp.run()
    assert attempts(work) == ["x"] * 3
    result = exp.results()["job"]
    assert (result.state, result.exit_code) == (run.JobState.FAILED, 6)


def test_retries_back_off(work: Path) -> None:
    with run.Experiment("slower", executor=local(retries=3, retry_delay=0.1)) as exp:
        exp.add(bash("date +%s.%N >> ran; exit 1"))
        exp.run()
    times = [float(line) for line in attempts(work)]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert [wait >= least for wait, least in zip(waits, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


def test_a_cancelled_job_is_not_retried(work: Path) -> None:
    exp = run.Experiment("stopped", executor=local(retries=3, retry_delay=60))
    exp.add(bash("echo x >> ran; exit 1"), name="job")
    exp.run(detach=True)
    eventually(lambda: exp.progress()["job"].tasks[0].retry_at)
    assert "try 1 of 4 failed (exit code 1)" in exp.results()["job"].reason
    exp.cancel("job")
    assert states(exp) == {"job": "CANCELLED"}
    assert attempts(work) == ["x"]


def test_a_retry_of_a_group_member(work: Path) -> None:
    with run.Experiment("group", executor=local(retries=1, retry_delay=0.01)) as exp:
        exp.add([bash('echo 0 >> ran; [ "$NEMO_RUN_ATTEMPT" = 2 ]'), bash("sleep 0.2; echo 1 >> ran")], name="group")
        exp.run(check=True)
    assert sorted(attempts(work)) == ["0", "0", "1"]


# bounds of a task


def test_a_time_limit() -> None:
    with run.Experiment("late", executor=local(timeout=0.3)) as exp:
        exp.add(bash("sleep 60"), name="job")
        exp.run()
    result = exp.results()["job"]
    assert (result.state, result.exit_code) == (run.JobState.FAILED, 128 + 15)
    assert "time limit of 0.3 s" in result.reason


def test_a_task_that_ignores_the_request_to_end_is_killed() -> None:
    with run.Experiment("stubborn", executor=local(timeout="0:0:0.2", grace=0.2)) as exp:
        exp.add(bash("trap '' TERM; while :; do sleep 0.05; done"), name="job")
        exp.run()
    assert exp.results()["job"].exit_code == 128 + 9


def test_a_memory_limit_counts_all_processes() -> None:
    hog = """
        import subprocess, sys, time
        if len(sys.argv) > 1:
            taken = bytearray(60_000_000)
        else:
            subprocess.Popen([sys.executable, __file__, "child"], start_new_session=True)
        time.sleep(60)
    """
    with run.Experiment("hungry", executor=local(memory="50M")) as exp:
        exp.add(python(hog), name="job")
        exp.run()
    result = exp.results()["job"]
    assert (result.state, result.exit_code) == (run.JobState.FAILED, 128 + 9)
    assert "out of memory" in result.reason
    assert str(50 << 20) in result.reason


def test_shared_memory_counts_once() -> None:
    share = """
        import os, time
        shared = bytearray(40_000_000)
        for _ in range(4):
            if not os.fork():
                time.sleep(1)
                os._exit(0)
        for _ in range(4):
            os.wait()
    """
    with run.Experiment("sharing", executor=local(memory="100M")) as exp:
        exp.add(python(share), name="job")
        exp.run(check=True)


def test_memory_of_what_has_ended_does_not_count() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        resident = 40_000_000  # as it was seen a moment ago
        assert 0 < system.memory_of({process.pid: resident}) < resident
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert system.memory_of({process.pid: resident}) == 0  # still in the table of processes
    assert system.memory_of({process.pid: resident}) == 0


def test_cpus_are_bound_and_do_not_overlap(work: Path) -> None:
    cpus = {str(cpu) for cpu in os.sched_getaffinity(0)}
    one = """cpu=$(taskset -pc $$ | sed 's/.*: //')
        echo $cpu begin $OMP_NUM_THREADS >> ran; sleep 0.1; echo $cpu end >> ran"""
    with run.Experiment("bound", executor=local(cpus=1)) as exp:
        for _ in range(2 * len(cpus)):
            exp.add(bash(one))
        exp.run(check=True)
    assert_no_overlap(attempts(work), cpus)
    assert all(line.endswith("begin 1") for line in attempts(work) if "begin" in line)


def test_gpus_are_shared_without_overlap(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a/0,1")
    one = "echo $CUDA_VISIBLE_DEVICES begin >> ran; sleep 0.1; echo $CUDA_VISIBLE_DEVICES end >> ran"
    with run.Experiment("gpus", executor=local(gpus=1)) as exp:
        for i in range(6):
            exp.add(bash(one), name=f"one-{i}")
        exp.add(
            bash('[ "$CUDA_VISIBLE_DEVICES" = GPU-a/0,1 ] && echo both >> both'), name="two", executor=local(gpus=2)
        )
        exp.add(bash('[ "$CUDA_VISIBLE_DEVICES" = GPU-a/0,1 ]'), name="none", executor=local())
        exp.run(check=True)
    assert_no_overlap(attempts(work), {"GPU-a/0", "1"})
    assert (work / "both").exists()


def assert_no_overlap(lines: list[str], devices: set[str]) -> None:
    """Lines ``device begin`` and ``device end``: never two at once on a device, and every device used."""
    busy: set[str] = set()
    for line in lines:
        device, what = line.split()[:2]
        assert device in devices
        assert (device in busy) == (what == "end"), f"{line!r} while {busy} are busy in {lines}"
        busy ^= {device}
    assert {line.split()[0] for line in lines} == devices


def test_a_task_that_waits_for_a_gpu_is_pending_and_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    exp = run.Experiment("waiting", executor=local(gpus=1))
    exp.add(bash("sleep 60"), name="first")
    exp.run(detach=True)
    eventually(lambda: states(exp)["first"] == "RUNNING")
    other = run.Experiment("waiting too", executor=local(gpus=1))
    other.add(bash("echo x >> ran"), name="second")
    other.run(detach=True)
    eventually(lambda: states(other)["second"] == "PENDING")
    assert "waits for free devices" in other.results()["second"].reason
    other.cancel("second")
    assert states(other) == {"second": "CANCELLED"}
    exp.cancel_jobs()
    assert attempts(work) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gpus": 3}, "gpus=3"),
        ({"cpus": 10**6}, "cpus"),
        ({"gpus": -1}, "gpus"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"memory": "many"}, "memory"),
        ({"memory": "1.2.3G"}, "memory"),
        ({"grace": -1}, "grace"),
        ({"grace": float("nan")}, "grace"),
        ({"working_dir": "/no/such"}, "/no/such"),
        ({"env_vars": {"A": 1}}, "A"),
        ({"env_vars": {"A": "x\0y"}}, "A"),
        ({"env_vars": {"A-B": "x"}}, "A-B"),
        ({"launcher": "mpirun"}, "mpirun"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,0,1")
    exp = run.Experiment("wrong")
    with pytest.raises(ExecutorError, match=says):
        exp.add(bash("true"), executor=local(**options))


def test_a_plan_that_is_damaged_fails_its_job_only(work: Path) -> None:
    exp = run.Experiment("damaged")
    exp.add(bash("echo a >> ran"), name="a")
    exp.add(bash("echo b >> ran"), name="b")
    exp._prepare(Backends())
    (exp.directory / "a" / "plan.json").write_text('{"engine":')
    Controller(exp._its_store).run()
    exp._launched = True
    assert states(exp) == {"a": "FAILED", "b": "SUCCEEDED"}
    assert str(exp.directory / "a" / "plan.json") in exp.results()["a"].reason
