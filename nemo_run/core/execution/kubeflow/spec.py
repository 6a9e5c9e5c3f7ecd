"""The TrainJob of a task: its pod as changes of that of a runtime. Pure."""

from __future__ import annotations

import re

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.kubeflow.options import KubeflowOptions
from nemo_run.core.execution.kubeflow.train_job import CONTAINER, train_job
from nemo_run.core.execution.pods.client import Object
from nemo_run.core.execution.pods.objects import KEEP, NAME, RANK, START_TIMEOUT, fill
from nemo_run.core.execution.pods.spec import (
    attempt_name,
    command_inside,
    environment,
    head_address,
    placement,
    pod_spec,
    resources,
    standard_labels,
)
from nemo_run.core.execution.shared.manifests import literal, overlaid
from nemo_run.core.masking import holds_secret

INDEX = "batch.kubernetes.io/job-completion-index"
"""Label and annotation of pods: the rank of the node."""

_OF_THE_RUNTIME = ("restartPolicy", "shareProcessNamespace", "enableServiceLinks", "hostname", "subdomain")

# The runtime gives each pod the address of the first one; Kubernetes itself provides NODE_RANK.
_HEAD = 'export MASTER_ADDR="${PET_MASTER_ADDR:-$MASTER_ADDR}"\n'


def job_name(executor: KubeflowOptions, request: TaskRequest) -> str:
    """Return the name of the attempts of a task without their number; JobSet adds up to 17 characters for its pods."""
    name = attempt_name(request)
    digest = name.rpartition("-")[2]
    base = re.sub(r"[^a-z0-9]+", "-", (executor.train_job_basename or name.rpartition("-")[0]).lower()).strip("-")
    return f"{base[:26].strip('-') or 'job'}-{digest}"


def described_job(executor: KubeflowOptions, request: TaskRequest, namespace: str) -> tuple[Object, dict[str, str]]:
    """Return the TrainJob of an attempt, with placeholders, and the values of its secret variables."""
    pod = pod_spec(executor, request, keeps_artifacts=False)
    task = pod.pop("containers")[0]
    host = f"{NAME}-{CONTAINER}-0-0.{NAME}"  # as JobSet calls the first pod
    head = head_address(request)
    args = fill(task["args"], {head: "$(PET_MASTER_ADDR)"})
    rank = {"name": "NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}}
    env = [entry for entry in fill(task["env"], {head: host}) if entry["name"] != "NODE_RANK"]
    shell, option, script, word = task["command"]
    command = [shell, option, literal(_HEAD) + script, word]
    own = {**task, "command": command, "args": args, "env": [rank, *env]}
    labels = {**executor.labels, **standard_labels(request)}
    keep = {KEEP: "true"} if executor.keep_job else {}
    annotations = {**executor.annotations, START_TIMEOUT: str(executor.start_timeout), **keep}
    metadata = {"name": NAME, "namespace": namespace, "labels": labels, "annotations": annotations}
    mounts = {"name": CONTAINER, "volumeMounts": own.pop("volumeMounts")}
    changes = {key: value for key, value in pod.items() if key not in _OF_THE_RUNTIME}
    job = described(executor, metadata, own, overlaid(changes, {"containers": [mounts]}))
    values = environment(executor, request, command_inside(executor, request))
    return fill(job, {RANK: "$(NODE_RANK)"}), {
        name: value for name, value in values.items() if holds_secret(name, value)
    }


def described(executor: KubeflowOptions, metadata: Object, container: Object, pod: Object) -> Object:
    """Return a TrainJob with the options of an executor."""
    names = {"resources": "resourcesPerNode"}
    given = {names.get(key, key): value for key, value in container.items() if key not in ("name", "image") and value}
    own = {
        "numNodes": executor.num_nodes,
        "numProcPerNode": executor.nproc_per_node(),
        **({"image": str(executor.image)} if executor.image else {}),
        **given,
    }
    of_pods = {"labels": executor.pod_labels, "annotations": executor.pod_annotations}
    changes = {"metadata": _given(of_pods), "spec": _given(pod)}
    return train_job(metadata, executor.runtime_ref, own, changes, executor.spec_kwargs)


def _given(values: Object) -> Object:
    return {key: value for key, value in values.items() if value}


def described_body(executor: KubeflowOptions, name: str, command: list[str]) -> Object:
    """Return a TrainJob, for no version yet, that runs a command as it is."""
    env = [*({"name": key, "value": value} for key, value in executor.env_vars.items()), *executor.env_list]
    given = {"command": list(command), "env": env, "resources": resources(executor)}
    mounts = [{"name": CONTAINER, "volumeMounts": executor.volume_mounts}] if executor.volume_mounts else []
    pod = {"containers": mounts, "volumes": executor.volumes, **placement(executor)}
    metadata = {
        "name": name,
        "namespace": executor.namespace,
        "labels": executor.labels,
        "annotations": executor.annotations,
    }
    return described(
        executor,
        {key: value for key, value in metadata.items() if value},
        overlaid(given, executor.container_kwargs),
        overlaid(pod, executor.pod_spec_overrides),
    )


def slug(name: str) -> str:
    """Return a name that a TrainJob can have."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:33].strip("-") or "job"
