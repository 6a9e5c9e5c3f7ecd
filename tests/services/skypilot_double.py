"""Stands in for SkyPilot's API server, for SkyPilot's real client: its clusters are folders of this machine.

It answers as the server does, in the server's own encoding: requests with ids that go on by themselves, queues, streams
of logs in SkyPilot's format, downloads. The commands of tasks run as processes here. A real server with real machines
takes ten seconds and more for what takes this one a tenth of a second; the tests of this folder use both.

Started as ``python skypilot_double.py FOLDER -m sky.server.server --port=N``: the client looks for that in the list of
processes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import sky
from sky import exceptions
from sky.jobs.state import ManagedJobStatus
from sky.schemas.api import responses
from sky.server import constants
from sky.server.requests import payloads
from sky.server.requests.requests import Request, RequestStatus, ScheduleType
from sky.server.requests.serializers import encoders
from sky.skylet.job_lib import JobStatus
from sky.utils import dag_utils, status_lib

GRACE = 5.0  # seconds between SIGTERM and SIGKILL


class Job:
    """A job: a process for every node of its cluster."""

    def __init__(self, number: int, task: Any, home: Path, cluster: str) -> None:
        self.number, self.task, self.home, self.cluster = number, task, home, cluster
        self.logs = home / "sky_logs" / f"{number}-{task.name}"
        (self.logs / "tasks").mkdir(parents=True)
        self.status, self.submitted, self.started, self.ended = JobStatus.PENDING, time.time(), None, None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = (self.logs / "run.log").open("a", newline="")
        self._lock = threading.Lock()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        for target, source in (self.task.file_mounts or {}).items():
            path = self.home / target.removeprefix("~/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                shutil.copytree(source, path) if Path(source).is_dir() else shutil.copy2(source, path)
        self._say("\x1b[2m├── \x1b[0m\x1b[2mWaiting for task resources on 1 node.\x1b[0m\n")
        if self.task.setup and self._wait([self._start(0, self.task.setup, "setup")]) != [0]:
            self._end(JobStatus.FAILED_SETUP)
            return
        self._say("\x1b[2m└── \x1b[0mJob started. Streaming logs... \x1b[2m(Ctrl-C to exit log streaming)\x1b[0m\n")
        with self._lock:
            if self.status is JobStatus.CANCELLED:
                return
            self.status, self.started = JobStatus.RUNNING, time.time()
            outputs = [self._start(rank, self.task.run or "", "") for rank in range(self.task.num_nodes)]
        codes = self._wait(outputs)
        if any(codes):
            self._say(f"ERROR: \x1b[31mJob {self.number} failed with return code list:\x1b[0m {codes} \n")
        self._end(JobStatus.FAILED if any(codes) else JobStatus.SUCCEEDED)

    def _start(self, rank: int, script: str, what: str) -> threading.Thread:
        nodes = self.task.num_nodes
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONUNBUFFERED": "1",
            **(self.task.envs or {}), **{key: value.get_secret_value() if hasattr(value, "get_secret_value") else value
            for key, value in (self.task.secrets or {}).items()},
            "SKYPILOT_NODE_IPS": "\n".join(["127.0.0.1"] * nodes), "SKYPILOT_NUM_NODES": str(nodes),
            "SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NUM_GPUS_PER_NODE": "0",
            "SKYPILOT_INTERNAL_JOB_ID": str(self.number), "SKYPILOT_TASK_ID": f"sky-2026_{self.cluster}_{self.number}",
        }  # fmt: skip
        work = self.home / "sky_workdir"
        work.mkdir(exist_ok=True)
        process = subprocess.Popen(
            ["bash", "-c", script], cwd=work, env=env, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._processes.append(process)
        node = "head" if rank == 0 else f"worker{rank}"
        name = "run" if nodes == 1 else f"{rank}-{node}"
        whose = f"{self.task.name}, pid={process.pid}" if nodes == 1 else f"{node}, rank={rank}, pid={process.pid}"
        log = self.logs / f"{what}.log" if what else self.logs / "tasks" / f"{name}.log"
        reader = threading.Thread(
            target=self._copy, args=(process, log, f"{what} pid={process.pid}" if what else whose), daemon=True
        )
        reader.start()
        return reader

    def _copy(self, process: subprocess.Popen[bytes], log: Path, whose: str) -> None:
        """As SkyPilot does: decode, keep, and put a word before every line, where a return ends one, too."""
        assert process.stdout is not None
        text = io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace", newline="\n")
        with log.open("w", newline="") as out:
            for line in text:
                out.write(line)
                out.flush()
                for piece in line.rstrip("\r\n").split("\r"):
                    self._say(f"\x1b[36m({whose})\x1b[0m {piece}" + ("\n" if line.endswith("\n") else ""))

    def _wait(self, readers: list[threading.Thread]) -> list[int]:
        for reader in readers:
            reader.join()
        processes = self._processes[-len(readers) :]
        return [code if code >= 0 else 128 - code for code in (process.wait() for process in processes)]

    def _say(self, text: str) -> None:
        self._log.write(text)
        self._log.flush()

    def _end(self, status: JobStatus) -> None:
        with self._lock:
            if not self.status.is_terminal():
                self.status = status
            self.ended = self.ended or time.time()

    def cancel(self) -> None:
        with self._lock:
            if self.status.is_terminal():
                return
            processes = list(self._processes)
        self.signal(processes, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(process.poll() is None for process in processes):
            time.sleep(0.02)
        self.signal(processes, signal.SIGKILL)
        self.status = JobStatus.CANCELLED
        self._end(JobStatus.CANCELLED)

    @staticmethod
    def signal(processes: list[subprocess.Popen[bytes]], number: int) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def follow(self, follow: bool, tail: int) -> Iterator[str]:
        path = self.logs / "run.log"
        while not path.exists():
            time.sleep(0.02)
        with path.open(newline="") as log:
            if tail:
                lines = log.readlines()
                yield "".join(lines[-tail:])
            while True:
                ended = self.ended is not None
                if text := log.read():
                    yield text
                elif ended or not follow:
                    break
                else:
                    time.sleep(0.02)
        if self.ended is not None:
            yield f"\x1b[0m\x1b[32m✓ Job finished (status: {self.status.value}).\x1b[0m\x1b[0m\n"


class Cluster:
    """A folder in which jobs run."""

    def __init__(self, home: Path) -> None:
        self.home, self.jobs = home, []
        home.mkdir(parents=True)

    def add(self, task: Any, number: int = 0) -> Job:
        job = Job(number or len(self.jobs) + 1, task, self.home, self.home.name)
        self.jobs.append(job)
        return job


class Server:
    """What the API server knows: clusters, managed jobs, requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clusters: dict[str, Cluster] = {}
        self.managed: list[Job] = []
        self.requests: dict[str, Request] = {}
        self.streams: dict[str, Iterator[str]] = {}
        self.lock = threading.Lock()

    def ask(self, name: str, body: dict[str, Any], work: Callable[[], Any]) -> Request:
        """Begin a request."""
        request = Request(
            request_id=str(uuid.uuid4()), name=f"sky.{name}", entrypoint=print, request_body=payloads.RequestBody(),
            status=RequestStatus.RUNNING, created_at=time.time(), user_id="test", schedule_type=ScheduleType.LONG,
            cluster_name=body.get("cluster_name"),
        )  # fmt: skip
        request.body, request.text = body, json.dumps(body)  # type: ignore[attr-defined]
        self.requests[request.request_id] = request
        threading.Thread(target=self._work, args=(request, work), daemon=True).start()
        return request

    @staticmethod
    def _work(request: Request, work: Callable[[], Any]) -> None:
        try:
            request.return_value = encoders.get_encoder(request.name)(work())
            status = RequestStatus.SUCCEEDED
        except Exception as e:  # noqa: BLE001
            e.stacktrace = traceback.format_exc()  # type: ignore[attr-defined]
            request.set_error(e)
            status = RequestStatus.FAILED
        if request.status is RequestStatus.RUNNING:
            request.status, request.finished_at = status, time.time()

    # what requests do

    def launch(self, body: dict[str, Any]) -> Any:
        task = _task(body["task"])
        if body["cluster_name"].startswith("nowhere"):
            raise exceptions.ResourcesUnavailableError(f"\x1b[31mNo machine\x1b[0m for {task.name}.")
        while (self.folder / "hold").exists():
            time.sleep(0.02)
        if "cancelled" in body:
            return None, None
        with self.lock:
            cluster = self.clusters.get(body["cluster_name"])
            if cluster is None:
                cluster = self.clusters[body["cluster_name"]] = Cluster(self.folder / "clusters" / body["cluster_name"])
            return cluster.add(task).number, None

    def jobs_launch(self, body: dict[str, Any]) -> Any:
        with self.lock:
            number = len(self.managed) + 1
            self.managed.append(Cluster(self.folder / "managed" / str(number)).add(_task(body["task"]), number))
        return [number], None

    def cluster(self, name: str) -> Cluster:
        if name not in self.clusters:
            raise exceptions.ClusterDoesNotExist(f"\x1b[33mCluster {name!r} does not exist.\x1b[0m")
        return self.clusters[name]

    def status(self, body: dict[str, Any]) -> Any:
        names = [name for name in self.clusters if name in (body["cluster_names"] or self.clusters)]
        return [
            responses.StatusResponse(
                name=name, launched_at=0, status=status_lib.ClusterStatus.UP, autostop=-1, to_down=False,
                cluster_hash="x", cluster_ever_up=True, status_updated_at=0, user_hash="x", user_name="x",
                workspace="default", is_managed=False, nodes=1, resources_str="", resources_str_full="",
            )
            for name in names
        ]  # fmt: skip

    def down(self, body: dict[str, Any]) -> None:
        for job in self.cluster(body["cluster_name"]).jobs:
            job.cancel()
        del self.clusters[body["cluster_name"]]

    def api_cancel(self, body: dict[str, Any]) -> list[str]:
        for request in (self.requests[one] for one in body["request_ids"]):
            request.status, request.finished_at = RequestStatus.CANCELLED, time.time()
            request.body["cancelled"] = True  # type: ignore[attr-defined]
        return list(body["request_ids"])

    def queue(self, body: dict[str, Any]) -> Any:
        return [
            responses.ClusterJobRecord(
                job_id=job.number, job_name=job.task.name, username="x", user_hash="x", submitted_at=job.submitted,
                start_at=job.started, end_at=job.ended, resources="", status=job.status, log_path="", metadata={},
            )
            for job in reversed(self.cluster(body["cluster_name"]).jobs)
        ]  # fmt: skip

    def jobs_queue(self, body: dict[str, Any]) -> Any:
        wanted = body.get("job_ids") or [job.number for job in self.managed]
        return [
            responses.ManagedJobRecord(
                job_id=job.number, job_name=job.task.name, status=ManagedJobStatus(job.status.value),
                start_at=job.started, end_at=job.ended, failure_reason=None, recovery_count=0,
            )
            for job in self.managed if job.number in wanted
        ], len(self.managed)  # fmt: skip

    def cancel(self, jobs: list[Job], numbers: list[int]) -> None:
        for job in jobs:
            if job.number in numbers:
                job.cancel()

    def download(self, body: dict[str, Any]) -> dict[str, str]:
        jobs = self.cluster(body["cluster_name"]).jobs
        found = {}
        for job in jobs:
            if str(job.number) in body["job_ids"]:
                target = f"~/.sky/api_server/clients/x/sky_logs/{body['cluster_name']}/{job.logs.name}"
                shutil.copytree(job.logs, Path(target).expanduser(), dirs_exist_ok=True)
                found[str(job.number)] = target
        return found


