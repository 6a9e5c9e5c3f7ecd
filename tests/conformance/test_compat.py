"""What existing code imports through the dependencies of NeMo-Run, with the extra ``compat``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.services import compat, environment

pytestmark = pytest.mark.needs("compat")

_PROGRAM = """
import subprocess
import fabric, invoke
from torchx.specs.api import AppState, Role
import nemo_run as run
from nemo_run.core.tunnel import SSHTunnel
from nemo_run.run.job import AppState as Ours
from nemo_run.run.torchx_backend.packaging import merge_executables, package

assert [state for state in AppState if Ours[state.name] != state] == []
assert isinstance(run.LocalTunnel(job_dir="/jobs").session, invoke.Context)
role = Role("r", "i", args=["--head=${head_node_ip_var}", "$HOME"], env={"N": "${num_nodes_var}"})
macros = run.SlurmExecutor(account="a").macro_values()
changed = macros.apply(role)
assert changed.args == [f"--head={macros.head_node_ip_var}", "$HOME"] and changed.env == {"N": macros.num_nodes_var}
assert role.env == {"N": "${num_nodes_var}"}
assert isinstance(SSHTunnel(host="h", user="u", job_dir="/jobs").session, fabric.Connection)

def work(number: int):
    print("worked", number)

executor = run.LocalExecutor(packager=run.Packager(), env_vars={"A": "b"})
executor.assign("exp", "folder/exp", "one", "one")
apps = [
    package("one", run.Partial(work, number=3), executor, env={"C": "d"}),
    package("two", run.Script(inline="echo $A $C", metadata={"kind": "script"}), executor, num_replicas=2),
]
app = merge_executables(iter(apps), "both")
assert app.metadata == {"kind": "script"}
assert [(role.name, role.num_replicas) for role in app.roles] == [("one", 1), ("two", 2)]
for role in app.roles:
    subprocess.run([role.entrypoint, *role.args], env={"PATH": "/usr/bin:/bin", **role.env}, check=True)
"""


def test_a_program_imports_torchx_invoke_and_fabric(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(environment.ROOT)}
    done = subprocess.run(
        [compat.PYTHON, "program.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "worked 3\nb\n"
