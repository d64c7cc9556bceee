"""How the values of a scorer lie beside those of its nulls, as a chart."""

from __future__ import annotations

from markupsafe import Markup

from glossator.overview import BINS, Spread
from glossator.web.figures import Axis, axis_row
from glossator.web.words import attribute, figure

HALF = 46
"""Pixels for the highest bar, values upwards and nulls downwards."""
_QUARTER = BINS // 8
"""Bars that a quarter of the scale has."""


def spread_chart(spread: Spread) -> Markup:
    """Values as bars upwards from a line, nulls downwards, on one scale; the axis below."""
    most = max(*spread.values, *spread.nulls, 1)
    used = [i for i in range(BINS) if spread.values[i] or spread.nulls[i]]
    # All of 0 to 1, and as much below it as there is, in quarters.
    first = min(BINS // 2, min(used, default=BINS)) // _QUARTER * _QUARTER
    shown = BINS - first
    width = 100 / shown
    parts = []
    for kind, bars in (("value", spread.values), ("nulls", spread.nulls)):
        for i in range(first, BINS):
            if not bars[i]:
                continue
            tall = max(1.5, HALF * bars[i] / most)
            low, high = 2 * i / BINS - 1, 2 * (i + 1) / BINS - 1
            parts.append(
                Markup(
                    '<rect class="{}" x="{}%" y="{}" width="{}%" height="{}">'
                    "<title>{} to {}: {} {}</title></rect>"
                ).format(
                    kind,
                    f"{(i - first) * width:.4g}",
                    f"{HALF - tall:.1f}" if kind == "value" else HALF + 1,
                    f"{width * 0.88:.4g}",
                    f"{tall:.1f}",
                    *(figure(low), figure(high), f"{bars[i]:,}"),
                    "scores" if kind == "value" else "nulls",
                )
            )
    label = attribute(
        f"Distribution of {spread.n:,} scores by {spread.scorer}, mean {figure(spread.mean)}, "
        f"and of their {spread.with_null:,} nulls, mean {figure(spread.null_mean)}",
        400,
    )
    axis = Axis(2 * first / BINS - 1, 1.0)
    return Markup(
        '<svg class="spread" role="img" aria-label="{}" width="100%" height="{}">'
        '<line class="floor" x1="0" x2="100%" y1="{}" y2="{}"/>{}</svg>{}'
    ).format(label, 2 * HALF + 2, HALF, HALF, Markup("").join(parts), axis_row(axis))