def _task(text: str) -> Any:
    (task,) = dag_utils.load_chain_dag_from_yaml_str(text).tasks
    return task


class Handler(BaseHTTPRequestHandler):
    """The server's addresses."""

    protocol_version = "HTTP/1.1"
    state: Server

    def end_headers(self) -> None:
        self.send_header(constants.API_VERSION_HEADER, str(constants.API_VERSION))
        self.send_header(constants.VERSION_HEADER, sky.__version__)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, doc: Any, status: int = 200, **headers: str) -> None:
        data = json.dumps(doc).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, request: Request, texts: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("X-Skypilot-Request-ID", request.request_id)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for data in (text.encode() for text in texts if text):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/api/health":
            self.answer({
                "status": "healthy", "api_version": str(constants.API_VERSION), "version": sky.__version__,
                "version_on_disk": sky.__version__, "commit": sky.__commit__,
            })  # fmt: skip
        elif url.path == "/api/status":
            ids = parse_qs(url.query).get("request_ids")
            self.answer(
                [self.listed(one) for one in list(self.state.requests.values()) if self.wanted(one, ids, query)]
            )
        elif url.path in ("/api/get", "/api/stream"):
            request = self.state.requests.get(query["request_id"])
            if request is None:
                self.answer({"detail": "Request not found"}, 404)
                return
            while request.status is RequestStatus.RUNNING:
                time.sleep(0.01)
            if url.path == "/api/stream":
                self.stream(request, self.state.streams.get(request.request_id, iter(())))
                return
            payload = request.encode().model_dump()
            self.answer({"detail": payload} if request.error else payload, 500 if request.error else 200)
        else:
            self.answer({"detail": "Not Found"}, 404)

    @staticmethod
    def wanted(request: Request, ids: list[str] | None, query: dict[str, str]) -> bool:
        if ids is not None:
            return request.request_id in ids
        if query.get("cluster_name") not in (None, request.cluster_name):
            return False
        return query.get("all_status") == "true" or request.status is RequestStatus.RUNNING

    @staticmethod
    def listed(request: Request) -> dict[str, Any]:
        return {
            "request_id": request.request_id, "name": request.name, "entrypoint": "", "status": request.status.value,
            "request_body": request.text, "created_at": request.created_at, "user_id": "test", "return_value": "null",
            "error": "null", "pid": None, "schedule_type": "long", "cluster_name": request.cluster_name,
        }  # fmt: skip

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        state, path = self.state, urlsplit(self.path).path
        if path == "/validate":
            self.answer(None)
        elif path in ("/logs", "/jobs/logs"):
            jobs = state.managed if path == "/jobs/logs" else state.cluster(body["cluster_name"]).jobs
            job = next(job for job in jobs if job.number == body["job_id"])
            self.stream(state.ask("logs", body, lambda: 0), job.follow(body["follow"], body.get("tail") or 0))
        elif path == "/download":
            self.download(body["folder_paths"])
        else:
            name, work = self.work(path, body)
            request = state.ask(name, body, work)
            self.answer({}, X_Skypilot_Request_ID=request.request_id)

    def work(self, path: str, body: dict[str, Any]) -> tuple[str, Callable[[], Any]]:
        state = self.state
        works: dict[str, tuple[str, Callable[[], Any]]] = {
            "/launch": ("launch", lambda: state.launch(body)),
            "/exec": ("exec", lambda: state.launch(body)),
            "/jobs/launch": ("jobs.launch", lambda: state.jobs_launch(body)),
            "/status": ("status", lambda: state.status(body)),
            "/queue": ("queue", lambda: state.queue(body)),
            "/jobs/queue/v2": ("jobs.queue_v2", lambda: state.jobs_queue(body)),
            "/cancel": ("cancel", lambda: state.cancel(state.cluster(body["cluster_name"]).jobs, body["job_ids"])),
            "/jobs/cancel": ("jobs.cancel", lambda: state.cancel(state.managed, body["job_ids"])),
            "/download_logs": ("download_logs", lambda: state.download(body)),
            "/optimize": ("optimize", lambda: None),
            "/api/cancel": ("api_cancel", lambda: state.api_cancel(body)),
            "/down": ("down", lambda: state.down(body)),
        }
        return works[path]

    def download(self, folders: list[str]) -> None:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            for path in (path for folder in folders for path in Path(folder).expanduser().rglob("*")):
                archive.write(path, str(path))
        self.send_response(200)
        self.send_header("X-Home-Path", str(Path.home()))
        self.send_header("Content-Length", str(len(data.getvalue())))
        self.end_headers()
        self.wfile.write(data.getvalue())


if __name__ == "__main__":
    Handler.state = Server(Path(sys.argv[1]))
    port = int(re.sub(r"\D", "", sys.argv[-1]))
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
