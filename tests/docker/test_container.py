"""From an executor and a request to the arguments of a container: pure."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from nemo_run.core.execution.base import Command, TaskRequest
from nemo_run.core.execution.docker import DockerExecutor, spec as container
from nemo_run.core.execution.docker.backend import DockerBackend
from nemo_run.core.packaging.base import Packager
from nemo_run.core.runners.bundle import RUNNER
from nemo_run.errors import ExecutorError

SH = ["/bin/sh", "-c", container._SHELL, "sh", "/nemo_run/attempts/1/log"]


def make(**options: Any) -> DockerExecutor:
    return DockerExecutor(**{"container_image": "image", "packager": Packager(), **options})


def request(executor: DockerExecutor, *argv: str, **more: Any) -> TaskRequest:
    known: dict[str, Any] = {
        "experiment_id": "exp_1", "job_id": "job", "directory": "/store/exp/job", "cwd": "/home/me",
        "command": Command(argv or ("true",)), **more,
    }  # fmt: skip
    return TaskRequest(executor=executor, **known)


def options(executor: DockerExecutor, *argv: str, **more: Any) -> dict[str, Any]:
    return container.for_attempt(container.container(executor, request(executor, *argv, **more)), 1)


@pytest.mark.parametrize(
    ("field", "value", "option", "becomes"),
    [
        ("memory", "2GB", "mem_limit", 2 << 30),
        ("memory", "2GB", "memswap_limit", 2 << 30),
        ("cpus", 1.5, "nano_cpus", 1_500_000_000),
        ("pids", 100, "pids_limit", 100),
        ("num_gpus", 2, "device_requests", [{"count": 2, "capabilities": [["gpu"]]}]),
        ("num_gpus", -1, "device_requests", [{"count": -1, "capabilities": [["gpu"]]}]),
        ("num_gpus", 0, "device_requests", None),
        ("ulimits", ["memlock=-1"], "ulimits", [{"name": "memlock", "soft": -1, "hard": -1}]),
        ("ulimits", ["nofile:1:2"], "ulimits", [{"name": "nofile", "soft": 1, "hard": 2}]),
        ("shm_size", "16g", "shm_size", "16g"),
        ("ipc_mode", "host", "ipc_mode", "host"),
        ("runtime", "nvidia", "runtime", "nvidia"),
        ("privileged", True, "privileged", True),
        ("privileged", False, "privileged", None),
        ("user", "1000:1000", "user", "1000:1000"),
        ("healthcheck", {"test": ["CMD", "true"]}, "healthcheck", {"test": ["CMD", "true"]}),
        ("working_dir", "/work", "working_dir", "/work"),
        ("volumes", ["./data:/data:ro"], "volumes", ["/home/me/data:/data:ro"]),
        ("volumes", ["../data:/data"], "volumes", ["/home/data:/data"]),
        ("volumes", ["named:/data", "/a:/b"], "volumes", ["named:/data", "/a:/b"]),
        ("ports", ["8080:80"], "ports", {"80/tcp": [{"HostPort": "8080"}]}),
        ("ports", ["80"], "ports", {"80/tcp": [{"HostPort": "80"}]}),
        ("ports", [":80"], "ports", {"80/tcp": [{"HostPort": ""}]}),
        ("ports", ["[::1]:1:2/udp"], "ports", {"2/udp": [{"HostPort": "1", "HostIp": "::1"}]}),
        ("network", "host", "network", "host"),
        ("network", "host", "hostname", None),
        ("additional_kwargs", {"cap_add": ["SYS_PTRACE"], "init": False}, "init", False),
    ],
)
def test_every_option_arrives(field: str, value: Any, option: str, becomes: Any) -> None:
    executor = make(**{field: value})
    executor.check()
    assert options(executor).get(option) == becomes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("container_image", ""),
        ("container_image", "--privileged"),
        ("container_image", "a b"),
        ("container_image", "a\nb"),
        ("pull", "sometimes"),
        ("memory", "lots"),
        ("ulimits", ["nofile"]),
        ("ports", ["http"]),
        ("ports", ["1:2:3:4"]),
        ("ports", ["99999"]),
        ("volumes", ["/data"]),
        ("additional_kwargs", {"command": "x"}),
        ("additional_kwargs", {"device": object()}),
    ],
)
def test_nonsense_is_refused_in_words(field: str, value: Any) -> None:
    with pytest.raises(ExecutorError, match=field.removeprefix("container_")):
        make(**{field: value}).check()


def test_paths_and_python_are_those_of_the_container() -> None:
    command = Command(
        (sys.executable, "-m", RUNNER, "-n", "job", "/store/exp/job/task.json"),
        {"PYTHONPATH": "/theirs", "NEMO_RUN_ARTIFACTS": "/store/exp/job/artifacts", "OTHER": "/store/exp/job2"},
        python=True,
    )
    made = options(make(), command=command)
    assert made["command"][4:] == ["python3", container.BUNDLE, "-n", "job", "/nemo_run/task.json"]
    assert made["environment"]["NEMO_RUN_ARTIFACTS"] == "/nemo_run/artifacts"
    assert made["environment"]["OTHER"] == "/store/exp/job2"
    assert made["environment"]["PYTHONPATH"] == "/theirs"


def test_other_programs_run_under_the_shell() -> None:
    assert options(make(), "echo", "a b", "$x")["command"] == [*SH, "echo", "a b", "$x"]


@pytest.mark.parametrize(("launcher", "spans"), [("torchrun", "--nnodes=2"), (None, None)])
def test_a_launcher_spans_the_group(launcher: str | None, spans: str | None) -> None:
    executor = make(launcher=launcher, nodes=2, ntasks_per_node=3)
    made = options(executor, "python3", "x.py", job_id="g/1", group="G r", member=1, members=2)["command"]
    assert (spans in made) == bool(spans)
    assert ("--rdzv-endpoint=g-r-0:29500" in made) == bool(spans)
    assert sys.executable not in made


def test_members_of_a_group_have_a_network_of_their_own() -> None:
    first, second, other = (
        options(make(), directory=directory, group=group, members=2)
        for directory, group in (("/s/e/g/0", "g"), ("/s/e/g/1", "g"), ("/s/e/h/0", "h"))
    )
    assert first["network"] == second["network"] != other["network"]
    assert options(make(network="mine"), group="g", members=2)["network"] == "mine"
    assert options(make())["network"] == "nemo_run"


def test_a_launcher_over_more_tasks_than_there_are_is_refused() -> None:
    executor = make(nodes=2)
    with pytest.raises(ExecutorError, match="nodes=2"):
        DockerBackend().render([request(executor)])[0]


def test_names_are_safe_and_of_one_attempt() -> None:
    names = {
        container.container_name(experiment, job, directory, attempt)
        for experiment in ("exp", "é x/")
        for job in ("a/0", "$(b)")
        for directory in ("/one", "/two")
        for attempt in (1, 2)
    }
    assert len(names) == 16
    assert all(name.replace("-", "").replace("_", "").isalnum() for name in names)


def test_merge_of_executors() -> None:
    one, two = make(), make()
    assert DockerExecutor.merge([one, two], 2).resource_group == [one, two]
    assert len(DockerExecutor.merge([make()], 3).resource_group) == 3
    with pytest.raises(ExecutorError, match="2 executors for 3 tasks"):
        DockerExecutor.merge([one, two], 3)


def test_without_the_sdk_the_message_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    backend, plan = DockerBackend(), DockerBackend().render([request(make())])[0]
    assert backend.describe(plan).startswith("docker run ")
    with pytest.raises(ImportError, match=r"pip install 'nemo-run\[docker\]'"):
        backend.preflight([plan])
