"""The contract of engines whose tasks run in pods, on a real cluster with a real node."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.pods.attempt import PodHandle
from nemo_run.core.execution.pods.options import PodOptions
from nemo_run.core.packaging.base import Packager
from nemo_run.testing import HOSTILE, BackendContract
from tests.services.kubernetes import IMAGE, KubernetesCluster


class PodContract(BackendContract):
    opens_shells = True

    executor: ClassVar[type[PodOptions]]

    patience = 180.0
    keeps_returns = False  # the container runtime takes them

    def make_executor(self, **options: Any) -> PodOptions:
        given = {"image": IMAGE, "namespace": self.namespace, "packager": Packager(), "grace": 2}
        return self.executor(**{**given, **options})

    @pytest.fixture(autouse=True)
    def _engine(self, namespace: str, tmp_path: Path) -> Iterator[None]:
        self.namespace = namespace
        yield from BackendContract._engine.__wrapped__(self, tmp_path)  # type: ignore[attr-defined]

    def test_returns_arrive_at_the_task(self) -> None:
        value = HOSTILE["lines"]
        handle = self.start(
            'printf "%s%s" "$VALUE" "$1" | od -An -c -v | tr -d " \\n"', value, env_vars={"VALUE": value}
        )
        self.end(handle)
        assert self.log(handle).decode() == 2 * value.replace("\r", r"\r").replace("\n", r"\n").replace("\t", r"\t")

    def test_a_task_may_be_interrupted_as_anywhere_else(self) -> None:
        handle = self.start("cat /proc/self/status")  # not the shell's own: bash always ignores SIGQUIT
        self.end(handle)
        status = dict(line.split(":\t", 1) for line in self.log(handle).decode().splitlines())
        ignored = int(status["SigIgn"], 16)
        assert not ignored & (1 << signal.SIGINT - 1 | 1 << signal.SIGQUIT - 1)

    def test_packages_go_with_the_last_attempt_that_needs_them(self, kubernetes_node: KubernetesCluster) -> None:
        plan = self.plan("sleep $((60 * (NEMO_RUN_ATTEMPT - 1)))")
        self.end(self.submit(plan, 1))
        other = self.submit(plan, 2)
        self.until(other, JobState.RUNNING)
        self.backend.cancel([other])
        self.end(other)
        assert self.secrets_of(other)
        there = {secret.metadata.name for secret in kubernetes_node.core().list_namespaced_secret(self.namespace).items}
        assert not there & set(self.secrets_of(other))

    def secrets_of(self, handle: str) -> list[str]:
        """The Secrets that held the packages of an attempt."""
        return [name for kind, name in PodHandle.parse(handle).shared() if kind == "Secret"]
