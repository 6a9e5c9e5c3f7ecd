"""Odd values in every field of every executor: a clear error before anything starts, and never another exception."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.config.hints import all_hints
from nemo_run.core.execution.base import Executor
from nemo_run.errors import ExecutorError, ExperimentError, MissingExtraError
from tests.support import bash, value_id

EXECUTORS: dict[type[Executor], dict[str, Any]] = {
    run.LocalExecutor: {},
    run.DockerExecutor: {"container_image": "image"},
    run.SlurmExecutor: {"account": "me"},
    run.KubernetesExecutor: {"image": "image"},
    run.KubeflowExecutor: {"image": "image"},
    run.KubeRayExecutor: {"image": "image"},
    run.LeptonExecutor: {
        "container_image": "image", "nemo_run_dir": "/nemo", "resource_shape": "gpu", "node_group": "g",
    },
    run.DGXCloudExecutor: {
        "base_url": "https://here", "kube_apiserver_url": "https://there", "client_id": "me", "client_secret": "x",
        "project_name": "p", "container_image": "image", "pvc_nemo_run_dir": "/mnt/nemo",
        "pvcs": [{"claimName": "c", "path": "/mnt"}],
    },
    run.SkypilotExecutor: {"container_image": "image"},
    run.SkypilotJobsExecutor: {"container_image": "image"},
}  # fmt: skip
ODD = [math.nan, math.inf, -7, 10**400, "x", "9" * 400, "a\0b", object(), [object()], {"a": object()}, b"x", True, None]
FIELDS = [
    (kind, field.name)
    for kind in EXECUTORS
    for field in fields(kind)
    if field.init and field.name not in ("experiment_id", "job_dir")
]
NUMBERS = [(kind, name) for kind, name in FIELDS if "int" in str(all_hints(kind)[name]) or name == "retry_delay"]


def check(kind: type[Executor], **options: Any) -> None:
    """Check an executor; that the package of its engine is not installed is found out later."""
    try:
        kind(**{**EXECUTORS[kind], **options}).check()
    except MissingExtraError:
        pytest.skip("its package is not installed")


def test_every_executor_is_here() -> None:
    public = {getattr(run, name) for name in dir(run) if name.endswith("Executor")} - {run.Executor}
    assert public == set(EXECUTORS)


@pytest.mark.parametrize("kind", EXECUTORS, ids=lambda kind: kind.__name__)
def test_what_is_usual_is_accepted(kind: type[Executor]) -> None:
    check(kind)


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_odd_values_are_accepted_or_refused_by_the_name_of_the_field(kind: type[Executor], name: str) -> None:
    for value in ODD:
        try:
            check(kind, **{name: value})
        except ExecutorError as e:
            assert name in str(e) or name in ("launcher",), value_id(value)
            assert len(str(e)) < 600


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda part: part if isinstance(part, str) else part.__name__)
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -7, 10**400, object()], ids=["nan", "inf", "-7", "huge", "object"]
)
def test_numbers_that_make_no_sense_are_refused(kind: type[Executor], name: str, value: object) -> None:
    if name == "wait_time_for_group_job" and value == -7:
        return  # a negative one is 0
    with pytest.raises(ExecutorError, match=rf"{name}\b"):
        check(kind, **{name: value})


def test_what_existing_code_writes_is_accepted() -> None:
    check(run.SlurmExecutor, mem=0, container_mounts=("/a:/b",), partition=None, job_name_prefix=Path("x"))


@pytest.mark.parametrize("value", ["x", 0, -1, 1.5, math.nan])
def test_max_parallel(value: Any) -> None:
    exp = run.Experiment("odd")
    exp.add(bash("true"), name="a")
    with pytest.raises(ExperimentError, match="max_parallel="):
        exp.run(max_parallel=value)
