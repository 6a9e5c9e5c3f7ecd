"""Jobs through the REST API that every Ray cluster has; Ray itself is not needed here."""

from __future__ import annotations

import builtins
import codecs
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from nemo_run.core import extras
from nemo_run.core.rest import RestClient, is_loopback
from nemo_run.errors import EngineUnreachableError, ExecutorError

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

    from nemo_run.core.ray.engine import Dashboard

EXTRA = "ray-jobs"
FINAL = ("STOPPED", "SUCCEEDED", "FAILED")
"""States, in Ray's words, of a job that has ended."""

UNKNOWN = "UNKNOWN"
"""State of a job, not in Ray's words, of which nobody can tell what became of it."""

PATIENCE = 600.0
"""Seconds in which a job is submitted after its cluster is ready, or never."""

_TIMEOUT = 60.0  # seconds; the first job of a cluster waits for Ray's agent


class JobsApi:
    """The jobs of one cluster.

    Every question raises :class:`~nemo_run.errors.EngineUnreachableError` where the cluster does not answer.

    Example:
        >>> from nemo_run.core.ray.engine import Dashboard
        >>> jobs = JobsApi(Dashboard("http://127.0.0.1:8265"))
        >>> jobs.url
        'http://127.0.0.1:8265'
    """

    def __init__(self, dashboard: Dashboard, *, tries: int = 5) -> None:
        """Speak to a cluster.

        Args:
            dashboard: Where its REST API is reached.
            tries: How often a question is asked before it is given up.
        """
        self.url = dashboard.url
        self._headers = dict(dashboard.headers)
        self._token = dashboard.token
        self._rest = RestClient(
            dashboard.url,
            service="the Ray cluster",
            extra=EXTRA,
            headers=dashboard.headers,
            token=dashboard.token,
            timeout=_TIMEOUT,
            tries=tries,
        )

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()

    def __enter__(self) -> JobsApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # jobs

    def submit(
        self,
        entrypoint: str,
        submission_id: str,
        runtime_env: Mapping[str, Any],
        metadata: Mapping[str, str],
        needs: Mapping[str, Any] | None = None,
    ) -> None:
        """Submit a job, once, however often the connection breaks: the id tells whether it is there already.

        Args:
            entrypoint: Shell command.
            submission_id: Its id, which no other job has had.
            runtime_env: What Ray prepares for it.
            metadata: Texts that Ray keeps with it.
            needs: What is kept for the command itself, in Ray's words (``entrypoint_num_cpus``, …).
        """
        body = {
            "entrypoint": entrypoint,
            "submission_id": submission_id,
            "runtime_env": dict(runtime_env),
            "metadata": dict(metadata),
            **(needs or {}),
        }
        try:
            self._rest.create("/api/jobs/", body, lambda: self.details(submission_id))
        except EngineUnreachableError:
            raise
        except ExecutorError:  # refused, as it is where a first try, whose answer was lost, arrived late
            if self.details(submission_id) is None:
                raise

    def details(self, job: str) -> dict[str, Any] | None:
        """Return what Ray says of a job, by its submission id; ``None`` where there is none."""
        doc = self._rest.get(f"/api/jobs/{quote(job, safe='')}", absent=(404,))
        return None if doc is None else dict(doc)

    def list(self) -> list[dict[str, Any]]:
        """Return all jobs that were submitted, the oldest first."""
        return submitted(self.drivers())

    def drivers(self) -> builtins.list[dict[str, Any]]:
        """Return all that runs, or ran, on the cluster: jobs, and programs that connected to it themselves."""
        return list(self._rest.get("/api/jobs/"))

    def stop(self, job: str) -> None:
        """Ask Ray to end a job; one that has ended is left as it is."""
        self._rest.post(f"/api/jobs/{quote(job, safe='')}/stop", repeat=True, absent=(404,))

    def logs(self, job: str) -> str:
        """Return all that the entrypoint of a job has written until now; bytes that are no text are replaced.

        The file itself is asked for: one byte that is not UTF-8 makes Ray's own answer fail.
        """
        details = self.details(job) or {}
        if node := details.get("driver_node_id"):
            raw = self._file(node, f"job-driver-{job}.log")
            if raw is not None:
                return (text_of if details.get("status") in FINAL else text_so_far)(raw)
        doc = self._rest.get(f"/api/jobs/{quote(job, safe='')}/logs", absent=(404,))
        return str((doc or {}).get("logs") or "")

    def setup_words(self) -> str:
        """Return the last line that the setup of runtime environments has written on the head; empty if unknown."""
        nodes = self._rest.get("/nodes", {"view": "summary"})["data"]["summary"]
        heads = [node["raylet"]["nodeId"] for node in nodes if (node.get("raylet") or {}).get("isHeadNode")]
        for head in heads[:1]:
            lines = (self._file(head, "runtime_env_setup-01000000.log", lines=1) or b"").splitlines()
            return text_of(lines[-1]).rpartition(" -- ")[2][-200:].strip() if lines else ""
        return ""

    def _file(self, node: str, name: str, lines: int = -1) -> bytes | None:
        """Return a file among the logs of a node, or its last lines; ``None`` where Ray does not give it."""
        query = {"node_id": node, "filename": name, "lines": lines}
        return self._rest.get_bytes("/api/v0/logs/file", query, absent=(400, 403, 404, 405, 500, 501))

    def tail(self, job: str, skip: int, patience: float) -> Iterator[str]:
        """Yield what the entrypoint of a job writes, as it comes, until the connection ends.

        It ends when the job has ended, when it breaks, and where nothing comes: Ray does not answer pings here, so
        that silence can mean that the connection is dead. The caller looks at the job and goes on from where it was.

        Args:
            job: Its submission id.
            skip: Characters that are known already; Ray always sends all of the log.
            patience: Seconds of silence after which the connection is given up.
        """
        from websockets.exceptions import WebSocketException

        try:
            with self._connect(f"/api/jobs/{quote(job, safe='')}/logs/tail") as connection:
                while True:
                    text = _text(connection.recv(timeout=patience))
                    new = text[skip:]
                    skip -= len(text) - len(new)
                    if new:
                        yield new
        except (WebSocketException, OSError, EOFError, TimeoutError):
            return

    def _connect(self, path: str) -> AbstractContextManager[ClientConnection]:
        from websockets.sync.client import connect

        url = urlsplit(self.url + path)
        address = url._replace(scheme={"http": "ws", "https": "wss"}[url.scheme]).geturl()
        authorization = {"Authorization": f"Bearer {self._token()}"} if self._token else {}
        proxy: Literal[True] | None = None if is_loopback(self.url) else True
        return connect(
            address,
            additional_headers={**self._headers, **authorization},
            compression=None,  # where it is offered, Ray's dashboard misunderstands itself, and ends the connection
            max_size=None,
            ping_interval=None,
            proxy=proxy,
            close_timeout=0.2,  # nobody waits for a goodbye
        )

    # packages and nodes

    def upload(self, package: Path) -> str:
        """Bring a package of code to the cluster, unless it is there: its name says what is in it. Its URI."""
        path = f"/api/packages/gcs/{package.name}"
        if not self._rest.exists(path):
            self._rest.put(path, package.read_bytes())
        return f"gcs://{package.name}"

    def alive_nodes(self) -> int:
        """Return how many nodes have joined and live."""
        nodes = self._rest.get("/nodes", {"view": "summary"})["data"]["summary"]
        return sum(node.get("raylet", {}).get("state") == "ALIVE" for node in nodes)


