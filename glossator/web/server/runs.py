"""The pages of runs: all of them, and how one stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from glossator.overview import Counts, LedgerLine, SiteLine, Spread
from glossator.runs import RunStatus
from glossator.store import Run, Store
from glossator.web.report import report_of, took
from glossator.web.server.asked import chosen, runs_of, store_of
from glossator.web.server.kept import Kept
from glossator.web.server.render import page
from glossator.web.server.spread import spread_chart

router = APIRouter(include_in_schema=False)

MOST_FAILURES = 200
"""Failures that the page of a run shows."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far one stage of a run is."""

    name: str
    done: int
    total: int
    """What the run's options ask for; 0 where that is not known yet."""

    @property
    def percent(self) -> float:
        """Share that is done, in percent."""
        return 100 * min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in the list of runs."""

    run: Run
    counts: Counts
    spent: tuple[float, int]
    took: float | None


@dataclass(frozen=True, slots=True)
class Summed:
    """What of a run takes long to sum up."""

    spreads: list[Spread]
    sites: list[SiteLine]
    ledger: list[LedgerLine]


def counts_of(request: Request, store: Store, run: Run) -> Counts:
    """How much there is of `run`, as counted of late."""
    kept: Kept[Counts] = request.app.state.counts
    # The status is of the key, so that the end of a run is told whole.
    key = (run.id, run.status)
    return kept.get(key, lambda: store.overview.counts(run.id, run.collection))


def summed(request: Request, store: Store, run: Run) -> Summed:
    """What `run` amounts to, as counted of late."""

    def count() -> Summed:
        overview = store.overview
        return Summed(
            overview.spreads(run.id),
            overview.sites(run.id),
            overview.ledger(run.id),
        )

    kept: Kept[Summed] = request.app.state.overviews
    return kept.get((run.id, run.status), count)


@router.get("/runs")
def runs_page(request: Request) -> Response:
    """All runs, the newest first."""
    return _all(request, "runs")


@router.get("/runs/part")
def runs_part(request: Request) -> Response:
    """The list of that page alone, to put in its place."""
    return _all(request, "runs_part")


def _all(request: Request, template: str) -> Response:
    store = store_of(request)
    lines = [_line(request, store, run) for run in runs_of(store)]
    live = any(line.run.status is RunStatus.RUNNING for line in lines)
    return page(request, template, "runs", lines=lines, live=live)


def _line(request: Request, store: Store, run: Run) -> RunLine:
    counts = counts_of(request, store, run)
    return RunLine(run, counts, store.spent(run.id), took(run))


@router.get("/runs/{name}")
def run_page(request: Request, name: str) -> Response:
    """One run: how far it is, what it found and what it cost."""
    return page(request, "run", "runs", **_whole(request, name))


@router.get("/runs/{name}/alone.html")
def run_file(request: Request, name: str) -> Response:
    """The report of one run as one file, to send to somebody."""
    store = store_of(request)
    run, text = report_of(store, chosen(runs_of(store), name).id)
    headers = {"content-disposition": f'attachment; filename="run-{run.id}.html"'}
    return HTMLResponse(text.encode("utf-8", "replace"), headers=headers)


@router.get("/runs/{name}/part")
def run_part(request: Request, name: str) -> Response:
    """What changes on that page while the run is going, to put in its place."""
    return page(request, "run_part", "runs", **_whole(request, name))


def _whole(request: Request, name: str) -> dict[str, Any]:
    store = store_of(request)
    run = chosen(runs_of(store), name)
    overview = store.overview
    known = summed(request, store, run)
    counts, spreads = counts_of(request, store, run), known.spreads
    failures = store.failures(run.id)
    charts: list[tuple[Any, Markup]] = [(spread, spread_chart(spread)) for spread in spreads]
    named = {
        str(f.feature): store.browser.row_of(f.feature)
        for f in failures[:MOST_FAILURES]
        if f.feature is not None
    }
    return {
        "run": run,
        "took": took(run),
        "live": run.status is RunStatus.RUNNING,
        "counts": counts,
        "steps": _steps(run.config, counts),
        "charts": charts,
        "sites": known.sites,
        "scorers": [spread.scorer for spread in spreads],
        "ledger": known.ledger,
        "spent": store.spent(run.id),
        "assumed": store.assumed(run.id).dollars,
        "failures": failures[:MOST_FAILURES],
        "rows": named,
        "failed_kinds": overview.failures_by_kind(run.id),
        "error_kinds": overview.errors_by_kind(run.id),
    }


def _steps(config: Mapping[str, Any], counts: Counts) -> list[Step]:
    """The stages of a run, against what its options ask for."""

    def named(option: str) -> int:
        value = config.get(option)
        return len(value) if isinstance(value, list) else 0

    written = counts.collected * named("explainers")
    judged = (counts.explanations - counts.abstained) * named("scorers")
    return [
        Step("Features with text", counts.collected, counts.collected),
        Step("Explanations", counts.explanations, max(written, counts.explanations)),
        Step("Scores", counts.scores, max(judged, counts.scores)),
    ]
