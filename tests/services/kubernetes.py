"""A Kubernetes cluster on this machine, as root: its API alone, or also its controllers and a node that runs pods.

The node lives in namespaces of its own, joined to this machine by one cable; when its first process ends, all of it
does. Nothing is pulled from a registry, and nothing listens on this machine's outer addresses.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.services import installed, kubernetes_build as binaries
from tests.services.kubernetes_names import DOMAIN, NameServer

IMAGE = f"localhost/nemo-run-test-py{sys.version_info[0]}.{sys.version_info[1]}:test"
"""An image with a shell and Python, and nothing else."""

GPUS = 8
"""GPUs that the node pretends to have."""

_PAUSE_IMAGE = "localhost/nemo-run-test-pause:test"
_PAUSE = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait; done"
_API = (("etcd", "openssl"), ("etcd-server", "openssl"))
_NODE = (
    ("containerd", "ctr", "runc", "iptables", "ip", "nsenter", "unshare"),
    ("containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "util-linux"),
)
_UNTIL_WE_END = ("setpriv", "--pdeathsig", "KILL")
_SHORTAGES = ("memory.available", "nodefs.available", "imagefs.available", "nodefs.inodesFree")
_PRIVATE = ("/run", "/var/log", "/var/lib/cni")  # folders that the node has for itself


@functools.cache
def available() -> bool:
    """Can this machine run the API? In CI, what is lacking is installed and built, whatever time that takes."""
    if os.geteuid() != 0 or not installed(*_API):
        return False
    if not binaries.built() and os.environ.get("CI") == "true":
        binaries.build()
    return binaries.built()


@functools.cache
def node_available() -> bool:
    """Can this machine run a node, too?"""
    return available() and installed(*_NODE) and Path("/usr/lib/cni/bridge").exists()


class KubernetesCluster:
    """The cluster. ``KUBECONFIG`` of whoever uses it has to be :attr:`kubeconfig`.

    Its contexts are ``admin``, who may do everything, and ``alice``, who may do nothing.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nr-k8s-"))
        self.folder.chmod(0o711)
        self.kubeconfig = self.folder / "kubeconfig"
        self.has_node = False
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._node: subprocess.Popen[bytes] | None = None
        self._kubelet_started = 0.0
        self._names: NameServer | None = None
        self._net = _free_net()
        self._address = f"{self._net}.3.1"  # of the API, on the loopback interface: the node reaches it there, too
        self._link = f"nr-{self.folder.name[-8:]}"
        self._ports = _free_ports(3)
        for name in ("etcd", "log", "kubelet", "cni", "containerd", "volumes"):
            (self.folder / name).mkdir(mode=0o700)

    # the API

    def start(self) -> None:
        """Start the API and wait until it answers."""
        _call("ip", "addr", "add", f"{self._address}/32", "dev", "lo")
        self._make_keys()
        _, etcd, peers = self._ports
        self._run("etcd", [
            "etcd", "--data-dir", str(self.folder / "etcd"), "--log-level", "error", "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{etcd}", f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-cluster=default=http://127.0.0.1:{peers}",
        ])  # fmt: skip
        self.start_api()

    def start_api(self) -> None:
        """Start the API server and wait until it answers."""
        port, etcd, _ = self._ports
        keys = self.folder
        self._run("kube-apiserver", [
            f"--etcd-servers=http://127.0.0.1:{etcd}", f"--bind-address={self._address}", f"--secure-port={port}",
            f"--advertise-address={self._address}", f"--tls-cert-file={keys}/server.crt",
            f"--tls-private-key-file={keys}/server.key", f"--token-auth-file={keys}/tokens.csv",
            "--authorization-mode=RBAC", "--anonymous-auth=false", "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={keys}/ca.key",
            f"--service-account-signing-key-file={keys}/ca.key", f"--service-cluster-ip-range={self._net}.2.0/24",
            "--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount",
            "--kubelet-preferred-address-types=InternalIP", "--feature-gates=TTLAfterFinished=true",
        ])  # fmt: skip
        self._wait(lambda: self.core().read_namespace("default"), "the API does not answer")

    def stop_api(self) -> None:
        """End the API server; what it knows is kept."""
        process = self._processes.pop("kube-apiserver")
        process.kill()
        process.wait()

    def core(self) -> Any:
        """A client of the API: the SDK's ``CoreV1Api``."""
        from kubernetes import client, config

        configuration = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), client_configuration=configuration)
        return client.CoreV1Api(client.ApiClient(configuration))

    def _make_keys(self) -> None:
        for name in ("ca", "server"):
            key = str(self.folder / f"{name}.key")
            _call("openssl", "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", key)
        ca = ("-key", f"{self.folder}/ca.key", "-out", f"{self.folder}/ca.crt", "-subj", "/CN=test-ca")
        _call("openssl", "req", "-x509", "-new", "-days", "30", *ca, "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        _call(
            "openssl", "req", "-x509", "-new", "-days", "30", "-key", f"{self.folder}/server.key",
            "-subj", "/CN=server", "-CA", f"{self.folder}/ca.crt", "-CAkey", f"{self.folder}/ca.key",
            "-out", f"{self.folder}/server.crt", "-addext", f"subjectAltName=IP:{self._address}",
            "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth",
            "-addext", "keyUsage=critical,digitalSignature",
        )  # fmt: skip
        tokens = {name: secrets.token_hex(16) for name in ("admin", "alice")}
        admin = f'{tokens["admin"]},admin,admin,"system:masters"'
        (self.folder / "tokens.csv").write_text(f"{admin}\n{tokens['alice']},alice,alice\n")
        cluster = {
            "server": f"https://{self._address}:{self._ports[0]}",
            "certificate-authority": f"{self.folder}/ca.crt",
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}} for name, token in tokens.items()],
            "contexts": [{"name": name, "context": {"cluster": "test", "user": name}} for name in tokens],
            "current-context": "admin",
        }
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(document))

    # controllers and the node

    def add_node(self) -> None:
        """Start controllers, scheduler and the node; wait until it takes pods."""
        if self.has_node:
            return
        common = [f"--kubeconfig={self.kubeconfig}", "--port=0", "--secure-port=0", "--leader-elect=false"]
        common += ["--kube-api-qps=200", "--kube-api-burst=400"]
        self._run("kube-controller-manager", [
            *common, f"--service-account-private-key-file={self.folder}/ca.key", f"--root-ca-file={self.folder}/ca.crt",
            "--node-monitor-period=1s", "--node-monitor-grace-period=8s", "--pvclaimbinder-sync-period=2s",
            "--feature-gates=TTLAfterFinished=true",
        ])  # fmt: skip
        self._run("kube-scheduler", common)
        self._names = NameServer(self._address, self.core)
        self.start_node()
        self.has_node = True

    def start_node(self) -> None:
        """Start the node, or start it again after it was killed."""
        init = "".join(f"mount -t tmpfs tmpfs {folder}; " for folder in _PRIVATE)
        init += (
            f"mkdir -p /run/netns /run/containerd /var/log/pods; hostname node1; touch {self.folder}/ready; {_PAUSE}"
        )
        Path("/var/lib/cni").mkdir(exist_ok=True)
        (self.folder / "ready").unlink(missing_ok=True)
        spaces = ("--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child")
        with (self.folder / "log" / "node").open("ab") as out:
            self._node = subprocess.Popen(
                [*_UNTIL_WE_END, "unshare", *spaces, "sh", "-c", init],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._wait((self.folder / "ready").exists, "the node's namespaces are not there")
        self._plug_in()
        for hierarchy in _cgroups():
            (hierarchy / self._link).mkdir(exist_ok=True)
        self._start_containerd()
        self._start_kubelet()
        self._wait(self._is_ready, "the node does not get ready")

    def _first_process(self) -> int:
        assert self._node is not None
        children = Path(f"/proc/{self._node.pid}/task/{self._node.pid}/children").read_text().split()
        return int(children[0])

    def _inside(self, *argv: str) -> list[str]:
        pid = self._first_process()
        return ["nsenter", "-t", str(pid), "--mount", "--net", "--pid", "--uts", "--ipc", *argv]

    def _plug_in(self) -> None:
        """Join the node to this machine; the cable goes with the node."""
        net, inner = self._net, f"{self._link}p"
        for command in (
            f"ip link add {self._link} type veth peer name {inner} netns {self._first_process()}",
            f"ip addr add {net}.0.254/24 dev {self._link}",
            f"ip link set {self._link} up",
            f"ip route add {net}.1.0/24 via {net}.0.1 dev {self._link}",
        ):
            _call(*command.split())
        for command in (
            f"ip link set {inner} name eth0",
            f"ip addr add {net}.0.1/24 dev eth0",
            "ip link set eth0 up",
            "ip link set lo up",
            f"ip route add default via {net}.0.254",
            "sysctl -q -w net.ipv4.ip_forward=1",
        ):
            _call(*self._inside(*command.split()))

    def _start_containerd(self) -> None:
        shutil.rmtree(self.folder / "cni", ignore_errors=True)
        (self.folder / "cni").mkdir()
        ipam = {"type": "host-local", "ranges": [[{"subnet": f"{self._net}.1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
        network = {"cniVersion": "0.4.0", "name": "test", "plugins": [bridge]}
        (self.folder / "cni" / "10-test.conflist").write_text(json.dumps(network))
        (self.folder / "containerd.toml").write_text(f"""
version = 2
root = "{self.folder}/containerd"
state = "/run/containerd/state"
oom_score = 0
[grpc]
  address = "{self.folder}/containerd.sock"
[ttrpc]
  address = "/run/containerd/ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{_PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self.folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
""")
        self._run("containerd", self._inside("containerd", "-c", str(self.folder / "containerd.toml")))
        ctr = ("ctr", "-a", str(self.folder / "containerd.sock"), "-n", "k8s.io")
        self._wait(lambda: _call(*ctr, "version"), "containerd does not answer")
        if not self.has_node:
            archive = self.folder / "images.tar"
            archive.write_bytes(_images())
            _call(*self._inside(*ctr, "images", "import", str(archive)))
            archive.unlink()

    def _start_kubelet(self) -> None:
        configuration = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": f"{self._net}.0.1", "readOnlyPort": 0, "healthzPort": 0, "failSwapOn": False, "oomScoreAdj": 0,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs", "cgroupsPerQOS": False, "cgroupRoot": f"/{self._link}",
            "enforceNodeAllocatable": [], "evictionHard": dict.fromkeys(_SHORTAGES, "0%"),
            "imageGCHighThresholdPercent": 100, "nodeStatusUpdateFrequency": "1s", "nodeLeaseDurationSeconds": 8,
            "serializeImagePulls": False, "kubeAPIQPS": 200, "kubeAPIBurst": 400, "eventRecordQPS": 0,
            "resolvConf": "/dev/null", "clusterDNS": [self._address], "clusterDomain": DOMAIN,
        }  # fmt: skip
        (self.folder / "kubelet.json").write_text(json.dumps(configuration))
        self._run("kubelet", self._inside(
            str(binaries.CACHE / "kubelet"), f"--config={self.folder}/kubelet.json", f"--kubeconfig={self.kubeconfig}",
            "--hostname-override=node1", f"--node-ip={self._net}.0.1", f"--root-dir={self.folder}/kubelet",
            f"--cert-dir={self.folder}/kubelet/pki", "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{self.folder}/containerd.sock",
            f"--pod-infra-container-image={_PAUSE_IMAGE}",
        ))  # fmt: skip
        self._kubelet_started = time.time()

    def _is_ready(self) -> bool:
        """Ready, and not by what it said in an earlier life; without a taint; its GPUs are counted."""
        node = self.core().read_node("node1")
        ready = next(entry for entry in node.status.conditions if entry.type == "Ready")
        if ready.status != "True" or ready.last_heartbeat_time.timestamp() < self._kubelet_started:
            return False
        if (node.status.allocatable or {}).get("nvidia.com/gpu") != str(GPUS):
            self.core().patch_node_status("node1", {"status": {"capacity": {"nvidia.com/gpu": str(GPUS)}}})
            return False
        return not node.spec.taints

    def kill_node(self) -> None:
        """End the node and all that runs on it at once."""
        if self._node is not None:
            with contextlib.suppress(IndexError, OSError):
                os.kill(self._first_process(), signal.SIGKILL)
            self._node.wait()
            self._node = None
        for name in ("kubelet", "containerd"):
            if process := self._processes.pop(name, None):
                process.kill()
                process.wait()
        for hierarchy in _cgroups():
            _remove_cgroups(hierarchy / self._link)

    # what tests need

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        """A namespace of its own; it goes in the background."""
        name = f"test-{secrets.token_hex(4)}"
        self.core().create_namespace({"metadata": {"name": name}})
        yield name
        self.core().delete_namespace(name)

    def make_volume(self, namespace: str, claim: str) -> Path:
        """A volume and a claim for it; the folder of this machine that it is."""
        name = f"{namespace}-{claim}"
        folder = self.folder / "volumes" / name
        folder.mkdir()
        size, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
        spec = {"capacity": size, "accessModes": modes, "hostPath": {"path": str(folder)}}
        spec |= {"claimRef": {"namespace": namespace, "name": claim}}
        self.core().create_persistent_volume({"metadata": {"name": name}, "spec": spec})
        wanted = {"accessModes": modes, "resources": {"requests": size}, "storageClassName": "", "volumeName": name}
        self.core().create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": claim}, "spec": wanted})
        return folder

    # its processes

    def _run(self, name: str, argv: list[str]) -> None:
        if name in binaries.BINARIES and name != "kubelet":
            argv = [str(binaries.CACHE / name), *argv]
        with (self.folder / "log" / name).open("ab") as out:
            self._processes[name] = subprocess.Popen(
                [*_UNTIL_WE_END, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _wait(self, condition: Callable[[], Any], problem: str) -> None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(ApiException, HTTPError, subprocess.CalledProcessError):
                if condition():
                    return
            if time.monotonic() > deadline or any(p.poll() is not None for p in self._processes.values()):
                logs = sorted((self.folder / "log").iterdir())
                raise AssertionError(problem + "".join(f"\n--- {log.name}\n{log.read_text()[-1500:]}" for log in logs))
            time.sleep(0.1)

    def stop(self) -> None:
        """End everything and remove its files."""
        self.kill_node()
        if self._names is not None:
            self._names.close()
        for process in reversed(list(self._processes.values())):
            process.kill()
            process.wait()
        subprocess.run(["ip", "addr", "del", f"{self._address}/32", "dev", "lo"], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _call(*argv: str) -> bool:
    subprocess.run(argv, check=True, capture_output=True)
    return True


def _free_net() -> str:
    """The first two numbers of addresses that this machine does not use."""
    used = subprocess.run(["ip", "-4", "route", "show", "table", "all"], capture_output=True, text=True, check=True)
    free = [f"10.{number}" for number in range(200, 250) if f"10.{number}." not in used.stdout]
    return secrets.choice(free)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(s.getsockname()[1]) for s in sockets]


def _cgroups() -> list[Path]:
    """Hierarchies in which the node has a group of its own."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    names = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
    return [root / name for name in names if (root / name).is_dir()]


def _remove_cgroups(top: Path) -> None:
    """Remove a group and all below it; their processes may still be ending."""
    for _ in range(100):
        for folder, _names, _files in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        if not top.exists():
            return
        time.sleep(0.05)


def _images() -> bytes:
    """The images, of one layer, as ``docker save`` writes them."""
    from tests.services.docker import add_root

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        add_root(tar)
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    path = "PATH=/usr/local/bin:/usr/bin:/bin"

    def description(*command: str) -> bytes:
        what = {"Env": [path], "Cmd": list(command)}
        rootfs = {"type": "layers", "diff_ids": [digest]}
        return json.dumps({"architecture": "amd64", "os": "linux", "config": what, "rootfs": rootfs}).encode()

    manifest = [
        {"Config": "python.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]},
        {"Config": "pause.json", "RepoTags": [_PAUSE_IMAGE], "Layers": ["layer.tar"]},
    ]
    files = {
        "python.json": description("python3"),
        "pause.json": description("/bin/sh", "-c", _PAUSE),
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
