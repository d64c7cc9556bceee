"""How far the reviewers of a run agree with one another, and its scorers with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from fastapi import APIRouter, Request
from starlette.responses import Response

from glossator.agreement import Estimate, Unit, alpha, spearman
from glossator.reviews import Rated
from glossator.web.figures import Axis
from glossator.web.server.asked import chosen, runs_of, store_of
from glossator.web.server.render import page

router = APIRouter(include_in_schema=False)

FULL = Axis(-1.0, 1.0)
"""All that an agreement can be."""


@dataclass(frozen=True, slots=True)
class Of:
    """The ratings by one reviewer, or of one explainer."""

    name: str
    n: int
    mean: float


@router.get("/review/agreement")
def agreement_page(request: Request) -> Response:
    """Krippendorff's alpha of the reviewers, and each scorer's correlation with their mean."""
    store = store_of(request)
    runs = runs_of(store)
    run = chosen(runs, request.query_params.get("run"))
    ratings = store.reviews.ratings(run.id)
    units = units_of(ratings)
    means = {key: mean(unit.ratings.values()) for key, unit in units.items()}
    scorers: dict[str, Estimate] = {}
    values = store.reviews.scores_of_rated(run.id)
    for scorer in sorted({scorer for _, _, scorer in values}):
        both = [key for key in means if (*key, scorer) in values]
        pairs = [(values[*key, scorer], means[key]) for key in both]
        scorers[scorer] = spearman(pairs, [feature for feature, _ in both], run.seed)
    return page(
        request,
        "agreement",
        "review",
        run=run,
        runs=runs,
        alpha=alpha(list(units.values()), run.seed),
        reviewers=_by([(r.reviewer, r.rating) for r in ratings]),
        explainers=_by([(r.explainer, r.rating) for r in ratings]),
        scorers=scorers,
        n=len(units),
        axis=FULL,
    )


def units_of(ratings: Sequence[Rated]) -> dict[tuple[int, str], Unit]:
    """What was rated: each explanation, by the row of its feature and its explainer."""
    found: dict[tuple[int, str], dict[str, int]] = {}
    for rated in ratings:
        found.setdefault((rated.feature, rated.explainer), {})[rated.reviewer] = rated.rating
    return {key: Unit(key[0], given) for key, given in found.items()}


def _by(pairs: Sequence[tuple[str, int]]) -> list[Of]:
    found: dict[str, list[int]] = {}
    for name, rating in pairs:
        found.setdefault(name, []).append(rating)
    return [Of(name, len(given), mean(given)) for name, given in sorted(found.items())]
