"""The conversation with a service that speaks JSON over HTTP: tokens, time limits, retries, error messages."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from nemo_run.config.escaping import escaped
from nemo_run.core import extras
from nemo_run.core.masking import MASK, is_secret
from nemo_run.errors import EngineUnreachableError, ExecutorError

if TYPE_CHECKING:
    import httpx

_SAFE = ("GET", "HEAD", "PUT", "DELETE")
"""Methods that may be repeated whatever became of the first try."""

_TOO_MANY = 429
"""The one failure after which it is certain that nothing was done."""

_CONFLICT = 409
_LONGEST_PAUSE = 30.0
_LONGEST_WORDS = 1000
_LARGEST = 64 << 20  # bytes of an answer that is not read piece by piece
_OF_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")


class RestClient:
    """One service. The connection is made when it is first needed, and again after it broke.

    Every question raises :class:`EngineUnreachableError` where there is no answer, and :class:`ExecutorError`, with the
    service's own words, where the answer is a refusal. What may have been done is never done twice: see :meth:`create`.

    Example:
        >>> client = RestClient("https://cloud.example/api/v1", service="Example Cloud", extra="example", token=str)
        >>> client.base_url
        'https://cloud.example/api/v1'
    """

    def __init__(
        self,
        base_url: str,
        *,
        service: str,
        extra: str,
        token: Callable[[], str] | None = None,
        headers: Mapping[str, str] | None = None,
        hint: str = "",
        timeout: float = 30.0,
        tries: int = 5,
        pause: float = 0.5,
    ) -> None:
        """Describe the service; nothing is sent.

        Args:
            base_url: What the paths of all requests are appended to.
            service: Its name in messages.
            extra: The extra of this package that brings what is needed here.
            token: Gives a fresh bearer token. It is asked before the first request, and once more where the service
                does not accept the token any longer.
            headers: Sent with every request.
            hint: What a user can do where the service refuses or does not answer.
            timeout: Seconds to wait for a connection or for the next piece of an answer.
            tries: How often a request is sent before it is given up.
            pause: Seconds before the second try; they double with every further one.
        """
        self.base_url = base_url.rstrip("/")
        self._service = service
        self._extra = extra
        self._fresh_token = token
        self._token = ""
        self._headers = dict(headers or {})
        self._hint = hint
        self._timeout = timeout
        self._tries = tries
        self._pause = pause
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections; the next question opens another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # questions

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        absent: Collection[int] = (),
        repeat: bool | None = None,
    ) -> Any:
        """Send one request.

        Args:
            method: Method of HTTP.
            path: Path below the base URL.
            body: Sent as JSON; ``None`` for no body.
            params: Of the query; those that are ``None`` are left out.
            absent: Answers such as 404 that are no failure here; they give ``None``.
            repeat: Whether the request does no harm where it arrives twice; by default what its method says.

        Returns:
            The answer's JSON; ``None`` where it is empty.
        """
        response = self._send(method, path, body=body, params=params, absent=absent, repeat=repeat)
        return None if response.status_code in absent else self._json(response)

    def _json(self, response: httpx.Response) -> Any:
        if not response.content.strip():
            return None
        try:
            return response.json()
        except (ValueError, RecursionError):  # of a nesting without end
            raise ExecutorError(
                f"{self._service} answered {_what(response)} with something that is not JSON: "
                f"{response.text[:200]!r}; see that the address is that of its API"
            ) from None

    def get(self, path: str, params: Mapping[str, Any] | None = None, absent: Collection[int] = ()) -> Any:
        """Ask for something."""
        return self.request("GET", path, params=params, absent=absent)

    def get_bytes(self, path: str, params: Mapping[str, Any], absent: Collection[int]) -> bytes | None:
        """Return an answer that is not JSON; ``None`` for one of the codes in ``absent``."""
        response = self._send("GET", path, params=params, absent=absent)
        return None if response.status_code in absent else response.content

    def post(self, path: str, body: Any = None, *, repeat: bool = False, absent: Collection[int] = ()) -> Any:
        """Post something that makes nothing new; for what does, there is :meth:`create`."""
        return self.request("POST", path, body=body, repeat=repeat, absent=absent)

    def patch(self, path: str, body: Any, *, absent: Collection[int] = ()) -> Any:
        """Set something to a value; it may arrive twice."""
        return self.request("PATCH", path, body=body, repeat=True, absent=absent)

    def delete(self, path: str, params: Mapping[str, Any] | None = None) -> None:
        """Delete something; what is not there is fine."""
        self.request("DELETE", path, params=params, absent=(404, 410))

    def create(self, path: str, body: Any, find: Callable[[], Any | None]) -> Any:
        """Make something, once.

        Where it is not certain whether a request was carried out, ``find`` is asked, and the request is repeated only
        if nothing was found. The name in the body should be one that the service accepts only once, so that a first
        request that is carried out late cannot make a second one.

        Args:
            path: Path below the base URL.
            body: Describes what to make, its name included.
            find: Looks for it by that name; ``None`` where it is not there.

        Returns:
            The service's answer, or what ``find`` gave.
        """
        failure = ExecutorError("")
        for number in range(1, self._tries + 1):
            try:
                response = self._send("POST", path, body=body, absent=(_CONFLICT,))
                if response.status_code != _CONFLICT:
                    return self._json(response)
                failure = ExecutorError(self._refusal(response, body))
            except _PerhapsDoneError as e:
                failure = e
            self._sleep(number)  # it may take a moment until it can be found
            found = find()
            if found is not None:
                return found
        raise failure

    def exists(self, path: str) -> bool:
        """Check whether there is something at a path."""
        return self._send("GET", path, absent=(404,)).status_code != 404

    def put(self, path: str, content: bytes) -> None:
        """Bring bytes to a path."""
        self._send("PUT", path, content=content)

    def pages(
        self,
        path: str,
        following: Callable[[Any], Mapping[str, Any] | None],
        params: Mapping[str, Any] | None = None,
    ) -> Iterator[Any]:
        """Yield all pages of a long answer.

        Args:
            path: Path below the base URL.
            following: Gives the parameters that ask for the page after this one; ``None`` after the last.
            params: Parameters of all pages.
        """
        asked: list[Mapping[str, Any]] = []
        more: Mapping[str, Any] | None = {}
        while more is not None and more not in asked:
            asked.append(more)
            page = self.get(path, {**(params or {}), **more})
            yield page
            more = following(page)

    @contextlib.contextmanager
    def stream(
        self, path: str, params: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> Iterator[Pieces]:
        """Yield a long answer, piece by piece as it comes.

        A connection that breaks in the middle raises :class:`EngineUnreachableError`; what has come until then was
        given.

        Args:
            path: Path below the base URL.
            params: Of the query.
            timeout: Seconds to wait for the next piece; by default those of the client.
        """
        response = self._send("GET", path, params=params, stream=True, timeout=timeout)
        try:
            yield Pieces(response, self._unreachable)
        finally:
            response.close()

    # sending

    def _send(
        self, method: str, path: str, *, absent: Collection[int] = (), repeat: bool | None = None, **options: Any
    ) -> httpx.Response:
        """Send a request until there is an answer that counts."""
        httpx = extras.load("httpx", self._extra, self._service)
        repeat = method in _SAFE if repeat is None else repeat
        error = EngineUnreachableError("")
        for number in range(1, self._tries + 1):
            answer = self._try(httpx, method, path, absent, **options)
            if not isinstance(answer, _Failure):
                return answer
            error = answer.error
            if not (repeat or answer.nothing_done):
                raise _PerhapsDoneError(str(error))
            if answer.pause > _LONGEST_PAUSE:
                break
            if number < self._tries:
                self._sleep(number, at_least=answer.pause)
        raise error

    def _try(
        self, httpx: Any, method: str, path: str, absent: Collection[int], **options: Any
    ) -> httpx.Response | _Failure:
        """Send a request once; an answer that will stay the same is an error."""
        try:
            response = self._ask(httpx, method, path, **options)
        except httpx.TransportError as e:
            not_sent = isinstance(e, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
            return _Failure(self._unreachable(e), nothing_done=not_sent)
        if response.is_success or response.status_code in absent:
            return response
        refusal = self._refusal(response, options.get("body"))
        if response.status_code == 401 and self._fresh_token:  # who logs in again will be answered
            raise EngineUnreachableError(refusal)
        if not _is_passing(response.status_code):
            raise ExecutorError(refusal)
        busy = response.status_code == _TOO_MANY
        return _Failure(EngineUnreachableError(refusal), nothing_done=busy, pause=_retry_after(response))

    def _ask(
        self,
        httpx: Any,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send a request once, and again with a fresh token where the old one is not accepted any longer."""
        client, had_token = self._opened(httpx), bool(self._token)
        while True:
            request = client.build_request(
                method,
                self._url(path),
                json=body,
                content=content,
                params=_given(params or {}),
                headers=self._authorization(),
                timeout=timeout or self._timeout,
            )
            response = client.send(request, stream=True)
            if not (stream and response.is_success):
                response = self._whole(httpx, response)
            if response.status_code != 401 or not had_token:
                return response
            self._token, had_token = "", False

    def _whole(self, sdk: Any, response: httpx.Response) -> httpx.Response:
        """Read an answer to its end, which comes before a limit.

        Raises:
            ExecutorError: It does not: something else answers in place of the service.
        """
        content = bytearray()
        with contextlib.closing(response):
            for piece in response.iter_bytes():
                content += piece
                if len(content) > _LARGEST:
                    raise ExecutorError(
                        f"{self._service} answered {_what(response)} with more than {_LARGEST >> 20} MiB, which was "
                        "given up; see that the address is that of its API"
                    )
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _OF_TRANSFER]
        whole: httpx.Response = sdk.Response(
            response.status_code, headers=headers, content=bytes(content), request=response.request
        )
        return whole

    def _opened(self, httpx: Any) -> httpx.Client:
        """Return the connections, which are made when they are first needed."""
        with self._lock:  # several threads may ask first
            if self._client is None:
                limits = httpx.Limits(max_connections=None)  # many logs may be followed at once
                local = is_loopback(self.base_url)
                self._client = httpx.Client(headers=self._headers, trust_env=not local, limits=limits)
            return self._client

    def _authorization(self) -> dict[str, str]:
        if self._fresh_token is None:
            return {}
        if not self._token:
            check_private(self.base_url, self._service)
            self._token = self._fresh_token()
        return {"Authorization": f"Bearer {self._token}"}

    def _url(self, path: str) -> str:
        return f"{self.base_url}/{path.lstrip('/')}"

    def _sleep(self, number: int, at_least: float = 0.0) -> None:
        """Pause before the next try; not all who were refused together come back together."""
        longest = min(self._pause * 2 ** (number - 1), _LONGEST_PAUSE)
        time.sleep(max(at_least, random.uniform(longest / 2, longest)))  # noqa: S311  nothing to guess here

    # error messages

    def _refusal(self, response: httpx.Response, body: Any) -> str:
        words = response.text
        for secret in {*_secrets(body), self._token} - {""}:
            words = words.replace(json.dumps(secret)[1:-1], MASK).replace(secret, MASK)
        words = escaped(" ".join(words.split())[:_LONGEST_WORDS])
        text = f"{self._service} refused {_what(response)}: {response.status_code} {words}".rstrip()
        hint = self._hint if response.status_code in (401, 403, 404) else ""
        return f"{text}; {hint}" if hint else text

    def _unreachable(self, error: Exception) -> EngineUnreachableError:
        text = f"{self._service} at {self.base_url} does not answer ({str(error) or type(error).__name__})"
        return EngineUnreachableError(f"{text}; {self._hint}" if self._hint else text)