def submitted(drivers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those that were submitted, the oldest first."""
    jobs = [driver for driver in drivers if driver.get("submission_id")]
    return sorted(jobs, key=lambda job: job.get("start_time") or 0)


def alive_nodes(dashboard: Dashboard) -> int:
    """Return how many nodes of a cluster have joined and live; asked once.

    Raises:
        EngineUnreachableError: The dashboard does not answer.
    """
    with JobsApi(dashboard, tries=1) as jobs:
        return jobs.alive_nodes()


def check_installed() -> None:
    """Raise where what this module needs is not installed.

    Raises:
        MissingExtraError: It is not; the message names the command.
    """
    extras.require(("httpx", "websockets"), EXTRA, "a Ray job")


def text_of(raw: bytes) -> str:
    r"""Return the text of a log, as Ray reads it: each end of a line is a newline; what is no UTF-8 is replaced.

    >>> text_of(b"caf\xe9\r\nau lait\r")
    'caf\ufffd\nau lait\n'
    """
    return _with_newlines(raw.decode(errors="replace"))


def text_so_far(raw: bytes) -> str:
    r"""Return the text of a log that grows; the beginning of a character at its end is left out.

    >>> text_so_far(b"a\xc3")
    'a'
    """
    return _with_newlines(codecs.getincrementaldecoder("utf-8")(errors="replace").decode(raw))


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _text(message: str | bytes) -> str:
    return message if isinstance(message, str) else message.decode(errors="replace")
