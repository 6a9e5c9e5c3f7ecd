"""What executors answer: nodes, processes, launchers, macros, copies; and tunnels to this machine."""

import dataclasses
import inspect
import json
import shutil
from pathlib import Path

import fiddle as fdl

import nemo_run as run
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.slurm import SlurmJobDetails, get_packaging_job_key

EXECUTORS = {
    "local": lambda: run.LocalExecutor(ntasks_per_node=2, env_vars={"A": "1"}, launcher="torchrun", retries=1),
    "slurm": lambda: run.SlurmExecutor(account="a", nodes=2, ntasks_per_node=3, job_name_prefix="x-"),
    "docker": lambda: run.DockerExecutor(
        container_image="img", num_gpus=2, runtime="nvidia", volumes=["/a:/b"], shm_size="8g", ntasks_per_node=2,
        ulimits=["memlock:-1"], ipc_mode="host", privileged=True,
    ),
    "lepton": lambda: run.LeptonExecutor(
        container_image="i", nemo_run_dir="/n", mounts=[{"path": "/a", "mount_path": "/b"}], resource_shape="gpu.8",
        node_group="g", nodes=2, gpus_per_node=8,
    ),
    "dgxcloud": lambda: run.DGXCloudExecutor(
        base_url="https://x", kube_apiserver_url="https://k", client_id="i", client_secret="s", project_name="p",
        container_image="img", pvc_nemo_run_dir="/n", nodes=2, gpus_per_node=8, pvcs=[{"name": "w", "path": "/n"}],
    ),
}  # fmt: skip


def of(make):
    executor = make()
    macros = executor.macro_values()
    profiled = make()
    profiled.get_launcher().nsys_profile = True
    assigned = make()
    assigned.assign("exp_1", "/tmp/x/exp_1", "task-id", "task folder")
    return {
        "nodes": [executor.nnodes(), executor.nproc_per_node()],
        "launcher": [type(executor.get_launcher()).__name__, profiled.get_launcher().nsys_profile],
        "macros": macros and dataclasses.asdict(macros),
        "substituted": macros and macros.substitute(f"{Executor.__name__} ${{head_node_ip_var}} ${{other}}"),
        "copies": [make().clone() == make(), dataclasses.replace(executor, env_vars={"Z": "1"}).env_vars],
        "fields": [list(inspect.signature(type(executor)).parameters)[:5], isinstance(executor, Executor)],
        "assigned": [assigned.experiment_id, str(assigned.job_dir), executor.experiment_id],
        "nsys": list(executor.get_nsys_entrypoint()) if hasattr(executor, "get_nsys_entrypoint") else None,
    }


def of_tunnel():
    tunnel = run.LocalTunnel(job_dir="/j")
    Path("from").mkdir()
    Path("from/file").write_text("words")
    tunnel.put("from", "to")
    tunnel.get("to/file", "back")
    results = [tunnel.run(command, hide=True, warn=True) for command in ("echo hi", "echo no >&2; exit 3")]
    texts = [Path("to/file").read_text(), Path("back").read_text()]
    shutil.rmtree("from")
    shutil.rmtree("to")
    Path("back").unlink()
    return [texts, [[one.stdout, one.stderr, one.return_code, one.ok] for one in results]]


if __name__ == "__main__":
    seen = {name: of(make) for name, make in EXECUTORS.items()}
    seen["tunnel"] = of_tunnel()
    seen["ssh"] = dataclasses.asdict(run.SSHTunnel(host="h", user="u", job_dir="/j", identity="/id", shell="zsh"))
    seen["ssh"] = {name: seen["ssh"][name] for name in ("job_dir", "host", "user", "identity", "shell", "pre_command")}
    seen["key"] = get_packaging_job_key("exp", "job")
    details = SlurmJobDetails(job_name="j", folder="/f")
    seen["details"] = [str(details.stdout), str(details.srun_stdout), str(details.ls_term)]
    built = fdl.build(run.Config(run.LocalExecutor, env_vars={"A": "b"}))
    seen["built"] = [type(built).__name__, built.env_vars]
    Path("result.json").write_text(json.dumps(seen, indent=1))