class Pieces(Iterator[bytes]):
    """The pieces of a long answer."""

    def __init__(self, response: httpx.Response, error: Callable[[Exception], Exception]) -> None:
        self._response = response
        self._bytes = response.iter_bytes()
        self._error = error

    def __next__(self) -> bytes:
        import httpx

        try:
            return next(self._bytes)
        except httpx.HTTPError as e:
            raise self._error(e) from e

    def cut(self) -> None:
        """Break the connection; another thread that waits for the next piece gets none."""
        stream = self._response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream else None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Failure(NamedTuple):
    """Why a request has no answer yet.

    Attributes:
        error: That, as an error.
        nothing_done: Whether it is certain that the service has done nothing.
        pause: Seconds that the service wants us to wait.
    """

    error: EngineUnreachableError
    nothing_done: bool
    pause: float = 0.0


class _PerhapsDoneError(EngineUnreachableError):
    """There is no answer to a request that must not be repeated, and it may have been carried out."""


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _what(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url.copy_with(query=None)}"


def _is_passing(status: int) -> bool:
    """Check whether an answer says that asking again later may succeed."""
    return status in (408, 425, _TOO_MANY) or status >= 500


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds that the service wants us to wait."""
    from email.utils import parsedate_to_datetime

    text = response.headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _secrets(body: Any) -> Iterator[str]:
    """Yield the values in a body whose names say that they are secrets; a service may repeat them in its error.

    >>> list(_secrets({"clientSecret": "a", "envs": [{"name": "HF_TOKEN", "value": "b"}, {"name": "X", "value": "c"}]}))
    ['a', 'b']
    """
    if isinstance(body, Mapping):
        if is_secret(str(body.get("name", ""))) and isinstance(body.get("value"), str):
            yield body["value"]
        for name, value in body.items():
            if isinstance(value, str) and _is_name_of_secret(name):
                yield value
            else:
                yield from _secrets(value)
    elif isinstance(body, list):
        for item in body:
            yield from _secrets(item)


def _is_name_of_secret(name: str) -> bool:
    """Check whether what has this name is a secret, and not only where one is found."""
    return is_secret(name) and not name.lower().endswith(("name", "ref"))


def check_private(url: str, service: str) -> None:
    """Check that nobody on the way can read what is sent to a URL, before a credential is.

    Raises:
        ExecutorError: It is not encrypted, and leads to another machine.
    """
    if urlsplit(url).scheme != "https" and not is_loopback(url):
        raise ExecutorError(
            f"{service} at {url!r:.200}: a credential would be readable by others on the way, so none is sent; use https://"
        )


def is_loopback(url: str) -> bool:
    """Check whether a URL leads to this machine, to which no proxy of the environment leads.

    >>> is_loopback("http://127.0.0.1:8265"), is_loopback("http://localhost"), is_loopback("https://cloud.example")
    (True, True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
