"""What a request asks for: the store, one of its runs, a list of its features."""

from __future__ import annotations

from fastapi import HTTPException, Request

from glossator.cli.list import as_it_stands
from glossator.selection import Selection
from glossator.store import Run, Store
from glossator.web.server.addresses import parse
from glossator.web.server.opened import NothingYet


def store_of(request: Request) -> Store:
    """The store that the pages show.

    Raises:
        StoreError: if there is none, or it cannot be read.
    """
    opened = request.app.state.opened
    store: Store = opened.store()
    return store


def runs_of(store: Store) -> list[Run]:
    """All runs as they stand, the newest first.

    Raises:
        NothingYet: if there is none.
    """
    runs = store.runs()
    if not runs:
        raise NothingYet(f"The store at {store.url} holds no run yet.")
    return [as_it_stands(store, run) for run in reversed(runs)]


def chosen(runs: list[Run], name: str | None) -> Run:
    """The run called `name`, the newest without one; a 404 if there is none."""
    if not name:
        return runs[0]
    for run in runs:
        if run.id == name:
            return run
    raise HTTPException(404, f"There is no run called {name[:60]!r} in this store.")


def selection_of(request: Request, store: Store, run: Run) -> Selection:
    """The list of features of `run` that the address asks for; a 400 if it makes no sense."""
    pairs = request.query_params.multi_items()
    try:
        return parse(pairs, run.id, run.collection, store.browser.scorers(run.id))
    except ValueError as error:
        raise HTTPException(400, f"{error}.") from error
