"""What the options become, judged by SkyPilot's own library: nothing is lost on the way, nonsense is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import nemo_run as run
from nemo_run.core.execution.base import Command, TaskRequest
from nemo_run.core.execution.shared.manifests import as_yaml
from nemo_run.core.execution.sky.options import SkypilotOptions
from nemo_run.errors import EngineUnreachableError, ExecutorError
from tests.services.skypilot import Double
from tests.skypilot.inside.conftest import client_of

EXECUTORS = (run.SkypilotExecutor, run.SkypilotJobsExecutor)


@pytest.fixture(scope="module", autouse=True)
def _client() -> Iterator[None]:
    with client_of(Double()):
        yield


def resources(task: Any) -> Any:
    (only,) = task.resources
    return only


def make(cls: type[SkypilotOptions] = run.SkypilotExecutor, **options: Any) -> SkypilotOptions:
    executor = cls(packager=run.Packager(), **options)
    executor.check()
    return executor


# One field after the other: how it is given, and what of SkyPilot's task then has which value.
FIELDS: list[tuple[dict[str, Any], Any, Any]] = [
    (
        {"infra": "k8s/my-context"},
        lambda t: (str(resources(t).cloud), resources(t).region),
        ("Kubernetes", "my-context"),
    ),
    ({"cloud": "kubernetes"}, lambda t: str(resources(t).cloud), "Kubernetes"),
    ({"cloud": "kubernetes", "region": "ctx"}, lambda t: resources(t).region, "ctx"),
    (
        {"infra": "*/us-east-1/us-east-1a"},
        lambda t: (resources(t).region, resources(t).zone),
        ("us-east-1", "us-east-1a"),
    ),
    ({"gpus": "A100", "gpus_per_node": 8}, lambda t: resources(t).accelerators, {"A100": 8}),
    ({"gpus": "A100"}, lambda t: resources(t).accelerators, {"A100": 1}),
    (
        {"gpus": ["A100", "H100"], "gpus_per_node": 4},
        lambda t: sorted(str(r.accelerators) for r in t.resources),
        ["{'A100': 4}", "{'H100': 4}"],
    ),
    ({"cpus": 4}, lambda t: resources(t).cpus, "4"),
    ({"cpus": "8+"}, lambda t: resources(t).cpus, "8+"),
    ({"memory": 16}, lambda t: resources(t).memory, "16"),
    ({"memory": "16+"}, lambda t: resources(t).memory, "16+"),
    (
        {"cpus": [2, 4], "memory": [8, 16]},
        lambda t: sorted((r.cpus, r.memory) for r in t.resources),
        [("2", "8"), ("4", "16")],
    ),
    (
        {"infra": None, "cloud": ["kubernetes", "none"], "use_spot": [False, True]},
        lambda t: sorted((str(r.cloud), r.use_spot) for r in t.resources),
        [("Kubernetes", False), ("None", True)],
    ),
    ({"num_nodes": 3}, lambda t: t.num_nodes, 3),
    ({"use_spot": True}, lambda t: resources(t).use_spot, True),
    ({"disk_size": 512}, lambda t: resources(t).disk_size, 512),
    ({"disk_size": [100, 200]}, lambda t: sorted(r.disk_size for r in t.resources), [100, 200]),
    ({"disk_tier": "best"}, lambda t: resources(t).disk_tier.value, "best"),
    ({"network_tier": "best"}, lambda t: resources(t).network_tier.value, "best"),
    ({"ports": ("8080", "10022-10040")}, lambda t: sorted(resources(t).ports), ["10022-10040", "8080"]),
    (
        {"container_image": "nvcr.io/nvidia/nemo:dev"},
        lambda t: resources(t).extract_docker_image(),
        "nvcr.io/nvidia/nemo:dev",
    ),
    ({"setup": "pip install x\n"}, lambda t: t.setup, "pip install x\n"),
    ({"file_mounts": {"/data": __file__}}, lambda t: t.file_mounts["/data"], __file__),
    (
        {"storage_mounts": {"/out": {"name": "my-bucket", "store": "gcs", "mode": "MOUNT", "persistent": True}}},
        lambda t: (t.storage_mounts["/out"].name, t.storage_mounts["/out"].mode.value),
        ("my-bucket", "MOUNT"),
    ),
    (
        {"cluster_config_overrides": {"kubernetes": {"provision_timeout": 900}}},
        lambda t: resources(t).cluster_config_overrides,
        {"kubernetes": {"provision_timeout": 900}},
    ),
    (
        {"env_vars": {"A": "1", "MY_TOKEN": "x"}},
        lambda t: (t.envs["A"], "MY_TOKEN" in t.envs, "MY_TOKEN" in t.secrets),
        ("1", False, True),
    ),
]


@pytest.mark.parametrize("cls", EXECUTORS)
@pytest.mark.parametrize(("options", "found", "expected"), FIELDS, ids=[",".join(row[0]) for row in FIELDS])
def test_every_field_arrives(cls: type[SkypilotOptions], options: dict[str, Any], found: Any, expected: Any) -> None:
    import sky

    task = make(cls, **options).to_task("train", ["python", "train.py", "a b"], {"B": "2"})
    assert found(task) == expected
    assert task.envs["B"] == "2"
    assert task.run.endswith("python train.py 'a b'")
    again = sky.Task.from_yaml_config(yaml.safe_load(as_yaml(task.to_yaml_config(use_user_specified_yaml=False))))
    assert found(again) == expected


def test_all_fields_are_tried() -> None:
    import dataclasses

    launching = {"cluster_name", "autodown", "idle_minutes_to_autostop", "retry_until_up"}  # arguments of the launch
    ours = {
        "torchrun_nproc_per_node",
        "zone",
        "instance_type",
        "job_name",
    }  # zone: as part of infra; catalogues are away
    own = {field.name for field in dataclasses.fields(SkypilotOptions)}
    inherited = {field.name for field in dataclasses.fields(run.LocalExecutor.__mro__[1])} | {"packager"}
    assert own - inherited - launching - ours == {name for row in FIELDS for name in row[0]} - {"env_vars"}


def test_resources_are_skypilots_own() -> None:
    import sky

    found = make(gpus=["A100", "H100"], gpus_per_node=8).to_resources()
    assert {type(one) for one in found} == {sky.Resources}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cloud": "atlantis"}, "[Aa]tlantis"),
        ({"disk_tier": "golden"}, "golden"),
        ({"network_tier": "golden"}, "golden"),
        ({"cpus": "many"}, "many"),
        ({"ports": ("99999999",)}, "99999999"),
        ({"cluster_config_overrides": {"kubernetes": {"provision_timeout": "soon"}}}, "soon"),
        ({"file_mounts": {"/data": "no/such/file-7"}}, "no/such/file-7"),
    ],
)
def test_what_skypilot_refuses_is_refused_in_its_words(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    executor = make(**options)
    with pytest.raises(ExecutorError, match=f"SkyPilot refuses: .*{message}"):
        executor.to_task("train", ["true"])
    backend = executor.backend()
    plan = backend.render([TaskRequest("e", "job-1", str(tmp_path), executor, Command(("true",)))])[0]
    with pytest.raises(ExecutorError, match=message):
        backend.preflight([plan])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"infra": "k8s", "cloud": "aws"}, "leave cloud= out"),
        ({"infra": "k8s", "zone": "z"}, "leave zone= out"),
        ({"num_nodes": 0}, "num_nodes"),
        ({"gpus_per_node": 8}, "gpus= must say which"),
        ({"file_mounts": {"/x": "/y"}, "storage_mounts": {"/x": {"name": "b"}}}, "'/x' is in file_mounts and in"),
        ({"cluster_config_overrides": {"a": {1, 2}}}, "JSON"),
    ],
)
@pytest.mark.parametrize("cls", EXECUTORS)
def test_what_makes_no_sense_is_refused_here(cls: type[SkypilotOptions], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExecutorError, match=message):
        make(cls, **options)


def test_the_launcher_knows_its_nodes(tmp_path: Path) -> None:
    executor = make(gpus="A100", gpus_per_node=8, num_nodes=2, launcher="torchrun")
    command = Command(("python3", "train.py", "--host=$$${head_node_ip_var}", "it's $HOME"), python=True)
    plan = executor.backend().render([TaskRequest("e", "job", str(tmp_path), executor, command)])[0]
    script = plan.spec["task"]["run"]
    assert '--nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint="$head_node_ip":29500' in script
    assert '--node-rank="$SKYPILOT_NODE_RANK"' in script
    assert """train.py --host="$head_node_ip" 'it'"'"'s $HOME\'""" in script
    assert executor.nproc_per_node() == 8
    assert make(torchrun_nproc_per_node=3, gpus="A100").nproc_per_node() == 3


