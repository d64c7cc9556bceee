"""The same as JSON, for scripts. `/api/openapi.json` describes it; `/api/` lists it for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from glossator.selection import ALL_FLAGS, OWN, Listed
from glossator.store import Run
from glossator.types import Kind, to_json
from glossator.web.server.asked import chosen, runs_of, selection_of, store_of
from glossator.web.server.feature import dossier_of
from glossator.web.server.render import page
from glossator.web.server.runs import counts_of

router = APIRouter(prefix="/api")

Errors = dict[int | str, dict[str, Any]]


@dataclass(frozen=True)
class Problem:
    """Why there is no answer."""

    detail: str


MISSING: Errors = {404: {"model": Problem}, 503: {"model": Problem}}
WRONG: Errors = {**MISSING, 400: {"model": Problem}, 422: {"model": Problem}}


@dataclass(frozen=True)
class RunSummary:
    """A run."""

    id: str
    name: str
    status: str
    started: str
    finished: str | None
    seed: int
    config: dict[str, Any]
    config_digest: str
    versions: dict[str, str]
    budget: float | None
    """US dollars; null for none."""
    spent: float
    """US dollars in the ledger."""
    calls: int
    features: int
    explanations: int
    scores: int
    failures: int


@dataclass(frozen=True)
class MarkOut:
    """What a scorer gave the best explanation."""

    value: float
    low: float | None
    high: float | None
    null: float | None


@dataclass(frozen=True)
class FeatureOut:
    """A feature in a list."""

    row: int
    feature: str
    kind: str
    density: float
    peak: float
    explainer: str
    explanation: str
    abstained: str
    n_explanations: int
    marks: dict[str, MarkOut]
    flags: list[str]


@dataclass(frozen=True)
class FeaturePage:
    """A page of a list; `before` and `after` are what to ask for its neighbours with."""

    run: str
    features: list[FeatureOut]
    before: str | None
    after: str | None


@router.get("/", include_in_schema=False)
def guide(request: Request) -> Response:
    """What can be asked for, for people."""
    return page(request, "api", described=request.app.openapi())


@router.get("/runs", responses=MISSING)
def api_runs(request: Request) -> list[RunSummary]:
    """All runs, the newest first."""
    store = store_of(request)
    return [_run(request, run) for run in runs_of(store)]


@router.get("/runs/{run}", responses=WRONG)
def api_run(request: Request, run: str) -> RunSummary:
    """One run."""
    return _run(request, chosen(runs_of(store_of(request)), run))


@router.get("/features", responses=WRONG)
def api_features(
    request: Request,
    run: Annotated[str, Query(description="The run; the newest without one.")] = "",
    sort: Annotated[
        str,
        Query(description=f"{', '.join(OWN)} or a scorer; a minus before it turns it round."),
    ] = "id",
    q: Annotated[str, Query(description="Words of an explanation.", max_length=2000)] = "",
    kind: Annotated[list[Kind] | None, Query()] = None,
    site: Annotated[list[str] | None, Query()] = None,
    explainer: Annotated[list[str] | None, Query()] = None,
    flag: Annotated[list[str] | None, Query(description=", ".join(ALL_FLAGS))] = None,
    number: Annotated[list[str] | None, Query(description="Positions on their site.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    after: Annotated[str, Query(description="As the page before gave it.")] = "",
    before: Annotated[str, Query(description="As the page behind gave it.")] = "",
) -> FeaturePage:
    """Features of a run. `NAME.min` and `NAME.max` cut density, peak, width or a scorer's value."""
    store = store_of(request)
    selection = selection_of(request, store, chosen(runs_of(store), run))
    listing = store.browser.page(selection, whole=True)
    return FeaturePage(
        selection.run,
        [_listed(row) for row in listing.rows],
        None if listing.before is None else str(listing.before),
        None if listing.after is None else str(listing.after),
    )


@router.get("/features/{row}", responses=WRONG, response_model=dict[str, Any])
def api_feature(
    request: Request,
    row: Annotated[int, Path(ge=0, lt=2**31)],
    run: Annotated[str, Query(description="The run; without one, the newest that has it.")] = "",
) -> Response:
    """One feature whole: record, explanations, scores without predictions, failures."""
    store = store_of(request)
    dossier, listed = dossier_of(store, runs_of(store), str(row), run)
    whole = {
        "row": dossier.row,
        "feature": str(dossier.feature),
        "run": dossier.run.id,
        "runs": list(listed),
        "flags": list(dossier.flags),
        "best": dossier.best,
        "record": None if dossier.record is None else dossier.record.to_json(),
        "explanations": [to_json(said) for said in dossier.explanations],
        "scores": [_score(score) for score in dossier.scores.values()],
        "failures": [_failure(failure) for failure in dossier.failures],
    }
    # ASCII alone: texts of models may hold half a character, which no other form can carry.
    return Response(json.dumps(whole, allow_nan=False), media_type="application/json")


def _run(request: Request, run: Run) -> RunSummary:
    store = store_of(request)
    counts = counts_of(request, store, run)
    spent, calls = store.spent(run.id)
    return RunSummary(
        *(run.id, run.name, run.status.value, run.started, run.finished, run.seed),
        dict(run.config),
        run.config_digest,
        dict(run.versions),
        run.budget,
        spent,
        calls,
        *(counts.listed, counts.explanations, counts.scores, counts.failures),
    )


def _listed(row: Listed) -> FeatureOut:
    marks = {name: MarkOut(m.value, m.low, m.high, m.null) for name, m in row.marks.items()}
    return FeatureOut(
        row=row.row,
        feature=str(row.feature),
        kind=row.kind.value,
        density=row.density,
        peak=row.peak,
        explainer=row.explainer,
        explanation=row.text,
        abstained=row.abstained,
        n_explanations=row.n_explanations,
        marks=marks,
        flags=list(row.flags),
    )


def _score(score: Any) -> Mapping[str, Any]:
    plain = dict(score.to_json())
    del plain["predictions"]
    return plain


def _failure(failure: Any) -> dict[str, Any]:
    names = ("stage", "part", "kind", "message", "reply", "made")
    return {name: getattr(failure, name) for name in names}
