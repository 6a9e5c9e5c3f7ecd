"""The addresses of the page, and the server behind them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import mimetypes
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from nemo_run.core.inside import read_inside
from nemo_run.errors import CommandLineError, NemoRunError
from nemo_run.run import catalog
from nemo_run.run.store import ExperimentStore
from nemo_run.run.where import condition
from nemo_run.ui import actions, reading
from nemo_run.ui.guard import Guard, Tokens
from nemo_run.ui.listing import Listing
from nemo_run.ui.logs import LARGEST_PIECE, Log, LogName, Logs
from nemo_run.ui.watching import Page, Watcher

STATIC = Path(__file__).parent / "static"
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_LARGEST_REQUEST = 100_000  # bytes
_ALONE = {"content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}
_Handler = Callable[["Pages", Request], Awaitable[Response]]


def _answer(read: Callable[[Pages, Request], Any]) -> _Handler:
    """Return a handler that answers with a document; an error is one, too."""

    @functools.wraps(read)
    async def handler(self: Pages, request: Request) -> Response:
        try:
            document, status = await run_in_threadpool(read, self, request), 200
        except (NemoRunError, OSError, LookupError, ValueError) as error:
            document, status = {"error": str(error)}, 400 if isinstance(error, CommandLineError) else 404
        return Response(reading.dumps(document), status, media_type="application/json")

    return handler


class Pages:
    """What is behind the addresses."""

    def __init__(self, tokens: Tokens) -> None:
        """Serve the experiments of this home.

        Args:
            tokens: What browsers have to know.
        """
        self._tokens = tokens
        self._listing, self._logs = Listing(), Logs()
        self._watcher = Watcher(self._listing, self._logs)

    def routes(self) -> list[Route | WebSocketRoute]:
        """Return the addresses."""
        of_one = {
            "": self.experiment, "/outcomes": self.outcomes, "/metrics": self.metrics, "/trials": self.trials,
            "/provenance": self.provenance, "/configuration": self.configuration, "/artifacts": self.artifacts,
            "/artifact": self.artifact, "/log": self.log, "/log/find": self.find, "/log/file": self.log_file,
        }  # fmt: skip
        return [
            Route("/", self.page),
            Route("/static/{name}", self.static),
            Route("/api/session", self.session),
            Route("/api/experiments", self.experiments),
            Route("/api/where", self.where),
            Route("/api/compare", self.compare),
            *(Route(f"/api/experiments/{{id}}{path}", handler) for path, handler in of_one.items()),
            Route("/api/experiments/{id}/{action}", self.act, methods=["POST"]),
            WebSocketRoute("/api/live", self.live),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Close what was opened when the server ends."""
        yield
        self._logs.close()

    async def page(self, _: Request) -> Response:
        """Answer with the page."""
        return FileResponse(STATIC / "index.html")

    async def static(self, request: Request) -> Response:
        """Answer with a file of the page."""
        name = request.path_params["name"]
        if name not in {path.name for path in STATIC.iterdir()}:
            raise HTTPException(404)
        return FileResponse(STATIC / name, headers={"cache-control": "no-cache"})

    @_answer
    def session(self, _: Request) -> Any:
        """Answer with what the page may do."""
        return {"act": self._tokens.act, "actions": actions.NAMES if self._tokens.act else []}

    @_answer
    def experiments(self, _: Request) -> Any:
        """Answer with all experiments in one line each."""
        self._listing.refresh()
        return self._listing.rows()

    @_answer
    def where(self, request: Request) -> Any:
        """Answer with the ids of the experiments with a job for which a condition holds."""
        holds = condition(request.query_params.get("condition", ""))
        ids = []
        for row in self._listing.rows():
            words = self._listing.words(row["id"])
            jobs = zip(words["parameters"], words["results"], strict=False)
            if any(holds({**results, **parameters}) for parameters, results in jobs):
                ids.append(row["id"])
        return ids

    @_answer
    def compare(self, request: Request) -> Any:
        """Answer with the differences between experiments, and the metrics of all."""
        ids = request.query_params.getlist("id")[:20]
        found = [catalog.find(one) for one in ids]
        return {
            "differences": reading.differences(ids),
            "metrics": {store.id: reading.metrics(store) for store in found},
            "trials": {store.id: reading.trials(store) for store in found},
        }

    @_answer
    def experiment(self, request: Request) -> Any:
        """Answer with an experiment and its jobs."""
        return reading.experiment(_store(request))

    @_answer
    def outcomes(self, request: Request) -> Any:
        """Answer with results, exceptions and last values of metrics."""
        return reading.outcomes(_store(request))

    @_answer
    def metrics(self, request: Request) -> Any:
        """Answer with curves."""
        return reading.metrics(_store(request), request.query_params.getlist("job"))

    @_answer
    def trials(self, request: Request) -> Any:
        """Answer with the jobs, compared."""
        return reading.trials(_store(request))

    @_answer
    def provenance(self, request: Request) -> Any:
        """Answer with where an experiment comes from."""
        return reading.provenance(_store(request))

    @_answer
    def configuration(self, request: Request) -> Any:
        """Answer with the configuration of a job."""
        return reading.configuration(_store(request), request.query_params["job"])

    @_answer
    def artifacts(self, request: Request) -> Any:
        """Answer with the list of the files that tasks left."""
        return reading.artifact_list(_store(request), request.query_params.get("job"))

    async def artifact(self, request: Request) -> Response:
        """Answer with a file that a task left; only pictures are shown by browsers themselves."""
        wanted = request.query_params
        try:
            folder, name = await run_in_threadpool(
                reading.artifact_file, _store(request), wanted["job"], wanted["task"], wanted["path"]
            )
            file = read_inside(folder, name)
        except (NemoRunError, OSError, KeyError):
            raise HTTPException(404) from None
        kind = mimetypes.guess_type(name)[0] or ""
        shown = kind in _PICTURES or "text" in wanted
        media = kind if kind in _PICTURES else "text/plain; charset=utf-8" if shown else "application/octet-stream"
        headers = _ALONE if shown else {**_ALONE, "content-disposition": "attachment"}
        return _streamed(file.fileno(), file.close, media, headers)

    @_answer
    def log(self, request: Request) -> Any:
        """Answer with a part of a log."""
        wanted = request.query_params
        log = self._log(request)
        piece = log.read_lines(
            int(wanted.get("start", -LARGEST_PIECE // 4)), int(wanted.get("count", LARGEST_PIECE // 4))
        )
        text = piece.content.decode("utf-8", "replace")
        return {"start": piece.start, "end": piece.end, "size": piece.size, "text": text, "problem": log.problem}

    @_answer
    def find(self, request: Request) -> Any:
        """Answer with the lines of a log that contain a text."""
        return self._log(request).find(request.query_params.get("text", ""))

    async def log_file(self, request: Request) -> Response:
        """Answer with a whole log, to be kept."""
        log = await run_in_threadpool(self._log, request)

        async def pieces() -> AsyncIterator[bytes]:
            start = 0
            while (piece := await run_in_threadpool(log.read, start)).content:
                yield piece.content
                start = piece.end

        name = f'attachment; filename="{request.path_params["id"]}.log"'
        headers = {**_ALONE, "content-disposition": name}
        return StreamingResponse(pieces(), media_type="text/plain; charset=utf-8", headers=headers)

    def _log(self, request: Request) -> Log:
        return self._logs.get(_store(request), _log_name(request.path_params["id"], request.query_params))

    async def act(self, request: Request) -> Response:
        """Do what was asked for."""
        body = await request.body()
        if len(body) > _LARGEST_REQUEST:
            raise HTTPException(413)
        request.state.body = body
        return await self._acted(request)

    @_answer
    def _acted(self, request: Request) -> Any:
        given = json.loads(request.state.body or b"{}")
        words = actions.command(request.path_params["action"], request.path_params["id"], given)
        good, said = actions.act(words)
        return {"good": good, "said": said}

    async def live(self, socket: WebSocket) -> None:
        """Tell a page what changes, and listen to what it shows."""
        await socket.accept()
        page = self._watcher.open()
        listening = asyncio.ensure_future(_listen(socket, page))
        try:
            while (message := await page.messages.get()) is not None:
                await socket.send_text(reading.dumps(message).decode())
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            listening.cancel()
            self._watcher.close(page)


async def _listen(socket: WebSocket, page: Page) -> None:
    """Take in what a page shows, until it is closed."""
    try:
        while True:
            wanted = await socket.receive_json()
            page.experiment, page.told = str(wanted.get("experiment") or ""), None
            log = wanted.get("log")
            page.log = (_log_name(page.experiment, log), int(log["start"])) if log else None
    except (WebSocketDisconnect, RuntimeError, ValueError, TypeError, AttributeError, LookupError):
        page.tell_end()


def _log_name(experiment: str, wanted: Any) -> LogName:
    rank = wanted.get("rank")
    return LogName(
        experiment, str(wanted["job"]), int(wanted.get("task") or 0), int(wanted.get("attempt") or 1),
        None if rank in (None, "") else int(rank),
    )  # fmt: skip


def _store(request: Request) -> ExperimentStore:
    return catalog.find(request.path_params["id"])


def _streamed(fd: int, close: Callable[[], None], media: str, headers: dict[str, str]) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            while piece := await run_in_threadpool(os.read, fd, LARGEST_PIECE):
                yield piece
        finally:
            close()

    return StreamingResponse(
        pieces(), media_type=media, headers={**headers, "content-length": str(os.fstat(fd).st_size)}
    )


def application(tokens: Tokens, hosts: Sequence[str] = ()) -> Starlette:
    """Return the application."""
    pages = Pages(tokens)
    middleware = [Middleware(Guard, tokens=tokens, hosts=hosts), Middleware(GZipMiddleware, compresslevel=1)]
    return Starlette(routes=pages.routes(), middleware=middleware, lifespan=pages.lifespan)


def serve(
    port: int = 0, *, read_only: bool = False, hosts: Sequence[str] = (), tell: Callable[[str], None] = print
) -> None:
    """Serve the page to this machine until it is interrupted.

    Args:
        port: The port; a free one for 0.
        read_only: Refuse everything that changes anything.
        hosts: More names under which the page may be asked for, such as that of a proxy.
        tell: Is told the address when the page can be opened.

    Raises:
        OSError: The port is taken.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    port = listening.getsockname()[1]
    tokens = Tokens(port)
    if read_only:
        tokens.act = ""
    config = uvicorn.Config(
        application(tokens, hosts),
        log_level="warning", access_log=False, ws_max_size=_LARGEST_REQUEST, timeout_graceful_shutdown=1,
        server_header=False,
    )  # fmt: skip
    listening.listen(128)
    tell(f"http://127.0.0.1:{port}/?token={tokens.look}")
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run([listening])
