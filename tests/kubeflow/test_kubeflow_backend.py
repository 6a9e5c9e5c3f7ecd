"""Kubeflow Trainer: the contract, on a real cluster with a real node, and a small Trainer."""

from __future__ import annotations

import pytest

from nemo_run.core.execution.kubeflow import KubeflowExecutor
from tests.kubernetes.contract import PodContract

pytestmark = pytest.mark.needs("kubernetes node")


class TestKubeflowBackend(PodContract):
    executor = KubeflowExecutor
