"""The page that lists features: sorted, filtered, searched, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from glossator.listing import FLAGS
from glossator.selection import ALL_FLAGS, RANGES, Listed, Listing, Mark, Selection
from glossator.store import Run, Store
from glossator.types import Kind
from glossator.web.server.addresses import address, changed
from glossator.web.server.asked import chosen, runs_of, selection_of, store_of
from glossator.web.server.meaning import by_meaning
from glossator.web.server.render import page

router = APIRouter(include_in_schema=False)

SITES = 400
"""Sites that are offered to choose from."""

SAID = {
    "abstained": "every explainer abstained",
    "beaten": "the unigram baseline predicts better",
    "disagreement": "scorers disagree whether it beats its null",
    "failed": "some work failed",
    "rated": "somebody has rated an explanation",
    "unexplained": "nobody has explained it",
}
"""What each flag means."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is in force, and the list without it."""

    text: str
    without: Selection


@dataclass(frozen=True, slots=True)
class Facets:
    """What can be chosen among in a run."""

    kinds: dict[Kind, int]
    flags: dict[str, int]
    explainers: tuple[str, ...]
    sites: tuple[str, ...]
    scorers: tuple[str, ...]


def facets_of(store: Store, run: Run) -> Facets:
    """What can be chosen among in `run`."""
    browser = store.browser
    return Facets(
        browser.kinds(run.collection),
        browser.flags(run.id),
        browser.explainers(run.id),
        browser.sites()[:SITES],
        browser.scorers(run.id),
    )


@router.get("/features")
def features_page(request: Request) -> Response:
    """A page of the list that the address asks for."""
    store = store_of(request)
    runs = runs_of(store)
    run = chosen(runs, request.query_params.get("run"))
    selection = selection_of(request, store, run)
    facets = request.app.state.facets.get(run.id, lambda: facets_of(store, run))
    found = by_meaning(request, store, selection)
    listing = found.ordered(store.browser.page(found.selection))
    return page(
        request,
        "features",
        "features",
        run=run,
        runs=runs,
        facets=facets,
        flags=ALL_FLAGS,
        said=SAID,
        ranges=(*RANGES, *facets.scorers),
        selection=selection,
        listing=listing,
        n=_number(selection, listing, facets),
        chips=_chips(selection),
        columns=_columns(selection, facets, by_nearness=found.is_by_nearness),
        shown_flags=FLAGS,
        axis_of=_axis,
        found=found,
        saved=request.app.state.saved.all(store),
        query=address(selection.from_the_start).partition("?")[2],
    )


def _number(selection: Selection, listing: Listing, facets: Facets) -> int | None:
    """How many features are in the list, where that is known."""
    if not selection.is_filtered and selection.sort in ("id", "site", "kind", "density", "peak"):
        return sum(facets.kinds.values())
    return listing.n


def _axis(values: list[Listed], scorer: str) -> tuple[float, float]:
    """The range of a column of scores: 0 to 1, and beyond it in quarters as far as they go."""
    from glossator.web.figures import Axis

    marks: list[Mark] = [row.marks[scorer] for row in values if scorer in row.marks]
    ends = [v for m in marks for v in (m.value, m.low, m.high, m.null)]
    axis = Axis.over(ends)
    return axis.low, axis.high


def _columns(selection: Selection, facets: Facets, *, by_nearness: bool) -> list[dict[str, Any]]:
    """The heads of the table: name, title, how it is sorted now, and what a click sorts by."""
    heads = [("id", "Feature", False), ("site", "Site", False), ("kind", "Kind", False)]
    heads += [("density", "Density", True), ("peak", "Peak", True)]
    heads += [("explainer", "Best explanation", False)]
    heads += [(scorer, scorer, True) for scorer in facets.scorers]
    columns = []
    for name, title, falls in heads:
        current = selection.sort == name and not by_nearness
        down = not selection.descending if current else falls
        columns.append(
            {
                "name": name,
                "title": title,
                "sorted": ("descending" if selection.descending else "ascending")
                if current
                else "",
                "next": changed(selection, sort=name, descending=down),
                "number": falls,
            }
        )
    return columns


def _chips(selection: Selection) -> list[Chip]:
    chips = []
    if selection.text:
        chips.append(Chip(f"text: {selection.text}", changed(selection, text="")))
    if selection.like:
        chips.append(Chip(f"meaning: {selection.like}", changed(selection, like="")))
    for name, field, values in (
        ("kind", "kinds", selection.kinds),
        ("site", "sites", selection.sites),
        ("number", "numbers", selection.numbers),
        ("by", "explainers", selection.explainers),
        ("flag", "flags", selection.flags),
    ):
        every: tuple[Any, ...] = tuple(values)
        for value in every:
            rest = tuple(other for other in every if other != value)
            chips.append(Chip(f"{name}: {value}", changed(selection, **{field: rest})))
    for name, (low, high) in selection.ranges.items():
        rest_of = {n: bounds for n, bounds in selection.ranges.items() if n != name}
        said = " to ".join("…" if end is None else f"{end:g}" for end in (low, high))
        chips.append(Chip(f"{name}: {said}", changed(selection, ranges=rest_of)))
    return chips
