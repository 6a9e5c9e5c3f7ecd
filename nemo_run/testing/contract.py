"""The cases of the contract suite."""

from __future__ import annotations

import json
import time

import pytest

from nemo_run.config import Partial
from nemo_run.config.script import Script
from nemo_run.core.execution.base import (
    Command,
    Executor,
    JobState,
    Plan,
    TaskRequest,
    get_backend,
)
from nemo_run.errors import ExecutorError, NemoRunError
from nemo_run.run.experiment import Experiment
from nemo_run.testing.bench import EngineBench

HOSTILE = {
    "spaces": "  two  spaces ",
    "quotes": """'single' "double" `back` \\ \\n""",
    "shell": "$HOME $(touch /tmp/pwned) ${x:-y} ; | & > < * ? ~ ! #",
    "lines": "first\nsecond\r\n\ttabbed\n",
    "unicode": "naïve — 日本語 🚀 \u202e",
    "empty": "",
    "options": "--not-an-option=1",
    "percent": "%j %% {x} @y ${{z}}",
    "control": "\x01\x1b[31m\x7f",
}
"""Values that must arrive at a task byte for byte."""


class BackendContract(EngineBench):
    """The suite; see :mod:`nemo_run.testing`."""

    def test_render_is_pure_and_json(self) -> None:
        request = self.request("true", "a b", env={"A": "1"}, env_vars={"B": "é\n"})
        before = sorted(self.tmp_path.rglob("*"))
        plan = self.backend.render([request])[0]
        assert plan == self.backend.render([request])[0]
        assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
        assert (plan.engine, plan.job_id, plan.directory) == (self.backend.name, request.job_id, request.directory)
        assert sorted(self.tmp_path.rglob("*")) == before

    def test_render_refuses_another_engines_executor(self) -> None:
        class Other(Executor):
            engine = "other"

        with pytest.raises(ExecutorError, match="job-1"):
            self.backend.render([TaskRequest("e", "job-1", "/nowhere", Other(), Command(("true",)))])[0]

    def test_describe_shows_the_command_and_masks_secrets(self) -> None:
        plan = self.plan(
            "echo visible-part",
            env_vars={"WANDB_API_KEY": "s3cr3t-1", "PLAIN": "plain-value"},
            env={"HF_TOKEN": "s3cr3t-2"},
        )
        text = self.backend.describe(plan)
        assert "visible-part" in text
        assert "plain-value" in text
        assert "s3cr3t" not in text

    def test_a_plan_leads_to_its_backend(self) -> None:
        plan = self.plan("true")
        other = get_backend(plan.engine, plan.connection)
        assert type(other) is type(self.backend)
        other.close()

    # how tasks end

    @pytest.mark.parametrize(
        ("script", "state", "code"),
        [
            ("exit 0", JobState.SUCCEEDED, 0),
            ("exit 1", JobState.FAILED, 1),
            ("exit 77", JobState.FAILED, 77),
            ("exec /no/such/program", JobState.FAILED, 127),
            ("kill -9 $$", JobState.FAILED, 128 + 9),
            ("kill -TERM $$", JobState.FAILED, 128 + 15),
            ("kill -SEGV $$", JobState.FAILED, 128 + 11),
        ],
    )
    def test_exit_codes(self, script: str, state: JobState, code: int) -> None:
        status = self.end(self.start(script))
        assert (status.state, status.exit_code, status.lost) == (state, code, False)

    def test_a_program_that_is_not_there_is_a_failure_that_names_it(self) -> None:
        request = self.request("true")
        plan = self.backend.render([TaskRequest(**{**vars(request), "command": Command(("no-such-program-7", "x"))})])[
            0
        ]
        handle = self.submit(plan)
        status = self.end(handle)
        assert (status.state, status.exit_code) == (JobState.FAILED, 127)
        assert "no-such-program-7" in status.reason + self.log(handle).decode(errors="replace")

    def test_times_and_running(self) -> None:
        handle = self.start("echo begun; sleep 60")
        running = self.until(handle, JobState.RUNNING)
        assert running.started
        assert running.exit_code is None
        assert running.ended is None
        self.until_logged(handle, b"begun")
        self.backend.cancel([handle])
        ended = self.end(handle)
        assert ended.started
        assert ended.ended
        assert ended.started <= ended.ended

    def test_many_at_once_in_one_query(self) -> None:
        handles = [self.start(f"exit {code}") for code in range(6)]
        assert len(set(handles)) == 6
        for handle in handles:
            self.end(handle)
        statuses = self.backend.states(handles)
        assert [statuses[handle].exit_code for handle in handles] == list(range(6))
        assert self.backend.states([]) == {}

    # what arrives at a task

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_values_arrive_byte_for_byte(self, kind: str) -> None:
        value = HOSTILE[kind]
        handle = self.start(
            'printf "%s\\0" "$FROM_EXECUTOR" "$FROM_COMMAND" "$@"', value, "", value,
            env_vars={"FROM_EXECUTOR": value}, env={"FROM_COMMAND": value},
        )  # fmt: skip
        self.end(handle)
        seen = value if self.keeps_returns else value.replace("\r\n", "\n")
        assert self.log(handle).decode().split("\0") == [seen, seen, seen, "", seen, ""]

    def test_names_of_variables_keep_their_case(self) -> None:
        handle = self.start('echo "$lower-$Mixed-$LOWER."', env_vars={"lower": "1", "Mixed": "2"})
        self.end(handle)
        assert self.log(handle) == b"1-2-.\n"

    def test_a_plan_tells_the_variables_of_its_task_with_their_secrets(self) -> None:
        given = {"WANDB_API_KEY": "s3cr3t $HOME", "PLAIN": "é"}
        plan = self.plan("true", env_vars=given, env={"HF_TOKEN": "s3cr3t-2"})
        assert self.backend.environment(plan).items() >= {**given, "HF_TOKEN": "s3cr3t-2"}.items()

    def test_an_experiment_that_is_reset_has_its_secrets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with self.experiment(monkeypatch, env_vars={"WANDB_API_KEY": "s3cr3t-1"}) as first:
            script = 'test "$WANDB_API_KEY $HF_TOKEN" = "s3cr3t-1 s3cr3t-2"'
            first.add(Script(inline=script, env={"HF_TOKEN": "s3cr3t-2"}, entrypoint=self.shell), name="a")
            first.run(check=True)
        with Experiment.from_id(first.id).reset() as again:
            again.run(check=True)

    def test_what_a_task_leaves_of_its_end_arrives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        where = {"rank": 0, "time": 1, "attempt": 1, "notes": [], "frames": [], "traceback": ""}
        end = json.dumps({**where, "type": "E", "module": "m", "message": "é 7"})
        value = json.dumps({"format": 1, "value": {"é": [1, 2.5]}})
        leave = 'cd "$NEMO_RUN_ARTIFACTS" && mkdir -p .nemo_run && cd .nemo_run && '
        with self.experiment(monkeypatch) as exp:
            for name, text, code in (("value", value, 0), ("exception.0", end, 3)):
                script = Script(inline=f"{leave} echo '{text}' > {name}.json; exit {code}", entrypoint=self.shell)
                exp.add(script, name=name)
            exp.run()
        failed = exp.results()["exception.0"]
        assert failed.exit_code == 3
        assert str(failed.exception) == ("E: é 7" if self.keeps_files else "None")
        assert exp.result("value") == ({"é": [1, 2.5]} if self.keeps_files else None)

    def test_what_a_function_returns_is_an_argument_of_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not self.keeps_files:
            return
        with self.experiment(monkeypatch) as exp:
            exp.add(Partial(divmod, 7, 2), name="a")
            exp.add(Partial(str, exp.output("a", 1)), name="b")
            exp.run(check=True)
        assert (exp.result("a"), exp.result("b")) == ((3, 1), "1")

    def test_one_function_for_many_items(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with self.experiment(monkeypatch) as exp:
            good = exp.map(divmod, [7, 9], [2, 4], name="good")
            bad = exp.map(divmod, [7, 9], [0, 4], name="bad")
            exp.add(Partial(sorted, good.outputs), name="sorted")
            exp.run()
        states = [exp.results()[job].state.name for job in (*good.jobs, *bad.jobs)]
        assert states == ["SUCCEEDED", "SUCCEEDED", "FAILED", "SUCCEEDED"]
        if self.keeps_files:
            assert [exp.result(job) for job in (*good.jobs, "sorted")] == [(3, 1), (2, 1), [(2, 1), (3, 1)]]

    def test_a_task_can_write_to_its_folders(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = 'echo a > "$NEMO_RUN_ARTIFACTS/a" && echo b > "$NEMO_RUN_SERVICES/b" && cat "$NEMO_RUN_SERVICES/b"'
        with self.experiment(monkeypatch) as exp:
            exp.add(Script(inline=text, entrypoint=self.shell), name="a")
            exp.run(check=True)

    @pytest.mark.parametrize("name", ["1A", "A B", "A=B", "", "A-B", "A\n"])
    def test_names_that_cannot_be_variables_are_refused(self, name: str) -> None:
        with pytest.raises(ExecutorError, match="env_vars"):
            self.make_executor(env_vars={name: "x"}).check()

    def test_working_directory(self) -> None:
        handle = self.start("pwd", cwd=self.folder)
        self.end(handle)
        assert self.log(handle).decode().strip() == self.folder

    def test_a_working_directory_that_is_not_there_is_a_failure_that_names_it(self) -> None:
        plan = self.plan("echo must not run", cwd="/no/such/folder-7")
        try:
            handle = self.submit(plan)
        except ExecutorError as e:
            assert "/no/such/folder-7" in str(e)
            return
        status = self.end(handle)
        assert status.state is JobState.FAILED
        text = status.reason + self.log(handle).decode()
        assert "/no/such/folder-7" in text
        assert "must not run" not in text

    # attempts

    def test_attempts_are_numbered_and_apart(self) -> None:
        plan = self.plan('echo "attempt $NEMO_RUN_ATTEMPT"; exit "$NEMO_RUN_ATTEMPT"')
        handles = []
        for attempt in (1, 2, 5):
            handle = self.submit(plan, attempt)
            assert self.end(handle).exit_code == attempt
            handles.append(handle)
        assert len(set(handles)) == 3
        assert [self.log(handle) for handle in handles] == [f"attempt {n}\n".encode() for n in (1, 2, 5)]

    def test_recover_finds_what_a_process_that_is_gone_has_submitted(self) -> None:
        plan = self.plan("echo recovered; sleep 60")
        self.backend.preflight([plan])
        handle = self.submit(plan)
        self.until_logged(handle, b"recovered")
        self.backend.close()
        other = get_backend(plan.engine, plan.connection)
        assert other.recover(plan, 1) == handle
        assert self.status(handle, other).state is JobState.RUNNING
        other.cancel([handle])
        other.close()
        assert self.end(handle).state is JobState.CANCELLED
        assert self.backend.recover(plan, 1) == handle

    def test_recover_of_what_was_never_submitted(self) -> None:
        plan = self.plan('echo "attempt $NEMO_RUN_ATTEMPT"')
        assert self.backend.recover(plan, 1) is None
        handle = self.submit(plan, 2)
        assert self.end(handle).state is JobState.SUCCEEDED
        assert self.log(handle) == b"attempt 2\n"
        assert self.backend.recover(plan, 1) is None

    def test_a_handle_that_is_known_before_is_the_one_submitted(self) -> None:
        plan = self.plan("true")
        before = self.backend.expected_handle(plan, 1)
        handle = self.submit(plan)
        assert before in ("", handle)
        assert self.end(handle).state is JobState.SUCCEEDED

    def test_what_is_submitted_goes_on_without_us(self) -> None:
        plan = self.plan("sleep 0.3; echo done; exit 5")
        self.backend.preflight([plan])
        handle = self.submit(plan)
        self.backend.close()
        self.backend = get_backend(plan.engine, plan.connection)
        assert self.end(handle).exit_code == 5
        assert self.log(handle) == b"done\n"

    def test_unknown_handle(self) -> None:
        handle = self.unknown_handle(self.backend, self.plan("true"))
        assert self.status(handle).state is JobState.UNKNOWN
        self.backend.cancel([handle])
        assert self.status(handle).state is JobState.UNKNOWN

    # cancelling

    def test_cancel_of_a_running_task(self) -> None:
        handle = self.start("echo begun; sleep 300 & wait")
        self.until_logged(handle, b"begun")
        self.backend.cancel([handle])
        assert self.end(handle).state is JobState.CANCELLED

    def test_a_task_over_its_time_limit_is_ended_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with self.experiment(monkeypatch, timeout="1s") as exp:
            exp.add(Script(inline="exec sleep 600", entrypoint=self.shell), name="a")
            exp.run()
        result = exp.results()["a"]
        assert (result.state, result.reason) == (JobState.FAILED, "time limit of 1 s reached")

    def test_a_program_runs_beside_a_task_with_its_variables(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        plan = self.plan("echo begun; sleep 60", env={"OF_TASK": "it's here"})
        handle = self.submit(plan)
        self.until_logged(handle, b"begun")
        argv = [self.shell, "-c", 'echo "<$OF_TASK> $1"; exit 7', "x", "a  b"]
        if self.opens_shells:
            assert self.backend.run_beside(plan, handle, argv) == 7
            assert b"<it's here> a  b" in capfdbinary.readouterr().out
        else:
            with pytest.raises(ExecutorError, match="starts nothing"):
                self.backend.run_beside(plan, handle, argv)
        self.backend.cancel([handle])

    def test_cancel_right_after_submission(self) -> None:
        handle = self.start("sleep 300; echo too far")
        self.backend.cancel([handle])
        assert self.end(handle).state is JobState.CANCELLED
        assert b"too far" not in self.log(handle)

    def test_cancel_gives_a_task_the_time_to_clean_up(self) -> None:
        handle = self.start("trap 'echo cleaned; exit 0' TERM; echo begun; while :; do sleep 0.05; done")
        self.until_logged(handle, b"begun")
        self.backend.cancel([handle])
        assert self.end(handle).state is JobState.CANCELLED
        assert self.log(handle).endswith(b"cleaned\n")

    def test_cancel_of_an_ended_task_changes_nothing(self) -> None:
        handles = [self.start("exit 0"), self.start("exit 3")]
        before = [self.end(handle) for handle in handles]
        self.backend.cancel(handles)
        assert [self.status(handle) for handle in handles] == before

    def test_cancel_twice_and_several(self) -> None:
        running, ended = [self.start("sleep 300"), self.start("sleep 300")], self.start("true")
        self.end(ended)
        self.backend.cancel([*running, ended])
        self.backend.cancel(running)
        assert [self.end(handle).state for handle in running] == [JobState.CANCELLED] * 2
        assert self.status(ended).state is JobState.SUCCEEDED

    # waiting

    def test_wait_ends_with_its_timeout_and_with_the_task(self) -> None:
        handle = self.start("sleep 300")
        self.until(handle, JobState.RUNNING)
        assert set(self.backend.wait([handle], 0.05)) <= {handle}
        self.backend.cancel([handle])
        end = time.monotonic() + self.patience
        while not self.status(handle).state.is_final:
            assert time.monotonic() < end
            assert set(self.backend.wait([handle], 1.0)) <= {handle}
        assert self.backend.wait([], 0.01) == []

    # logs

    def test_both_streams_in_order(self) -> None:
        handle = self.start("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
        self.end(handle)
        log = self.log(handle).decode().split("\n")
        assert [line for line in log if "out" in line] == ["out 1", "out 2", "out 3"]
        assert [line for line in log if "err" in line] == ["err 1", "err 2", "err 3"]

    def test_the_log_can_be_read_while_it_grows(self) -> None:
        handle = self.start("echo one; sleep 0.5; echo two; sleep 0.5; printf three")
        reader = self.backend.open_log(handle)
        pieces = []
        end = time.monotonic() + self.patience
        while True:
            final = self.status(handle).state.is_final
            while piece := reader.read():
                pieces.append(piece)
            if final:
                break
            assert time.monotonic() < end
            time.sleep(0.02)
        reader.close()
        assert b"".join(pieces) == b"one\ntwo\nthree"

    def test_a_log_that_is_not_there_yet_is_empty(self) -> None:
        handle = self.start("sleep 300")
        assert self.log(handle) == b""
        self.backend.cancel([handle])

    @pytest.mark.parametrize(
        ("script", "tail", "log"),
        [
            ("seq 1 5", 2, b"4\n5\n"),
            ("seq 1 3", 9, b"1\n2\n3\n"),
            ("printf 'a\\nb\\nc'", 2, b"b\nc"),
            ("true", 3, b""),
            ("seq 1 3", 0, b""),
            ("seq 1 100000", 1, b"100000\n"),
            ("printf '\\n\\n\\n'", 2, b"\n\n"),
        ],
    )
    def test_tail(self, script: str, tail: int, log: bytes) -> None:
        handle = self.start(script)
        self.end(handle)
        assert self.log(handle, tail=tail) == log

    def test_binary_output_is_not_changed(self) -> None:
        script = "printf '" + "".join(f"\\{byte:03o}" for byte in range(256)) + "'"
        handle = self.start(script)
        self.end(handle)
        assert self.log(handle) == bytes(range(256))

    def test_carriage_returns_are_not_changed(self) -> None:
        handle = self.start("printf ' 10%%\\r 50%%\\r100%%\\r\\ndone\\n'")
        self.end(handle)
        last = b"\r\n" if self.keeps_returns else b"\n"
        assert self.log(handle) == b" 10%\r 50%\r100%" + last + b"done\n"

    def test_a_large_line_comes_in_pieces(self) -> None:
        handle = self.start(f"head -c {self.large_line} /dev/zero | tr '\\0' x; echo; echo end")
        self.end(handle)
        reader = self.backend.open_log(handle)
        pieces = list(iter(reader.read, b""))
        reader.close()
        assert max(map(len, pieces)) <= 1 << 20
        data = b"".join(pieces)
        assert len(data) == self.large_line + 5
        assert data.strip(b"x") == b"\nend\n"
        assert self.log(handle, tail=1) == b"end\n"

    def test_rank_zero_of_a_task_with_one_process_is_its_log(self) -> None:
        handle = self.start("echo hello")
        self.end(handle)
        assert self.log(handle, rank=0) == b"hello\n"
        with pytest.raises(NemoRunError, match="7"):
            self.backend.open_log(handle, rank=7).read()
