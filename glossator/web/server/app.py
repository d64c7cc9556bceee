"""The application that `glossator review` serves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from glossator.embedder import Embedder
from glossator.errors import StoreError
from glossator.overview import Counts
from glossator.web.server import (
    agreeing,
    api,
    ask,
    chat,
    exports,
    feature,
    features,
    live,
    reviewing,
    runs,
    saved,
    static,
)
from glossator.web.server.ask import Desk
from glossator.web.server.conversations import Conversations
from glossator.web.server.kept import Kept
from glossator.web.server.loaded import Loaded, Speech
from glossator.web.server.meaning import Sense
from glossator.web.server.opened import NothingYet, Opened
from glossator.web.server.render import page
from glossator.web.server.saved import Saved
from glossator.web.server.security import Guard, Security
from glossator.web.server.trials import Trials
from glossator.web.server.worker import Worker


def create_app(
    store_url: str,
    *,
    host: str = "127.0.0.1",
    token: str = "",
    speech: Speech | None = None,
    desk: Desk | None = None,
    embedder: Embedder | None = None,
) -> FastAPI:
    """The pages about the store at `store_url`.

    Args:
        store_url: where it is; opened when the first page is asked for.
        host: where the server listens; elsewhere than on this machine every page asks for the
            token.
        token: what every request that changes anything must carry; made up unless given.
        speech: which language model pages chat with; none without it.
        desk: who writes the queries for questions in words; nobody unless given.
        embedder: who reads what texts mean; the bundled one unless given, on the first search.
    """
    opened = Opened(store_url)
    spoken = speech or Speech()
    worker, loaded = Worker(), Loaded(store_url, spoken.limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(worker.close, loaded.close)
        opened.close()

    app = FastAPI(
        title="glossator",
        description="Explanations of the features of language models, and how far they hold.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.opened = opened
    app.state.shown = _without_password(store_url)
    app.state.facets = Kept[features.Facets]()
    app.state.counts = Kept[Counts]()
    app.state.overviews = Kept[runs.Summed]()
    app.state.queues = Kept[dict[int, str]]()
    app.state.conversations = Conversations(spoken, worker, loaded)
    app.state.trials = Trials(worker, loaded)
    app.state.desk = desk or Desk(None)
    app.state.saved = Saved()
    app.state.sense = Sense(embedder)
    app.state.guard = Guard(token or secrets.token_urlsafe(24), host)
    app.add_middleware(Security, guard=app.state.guard)
    about_one = (live, feature, reviewing, agreeing, chat)
    for module in (runs, exports, ask, saved, features, *about_one, api, static):
        app.include_router(module.router)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    app.add_exception_handler(StoreError, _unreadable)
    app.add_api_route("/", _home, include_in_schema=False)
    return app


async def _home() -> Response:
    return RedirectResponse("/runs", 303)


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "the store"


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


async def _told(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError("only what ends a request comes here") from error
    if _is_api(request):
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
    titles = {404: "Not found", 405: "Not possible", 409: "Not possible any more"}
    title = titles.get(error.status_code, "That cannot be shown")
    text = "There is no such page." if error.detail == "Not Found" else error.detail
    reply = page(request, "message", status=error.status_code, title=title, text=text)
    reply.headers.update(error.headers or {})
    return reply


async def _misunderstood(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise TypeError("only refused parameters come here") from error
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    detail = f"{where[:60]}: {first['msg'][:200]}"
    if _is_api(request):
        return JSONResponse({"detail": detail}, 422)
    return page(request, "message", status=422, title="That cannot be shown", text=detail)


async def _unreadable(request: Request, error: Exception) -> Response:
    nothing = isinstance(error, NothingYet)
    if _is_api(request):
        return JSONResponse({"detail": str(error)}, 404 if nothing else 503)
    if nothing:
        return page(request, "empty", text=str(error))
    return page(request, "message", status=503, title="The store cannot be shown", text=str(error))
