"""The part of a feature's page that runs the model: a test box, and holding the feature."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from glossator.errors import ConfigError
from glossator.web.server.asked import runs_of, store_of
from glossator.web.server.feature import dossier_of, shown_feature
from glossator.web.server.loaded import config_of
from glossator.web.server.render import page
from glossator.web.server.trials import OWNER, Trial, Trials, Tried

router = APIRouter(include_in_schema=False)

_Text = Annotated[str, Form()]


@router.get("/trials/{name}")
def trial_part(request: Request, name: str) -> Response:
    """What came of a trial so far."""
    trial = _trials(request).known.get(name)
    if trial is None:
        raise HTTPException(404, "The server does not remember that trial: try the text again.")
    return page(request, "trial_part", trial=trial)


@router.post("/features/{row}/test")
def read_text(request: Request, row: str, run: _Text = "", text: _Text = "") -> Response:
    """Runs a text, and leads to the page that shows it."""
    return _begin(request, row, run, text, None)


@router.post("/features/{row}/steer")
def steer(
    request: Request, row: str, run: _Text = "", text: _Text = "", strength: _Text = "0"
) -> Response:
    """Holds the feature while the model goes on from a prompt."""
    return _begin(request, row, run, text, strength)


@router.post("/trials/{name}/stop")
def stop(request: Request, name: str) -> Response:
    """Stops what is at work."""
    trials = _trials(request)
    trial = trials.known.get(name)
    if trial is None:
        raise HTTPException(404, "The server does not remember that trial: try the text again.")
    if trial.task is not None and trial.task is trials.worker.now:
        trials.worker.stop(OWNER)
    return _to(trial, name)


def _begin(request: Request, row: str, run: str, text: str, strength: str | None) -> Response:
    if not (row.isascii() and row.isdigit()):
        raise HTTPException(404, f"There is no feature {row[:20]!r} in this store.")
    store = store_of(request)
    dossier, _ = dossier_of(store, runs_of(store), row, run)
    record = dossier.record
    try:
        tried = Tried(
            *(dossier.row, dossier.run.id, dossier.feature, text, _number(strength)),
            peak=record.train.peak if record is not None else 0.0,
            scale=record.peak if record is not None else 0.0,
            threshold=record.threshold if record is not None else 0.0,
        )
        name = _trials(request).begin(tried, config_of(dossier.run.config))
    except ConfigError as error:
        return shown_feature(
            request, row, dossier.run.id, status=400, error=str(error), text=text, strength=strength
        )
    return _to(_trials(request).known[name], name)


def _number(strength: str | None) -> float | None:
    if strength is None:
        return None
    try:
        return float(strength)
    except ValueError as error:
        raise ConfigError(f"a strength is a number of peaks, not {strength[:40]!r}") from error


def _to(trial: Trial, name: str) -> Response:
    query = urlencode({"run": trial.tried.run, "trial": name})
    return RedirectResponse(f"/features/{trial.tried.row}?{query}#live", 303)


def _trials(request: Request) -> Trials:
    found: Trials = request.app.state.trials
    return found
