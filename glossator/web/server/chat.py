"""Conversations as pages: those there are, and one of them, which goes on as one reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from glossator.errors import ConfigError
from glossator.notebooks import CHAT
from glossator.store import Store
from glossator.types import FeatureId
from glossator.web.server.asked import chosen, runs_of, store_of
from glossator.web.server.chat_view import ChatView, view_of
from glossator.web.server.conversations import Conversations
from glossator.web.server.loaded import config_of
from glossator.web.server.render import page

router = APIRouter(include_in_schema=False)

_Text = Annotated[str, Form()]
MOST_LISTED = 200


@router.get("/chat")
def chats_page(request: Request, feature: str = "", run: str = "", q: str = "") -> Response:
    """Conversations there are, the newest first; the form for a new one, as the address has it."""
    return _chats(request, feature, run, q)


def _chats(
    request: Request, feature: str, run: str, said: str, error: str = "", status: int = 200
) -> Response:
    store = store_of(request)
    runs = runs_of(store)
    return page(
        request,
        "chats",
        "chat",
        status=status,
        chats=store.notebooks.known(kind=CHAT)[:MOST_LISTED],
        runs=runs,
        speech=request.app.state.conversations.speech,
        feature=feature,
        run=run or runs[0].id,
        said=said,
        error=error,
    )


@router.post("/chat")
def begin(request: Request, feature: _Text = "", run: _Text = "", text: _Text = "") -> Response:
    """Begins a conversation, and leads to it."""
    store = store_of(request)
    try:
        one = chosen(runs_of(store), run)
        config = config_of(one.config)
        named = feature.strip()
        whole = named if "//" in named else f"{config.model}//{named}"
        try:
            found = FeatureId.parse(whole)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        name = _conversations(request).begin(store, config, found, text)
    except ConfigError as error:
        return _chats(request, feature, run, text, str(error), 400)
    return _to(name)


@router.get("/chat/{name}")
def chat_page(request: Request, name: str) -> Response:
    """One conversation."""
    return _page(request, name)


@router.get("/chat/{name}/part")
def chat_part(request: Request, name: str) -> Response:
    """What of it changes."""
    store = store_of(request)
    return page(request, "chat_part", **_values(request, store, name))


@router.post("/chat/{name}/say")
def say(request: Request, name: str, text: _Text = "") -> Response:
    """What the user says."""
    return _done(request, name, lambda c, s: c.say(s, name, text), text)


@router.post("/chat/{name}/decide")
def decide(request: Request, name: str, call: _Text = "", answer: _Text = "") -> Response:
    """Yes or no to the dear call that the page showed."""

    def work(conversations: Conversations, store: Store) -> None:
        view = view_of(store, name)
        if view is None or view.asked is None or view.asked.key != call:
            raise ConfigError("that call does not wait for an answer any more")
        conversations.decide(store, name, answer == "yes")

    return _done(request, name, work)


@router.post("/chat/{name}/resume")
def resume(request: Request, name: str) -> Response:
    """Goes on with a turn that was cut off."""
    return _done(request, name, lambda c, s: c.resume(s, name))


@router.post("/chat/{name}/stop")
def stop(request: Request, name: str) -> Response:
    """Ends the turn."""
    return _done(request, name, lambda c, s: c.stop(s, name))


@router.post("/chat/{name}/keep")
def keep(request: Request, name: str, hypothesis: _Text = "", score: _Text = "") -> Response:
    """Keeps a hypothesis as an explanation; scores it too if `score` is not empty."""
    return _done(request, name, lambda c, s: c.keep(s, name, hypothesis, score=bool(score)))


def _done(
    request: Request, name: str, work: Callable[[Conversations, Store], None], text: str = ""
) -> Response:
    store = store_of(request)
    _values(request, store, name)
    try:
        work(_conversations(request), store)
    except ConfigError as error:
        return _page(request, name, text, str(error), 400)
    return _to(name)


def _page(
    request: Request, name: str, text: str = "", error: str = "", status: int = 200
) -> Response:
    store = store_of(request)
    values = _values(request, store, name)
    return page(request, "chat", "chat", status=status, text=text, error=error, **values)


def _values(request: Request, store: Store, name: str) -> dict[str, Any]:
    """What the templates name; a 404 if there is no such conversation."""
    conversations = _conversations(request)
    view = view_of(store, name)
    begun = conversations.known.get(name)
    if view is None and begun is None:
        raise HTTPException(404, f"There is no conversation called {name[:60]!r} in this store.")
    if view is None and begun is not None:
        view = ChatView(name, begun.feature, begun.config.llm, None, (), ())
    now = conversations.worker.now
    task = None if begun is None else begun.task
    at_work = task is not None and task is now
    return {
        "view": view,
        "row": None if view is None else store.browser.row_of(view.feature),
        "used": store.used(view.run.id) if view is not None and view.run is not None else None,
        "at_work": at_work,
        "task": task,
        "first": "" if begun is None else begun.first,
        "partial": "" if begun is None else begun.partial,
        "speech": conversations.speech,
    }


def _conversations(request: Request) -> Conversations:
    found: Conversations = request.app.state.conversations
    return found


def _to(name: str) -> Response:
    return RedirectResponse(f"/chat/{quote(name)}#end", 303)
