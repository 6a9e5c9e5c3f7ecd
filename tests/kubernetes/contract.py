"""The contract of engines whose tasks run in pods, on a real cluster with a real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nemo_run.core.execution._kubernetes_spec import PodExecutor
from nemo_run.core.packaging.base import Packager
from tests.execution.contract import HOSTILE, BackendContract
from tests.services.kubernetes import IMAGE


class PodContract(BackendContract):
    executor: ClassVar[type[PodExecutor]]

    patience = 180.0
    keeps_returns = False  # the container runtime takes them

    def make_executor(self, **options: Any) -> PodExecutor:
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
