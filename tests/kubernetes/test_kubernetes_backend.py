"""Plain Kubernetes: the contract, on a real cluster with a real node."""

from __future__ import annotations

import pytest

from nemo_run.core.execution.kubernetes import KubernetesExecutor
from tests.kubernetes.contract import PodContract

pytestmark = pytest.mark.needs("kubernetes node")


class TestKubernetesBackend(PodContract):
    executor = KubernetesExecutor
