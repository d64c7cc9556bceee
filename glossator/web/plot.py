"""What a query found as bars or as points, where its columns fit."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from glossator.asking import Plot
from glossator.querying import Answer, Cell
from glossator.web.words import attribute, short

MOST_BARS = 40
_PITCH = 24
"""Pixels from one bar to the next."""
_LEFT, _WIDE = 34.0, 54.0
"""Percent of the width: where bars may begin, and how far they may go."""
_TALL = 280
"""Pixels of a scatter."""


def plot_of(answer: Answer, plot: Plot = Plot.AUTO) -> Markup:
    """The chart of `answer`; empty where nothing fits, or none is wanted."""
    numbers = [i for i in range(len(answer.columns)) if _is_numeric(answer.column(i))]
    labels = [i for i in range(len(answer.columns)) if i not in numbers]
    if plot is Plot.AUTO:
        plot = _suggested(answer, numbers, labels)
    if plot is Plot.BAR and numbers and len(labels) + len(numbers) > 1:
        label, value = (labels[0], numbers[0]) if labels else (numbers[0], numbers[1])
        return _bars(answer, label, value)
    if plot is Plot.SCATTER and len(numbers) >= 2:
        return _points(answer, numbers[0], numbers[1])
    return Markup("")


def _suggested(answer: Answer, numbers: Sequence[int], labels: Sequence[int]) -> Plot:
    if len(labels) == 1 and numbers and 2 <= len(answer.rows) <= MOST_BARS:
        return Plot.BAR
    if not labels and len(numbers) == 2 and len(answer.rows) >= 3:
        return Plot.SCATTER
    return Plot.NONE


def _is_numeric(values: Sequence[Cell]) -> bool:
    """Whether all that is known there are numbers, and something is."""
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, int | float) for value in known)


def _pairs(answer: Answer, across: int, up: int) -> list[tuple[float, float]]:
    found = []
    for row in answer.rows:
        x, y = row[across], row[up]
        if isinstance(x, int | float) and isinstance(y, int | float):
            found.append((float(x), float(y)))
    return found


def _bars(answer: Answer, label: int, value: int) -> Markup:
    found = [
        (_text(row[label]), float(number))
        for row in answer.rows[:MOST_BARS]
        if isinstance(number := row[value], int | float)
    ]
    low = min([0.0, *(number for _, number in found)])
    high = max([0.0, *(number for _, number in found)])

    def at(number: float) -> float:
        return _LEFT + _WIDE * ((number - low) / (high - low) if high > low else 0.0)

    parts = []
    for i, (text, number) in enumerate(found):
        begin, end = sorted((at(0.0), at(number)))
        parts.append(
            Markup(
                '<g><title>{}: {}</title><text x="0" y="{}">{}</text>'
                '<rect x="{}%" y="{}" width="{}%" height="{}"/>'
                '<text class="value" x="{}%" y="{}">{}</text></g>'
            ).format(
                attribute(text, 200),
                short(number),
                i * _PITCH + 15,
                attribute(text, 30) if len(text) <= 30 else f"{attribute(text[:29])}\u2026",
                f"{begin:.4g}",
                i * _PITCH + 3,
                f"{max(0.2, end - begin):.4g}",
                _PITCH - 8,
                f"{end + 1:.4g}",
                i * _PITCH + 15,
                short(number),
            )
        )
    names = attribute(f"{answer.columns[value]} by {answer.columns[label]}", 200)
    more = "" if len(answer.rows) <= MOST_BARS else f", the first {MOST_BARS} rows"
    return Markup(
        '<svg class="bars" role="img" aria-label="{}" width="100%" height="{}">{}</svg>'
    ).format(f"Bars: {names}{more}", _PITCH * max(1, len(found)), Markup("").join(parts))


def _points(answer: Answer, across: int, up: int) -> Markup:
    found = _pairs(answer, across, up)
    if not found:
        return Markup("")
    left, right = min(x for x, _ in found), max(x for x, _ in found)
    low, high = min(y for _, y in found), max(y for _, y in found)
    points = [
        Markup('<circle r="3" cx="{}%" cy="{}"><title>{}, {}</title></circle>').format(
            f"{3 + 94 * _part(x, left, right):.4g}",
            f"{_TALL - 12 - (_TALL - 24) * _part(y, low, high):.1f}",
            short(x),
            short(y),
        )
        for x, y in found
    ]
    names = attribute(answer.columns[across], 80), attribute(answer.columns[up], 80)
    label = (
        f"{len(found):,} points: {names[0]} from {short(left)} to {short(right)} across, "
        f"{names[1]} from {short(low)} to {short(high)} upwards"
    )
    return Markup(
        '<svg class="scatter plot e0" role="img" aria-label="{0}" width="100%" height="{1}">'
        '<line x1="0" x2="100%" y1="{2}" y2="{2}"/><line x1="0" x2="0" y1="0" y2="{2}"/>{3}</svg>'
        '<p class="note">{0}</p>'
    ).format(label, _TALL, _TALL - 1, Markup("").join(points))


def _part(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _text(value: Cell) -> str:
    if value is None:
        return "NULL"
    return short(value) if isinstance(value, float) else str(value)
