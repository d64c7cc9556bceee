"""The page of one feature."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from glossator.dossier import Dossier
from glossator.store import Run, Store
from glossator.types import FeatureId
from glossator.web.server.alone import feature_alone
from glossator.web.server.asked import chosen, runs_of, store_of
from glossator.web.server.feature_view import view_of
from glossator.web.server.features import SAID
from glossator.web.server.place import Place, reviewer_of
from glossator.web.server.render import page
from glossator.web.server.trials import Trial, Trials

router = APIRouter(include_in_schema=False)

_LARGEST = 2**31
"""Rows are below it."""


@router.get("/features/{name}/alone.html")
def feature_file(request: Request, name: str, run: str = "", windows: str = "") -> Response:
    """The page of the feature in that row as one file, to send to somebody."""
    store = store_of(request)
    row = name if name.isascii() and name.isdigit() else "0"
    dossier, _ = dossier_of(store, runs_of(store), row, run)
    text = feature_alone(store, dossier, whole=windows == "all")
    headers = {"content-disposition": f'attachment; filename="feature-{dossier.row}.html"'}
    return HTMLResponse(text.encode("utf-8", "replace"), headers=headers)


@router.get("/features/{name:path}")
def feature_page(
    request: Request,
    name: str,
    run: str = "",
    a: str = "",
    b: str = "",
    windows: str = "",
    trial: str = "",
) -> Response:
    """One feature, by its row in the store or by its name.

    `a` and `b` are the explanations to hold side by side; `windows=all` shows every excerpt, and
    `trial` a text that was tried.
    """
    return shown_feature(request, name, run, (a, b), whole=windows == "all", trial=trial)


def shown_feature(
    request: Request,
    name: str,
    run: str,
    compared: tuple[str, str] = ("", ""),
    *,
    whole: bool = False,
    trial: str = "",
    status: int = 200,
    error: str = "",
    text: str = "",
    strength: str | None = None,
) -> Response:
    """The page; `error` is why `text` could not be tried, at `strength` if that is not None."""
    store = store_of(request)
    runs = runs_of(store)
    if not (name.isascii() and name.isdigit()):
        return _renamed(store, name, run)
    dossier, listed = dossier_of(store, runs, name, run)
    place = Place(dossier.run.id, dossier.row)
    trials: Trials = request.app.state.trials
    tried = trials.known.get(trial)
    if tried is not None and tried.tried.row != dossier.row:
        tried = None
    return page(
        request,
        "feature",
        "features",
        status=status,
        trial=tried,
        trial_name=trial,
        error=error,
        typed=tried.tried.text if tried is not None and not error else text,
        strength=_shown_strength(tried, strength),
        can_chat=bool(request.app.state.conversations.speech.llm),
        view=view_of(store, dossier, *compared, whole=whole),
        dossier=dossier,
        run=dossier.run,
        runs=listed,
        said=SAID,
        standing=store.reviews.of(dossier.run.id, dossier.row),
        place=place,
        names={said.explainer: said.explainer for said in dossier.explanations},
        reviewer=reviewer_of(request, place),
    )


def _shown_strength(trial: Trial | None, typed: str | None) -> str | None:
    """What the form for holding a feature says; None where a text was read as it is."""
    if typed is not None or trial is None or trial.tried.strength is None:
        return typed
    return f"{trial.tried.strength:g}"


def _renamed(store: Store, name: str, run: str) -> Response:
    """Leads from the name of a feature to its page."""
    try:
        row = store.browser.row_of(FeatureId.parse(name))
    except ValueError:
        row = None
    if row is None:
        raise HTTPException(404, f"There is no feature called {name[:120]!r} in this store.")
    return RedirectResponse(f"/features/{row}?{urlencode({'run': run} if run else {})}", 303)


def dossier_of(
    store: Store, runs: list[Run], name: str, run: str
) -> tuple[Dossier, tuple[str, ...]]:
    """The feature in row `name` as `run` has it, and all runs that have it, the newest first.

    Without a run, it is of the newest that says something of it. A 404 if there is none.
    """
    row = int(name) if len(name) < 12 else _LARGEST
    listed = tuple(store.browser.runs_of(row)) if row < _LARGEST else ()
    chosen_run = chosen(runs, run or next(iter(listed), None))
    dossier = store.dossiers.of(chosen_run, row) if row < _LARGEST else None
    if dossier is None:
        raise HTTPException(404, f"There is no feature {name[:20]} in this store.")
    return dossier, listed