def test_clusters_are_shared_by_what_fits_together(tmp_path: Path) -> None:
    def cluster(**options: Any) -> str:
        executor = make(**options)
        request = TaskRequest("exp_1", "job", str(tmp_path), executor, Command(("true",)))
        return str(executor.backend().render([request])[0].spec["cluster"])

    assert cluster(cluster_name="mine", cpus=1) == "mine"
    assert cluster(cpus=1) == cluster(cpus=1, env_vars={"A": "1"}) != cluster(cpus=2)
    assert cluster(cpus=1).startswith("exp-1-")


@pytest.mark.parametrize(
    ("cls", "app", "parsed"),
    [
        (run.SkypilotExecutor, "exp___cluster___train___3", ("cluster", "train", 3)),
        (run.SkypilotJobsExecutor, "cluster___train___3", ("cluster", "train", 3)),
    ],
)
def test_ids_of_apps(cls: Any, app: str, parsed: tuple[str, str, int]) -> None:
    assert cls.parse_app(app) == parsed
    for wrong in ("", "a___b", app + "x", app.replace("train", "")):
        with pytest.raises(ExecutorError, match="form"):
            cls.parse_app(wrong)


@pytest.mark.parametrize("cls", EXECUTORS)
def test_launch_status_logs_cancel_by_hand(cls: Any, capsys: pytest.CaptureFixture[str]) -> None:
    executor = make(cls, cluster_name="by-hand")
    number, _ = executor.launch(executor.to_task("one", ["echo", "hello from it"]))  # type: ignore[attr-defined]
    app = f"exp___by-hand___one___{number}" if cls is run.SkypilotExecutor else f"by-hand___one___{number}"
    capsys.readouterr()
    cls.logs(app, None)
    assert "hello from it" in capsys.readouterr().out
    status = cls.status(app)
    record = status[1] if cls is run.SkypilotExecutor else status
    assert record["status"].value == "SUCCEEDED"
    cls.cancel(app)
    gone = app[:-1] + "99"
    assert cls.status(gone) in ((status[0], None) if cls is run.SkypilotExecutor else (None,), None)
    cls.cancel(gone)
    cls.logs(gone, None)


def test_a_server_that_does_not_answer_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sky

    def refuse(*_: Any, **__: Any) -> None:
        raise sky.exceptions.ApiServerConnectionError("http://127.0.0.1:9")

    monkeypatch.setattr(sky, "api_status", refuse)
    executor = make()
    backend = executor.backend()
    plan = backend.render([TaskRequest("e", "job-1", str(tmp_path), executor, Command(("true",)))])[0]
    with pytest.raises(EngineUnreachableError, match="sky api info"):
        backend.recover(plan, 1)


def test_plans_are_readable(tmp_path: Path) -> None:
    executor = make(setup="echo one\necho two\n", autodown=True, idle_minutes_to_autostop=5, retry_until_up=True)
    backend = executor.backend()
    shown = backend.describe(backend.render([TaskRequest("e", "job", str(tmp_path), executor, Command(("true",)))])[0])
    assert shown.startswith("# sky launch --cluster ")
    assert "--down --retry-until-up --idle-minutes-to-autostop 5 task.yaml" in shown
    assert "setup: |\n  echo one\n  echo two\n" in shown
    assert json.dumps(yaml.safe_load(io.StringIO(shown)))
