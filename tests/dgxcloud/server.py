"""A service that behaves as DGX Cloud does: Run:ai's REST API, and of the cluster's Kubernetes API what tells of pods.

Workloads are really run, as pods of :mod:`tests.dgxcloud.pods`.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.dgxcloud.pods import Network, Pod

CLIENT, SECRET = "client-7", "s3cr3t-of-the-client"
PROJECT = "team"
GPUS = 8
IMAGE = "python:3.12"
LONGEST_COMMAND, LONGEST_NAME = 10_000, 34
VOLUME = "/workspace"
CLAIM = {"path": VOLUME, "claimName": "team-volume", "existingPvc": True}
ENDED = ("Completed", "Failed", "Stopped")


@dataclass
class Workload:
    """A workload, as it is now."""

    kind: str
    name: str
    spec: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    phase: str = "Creating"
    message: str = ""
    pods: list[Pod] = field(default_factory=list)
    created: float = field(default_factory=time.time)
    completed: float | None = None
    listed_from: float = 0.0
    network: Network | None = None


@dataclass
class Fault:
    """What goes wrong with some requests.

    Attributes:
        method: Method of the requests.
        path: What matches their paths.
        what: ``"cut before"`` or ``"cut after"`` the request was carried out, ``"slow"``, or a status to answer.
        times: With how many.
        seconds: How slow.
        after: Bytes of a log after which the connection is cut.
    """

    method: str
    path: str
    what: str | int
    times: int = 1
    seconds: float = 0.3
    after: int = 0


class Server:
    """The service, with one project and one volume; start it with ``with``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dgxcloud-"))
        self.volume = self.folder / "volume"
        self.volume.mkdir()
        self.lock = threading.RLock()
        self.tokens: set[str] = set()
        self.workloads: dict[str, Workload] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.page = 50
        self.list_delay = 0.0
        self.grace = 3.0
        self.held = threading.Event()  # cleared: nothing is scheduled
        self.held.set()
        self.environment: dict[str, str] = {}  # of the image
        self.namespace = f"runai-{PROJECT}"
        self.own_networks = False  # each workload has one
        self._closed = False
        handler = type("Handler", (_Handler,), {"service": self})
        self._http = _Http(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self._closed = True
        self._http.shutdown()
        self._http.server_close()
        self.end_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def end_all(self) -> None:
        """Kill all pods and forget all workloads."""
        with self.lock:
            workloads = list(self.workloads.values())
        for workload in workloads:
            self.delete(workload)
        self.faults.clear()
        self.list_delay, self.page = 0.0, 50
        self.held.set()

    # what tests do

    def fail(self, method: str, path: str, what: str | int, **options: Any) -> None:
        """Have the next requests that match fail."""
        self.faults.append(Fault(method, path, what, **options))

    def revoke_tokens(self) -> None:
        """No token is good any longer."""
        self.tokens.clear()

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """All bodies with which workloads of a kind were to be created."""
        return [body for method, path, body in self.requests if (method, path) == ("POST", f"/api/v1/workloads/{kind}")]

    def named(self, kind: str) -> list[str]:
        """Names of all workloads of a kind that there are."""
        return [workload.name for workload in self.workloads.values() if workload.kind == kind]

    # workloads

    def create(self, kind: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Create a workload."""
        name, spec = body["name"][:LONGEST_NAME], body["spec"]
        if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name):
            return 400, {"message": f"name {name!r} is not valid"}
        if len(spec.get("command", "")) > LONGEST_COMMAND or len(spec.get("args", "")) > LONGEST_COMMAND:
            return 400, {"message": f"command and args have at most {LONGEST_COMMAND} characters"}
        if body["projectId"] != "4501" or body["clusterId"] != "cluster-1":
            return 403, {"message": "no such project in this cluster"}
        if body.get("useGivenNameAsPrefix"):
            name = f"{name}-{uuid.uuid4().hex[:5]}"
        with self.lock:
            if self._closed:
                return 503, {"message": "it is shutting down"}
            if any(workload.name == name for workload in self.workloads.values()):
                return 409, {"message": f"workload {name} exists already"}
            workload = Workload(kind, name, spec, listed_from=time.time() + self.list_delay)
            self.workloads[workload.id] = workload
        threading.Thread(target=self._schedule, args=(workload,), daemon=True).start()
        return 202, self.meta(workload)

    def meta(self, workload: Workload) -> dict[str, Any]:
        """A workload as its own kind of paths tells it."""
        return {
            "name": workload.name, "requestedName": workload.name, "workloadId": workload.id, "projectId": "4501",
            "clusterId": "cluster-1", "createdAt": _time(workload.created), "actualPhase": workload.phase,
            "desiredPhase": "Running", "spec": workload.spec,
        }  # fmt: skip

    def entry(self, workload: Workload) -> dict[str, Any]:
        """A workload as the list tells it."""
        return {
            "name": workload.name, "id": workload.id, "phase": workload.phase, "phaseMessage": workload.message,
            "projectId": "4501", "projectName": PROJECT, "clusterId": "cluster-1", "namespace": self.namespace,
            "createdAt": _time(workload.created), "phaseUpdatedAt": _time(workload.completed or workload.created),
            **({"completedAt": _time(workload.completed)} if workload.completed else {}),
            "urls": self.urls(workload),
        }  # fmt: skip

    def urls(self, workload: Workload) -> list[str]:
        """Addresses of the ports that a workload exposes."""
        return [
            f"{self.url}/exposed/{workload.id}/{port['container']}" for port in workload.spec.get("exposedUrls", [])
        ]

    def make_pod(self, name: str, ended: Callable[[], None]) -> Pod:
        """A pod that is going to be started."""
        return Pod(name, self.folder, ended)

    def new_token(self) -> str:
        """What the service gives to those it knows."""
        return f"token-{uuid.uuid4()}"

    def _schedule(self, workload: Workload) -> None:
        spec = workload.spec
        workload.phase = "Pending"
        self.held.wait()
        wanted = spec.get("compute", {}).get("gpuDevicesRequest", 0)
        if wanted > GPUS:
            workload.message = f"0/1 nodes are available: {wanted} GPUs requested, {GPUS} there"
            return
        if spec["image"].startswith("no/"):
            workload.message = f"ImagePullBackOff: {spec['image']}"
            return
        count = spec.get("numWorkers", 1)
        worker = "-worker" if workload.kind == "distributed" else ""
        variables = {variable["name"]: variable.get("value", "") for variable in spec.get("environmentVariables", [])}
        env = {**self.environment, **variables}
        argv = [*shlex.split(spec.get("command", "")), *shlex.split(spec.get("args", ""))]
        volumes = {claim["path"]: str(self.volume) for claim in spec.get("storage", {}).get("pvc", [])}
        names = [f"{workload.name}{worker}-{number}" for number in range(count)]
        with self.lock:
            if workload.phase != "Pending" or workload.id not in self.workloads:
                return
            workload.pods = [self.make_pod(name, lambda: self._ended(workload)) for name in names]
            workload.network = Network() if self.own_networks else None
            for pod in workload.pods:
                pod.start(argv, env, volumes, names, workload.network)
            workload.phase = "Running"
        self._ended(workload)

    def _ended(self, workload: Workload) -> None:
        with self.lock:
            codes = [pod.code for pod in workload.pods]
            if workload.phase != "Running" or (None in codes and not any(codes)):
                return
            workload.phase = "Failed" if any(codes) else "Completed"
            workload.completed = time.time()
            rest = [pod for pod in workload.pods if pod.code is None]
        for pod in rest:
            threading.Thread(target=pod.stop, args=(self.grace,), daemon=True).start()

    def suspend(self, workload: Workload) -> None:
        """Stop it; its pods are gone then."""
        with self.lock:
            if workload.phase in (*ENDED, "Stopping"):
                return
            workload.phase = "Stopping"
        threading.Thread(target=self._stop, args=(workload,), daemon=True).start()

    def _stop(self, workload: Workload) -> None:
        for stopping in [threading.Thread(target=pod.stop, args=(self.grace,)) for pod in workload.pods]:
            stopping.start()
        for pod in workload.pods:
            pod.stop(self.grace)
        with self.lock:
            workload.pods = []
            workload.phase, workload.completed = "Stopped", time.time()

    def delete(self, workload: Workload) -> None:
        """Delete it."""
        with self.lock:
            self.workloads.pop(workload.id, None)
        for pod in workload.pods:
            pod.stop(0)
        if workload.network:
            workload.network.close()
            workload.network = None

    def find_pod(self, name: str) -> Pod | None:
        """A pod by its name."""
        return next((pod for w in self.workloads.values() for pod in w.pods if pod.name == name), None)

    def matching(self, filters: str) -> list[Workload]:
        """The workloads that the filters of a list let through."""
        found = [w for w in self.workloads.values() if w.listed_from <= time.time()]
        for text in filter(None, filters.split(",")):
            name, operator, value = re.fullmatch(r"(\w+)(==|=@|=\^)(.*)", text).groups()  # type: ignore[union-attr]
            test: Callable[[str, str], bool] = {
                "==": str.__eq__, "=@": lambda text, part: part in text, "=^": str.startswith,
            }[operator]  # fmt: skip
            found = [w for w in found if test(str(self.entry(w)[name]), value)]
        return sorted(found, key=lambda workload: workload.created)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is nothing to tell of."""


class _Handler(BaseHTTPRequestHandler):
    service: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Not shown."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def _handle(self, method: str) -> None:
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if match := re.fullmatch(r"/kube/api/v1/namespaces/runai-team/pods/([^/:]+):(\d+)/proxy(/.*)", self.path):
            self._proxy(method, match[1], int(match[2]), match[3], self.rfile.read(length))
            return
        body = json.loads(self.rfile.read(length)) if length else None
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        service = self.service
        with service.lock:
            service.requests.append((method, split.path, body))
            fault = next((f for f in service.faults if f.method == method and re.search(f.path, split.path)), None)
            if fault:
                fault.times -= 1
                if fault.times == 0:
                    service.faults.remove(fault)
        what = fault.what if fault else ""
        if what == "cut before":
            self._cut()
            return
        if what == "slow":
            assert fault
            time.sleep(fault.seconds)
        if isinstance(what, int):
            self._answer(what, {"message": f"a fault: {what}"})
            return
        if split.path.startswith("/kube/") and split.path.endswith("/log"):
            self._log(split.path, query, fault.after if fault and what == "cut after" else None)
            return
        status, answer = self._route(method, split.path, query, body)
        if what == "cut after":
            self._cut()
            return
        self._answer(status, answer)

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _is_known(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.service.tokens

    def _route(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        service = self.service
        if (method, path) == ("POST", "/api/v1/token"):
            if (body["grantType"], body["clientId"], body["clientSecret"]) != ("client_credentials", CLIENT, SECRET):
                return 401, {"message": f"wrong credentials {body['clientSecret']}"}
            token = service.new_token()
            service.tokens.add(token)
            return 200, {"accessToken": token, "expiresIn": 3600}
        if not self._is_known():
            return 401, {"message": "the token is not good"}
        if match := re.fullmatch(r"/kube/api/v1/namespaces/runai-team/pods/([^/]+)", path):
            pod = service.find_pod(match[1])
            return (200, _kube_pod(pod)) if pod else (404, {"message": "no such pod"})
        if path == "/api/v1/org-unit/projects":
            return 200, _projects(int(query.get("offset", 0)))
        if match := re.fullmatch(r"/api/v1/workloads/(trainings|distributed|workspaces)(?:/([^/]+)(/suspend)?)?", path):
            return self._workload(method, match[1], match[2], match[3], body)
        if match := re.fullmatch(r"/api/v1/workloads/([^/]+)/pods", path):
            workload = service.workloads.get(match[1])
            return (200, {"pods": [_pod(pod) for pod in workload.pods]}) if workload else (404, {"message": "gone"})
        if match := re.fullmatch(r"/api/v1/workloads/([0-9a-f-]{36})", path):
            workload = service.workloads.get(match[1])
            return (200, service.entry(workload)) if workload else (404, {"message": "gone"})
        if path == "/api/v1/workloads":
            found, offset = service.matching(query.get("filterBy", "")), int(query.get("offset", 0))
            page = found[offset : offset + service.page]
            more = {"next": offset + len(page)} if offset + len(page) < len(found) else {}
            return 200, {"workloads": [service.entry(workload) for workload in page], **more}
        return 404, {"message": f"no such path: {path}"}

    def _workload(
        self, method: str, kind: str, workload_id: str | None, action: str | None, body: Any
    ) -> tuple[int, Any]:
        service = self.service
        if workload_id is None:
            return service.create(kind, body) if method == "POST" else (405, {"message": "POST it"})
        workload = service.workloads.get(workload_id)
        if workload is None or workload.kind != kind:
            return 404, {"message": "no such workload"}
        if action:
            if method != "POST":
                return 405, {"message": "POST it"}
            service.suspend(workload)
        elif method == "DELETE":
            service.delete(workload)
        return (200 if method == "GET" else 202), service.meta(workload)

    def _proxy(self, method: str, pod: str, port: int, path: str, body: bytes) -> None:
        """Pass a request on to a port of a pod, as the API server of Kubernetes does."""
        workload = next((w for w in self.service.workloads.values() if pod in [p.name for p in w.pods]), None)
        if not self._is_known():
            self._answer(401, {"message": "the token is not good"})
            return
        if workload is None or workload.network is None:
            self._answer(404, {"message": "no such pod"})
            return
        try:
            upstream = workload.network.connect(port)
        except OSError as e:
            self._answer(503, {"message": f"error trying to reach service: {e}"})
            return
        upgrade = "upgrade" in self.headers.get("Connection", "").lower()
        left_out = ("authorization", "host", *(() if upgrade else ("connection",)))
        lines = [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in left_out]
        lines += ["Host: pod", *([] if upgrade else ["Connection: close"])]
        self.close_connection = True
        with upstream:
            upstream.settimeout(None)
            upstream.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body)
            back = threading.Thread(target=_relay, args=(upstream, self.connection), daemon=True)
            back.start()
            if upgrade:
                _relay(self.connection, upstream)
            back.join()

    def _log(self, path: str, query: dict[str, str], cut_after: int | None) -> None:
        if not self._is_known():
            self._answer(401, {"message": "the token is not good"})
            return
        pod = self.service.find_pod(path.split("/")[-2])
        if pod is None:
            self._answer(404, {"message": "no such pod"})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in _pieces(pod, follow=query.get("follow") == "true"):
            data = piece if cut_after is None else piece[:cut_after]
            if data:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            if cut_after is not None:
                cut_after -= len(data)
                if cut_after <= 0:
                    self._cut()
                    return
        self.wfile.write(b"0\r\n\r\n")


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _pieces(pod: Pod, *, follow: bool) -> Iterator[bytes]:
    with pod.log.open("rb") as file:
        while True:
            ended = pod.ended is not None
            while piece := file.read(1 << 16):
                yield piece
            if ended or not follow:
                return
            time.sleep(0.02)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def _projects(offset: int) -> dict[str, Any]:
    """Two pages; the project of the tests is on the second."""
    if offset == 0:
        return {"projects": [{"name": "other", "id": "4500", "clusterId": "cluster-1"}], "next": 1}
    return {"projects": [{"name": PROJECT, "id": "4501", "clusterId": "cluster-1"}]}


def _pod(pod: Pod) -> dict[str, Any]:
    started = {"startedAt": _time(pod.started)} if pod.started else {}
    return {"name": pod.name, "nodeName": "node-1", "containers": [{"name": "main", "image": IMAGE, **started}]}


def _kube_pod(pod: Pod) -> dict[str, Any]:
    if pod.code is None:
        state: dict[str, Any] = {"running": {}}
    else:
        reason = "OOMKilled" if pod.out_of_memory else "Error" if pod.code else "Completed"
        state = {"terminated": {"exitCode": pod.code, "reason": reason, "finishedAt": _time(pod.ended or 0)}}
    return {"metadata": {"name": pod.name}, "status": {"containerStatuses": [{"name": "main", "state": state}]}}
