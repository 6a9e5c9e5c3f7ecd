"""Kubeflow Trainer: the contract, on a real cluster with a real node, and a small Trainer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.kubeflow import KubeflowExecutor
from nemo_run.core.packaging.base import Packager
from tests.execution.contract import HOSTILE, BackendContract
from tests.services.kubernetes import IMAGE

pytestmark = pytest.mark.needs("kubernetes node")


class TestKubeflowBackend(BackendContract):
    patience = 180.0
    keeps_returns = False  # the container runtime takes them

    def make_executor(self, **options: Any) -> KubeflowExecutor:
        given = {"image": IMAGE, "namespace": self.namespace, "packager": Packager(), "grace": 2}
        return KubeflowExecutor(**{**given, **options})

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
