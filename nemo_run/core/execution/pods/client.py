"""Client of the Kubernetes API: connections, objects as plain dictionaries, and errors that say what to do."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from nemo_run.config.escaping import escaped
from nemo_run.core import extras
from nemo_run.errors import EngineUnreachableError, ExecutorError

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "nemo-run"
"""Label of every object of ours, and its value."""

Object = dict[str, Any]
"""An object of the cluster, as its API writes it."""

_PIECE = 1 << 16
_LARGEST = 256 << 20  # bytes of an answer that is not read in pieces: all pods of a large cluster
_TOO_LARGE = "request is too large"  # what the store of a cluster says, as if it were a failure of its own
_TIMEOUT = 30.0  # seconds to wait for a connection, or for the next piece of an answer
_PAUSES = (0.2, 0.6, 1.5)  # seconds before each further try where there was no answer
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MERGE, _APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


def default_connection(context: str | None = None, kubeconfig: str | None = None) -> dict[str, str]:
    """Return how to reach the cluster of a context, by default the one that ``kubectl`` would use.

    The result always names the context, so that a later ``kubectl config use-context`` has no effect on it. In a pod
    without a kubeconfig, it is the cluster of the pod.

    Raises:
        ExecutorError: There is no such context.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    files = os.pathsep.join(str(Path(file).expanduser().absolute()) for file in named.split(os.pathsep) if file)
    contexts, current = _contexts(files)
    if context is None:
        return {} if not contexts and _is_in_pod() else {"kubeconfig": files, "context": current}
    if context not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        raise ExecutorError(
            f"the kubeconfig {files} has no context {context!r} (there are: {known}); correct context=, or name "
            "another file with KUBECONFIG"
        )
    return {"kubeconfig": files, "context": context}


def _is_in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and _SERVICE_ACCOUNT.is_dir()


def context_namespace(connection: Mapping[str, str]) -> str:
    """Return the namespace of a context, or of this pod; by default ``default``."""
    if not connection:
        with contextlib.suppress(OSError):
            return (_SERVICE_ACCOUNT / "namespace").read_text().strip()
        return "default"
    contexts, _ = _contexts(connection["kubeconfig"])
    return str(contexts.get(connection["context"], {}).get("namespace") or "default")


