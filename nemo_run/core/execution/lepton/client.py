"""The conversation with a Lepton workspace, over its REST API."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from nemo_run.core import extras
from nemo_run.core.rest import Pieces, RestClient
from nemo_run.errors import EngineUnreachableError, ExecutorError

_URL = "https://gateway.dgxc-lepton.nvidia.com/api/v2/workspaces/"
_PAGE = 500
_SILENCE = 300.0  # seconds without output, after which a log is asked for again
_SILENCE_AT_END = 20.0  # seconds to wait for more of a log that is complete
_IN_VAIN = 2  # times that nothing more came, after which a log without a last line is taken to be complete
_HINT = (
    "see that LEPTON_WORKSPACE_ID, LEPTON_WORKSPACE_TOKEN and, where it is set, LEPTON_WORKSPACE_URL are right, "
    "or log in again: lep login"
)
_EVERYTHING = {"job_query_mode": "alive_and_archive"}


def default_connection() -> dict[str, str]:
    """Return how to reach the workspace that the ``lep`` command would use; values are empty where nothing says it.

    That is, in this order: the variables ``LEPTON_WORKSPACE_ID``, ``_URL`` and ``_ORIGIN_URL``, and what ``lep login``
    has left. The token is no part of it.
    """
    records = _records()
    workspace = os.environ.get("LEPTON_WORKSPACE_ID", "").partition(":")[0] or records.get("current_workspace") or ""
    record = _record_of(workspace, records)
    url = os.environ.get("LEPTON_WORKSPACE_URL") or record.get("url") or (f"{_URL}{workspace}" if workspace else "")
    origin = os.environ.get("LEPTON_WORKSPACE_ORIGIN_URL") or record.get("workspace_origin_url")
    return {"workspace": workspace, "url": url.rstrip("/"), "origin": _origin(origin or (url if "dgxc" in url else ""))}


def _record_of(workspace: str, records: Mapping[str, Any]) -> Mapping[str, Any]:
    return (records.get("workspaces") or {}).get(workspace) or {}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if url else ""


def _records() -> dict[str, Any]:
    """Return what ``lep login`` has left of workspaces."""
    import yaml

    folder = os.environ.get("LEPTON_CACHE_DIR") or Path.home() / ".cache" / "lepton"
    path = Path(folder, "workspace_info.yaml")
    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise ExecutorError(f"{path}: cannot be read: {e}; log in again: lep login") from e
    return found if isinstance(found, dict) else {}


def find_token(workspace: str) -> str:
    """Return the token for a workspace; looked up whenever it is needed, as it may be renewed meanwhile.

    Raises:
        ExecutorError: There is none.
    """
    named, _, inside = os.environ.get("LEPTON_WORKSPACE_ID", "").partition(":")
    given = os.environ.get("LEPTON_WORKSPACE_TOKEN") or inside
    if given and named in ("", workspace):
        return given
    token = ((_records().get("workspaces") or {}).get(workspace) or {}).get("auth_token")
    if not token:
        raise ExecutorError(
            f"there is no token for the Lepton workspace {workspace!r}; set LEPTON_WORKSPACE_ID and "
            "LEPTON_WORKSPACE_TOKEN, or log in: lep login"
        )
    return str(token)


class LeptonClient:
    """One workspace, and its jobs.

    Every question raises :class:`EngineUnreachableError` where there is no answer, and :class:`ExecutorError` where the
    answer is a refusal.
    """

    def __init__(self, connection: Mapping[str, str]) -> None:
        self.name = connection.get("workspace", "")
        origin = connection.get("origin", "")
        self.rest = RestClient(
            connection.get("url", ""),
            service="Lepton",
            extra="lepton",
            token=lambda: find_token(self._checked().name),
            headers={"origin": origin} if origin else {},
            hint=_HINT,
        )

    def _checked(self) -> LeptonClient:
        url = self.rest.base_url
        if not self.name:
            raise ExecutorError(
                "no Lepton workspace is named; set LEPTON_WORKSPACE_ID and LEPTON_WORKSPACE_TOKEN, or log in: lep login"
            )
        if urlsplit(url).scheme not in ("http", "https"):
            raise ExecutorError(f"LEPTON_WORKSPACE_URL: {url!r} is not the address of a workspace (https://…)")
        return self

    def check(self) -> None:
        """Raise :class:`ExecutorError` where it is not known which workspace, or with which token."""
        extras.require(("httpx",), "lepton", "LeptonExecutor")
        find_token(self._checked().name)

    def close(self) -> None:
        """Close the connections."""
        self.rest.close()

    def jobs(self, part_of_name: str) -> dict[str, dict[str, Any]]:
        """Return all jobs with this part in their names, also those that have ended."""
        found: dict[str, dict[str, Any]] = {}
        number = 0
        while True:
            number += 1
            answer = self.rest.get("jobs", {**_EVERYTHING, "q": part_of_name, "page": number, "page_size": _PAGE})
            items = answer.get("jobs") or [] if isinstance(answer, Mapping) else answer or []
            fresh = {job["metadata"]["id"]: job for job in items if job["metadata"]["id"] not in found}
            found |= fresh
            if len(items) < _PAGE or not fresh:
                return found

    def job(self, name: str) -> dict[str, Any] | None:
        """Return one job; ``None`` where there is none of this name."""
        found: dict[str, Any] | None = self.rest.get(_job(name), _EVERYTHING, absent=(404,))
        return found

    def create(self, body: Mapping[str, Any]) -> None:
        """Create a job, or take the one of this name."""
        self.rest.create("jobs", body, lambda: self.job(body["metadata"]["id"]))

    def stop(self, name: str) -> None:
        """Ask a job to end; one that is not there is fine."""
        self.rest.patch(_job(name), {"spec": {"stopped": True}}, absent=(404,))

    def delete(self, name: str) -> None:
        """Delete a job; one that is not there is fine."""
        self.rest.delete(_job(name), {"job_query_mode": "alive_only"})

    def replicas(self, name: str) -> dict[int, dict[str, Any]]:
        """Return the replicas of a job by their ranks; of one that was restarted the newest."""
        found: dict[int, dict[str, Any]] = {}
        answer = self.rest.get(f"{_job(name)}/replicas", _EVERYTHING, absent=(404,)) or []
        for replica in sorted(answer, key=lambda one: one["metadata"].get("created_at") or 0):
            rank = replica_id(replica).removeprefix(f"{name}-").partition("-")[0]
            found[int(rank) if rank.isdigit() else len(found)] = replica
        return found

    def log(self, name: str, replica: str, silence: float = _SILENCE) -> AbstractContextManager[Pieces]:
        """Return the log of a replica, from its beginning, as it grows, until nothing comes for so many seconds."""
        return self.rest.stream(f"{_job(name)}/replicas/{quote(replica, safe='')}/log", timeout=silence)

    def whole_log(self, name: str, rank: int, is_complete: Callable[[], bool]) -> Iterator[bytes]:
        """Give all that a replica of an ended job wrote, however often the connection breaks.

        Args:
            name: The job.
            rank: Rank of the replica.
            is_complete: Tells whether what was given so far is all.
        """
        found = self.replicas(name).get(rank)
        got, in_vain = 0, 0
        while found and not is_complete() and in_vain < _IN_VAIN:
            before = got
            with (
                self.log(name, replica_id(found), _SILENCE_AT_END) as pieces,
                contextlib.suppress(EngineUnreachableError),
            ):
                for piece in after(pieces, got):
                    got += len(piece)
                    yield piece
            in_vain = in_vain + 1 if got == before else 0

    def warnings(self, name: str) -> str:
        """Return what the events of a job warn of; empty where they do not."""
        events = self.rest.get(f"{_job(name)}/events", absent=(403, 404)) or []
        warned = [event for event in events if event.get("type") == "Warning" and event.get("reason")]
        texts = (": ".join(filter(None, [event["reason"], event.get("message")])) for event in warned[-3:])
        return "; ".join(dict.fromkeys(texts))

    def node_group_id(self, name: str) -> str:
        """Return the id of a node group by its name or id.

        Raises:
            ExecutorError: There is none.
        """
        groups = {
            group["metadata"].get("name") or group["metadata"]["id"]: group["metadata"]["id"]
            for group in self.rest.get("dedicated-node-groups") or []
        }
        if name in groups.values():
            return name
        if name not in groups:
            there = ", ".join(sorted(groups)) or "none"
            raise ExecutorError(
                f"LeptonExecutor.node_group: the workspace {self.name!r} has no {name!r}; it has: {there}"
            )
        return str(groups[name])


def after(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Give what comes after so many bytes."""
    for piece in pieces:
        if count < len(piece):
            yield piece[count:]
        count = max(0, count - len(piece))


def replica_id(replica: Mapping[str, Any]) -> str:
    """Return the id of a replica."""
    return str(replica["metadata"].get("id") or replica.get("id"))


def node_of(replica: Mapping[str, Any]) -> str:
    """Return the name of the node that a replica runs on; empty where it is not told."""
    node = (replica.get("status") or {}).get("node") or {}
    return str(node.get("name") or node.get("id") or "")


def _job(name: str) -> str:
    return f"jobs/{quote(name, safe='')}"
