"""A Lepton workspace over real HTTP, whose jobs are processes of this machine.

It answers as the public documentation and the official SDK say. A replica runs the command of its job, below a folder
that stands in for the container: mounts are at the paths that their jobs name, which have to be below it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

GRACE = 5.0
"""Seconds between the request to end and the kill."""

_LN = """\
#!/bin/sh
for last; do :; done
[ "$last" != /nemo_run ] || { echo "ln: /nemo_run: this is no container" >&2; exit 1; }
exec /bin/ln "$@"
"""
_RESERVED = ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/opt", "/proc", "/root", "/run", "/sys", "/usr", "/var")


@dataclass
class Fault:
    """What goes wrong with requests.

    Attributes:
        method: Their method.
        path: A pattern for their path.
        kind: ``"status"``: they are refused; ``"cut"``: the connection is cut before anything is done; ``"lost"``: it
            is done, and the connection is cut before the answer; ``"slow"``: the answer takes its time; ``"short"``:
            the connection is cut after so many bytes of the answer.
        value: The status, the seconds, or the number of bytes.
        times: How often.
        after: How many are well before.
        headers: Of a refusal.
    """

    method: str
    path: str
    kind: str
    value: float = 0
    times: int = 1
    after: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Request(NamedTuple):
    """A request that has come."""

    method: str
    path: str
    body: Any
    query: dict[str, str]


class Replica:
    """One replica: a process in a session of its own, and its log."""

    def __init__(self, server: Lepton, job: Job, rank: int) -> None:
        self.id = f"{job.id}-{rank}-{os.urandom(3).hex()[:5]}"
        self.log = server.folder / "logs" / self.id
        self.exit_code: int | None = None
        spec = job.body["spec"]
        env = {
            "PATH": f"{server.folder}/bin:{server.path}",
            "HOME": str(server.folder),
            "TMPDIR": str(server.folder / "tmp"),
            "HOSTNAME": self.id,
            "LANG": "C.UTF-8",
            "LEPTON_JOB_NAME": job.id,
            "LEPTON_JOB_WORKER_INDEX": str(rank),
            "LEPTON_JOB_TOTAL_WORKERS": str(spec.get("parallelism") or 1),
            "LEPTON_WORKSPACE_ID": server.workspace,
            **server.replica_env,
        }
        for variable in spec.get("envs") or []:
            if "value" in variable:
                env[variable["name"]] = _expanded(variable["value"], env)
            else:
                env[variable["name"]] = server.secrets[variable["value_from"]["secret_name_ref"]]
        command = [_expanded(word, env) for word in spec["container"]["command"]]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [arg.encode("utf-8", "surrogateescape") for arg in command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=server.folder, start_new_session=True,
            )  # fmt: skip
        self.created = time.time()

    def watch(self) -> None:
        """See whether it has ended; then, as with a container, all of it has."""
        if self.exit_code is None and self.process.poll() is not None:
            self.end()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self.exit_code = 128 - code if code < 0 else code


def _expanded(text: str, env: dict[str, str]) -> str:
    """What Kubernetes makes of a value."""
    known = {"$$": "$"}
    return re.sub(r"\$\$|\$\((\w+)\)", lambda m: known.get(m[0]) or env.get(m[1], m[0]), text)


class Job:
    """One job of the workspace."""

    def __init__(self, server: Lepton, body: dict[str, Any]) -> None:
        self.id = body["metadata"]["id"]
        self.body = body
        self.created = time.time()
        self.replicas: list[Replica] = []
        self.stop_at: float | None = None
        self.state = ""
        """Set by a test: what the service says instead of what is so."""
        if not server.is_full:
            self.start(server)

    def start(self, server: Lepton) -> None:
        count = self.body["spec"].get("parallelism") or 1
        self.replicas = [Replica(server, self, rank) for rank in range(count)]

    def stop(self) -> None:
        self.body["spec"]["stopped"] = True
        if self.stop_at is None:
            self.stop_at = time.time() + GRACE
            for replica in self.replicas:
                if replica.exit_code is None:
                    replica.process.send_signal(signal.SIGTERM)

    def look(self) -> None:
        for replica in self.replicas:
            replica.watch()
        if any(replica.exit_code for replica in self.replicas) or (self.stop_at and time.time() > self.stop_at):
            for replica in self.replicas:
                if replica.exit_code is None:
                    replica.end()

    def document(self) -> dict[str, Any]:
        self.look()
        codes = [replica.exit_code for replica in self.replicas]
        active = codes.count(None)
        if not self.replicas:
            state = "Stopped" if self.stop_at else "Queueing"
        elif active:
            state = "Stopping" if self.stop_at else "Running"
        elif self.stop_at:
            state = "Stopped"
        else:
            state = "Failed" if any(codes) else "Completed"
        status = {"state": self.state or state, "ready": active, "active": active, "job_name": self.id}
        status |= {"failed": sum(map(bool, codes)), "succeeded": codes.count(0), "creation_time": int(self.created)}
        metadata = {**self.body["metadata"], "created_at": int(self.created * 1000), "version": 1}
        return {"metadata": metadata, "spec": self.body["spec"], "status": {**status, "job_history": []}}


class Lepton:
    """The workspace: its jobs, and what goes wrong."""

    workspace = "ws1"

    def __init__(self, folder: Path, path: str = os.environ.get("PATH", os.defpath)) -> None:
        self.folder = folder
        self.path = path
        for name in ("logs", "bin", "tmp"):
            (folder / name).mkdir(parents=True)
        (folder / "bin" / "ln").write_text(_LN)
        (folder / "bin" / "ln").chmod(0o755)
        self.tokens = {"token-1"}
        self.secrets = {"my-secret": "from-a-secret"}
        self.replica_env: dict[str, str] = {}
        self.groups = {"group-a": "ng-a1", "group-b": "ng-b2"}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.is_full = False
        self.ray_dashboard = 0
        """Port of the dashboard of a Ray cluster, which stands in for those of all clusters; 0: none comes up."""
        self.ray_token = ""
        """With which that lets its users in, as the service does."""
        self.ray_clusters: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, Job] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"lepton": self}))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.closed = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/api/v2/workspaces/{self.workspace}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead there."""
        return {
            "LEPTON_WORKSPACE_ID": self.workspace,
            "LEPTON_WORKSPACE_TOKEN": "token-1",
            "LEPTON_WORKSPACE_URL": self.url,
            "LEPTON_WORKSPACE_ORIGIN_URL": "https://origin.example",
            "LEPTON_CACHE_DIR": str(self.folder / "lepton-cache"),
        }

    def fault(
        self, method: str, path: str, kind: str, value: float = 0, times: int = 1, after: int = 0, **headers: str
    ) -> None:
        """Let something go wrong."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        self.faults.append(Fault(method, path, kind, value, times, after, named))

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.after -= 1
                    if fault.after < 0:
                        fault.times -= 1
                        return fault
        return None

    def make_room(self) -> None:
        """Start what is in the queue."""
        with self.lock:
            self.is_full = False
            for job in self.jobs.values():
                if not job.replicas and job.stop_at is None:
                    job.start(self)

    def close(self) -> None:
        """End it, and all processes of its jobs."""
        self.closed = True
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        for job in self.jobs.values():
            for replica in job.replicas:
                if replica.exit_code is None:
                    replica.end()


class _Handler(BaseHTTPRequestHandler):
    lepton: Lepton
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path).removeprefix(f"/api/v2/workspaces/{self.lepton.workspace}")
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        proxied = re.fullmatch(r"/rayclusters/([^/]+)/dashboard(/.*)", path)
        body = json.loads(data) if data and not proxied else None
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        with self.lepton.lock:
            self.lepton.requests.append(Request(self.command, path, body, query))
        fault = self.lepton.take_fault(self.command, path)
        if fault and fault.kind == "cut":
            self.close_connection = True
            return
        if fault and fault.kind == "slow":
            time.sleep(fault.value)
        if fault and fault.kind == "status":
            self._answer(int(fault.value), {"message": f"fault {int(fault.value)}"}, fault.headers)
            return
        if self.headers.get("authorization", "").removeprefix("Bearer ") not in self.lepton.tokens:
            self._answer(401, {"message": "unauthorized"})
            return
        if proxied:
            self._to_dashboard(proxied[1], f"{proxied[2]}?{url.query}", data)
            return
        if self.headers.get("origin") != "https://origin.example":
            self._answer(403, {"message": "this workspace wants its origin"})
            return
        answer = _ROUTES.find(self.command, path)
        if answer is None:
            self._answer(404, {"message": "no such route"})
            return
        function, arguments = answer
        result = function(self, *arguments, query=query, body=body)
        if fault and fault.kind == "lost":
            self.close_connection = True
            return
        if isinstance(result, tuple):
            self._answer(*result)
        else:
            self._stream(result, int(fault.value) if fault and fault.kind == "short" else None)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = do_HEAD = _serve

    def _answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, pieces: Iterator[bytes], limit: int | None) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if limit is not None and len(piece) > limit:
                self.wfile.write(b"%x\r\n%s" % (len(piece), piece[:limit]))
                self.close_connection = True
                return
            limit = limit - len(piece) if limit is not None else None
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _to_dashboard(self, name: str, path: str, data: bytes) -> None:
        """Pass a request on to Ray, and whatever follows on this connection, as it is with websockets."""
        page = f"http://{self.headers['host']}/workspace/{self.lepton.workspace}"
        if self.headers.get("origin") != page:
            self._answer(403, {"message": f"the origin is not {page}"})
            return
        if name not in self.lepton.ray_clusters:
            self._answer(404, {"message": "no such cluster"})
            return
        ours = ("authorization", "host", "origin")
        headers = [f"{key}: {value}" for key, value in self.headers.items() if key.lower() not in ours]
        headers.append(f"Authorization: Bearer {self.lepton.ray_token}")
        if not self.headers.get("upgrade"):
            headers = [*(line for line in headers if not line.lower().startswith("connection:")), "Connection: close"]
        head = "\r\n".join([f"{self.command} {path} HTTP/1.1", "Host: localhost", *headers, "", ""])
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", self.lepton.ray_dashboard)) as ray, suppress(OSError):
            ray.sendall(head.encode() + data)
            threading.Thread(target=_pass_on, args=(self.connection, ray), daemon=True).start()
            while piece := ray.recv(1 << 16):
                self.connection.sendall(piece)

    # what there is

    def create_ray_cluster(self, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        name = body["metadata"]["id"]
        if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > 36:
            return 400, {"message": f"invalid name {name!r}"}
        with self.lepton.lock:
            if name in self.lepton.ray_clusters:
                return 409, {"message": f"{name} already exists"}
            created = {**body["metadata"], "created_at": time.time_ns() // 1_000_000}
            self.lepton.ray_clusters[name] = {**body, "metadata": created}
        return self.get_ray_cluster(name, query=query, body=body)

    def get_ray_cluster(self, name: str, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        cluster = self.lepton.ray_clusters.get(name)
        if cluster is None:
            return 404, {"message": "no such cluster"}
        return 200, {**cluster, "status": {"state": "Ready" if self.lepton.ray_dashboard else "Not Ready"}}

    def delete_ray_cluster(self, name: str, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        found = self.lepton.ray_clusters.pop(name, None)
        return (200, {}) if found else (404, {"message": "no such cluster"})

    def job(self, name: str) -> Job | None:
        return self.lepton.jobs.get(name)

    def list_jobs(self, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self.lepton.lock:
            found = [job.document() for name, job in self.lepton.jobs.items() if query.get("q", "") in name]
        size, page = int(query.get("page_size", 20)), int(query.get("page", 1))
        return 200, {"jobs": found[(page - 1) * size : page * size], "total": len(found)}

    def create_job(self, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        name = body["metadata"].get("id") or body["metadata"].get("name") or ""
        if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > 36:
            return 400, {"message": f"invalid job name {name!r}"}
        for mount in body["spec"].get("mounts") or []:
            if mount["mount_path"] in _RESERVED:
                return 400, {"message": f"mount path {mount['mount_path']} is reserved"}
        for variable in body["spec"].get("envs") or []:
            reference = variable.get("value_from", {}).get("secret_name_ref")
            if reference is not None and reference not in self.lepton.secrets:
                return 400, {"message": f"secret {reference!r} not found", "input": body["spec"]["envs"]}
        if None in body["spec"].values():
            return 400, {"message": "null is not a value"}
        with self.lepton.lock:
            if name in self.lepton.jobs:
                return 409, {"message": f"job {name} already exists"}
            self.lepton.jobs[name] = Job(self.lepton, body)
        return 201, self.lepton.jobs[name].document()

    def get_job(self, name: str, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        job = self.job(name)
        return (200, job.document()) if job else (404, {"message": "job not found"})

    def patch_job(self, name: str, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        job = self.job(name)
        if job is None:
            return 404, {"message": "job not found"}
        with self.lepton.lock:
            if body["spec"].get("stopped"):
                job.stop()
        return 200, job.document()

    def delete_job(self, name: str, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self.lepton.lock:
            job = self.lepton.jobs.pop(name, None)
        if job is None:
            return 404, {"message": "job not found"}
        for replica in job.replicas:
            if replica.exit_code is None:
                replica.end()
        return 200, {}

    def list_replicas(self, name: str, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        job = self.job(name)
        if job is None:
            return 404, {"message": "job not found"}
        node = {"name": "node-1", "id": "n1"}
        return 200, [
            {"id": replica.id, "metadata": {"id": replica.id, "created_at": int(replica.created * 1000)},
             "status": {"node": node}}
            for replica in job.replicas
        ]  # fmt: skip

    def list_events(self, name: str, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        return 200, self.lepton.events.get(name, [])

    def follow_log(self, name: str, replica: str, *, query: dict[str, str], body: Any) -> Any:
        job = self.job(name)
        found = [one for one in job.replicas if one.id == replica] if job else []
        return self._log(job, found[0]) if found else (404, {"message": "replica not found"})

    def _log(self, job: Job, replica: Replica) -> Iterator[bytes]:
        with replica.log.open("rb") as log:
            while not self.lepton.closed:
                with self.lepton.lock:
                    job.look()
                ended = replica.exit_code is not None
                while piece := log.read(1 << 16):
                    yield piece
                if ended:
                    return
                time.sleep(0.02)

    def list_groups(self, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        groups = self.lepton.groups.items()
        return 200, [{"metadata": {"id": id_, "name": name}, "spec": {}, "status": {}} for name, id_ in groups]

    def list_nodes(self, group: str, *, query: dict[str, str], body: Any) -> tuple[int, Any]:
        return 200, [{"metadata": {"id": "n1"}, "spec": {"unschedulable": False}, "status": {"status": ["Ready"]}}]


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


class _Routes:
    def __init__(self, *routes: tuple[str, str, Any]) -> None:
        self._routes = [(method, re.compile(path), function) for method, path, function in routes]

    def find(self, method: str, path: str) -> tuple[Any, tuple[str, ...]] | None:
        for known, pattern, function in self._routes:
            if known == method and (match := pattern.fullmatch(path)):
                return function, match.groups()
        return None


_ROUTES = _Routes(
    ("GET", "/jobs", _Handler.list_jobs),
    ("POST", "/jobs", _Handler.create_job),
    ("GET", "/jobs/([^/]+)", _Handler.get_job),
    ("PATCH", "/jobs/([^/]+)", _Handler.patch_job),
    ("DELETE", "/jobs/([^/]+)", _Handler.delete_job),
    ("GET", "/jobs/([^/]+)/replicas", _Handler.list_replicas),
    ("GET", "/jobs/([^/]+)/events", _Handler.list_events),
    ("GET", "/jobs/([^/]+)/replicas/([^/]+)/log", _Handler.follow_log),
    ("POST", "/rayclusters", _Handler.create_ray_cluster),
    ("GET", "/rayclusters/([^/]+)", _Handler.get_ray_cluster),
    ("DELETE", "/rayclusters/([^/]+)", _Handler.delete_ray_cluster),
    ("GET", "/dedicated-node-groups", _Handler.list_groups),
    ("GET", "/dedicated-node-groups/([^/]+)/nodes", _Handler.list_nodes),
)
