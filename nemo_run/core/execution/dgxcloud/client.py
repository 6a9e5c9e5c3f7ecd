"""The conversation with DGX Cloud: its own service (Run:ai), and the cluster's Kubernetes API for what that lacks."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.files import write_json
from nemo_run.core.rest import Pieces, RestClient, check_private
from nemo_run.errors import EngineUnreachableError, ExecutorError

T = TypeVar("T")

SECRET_VARIABLE = "DGXCLOUD_CLIENT_SECRET"  # noqa: S105  the name of the variable
_PAGE = 500  # the most that the service gives at once
_FRESH, _LONGEST = (
    0.5,
    10.0,
)  # seconds for which a list is good: while workloads change, and when they have not for long
_EARLY = 60  # seconds before its end in which a token is replaced

# --- the secret ----------------------------------------------------------------------------------------------------


def keep_secret(base_url: str, client_id: str, secret: str) -> None:
    """Keep the secret for processes that look after the jobs later, in a file that only its owner can read."""
    path = _secrets_file()
    kept = _kept_secrets(path)
    key = f"{base_url} {client_id}"
    if secret and kept.get(key) != secret:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(path, {**kept, key: secret})


def find_secret(base_url: str, client_id: str, given: str = "") -> str:
    """Return the secret of a client: the given one, that of the environment, or one that an earlier process kept.

    Raises:
        ExecutorError: It is not known.
    """
    kept = _kept_secrets(_secrets_file()).get(f"{base_url} {client_id}")
    secret = given or os.environ.get(SECRET_VARIABLE) or kept
    if not secret:
        raise ExecutorError(
            f"the secret of the client {client_id!r} of {base_url} is not known here: give it as client_secret= of the "
            f"DGXCloudExecutor, or in the environment as {SECRET_VARIABLE}"
        )
    return secret


def _secrets_file() -> Path:
    return Path(get_nemorun_home(), "credentials", "dgxcloud.json")


def _kept_secrets(path: Path) -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as e:
        raise ExecutorError(f"{path} is damaged ({e}); remove it, and launch again") from e
    return kept


# --- the service ---------------------------------------------------------------------------------------------------


class DGXCloudClient:
    """One project of one service."""

    def __init__(self, base_url: str, kube_apiserver_url: str, client_id: str, project_name: str) -> None:
        self._base_url, self._client_id, self._project_name = base_url.rstrip("/"), client_id, project_name
        hint = "see that base_url, client_id and client_secret of the DGXCloudExecutor are right, and its role"
        headers = {"Accept": "application/json"}
        self.secret = ""  # where its executor gave one
        self._token, self._token_end = "", 0.0
        self._lock = threading.RLock()
        self._open = RestClient(base_url, service="DGX Cloud", extra="dgxcloud", headers=headers, hint=hint)
        self._api = RestClient(
            base_url, service="DGX Cloud", extra="dgxcloud", headers=headers, hint=hint, token=self.token_source()
        )
        self._kube = RestClient(
            kube_apiserver_url,
            service="the cluster of DGX Cloud",
            extra="dgxcloud",
            hint="see that kube_apiserver_url of the DGXCloudExecutor is reached from here and accepts its client",
            token=self.token_source(),
        )
        self.has_cluster_api = bool(kube_apiserver_url)
        self._project: dict[str, Any] | None = None
        self._lists: dict[str, _List] = {}

    def close(self) -> None:
        """Close the connections."""
        for client in (self._open, self._api, self._kube):
            client.close()

    # who we are

    def token_source(self) -> Callable[[], str]:
        """Return a function that gives bearer tokens, never again one that it gave before."""
        given = ""

        def token() -> str:
            nonlocal given
            with self._lock:
                if self._token == given or time.monotonic() > self._token_end:
                    self._fresh_token()
                given = self._token
                return given

        return token

    def _fresh_token(self) -> None:
        check_private(self._base_url, "DGX Cloud")
        body = {
            "grantType": "client_credentials",
            "clientId": self._client_id,
            "clientSecret": find_secret(self._base_url, self._client_id, self.secret),
        }
        answer = self._open.post("token", body, repeat=True) or {}
        self._token = str(answer.get("accessToken") or "")
        if not self._token:
            raise ExecutorError(f"DGX Cloud at {self._base_url} gave no accessToken; see that base_url is its API")
        lifetime = float(answer.get("expiresIn") or 5 * _EARLY)
        self._token_end = time.monotonic() + max(lifetime - _EARLY, lifetime / 2)

    def project(self) -> dict[str, Any]:
        """Return the project, with its ``id`` and ``clusterId``.

        Raises:
            ExecutorError: There is none of this name.
        """
        with self._lock:
            if self._project is None:
                self._project = self._find_project()
            return self._project

    def _find_project(self) -> dict[str, Any]:
        names = []
        for page in self._api.pages("org-unit/projects", _next_page):
            for project in (page or {}).get("projects", []):
                if self._project_name in ("", project["name"]):
                    return dict(project)
                names.append(project["name"])
        raise ExecutorError(
            f"DGX Cloud at {self._base_url} has no project {self._project_name!r} for this client; it has: "
            f"{', '.join(sorted(names)) or 'none'}"
        )

    # workloads

    def create(self, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a workload, once, however often this is asked for."""
        name = body["name"]
        made = self._api.create(f"workloads/{kind}", body, find=lambda: self.find(name))
        self.forget_lists()
        return dict(made or self.find(name) or {})

    def find(self, name: str) -> dict[str, Any] | None:
        """Return a workload by its name."""
        found = self._list(filter_by=f"name=={name}")
        same = [workload for workload in found if workload["name"] == name]
        return same[-1] if same else None

    def listed(self, mark: str) -> dict[str, dict[str, Any]]:
        """Return all workloads with this mark in their names, by name; the answer may be some seconds old."""
        with self._lock:
            known = self._lists.setdefault(mark, _List())
            if known.is_old():
                known.take({workload["name"]: workload for workload in self._list(filter_by=f"name=@{mark}")})
            return known.workloads

    def forget_lists(self) -> None:
        """Forget the lists, as something was changed."""
        with self._lock:
            for known in self._lists.values():
                known.forget()

    def _list(self, filter_by: str) -> list[dict[str, Any]]:
        params = {"filterBy": f"{filter_by},projectId=={self.project()['id']}", "limit": _PAGE}
        pages = self._api.pages("workloads", _next_page, params)
        return [workload for page in pages for workload in (page or {}).get("workloads", [])]

    def get(self, kind: str, workload_id: str) -> dict[str, Any] | None:
        """Return one workload as it is now; ``None`` where it is gone."""
        answer = self._api.get(f"workloads/{kind}/{workload_id}", absent=(404, 410))
        return dict(answer) if answer else None

    def suspend(self, kind: str, workload_id: str) -> None:
        """Stop a workload; one that is gone, or cannot be stopped any more, is left as it is."""
        self._api.post(f"workloads/{kind}/{workload_id}/suspend", repeat=True, absent=(404, 409, 410))
        self.forget_lists()

    def delete(self, kind: str, workload_id: str) -> None:
        """Delete a workload."""
        self._api.delete(f"workloads/{kind}/{workload_id}")
        self.forget_lists()

    def pods(self, workload_id: str) -> list[dict[str, Any]]:
        """Return the pods of a workload, in the order of their names."""
        answer = self._api.get(f"workloads/{workload_id}/pods", absent=(404, 410)) or {}
        return sorted(answer.get("pods", []), key=lambda pod: _natural(pod["name"]))

    def namespace(self, workload_id: str) -> str:
        """Return the namespace of a workload's pods."""
        workload = self._api.get(f"workloads/{workload_id}", absent=(404, 410)) or {}
        return namespace_of(workload, self.project())

    # pods, as the cluster knows them

    def pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a pod with its status; ``None`` where it is gone, or cannot be asked for."""
        if not self.has_cluster_api:
            return None
        try:
            answer = self._kube.get(_pod_path(namespace, name), absent=(404, 410))
        except ExecutorError:  # it would only tell more than the service itself does
            return None
        return dict(answer) if answer else None

    def pod_log(self, namespace: str, name: str) -> AbstractContextManager[Pieces]:
        """Return what a pod has written so far, byte for byte."""
        return self._kube.stream(self._log_path(namespace, name))

    def follow_pod_log(self, namespace: str, name: str) -> AbstractContextManager[Pieces]:
        """Return what a pod writes, byte for byte, as it comes, until the pod ends."""
        return self._kube.stream(self._log_path(namespace, name), {"follow": "true"})

    def _log_path(self, namespace: str, name: str) -> str:
        if not self.has_cluster_api:
            raise ExecutorError("logs are read through kube_apiserver_url of the DGXCloudExecutor, which is not given")
        return f"{_pod_path(namespace, name)}/log"

    def pod_proxy_url(self, namespace: str, name: str, port: int) -> str:
        """Return where the cluster passes on what is for a port of a pod; wants a token of :meth:`token_source`."""
        return f"{self._kube.base_url}/{_pod_path(namespace, name)}:{port}/proxy"

    def whole_log(self, namespace: str, name: str) -> bytes:
        """Return all that a pod that has ended has written; not much."""
        for again in (True, True, False):
            try:
                with self.pod_log(namespace, name) as pieces:
                    return b"".join(pieces)
            except EngineUnreachableError:  # it broke off in the middle
                if not again:
                    raise
        return b""


class _List:
    """Workloads as the service listed them last."""

    def __init__(self) -> None:
        self.workloads: dict[str, dict[str, Any]] = {}
        self._asked = float("-inf")
        self._changed = time.monotonic()

    def is_old(self) -> bool:
        now = time.monotonic()
        return now - self._asked > min(_LONGEST, max(_FRESH, 0.1 * (now - self._changed)))

    def take(self, workloads: dict[str, dict[str, Any]]) -> None:
        self._asked = time.monotonic()
        if _phases(workloads) != _phases(self.workloads):
            self._changed = self._asked
        self.workloads = workloads

    def forget(self) -> None:
        self._asked, self._changed = float("-inf"), time.monotonic()


def _phases(workloads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: workload.get("phase") for name, workload in workloads.items()}


def _next_page(page: Any) -> dict[str, Any] | None:
    """Return what asks for the page after this one: ``next`` is its offset, or, of some services, its address."""
    following = (page or {}).get("next")
    if following in (None, "", 0):
        return None
    text = str(following)
    if text.isdecimal():
        return {"offset": int(text)}
    from urllib.parse import parse_qsl, urlsplit

    return dict(parse_qsl(urlsplit(text).query)) or None


def _natural(name: str) -> tuple[str, int]:
    head, _, number = name.rpartition("-")
    return (head, int(number)) if number.isdecimal() else (name, 0)


def _pod_path(namespace: str, name: str) -> str:
    return f"api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"


def namespace_of(workload: Mapping[str, Any], project: Mapping[str, Any]) -> str:
    """Return the namespace of a workload's pods."""
    return str(workload.get("namespace") or f"runai-{project['name']}")


def in_parallel(work: Callable[[str], T], on: Iterable[str], at_once: int) -> list[T]:
    """Do the same with several things, so many at once; the first error is raised at the end."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(at_once, thread_name_prefix="nemo-run dgxcloud") as pool:
        return list(pool.map(work, on))
