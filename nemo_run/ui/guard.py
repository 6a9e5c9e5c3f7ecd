"""Who may ask, and what browsers may do with answers: checked for every request, before anything else is done."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOSTS = ("127.0.0.1", "localhost", "::1")
ACTION_HEADER = "x-nemo-run-action"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Tokens:
    """What a browser has to know: one token to look, another one to act.

    Attributes:
        look: In the address that is printed; becomes a cookie.
        act: Told to the page, which sends it in a header with what changes anything; empty where nothing may.
        cookie: Name of the cookie; cookies do not tell ports apart.
    """

    def __init__(self, port: int) -> None:
        """Make new ones."""
        self.look, self.act = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.cookie = f"nemorun-{port}"


class Guard:
    """Refuses what does not come from the page itself, in the browser of whoever was given its address."""

    def __init__(self, app: ASGIApp, tokens: Tokens, hosts: Iterable[str] = ()) -> None:
        """Guard an application.

        Args:
            app: The application.
            tokens: What has to be known.
            hosts: More names under which the page may be asked for, such as that of a proxy.
        """
        self._app, self._tokens = app, tokens
        self._hosts = {*_HOSTS, *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        status, why = self._refusal(scope, headers)
        token = _token(scope)
        cookie = f"{self._tokens.cookie}={token}; HttpOnly; SameSite=Strict" if self._knows(token) else ""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in given]
                message["headers"] = [*message["headers"], *more]
                if cookie:
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        if status:
            await _refuse(status, why, scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str]:
        """Return the HTTP status and the reason where a request is refused; 0 where it is not."""
        if _name(headers.get("host", "")) not in self._hosts:
            return 421, "this page is not served under that name; --allow-host NAME adds one"
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if (origin is None and changes) or (origin is not None and urlsplit(origin).netloc != headers.get("host")):
            return 403, "the request comes from another page"
        if not (self._knows(_token(scope)) or self._knows(_cookie(headers, self._tokens.cookie))):
            return 401, "open the whole address that nemorun ui printed, with its token"
        acts = scope["type"] == "http" and changes
        if acts and not self._tokens.act:
            return 403, "this page is only to be looked at: it was started with --read-only"
        if acts and not hmac.compare_digest(headers.get(ACTION_HEADER, "").encode(), self._tokens.act.encode()):
            return 403, "the page's token for actions is missing; load the page again"
        return 0, ""

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._tokens.look.encode())


async def _refuse(status: int, why: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4000 + status, "reason": why})
        return
    await PlainTextResponse(f"{why}\n", status)(scope, receive, send)


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _token(scope: Scope) -> str:
    found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
    return str(found[0])


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except Exception:  # noqa: BLE001  # a header that is no cookie
        return ""
    return str(found.value) if found else ""
