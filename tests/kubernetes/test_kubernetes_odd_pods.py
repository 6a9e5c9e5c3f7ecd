"""Pods that are unusual: a root file system that cannot be written to, a sidecar, a large environment, odd users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.errors import ExecutorError
from tests.services.kubernetes import IMAGE

pytestmark = pytest.mark.needs("kubernetes node")

WHOLE_CORES = {"cpu_limits": "1", "memory_limits": "256Mi"}


def launch(namespace: str, task: Any, **options: Any) -> run.Experiment:
    given = {"image": IMAGE, "namespace": namespace, "packager": run.Packager(), "grace": 2}
    with run.Experiment("odd", executor=run.KubernetesExecutor(**{**given, **options}), clean_mode=True) as exp:
        exp.add(task, name="t")
        exp.run()
    return exp


@pytest.mark.parametrize("options", [{}, WHOLE_CORES], ids=["with a keeper", "whole cores"])
def test_a_root_that_cannot_be_written_to_and_no_rights(
    own_namespace: str, options: dict[str, str], work: Path
) -> None:
    read_only = {"securityContext": {"readOnlyRootFilesystem": True}}
    exp = launch(
        own_namespace,
        run.Partial(divmod, 7, 2),
        restricted=True,
        run_as_user=4711,
        container_kwargs=read_only,
        **options,
    )
    assert exp.results()["t"].state is JobState.SUCCEEDED, exp.results()["t"].reason
    assert exp.result("t") == (3, 1)


@pytest.mark.parametrize("options", [{}, WHOLE_CORES], ids=["with a keeper", "whole cores"])
def test_a_sidecar_that_goes_on_keeps_no_artifact(own_namespace: str, options: dict[str, str], work: Path) -> None:
    sidecar = {"name": "proxy", "image": IMAGE, "command": ["sleep", "600"]}
    script = run.Script(inline='echo a > "$NEMO_RUN_ARTIFACTS/a"; exit 3')
    exp = launch(own_namespace, script, pod_spec_overrides={"containers": [sidecar]}, **options)
    assert (exp.results()["t"].state, exp.results()["t"].exit_code) == (JobState.FAILED, 3)
    assert [artifact.path for artifact in exp.artifacts()] == ["a"]


def test_a_large_environment_arrives(own_namespace: str, work: Path) -> None:
    many = {f"NAME_{number}": "x" * 1000 for number in range(300)}
    count = "import os; print(sum(len(value) == 1000 for value in os.environ.values()))"
    script = run.Script(inline=f"python3 -c '{count}' > \"$NEMO_RUN_ARTIFACTS/count\"")
    exp = launch(own_namespace, script, env_vars={**many, "A_TOKEN": "t" * 100_000})
    assert exp.results()["t"].state is JobState.SUCCEEDED, exp.results()["t"].reason
    [artifact] = exp.artifacts()
    assert Path(artifact.file).read_text() == "300\n"


def test_an_environment_that_no_cluster_stores_is_refused(own_namespace: str, work: Path) -> None:
    many = {f"NAME_{number}": "x" * 100_000 for number in range(30)}
    with pytest.raises(ExecutorError, match="its Job is too large for a cluster"):
        launch(own_namespace, run.Script(inline="true"), env_vars=many)