def _contexts(files: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the contexts of kubeconfig files and the name of the current one; earlier files take precedence."""
    contexts: dict[str, dict[str, Any]] = {}
    current = ""
    for document in _kubeconfigs(files):
        current = current or document.get("current-context") or ""
        for entry in document.get("contexts") or []:
            contexts.setdefault(entry["name"], entry.get("context") or {})
    return contexts, current


def _kubeconfigs(files: str) -> Iterator[dict[str, Any]]:
    """Yield what is in those kubeconfig files that are there."""
    import yaml

    for file in filter(None, files.split(os.pathsep)):
        try:
            yield yaml.safe_load(Path(file).expanduser().read_text()) or {}
        except FileNotFoundError:
            continue
        except (OSError, yaml.YAMLError) as e:
            raise ExecutorError(f"the kubeconfig {file} cannot be read: {e}") from e


class _Whole(NamedTuple):
    """An answer that was read to its end."""

    status: int
    data: bytes


class KubernetesClient:
    """Client of the API of one cluster, which connects when it is first used.

    Every request raises :class:`EngineUnreachableError` if there is no answer, and :class:`ExecutorError`, with the
    server's message, if the server refuses it. The client chooses all names, so that any request may be repeated.

    Example:
        >>> client = KubernetesClient({"kubeconfig": "/home/me/.kube/config", "context": "prod"})
        >>> client.name
        'prod'
    """

    def __init__(self, connection: Mapping[str, str]) -> None:
        """Keep how to connect; see :func:`default_connection`."""
        self._connection = connection
        self.name = connection.get("context") or "of this pod"
        self._api: Any = None
        self._resources: dict[str, dict[str, tuple[str, bool]]] = {}

    def close(self) -> None:
        """Close the connections; the next request opens another."""
        if self._api is not None:
            self._api.close()
            self._api = None

    # objects

    def create(self, obj: Object) -> Object:
        """Create an object once: an object of this name with the same labels is that of an earlier try.

        Raises:
            ExecutorError: The server refused it, or the name is taken.
        """
        made = self.request("POST", self._collection(obj), body=obj, absent=(409,))
        if made is not None:
            return made
        found = self._same(obj)
        if found is None:  # it was deleted meanwhile
            return self.request("POST", self._collection(obj), body=obj) or {}
        labels = found["metadata"].get("labels") or {}
        if not (obj["metadata"].get("labels") or {}).items() <= labels.items():
            raise ExecutorError(
                f"there is a {obj['kind']} {obj['metadata']['name']!r} in namespace "
                f"{obj['metadata'].get('namespace', '')!r} already, and it is not ours; delete it, or use another name"
            )
        return found

    def provide(self, obj: Object) -> bool:
        """Create an object whose name identifies its content, unless it exists; return whether it was created."""
        return self.request("POST", self._collection(obj), body=obj, absent=(409,)) is not None

    def create_dry_run(self, obj: Object) -> Object | None:
        """Return an object as the server would create it; ``None`` if there is one of that name.

        Raises:
            ExecutorError: It would refuse it.
        """
        return self.request("POST", self._collection(obj), body=obj, params={"dryRun": "All"}, absent=(409,))

    def apply(self, obj: Object) -> Object:
        """Create or update an object (server-side apply)."""
        params = {"fieldManager": MANAGER, "force": "true"}
        path = f"{self._collection(obj)}/{quote(obj['metadata']['name'])}"
        return self.request("PATCH", path, body=obj, params=params, content_type=_APPLY) or {}

    def patch(
        self, api_version: str, kind: str, namespace: str, name: str, changes: Object, merge: str = _MERGE
    ) -> Object | None:
        """Change a part of an object; return ``None`` if there is none. Custom objects need another ``merge`` type."""
        path = self.path(api_version, kind, namespace, name)
        return self.request("PATCH", path, body=changes, content_type=merge, absent=(404,))

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object; ``None`` if there is none."""
        return self.request("GET", self.path(api_version, kind, namespace, name), absent=(404,))

    def objects(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """Return the objects of a kind that have certain labels, e.g. ``"app=web,tier"``."""
        params = {"labelSelector": selector} if selector else {}
        answer = self.request("GET", self.path(api_version, kind, namespace), params=params)
        return list((answer or {}).get("items") or [])

    def delete(self, api_version: str, kind: str, namespace: str, name: str, *, grace: int | None = None) -> bool:
        """Delete an object and what it owns, and return whether it was there."""
        body: Object = {"propagationPolicy": "Background"}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        path = self.path(api_version, kind, namespace, name)
        return self.request("DELETE", path, body=body, absent=(404,)) is not None

    def delete_unchanged(self, obj: Object) -> None:
        """Delete an object unless it has changed since it was read."""
        metadata = obj["metadata"]
        same = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        path = self.path(obj["apiVersion"], obj["kind"], metadata["namespace"], metadata["name"])
        self.request("DELETE", path, body={"preconditions": same}, absent=(404, 409))

    def pods(self, namespace: str, selector: str) -> list[Object]:
        """Return the pods that have certain labels."""
        return self.objects("v1", "Pod", namespace, selector)

    def events(self, namespace: str, name: str) -> list[Object]:
        """Return the events of an object, the newest last."""
        params = {"fieldSelector": f"involvedObject.name={name}"}
        answer = self.request("GET", self.path("v1", "Event", namespace), params=params) or {}
        return sorted(answer.get("items") or [], key=lambda event: str(event.get("lastTimestamp")))

    def last_warning(self, namespace: str, name: str) -> str:
        """Return the last warning event of an object; empty if there is none."""
        warnings = [event for event in self.events(namespace, name) if event.get("type") == "Warning"]
        return str(warnings[-1].get("message", "")) if warnings else ""

    def _same(self, obj: Object) -> Object | None:
        metadata = obj["metadata"]
        return self.get(obj["apiVersion"], obj["kind"], metadata.get("namespace", ""), metadata["name"])

    # paths

    def serves(self, api_version: str, kind: str) -> bool:
        """Return whether the cluster has this kind of object, e.g. because its operator is installed."""
        return kind in self._kinds(api_version)

    def served_version(self, group: str) -> str:
        """Return the version of a group of kinds that the cluster prefers; empty if it does not have the group."""
        found = self.request("GET", f"/apis/{group}", absent=(404,)) or {}
        return str((found.get("preferredVersion") or {}).get("groupVersion") or "")

    def path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        """Return the path of an object, or of all objects of a kind.

        Raises:
            ExecutorError: The cluster has no such kind.
        """
        kinds = self._kinds(api_version)
        if kind not in kinds:
            raise ExecutorError(
                f"the cluster {self.name!r} has no {kind} ({api_version}); install the operator that brings it, or use "
                "another cluster (context=)"
            )
        plural, namespaced = kinds[kind]
        where = f"/namespaces/{quote(namespace or 'default')}" if namespaced else ""
        return f"{_root(api_version)}{where}/{plural}" + (f"/{quote(name)}" if name else "")

    def _collection(self, obj: Object) -> str:
        return self.path(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""))

    def _kinds(self, api_version: str) -> dict[str, tuple[str, bool]]:
        """Return the kinds of a version of an API, with their names in paths and whether they are in namespaces."""
        if not self._resources.get(api_version):
            answer = self.request("GET", _root(api_version), absent=(404,)) or {}
            self._resources[api_version] = {
                entry["kind"]: (entry["name"], entry["namespaced"])
                for entry in answer.get("resources") or []
                if "/" not in entry["name"]
            }
        return self._resources[api_version]

    # requests

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        absent: Collection[int] = (),
    ) -> Object | None:
        """Send a request and return the JSON of the answer.

        Args:
            method: HTTP method.
            path: Path below the address of the server.
            body: An object.
            params: Parameters of the query.
            content_type: Content type of the body.
            absent: Status codes, such as 404, for which the result is ``None``.
        """
        response = self._answer(method, path, body=body, params=params, content_type=content_type, absent=absent)
        return None if response.status in absent else self._object(method, path, response.data)

    def _object(self, method: str, path: str, data: bytes) -> Object:
        """Return the object that an answer is.

        Raises:
            ExecutorError: It is something else: another program answers in place of the server.
        """
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(data)
            if isinstance(found, dict):
                return found
        raise ExecutorError(
            f"the cluster {self.name!r} answered {method} {path} with something that is no object: {data[:200]!r}; see "
            f"that this works: kubectl --context {self.name} get pods"
        )

    @contextlib.contextmanager
    def stream(self, path: str, params: Mapping[str, str] | None = None, absent: Collection[int] = ()) -> Iterator[Any]:
        """Yield a long answer, to be read in pieces; ``None`` for the status codes of ``absent``."""
        response = self._answer("GET", path, params=params, absent=absent, stream=True)
        try:
            yield None if response.status in absent else response
        finally:
            response.close()

    def _answer(
        self, method: str, path: str, *, absent: Collection[int] = (), stream: bool = False, **options: Any
    ) -> Any:
        """Send a request, again if there is no answer or the server is overloaded, and return the answer."""
        sdk()
        import urllib3  # the Kubernetes client brings it

        failure = EngineUnreachableError("")
        reconnected = False
        for pause in (0.0, *_PAUSES):
            time.sleep(pause)
            try:
                response = self._ask(method, path, **options)
                if response.status == 401 and not reconnected:  # an expired token is renewed by connecting again
                    reconnected = True
                    self.close()
                    response = self._ask(method, path, **options)
                if not (stream and (response.status in absent or response.status < 300)):
                    response = self._whole(method, path, response)
            except urllib3.exceptions.HTTPError as e:
                failure = self._unreachable(e)
                continue
            if response.status in absent or response.status < 300:
                return response
            words = self._refusal(method, path, response)
            if (response.status != 429 and response.status < 500) or _TOO_LARGE in words:
                raise ExecutorError(words)
            failure = EngineUnreachableError(words)
        raise failure

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        api = self._connect()
        query = f"?{urlencode(params)}" if params else ""
        return api.rest_client.pool_manager.request(
            method,
            f"{api.configuration.host.rstrip('/')}{path}{query}",
            body=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json, */*", "Content-Type": content_type, **self.authorization()},
            timeout=_TIMEOUT,
            retries=False,
            preload_content=False,
        )

    def _whole(self, method: str, path: str, response: Any) -> _Whole:
        """Read an answer to its end, which comes before a limit.

        Raises:
            ExecutorError: It does not.
        """
        content = bytearray()
        with contextlib.closing(response):
            for piece in response.stream(_PIECE):
                content += piece
                if len(content) > _LARGEST:
                    raise ExecutorError(
                        f"the cluster {self.name!r} answered {method} {path} with more than {_LARGEST >> 20} MiB, "
                        "which was given up"
                    )
            response.release_conn()
        return _Whole(response.status, bytes(content))

    def authorization(self) -> dict[str, str]:
        """Return the headers that identify the user."""
        settings = self._connect().configuration.auth_settings().values()
        return {entry["key"]: entry["value"] for entry in settings if entry["in"] == "header" and entry["value"]}

    def websocket(self, path: str, params: Sequence[tuple[str, str]]) -> Any:
        """Open a WebSocket for data in both directions."""
        api = self._connect()
        url = f"{api.configuration.host.rstrip('/')}{path}?{urlencode(params)}"
        return open_websocket(api.configuration, url, self.authorization(), self.name)

    def _connect(self) -> Any:
        if self._api is None:
            kubernetes = sdk()
            configuration = kubernetes.client.Configuration()
            try:
                if self._connection:
                    kubernetes.config.load_kube_config(
                        self._connection["kubeconfig"],
                        self._connection["context"] or None,
                        client_configuration=configuration,
                        persist_config=False,
                    )
                else:
                    kubernetes.config.load_incluster_config(client_configuration=configuration)
            except kubernetes.config.ConfigException as e:
                where = self._connection.get("kubeconfig", "")
                raise ExecutorError(
                    f"the kubeconfig {where} does not lead to a cluster: {e}; see that this works: kubectl get pods. "
                    "Another file is named by KUBECONFIG, or by kubeconfig= of the executor"
                ) from e
            self._api = kubernetes.client.ApiClient(configuration)
        return self._api

    # errors

    def _refusal(self, method: str, path: str, response: Any) -> str:
        try:
            words = str(json.loads(response.data)["message"])
        except (ValueError, KeyError, TypeError):
            words = f"{method} {path}: {response.data[:300].decode(errors='replace')}"
        text = f"the cluster {self.name!r} refused ({response.status}): {escaped(words)}"
        if response.status == 401:
            return f"{text}; log in to it again, and see that this works: kubectl --context {self.name} get pods"
        if response.status == 403:
            return f"{text}; ask its administrators for that right, or use another namespace or context"
        return text

    def _unreachable(self, error: Exception) -> EngineUnreachableError:
        host = self._api.configuration.host if self._api else ""
        return EngineUnreachableError(
            f"the cluster {self.name!r} at {host} does not answer ({error}); see that this works: kubectl "
            f"--context {self.name} get pods"
        )


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def why_not_usable() -> str:
    """Return why the cluster that is used by default cannot be; empty if nothing speaks against it.

    The cluster itself is not asked.
    """
    try:
        sdk()
        connection = default_connection()
    except ExecutorError as error:
        return str(error)
    if connection and not connection["context"]:
        return f"the kubeconfig {connection['kubeconfig']} names no cluster; see: kubectl config view"
    return ""


def sdk() -> Any:
    """Return the Kubernetes client.

    Raises:
        MissingExtraError: It is not installed.
    """
    return extras.load("kubernetes", "kubernetes", "an executor on Kubernetes")


def open_websocket(configuration: Any, url: str, headers: dict[str, str], cluster: str) -> Any:
    """Open a WebSocket of the SDK; ``cluster`` is its name for errors."""
    ws_client = importlib.import_module("kubernetes.stream.ws_client")
    websocket = websocket_sdk()
    try:
        return ws_client.create_websocket(configuration, ws_client.get_websocket_url(url), headers)
    except websocket.WebSocketBadStatusException as e:
        body = getattr(e, "resp_body", None) or b""
        words = _message(body) or str(e)
        if e.status_code >= 500 and e.status_code != 500:
            raise EngineUnreachableError(f"the cluster {cluster!r} does not answer: {words}") from e
        raise ExecutorError(f"the cluster {cluster!r} refused ({e.status_code}): {words}") from e
    except (OSError, websocket.WebSocketException) as e:
        raise EngineUnreachableError(f"the cluster {cluster!r} does not answer: {e}") from e


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:300]


def websocket_sdk() -> Any:
    """Return the package with which the Kubernetes client speaks WebSocket."""
    return importlib.import_module("websocket")
