"""Predicted against real as points, one for each token."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from glossator.types import Score
from glossator.web.heldout import usable
from glossator.web.words import attribute, short

MOST = 500
"""Points drawn: of more, every so many-th, and all that are strong in either."""
HEIGHT = 190
_EDGE = 8
_POINT, _UP, _SHUT = Markup('<circle cx="'), Markup('%" cy="'), Markup('" r="3"/>')


def scatter(score: Score, peak: float) -> Markup:
    """Real activation from left to right up to `peak`, predicted upwards over its own range.

    Empty where `score` predicted no tokens.
    """
    found = [
        (actual, predicted)
        for prediction in usable(score).values()
        for actual, predicted in zip(prediction.actual, prediction.predicted, strict=True)
    ]
    if not found or peak <= 0:
        return Markup("")
    low, high = min(p for _, p in found), max(p for _, p in found)
    places = [(_part(a, 0.0, peak), _part(p, low, high)) for a, p in found]
    parts: list[str] = []
    for x, y in _thinned(places):
        across, up = f"{4 + 92 * x:.4g}", f"{HEIGHT - _EDGE - (HEIGHT - 2 * _EDGE) * y:.1f}"
        parts += [_POINT, across, _UP, up, _SHUT]
    label = attribute(
        f"{len(found):,} tokens: real activation from 0 to {short(peak)} across, predicted by "
        f"{score.explainer} from {short(low)} to {short(high)} upwards",
        300,
    )
    return Markup(
        '<svg class="scatter" role="img" aria-label="{0}" width="100%" height="{1}">'
        '<line x1="0" x2="100%" y1="{2}" y2="{2}"/><line x1="0" x2="0" y1="0" y2="{2}"/>{3}</svg>'
    ).format(label, HEIGHT, HEIGHT - 1, Markup("").join(parts))


def _part(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0


def _thinned(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    strong = [p for p in places if max(p) > 0.2]
    weak = [p for p in places if max(p) <= 0.2]
    kept = []
    for some, most in ((strong, MOST * 4 // 5), (weak, MOST // 5)):
        step = max(1, -(-len(some) // most))
        kept += some[::step]
    return kept
