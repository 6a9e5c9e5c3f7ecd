"""Commands, files, ports and logs of pods, on a real cluster with a real node."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.pods import streams
from nemo_run.core.execution.pods.client import KubernetesClient, default_connection
from nemo_run.core.execution.pods.log import ContainerLog
from nemo_run.core.execution.pods.status import pod_status
from nemo_run.errors import CommandError, ExecutorError
from tests.services.kubernetes import IMAGE, KubernetesCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("kubernetes node")


def make_pod(cluster: KubernetesClient, namespace: str, name: str, *command: str) -> None:
    container = {"name": "main", "image": IMAGE, "command": list(command)}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    cluster.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    )


def is_in(cluster: KubernetesClient, namespace: str, name: str, *states: JobState) -> bool:
    pod = cluster.get("v1", "Pod", namespace, name)
    return pod is not None and pod_status(pod).state in states


@pytest.fixture(scope="module")
def pod(kubernetes_node: KubernetesCluster, namespace: str) -> Iterator[str]:
    """A pod that serves its /tmp on port 8000."""
    with contextlib.closing(
        KubernetesClient(default_connection(kubeconfig=str(kubernetes_node.kubeconfig)))
    ) as cluster:
        make_pod(cluster, namespace, "server", "python3", "-m", "http.server", "-d", "/tmp", "8000")
        eventually(lambda: is_in(cluster, namespace, "server", JobState.RUNNING))
        yield "server"
        cluster.delete("v1", "Pod", namespace, "server", grace=0)


# commands


def test_a_command_gets_its_words_and_gives_its_output_and_exit_code(
    cluster: KubernetesClient, namespace: str, pod: str
) -> None:
    script = 'printf "%s|" "$@"; echo oops >&2; exit 7'
    done = streams.execute(cluster, namespace, pod, ["sh", "-c", script, "sh", "a  b", "", "é\n$HOME"])
    assert (done.exit_code, done.stdout, done.stderr) == (7, "a  b||é\n$HOME|".encode(), b"oops\n")


def test_a_command_reads_what_it_is_given(cluster: KubernetesClient, namespace: str, pod: str, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    with (tmp_path / "out").open("wb") as out:
        done = streams.execute(cluster, namespace, pod, ["head", "-c", str(len(data))], stdin=data, stdout=out)
    assert (done.exit_code, done.stdout) == (0, b"")
    assert (tmp_path / "out").read_bytes() == data


def test_commands_that_cannot_be_started(cluster: KubernetesClient, namespace: str, pod: str) -> None:
    with pytest.raises(ExecutorError, match=r"'no-such-program' could not be started .*not found"):
        streams.execute(cluster, namespace, pod, ["no-such-program"])
    with pytest.raises(ExecutorError, match=r'404.*pods "no-such-pod" not found'):
        streams.execute(cluster, namespace, "no-such-pod", ["true"])


# files


def test_folders_and_files_are_copied_in_and_out(
    cluster: KubernetesClient, namespace: str, pod: str, tmp_path: Path
) -> None:
    source = tmp_path / "a b"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "data").write_bytes(os.urandom(3_000_000))
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    streams.copy_in(cluster, namespace, pod, "main", source, "/tmp/in here")
    streams.copy_out(cluster, namespace, pod, "main", "/tmp/in here", tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "data").read_bytes() == (source / "sub" / "data").read_bytes()
    assert (tmp_path / "back" / "run.sh").stat().st_mode & 0o777 == 0o755
    streams.copy_in(cluster, namespace, pod, "main", source / "run.sh", "/tmp/new/folder/file")
    streams.copy_out(cluster, namespace, pod, "main", "/tmp/new/folder/file", tmp_path / "one")
    assert (tmp_path / "one").read_text() == "#!/bin/sh\n"


def test_copies_that_cannot_be_made_say_why(
    cluster: KubernetesClient, namespace: str, pod: str, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match=r"/no/such/thing of pod 'server' could not be copied"):
        streams.copy_out(cluster, namespace, pod, "main", "/no/such/thing", tmp_path / "x")
    with pytest.raises(CommandError, match=r"could not be copied to /proc/x of pod 'server'"):
        streams.copy_in(cluster, namespace, pod, "main", Path(__file__), "/proc/x")


def test_nothing_is_unpacked_elsewhere(cluster: KubernetesClient, namespace: str, pod: str, tmp_path: Path) -> None:
    script = 'import os; os.mkdir("/tmp/evil"); os.symlink("/etc", "/tmp/evil/link")'
    streams.execute(cluster, namespace, pod, ["python3", "-c", script])
    with pytest.raises(ExecutorError, match="outside"):
        streams.copy_out(cluster, namespace, pod, "main", "/tmp/evil", tmp_path / "x")


# ports


def test_a_port_of_a_pod_is_reached_from_here(cluster: KubernetesClient, namespace: str, pod: str) -> None:
    streams.execute(cluster, namespace, pod, ["sh", "-c", "head -c 3000000 /dev/zero > /tmp/zeros"])
    with streams.forwarded(cluster, namespace, pod, 8000) as port:
        for _ in range(3):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                connection.request("GET", "/zeros")
                assert connection.getresponse().read() == bytes(3_000_000)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 5)


def test_a_port_on_which_nobody_listens(cluster: KubernetesClient, namespace: str, pod: str) -> None:
    with streams.forwarded(cluster, namespace, pod, 8001) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            with pytest.raises(ConnectionError):
                connection.getresponse()


# logs


class Scissors:
    """Leads to the API, and cuts every connection after some thousand bytes of what comes back."""

    def __init__(self, target: tuple[str, int], seed: int) -> None:
        self._target, self._random = target, random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.cuts = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near, socket.create_connection(self._target) as far:
            threading.Thread(target=self._upwards, args=(near, far), daemon=True).start()
            left = self._random.randint(20_000, 60_000)
            while left > 0 and (data := far.recv(min(left, 4096))):
                near.sendall(data)
                left -= len(data)
            self.cuts += left <= 0
            for side in (near, far):  # the other thread still reads from it
                side.shutdown(socket.SHUT_RDWR)

    def _upwards(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(4096):
                far.sendall(data)

    def close(self) -> None:
        self._server.close()


def test_a_log_is_whole_though_its_connections_break(
    cluster: KubernetesClient, kubernetes_node: KubernetesCluster, namespace: str, tmp_path: Path
) -> None:
    dots = "." * 44
    text = f'for t in 1 2 3 4; do for i in $(seq 300); do echo "$t $i {dots}"; done; sleep 1.1; done'
    make_pod(cluster, namespace, "talker", "sh", "-c", f"{text}; head -c 40000 /dev/zero | tr '\\0' x; printf '\\nend'")
    document = json.loads(kubernetes_node.kubeconfig.read_text())
    server = document["clusters"][0]["cluster"]
    host, port = server["server"].removeprefix("https://").split(":")
    scissors = Scissors((host, int(port)), seed=7)
    server["server"], server["tls-server-name"] = f"https://127.0.0.1:{scissors.port}", host
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    cut = KubernetesClient(default_connection(kubeconfig=str(tmp_path / "kubeconfig")))
    reader, pieces = ContainerLog(cut, namespace, "talker", "main"), b""
    deadline = time.monotonic() + 120
    while not pieces.endswith(b"end"):
        pieces += reader.read()
        assert time.monotonic() < deadline, f"{len(pieces)} bytes: {pieces[-200:]!r}"
        time.sleep(0.05)
    reader.close()
    cut.close()
    scissors.close()
    lines = [f"{t} {i} {dots}" for t in range(1, 5) for i in range(1, 301)]
    assert pieces.decode().split("\n") == [*lines, "x" * 40000, "end"]
    assert scissors.cuts > 3
    cluster.delete("v1", "Pod", namespace, "talker", grace=0)


# objects


def test_objects_are_applied_listed_and_deleted(cluster: KubernetesClient, namespace: str) -> None:
    labels = {"app": "x"}
    thing = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": namespace, "labels": labels},
    }
    cluster.apply({**thing, "data": {"a": "1"}})
    cluster.apply({**thing, "data": {"b": "2"}})
    assert [obj["data"] for obj in cluster.objects("v1", "ConfigMap", namespace, "app=x")] == [{"b": "2"}]
    assert cluster.create(thing)["data"] == {"b": "2"}
    with pytest.raises(ExecutorError, match=r"there is a ConfigMap 'c' .* not ours"):
        cluster.create({**thing, "metadata": {**thing["metadata"], "labels": {"app": "y"}}})
    assert cluster.delete("v1", "ConfigMap", namespace, "c")
    assert not cluster.delete("v1", "ConfigMap", namespace, "c")
    assert cluster.get("v1", "ConfigMap", namespace, "c") is None


def test_a_kind_that_the_cluster_does_not_have(cluster: KubernetesClient, namespace: str) -> None:
    assert not cluster.serves("no.such.group/v1", "Thing")
    with pytest.raises(ExecutorError, match=r"has no Thing \(no.such.group/v1\)"):
        cluster.objects("no.such.group/v1", "Thing", namespace)


def test_who_may_not_is_told_what_he_may_not(kubernetes_node: KubernetesCluster, namespace: str, pod: str) -> None:
    with contextlib.closing(KubernetesClient(default_connection("alice"))) as alice:
        with pytest.raises(ExecutorError, match=r'User "alice" cannot list resource "pods".*administrators'):
            alice.pods(namespace, "")
        with pytest.raises(ExecutorError, match=r'User "alice" cannot get resource "pods/exec"'):
            streams.execute(alice, namespace, pod, ["true"])
