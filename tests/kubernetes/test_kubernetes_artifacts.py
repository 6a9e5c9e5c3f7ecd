"""All kinds of artifacts, from pods of root and of another user, with and without a volume."""

from __future__ import annotations

from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.pods.client import KubernetesClient
from tests import kinds_of_artifacts
from tests.services.kubernetes import IMAGE, KubernetesCluster

pytestmark = pytest.mark.needs("kubernetes node")


WHOLE_CORES = {"cpu_limits": "1", "memory_limits": "256Mi"}  # a pod of one container, whose log has its artifacts


@pytest.mark.parametrize("on_volume", [False, True])
@pytest.mark.parametrize(("user", "options"), [(0, {}), (1234, {}), (1234, WHOLE_CORES)])
def test_all_kinds(
    user: int, options: dict[str, str], on_volume: bool, own_namespace: str, kubernetes_node: KubernetesCluster
) -> None:
    if on_volume:
        kubernetes_node.make_volume(own_namespace, "work").chmod(0o777)
    executor = run.KubernetesExecutor(
        image=IMAGE,
        namespace=own_namespace,
        packager=run.Packager(),
        workdir_pvc="work" if on_volume else None,
        pod_spec_overrides={"securityContext": {"runAsUser": user, "runAsGroup": user, "fsGroup": user}},
        grace=2,
        **options,  # type: ignore[arg-type]
    )
    with run.Experiment("kinds", executor=executor) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run()
    kinds_of_artifacts.check(exp, "t", as_root=user == 0)


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\x1enemo-run"], ids=repr)
def test_a_log_that_ends_with_artifacts_has_only_what_the_task_wrote(
    end: str, own_namespace: str, capfdbinary: pytest.CaptureFixture[bytes], work: Path
) -> None:
    """While it is followed, and when it is kept."""
    text = f"loss 3{end}"
    script = 'printf %s "$TEXT"; sleep 2; echo a > "$NEMO_RUN_ARTIFACTS/a"; exit 3'
    executor = run.KubernetesExecutor(
        image=IMAGE, namespace=own_namespace, packager=run.Packager(), grace=2, env_vars={"TEXT": text}, **WHOLE_CORES
    )
    with run.Experiment("log", executor=executor) as exp:
        exp.add(run.Script(inline=script), name="t")
        exp.run(tail_logs=True)
    assert exp.results()["t"].exit_code == 3
    assert [artifact.path for artifact in exp.artifacts()] == ["a"]
    assert (exp.directory / "t" / "attempts" / "1" / "log").read_text() == text
    shown = capfdbinary.readouterr()
    assert b"artifacts\n" not in shown.out + shown.err


def test_artifacts_that_are_too_large_for_a_log_are_named(own_namespace: str, work: Path) -> None:
    script = 'head -c 3000000 /dev/urandom > "$NEMO_RUN_ARTIFACTS/large"'
    executor = run.KubernetesExecutor(
        image=IMAGE, namespace=own_namespace, packager=run.Packager(), grace=2, **WHOLE_CORES
    )
    with run.Experiment("large", executor=executor) as exp:
        exp.add(run.Script(inline=script), name="t")
        exp.run()
    assert exp.results()["t"].state is run.JobState.SUCCEEDED
    assert "are more than a pod can hand over without a volume" in exp.results()["t"].reason


def test_a_task_with_whole_cores_keeps_them(own_namespace: str, cluster: KubernetesClient, work: Path) -> None:
    executor = run.KubernetesExecutor(
        image=IMAGE, namespace=own_namespace, packager=run.Packager(), keep_job=True, **WHOLE_CORES
    )
    with run.Experiment("whole", executor=executor) as exp:
        exp.add(run.Script(inline="true"), name="t")
        exp.run()
    [pod] = cluster.pods(own_namespace, "")
    assert pod["status"]["qosClass"] == "Guaranteed"
    assert [entry["resources"]["limits"] for entry in pod["spec"]["containers"]] == [{"cpu": "1", "memory": "256Mi"}]
