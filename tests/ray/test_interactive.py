"""Drivers of this machine on a cluster, as in a notebook."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nemo_run.run.ray import RayCluster

pytestmark = pytest.mark.needs("ray")

CONNECT = """
{before}
import nemo_run as run
from nemo_run.run.ray import RayCluster
cluster = RayCluster("shared", run.LocalExecutor())
import ray
{connect}
print("nodes:", len(ray.nodes()), "answer:", ray.get(ray.remote(lambda: 42).remote()))
"""


@pytest.mark.parametrize("before", ["", "import ray"])
@pytest.mark.parametrize("connect", ["ray.init(address=cluster.address)", "cluster.connect(log_to_driver=False)"])
def test_a_script_connects_to_a_cluster(cluster: RayCluster, before: str, connect: str) -> None:
    done = run_python(CONNECT.format(before=before, connect=connect))
    assert "nodes: 2 answer: 42" in done.stdout, done.stderr


def test_others_do_not_get_in(cluster: RayCluster) -> None:
    """Who knows the address, and keeps to 127.0.0.1, still has no token."""
    address = cluster.status(display=False)["gcs_address"]
    code = f"""
from ray._raylet import GcsClient
try:
    GcsClient(address={address!r}).internal_kv_keys(b"", None)
except Exception as e:
    print("refused:", e)
"""
    done = run_python(code, RAY_gcs_rpc_server_connect_timeout_s="5", RAY_gcs_server_request_timeout_seconds="5")
    assert "refused:" in done.stdout, done.stderr


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**env, **variables}, capture_output=True, text=True, check=False, timeout=300
    )
