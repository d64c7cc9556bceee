"""Predicted beside real on held-out windows: which windows, in what order, and what was missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from glossator.types import MISMARKED, SILENT, Prediction, Score
from glossator.web.figures import LEVELS, level, series_class
from glossator.web.words import attribute, short, shown

WIDE = 0.3
"""Share of the scale by which prediction and reality must differ to be named."""
_NAMED = 3
"""Misses named under a window."""

_TOKEN, _OFF = Markup('<span class="tok" title="'), Markup('<span class="tok off" title="')
_REAL = [Markup('"><b class="r{}">').format(step) for step in range(LEVELS + 1)]
_SHUT, _END = Markup("</b>"), Markup("</span>")
_NO_BAR = Markup('<i class="x"></i>')
_BARS = {
    kind: [Markup('<i class="{}{}"></i>').format(kind, step) for step in range(LEVELS + 1)]
    for kind in "pq"
}


@dataclass(frozen=True, slots=True)
class Lane:
    """The predictions from one explanation, and the range they are shaded over."""

    explainer: str
    simulator: str
    series: int
    low: float
    high: float
    scale: str

    def part(self, value: float) -> float:
        """`value` between the least prediction, 0, and the greatest, 1."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0


@dataclass(frozen=True, slots=True)
class Miss:
    """A token on which prediction and reality are far apart."""

    token: Markup
    kind: str
    actual: str
    predicted: str


@dataclass(frozen=True, slots=True)
class Window:
    """A held-out window, its tokens with all their lanes, and what the first lane missed."""

    text: Markup
    stratum: str
    document: str
    stands_for: str
    misses: tuple[Miss, ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Windows predicted token by token, the worst first."""

    lanes: tuple[Lane, ...]
    windows: tuple[Window, ...]
    n: int
    """Windows that the first lane predicted."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A held-out window that a scorer judged as a whole, and got most wrong."""

    text: Markup
    fires: bool
    peak: str
    predicted: str
    stratum: str


def token_wise(score: Score) -> bool:
    """Whether `score` predicted the tokens of a window, not the window as a whole."""
    return any(len(p.actual) > 1 and len(p.tokens) == len(p.actual) for p in score.predictions)


def usable(score: Score) -> dict[str, Prediction]:
    """The predictions of `score` that hold a value for each token, by window."""
    return {
        p.example: p
        for p in score.predictions
        if p.predicted and len(p.tokens) == len(p.actual) == len(p.predicted)
    }


def held_out(scores: Sequence[tuple[Score, int]], peak: float, room: int) -> HeldOut | None:
    """The windows on which the first of `scores` is furthest from what happened.

    How far is the sum over tokens of the squared gap between the two shadings, that is, between
    activation over `peak` and prediction over its own range.

    Args:
        scores: each with the number of its series; the first gives the order.
        peak: where the scale of real activations ends.
        room: windows to keep.
    """
    kept = [(score, series, usable(score)) for score, series in scores if token_wise(score)]
    kept = [(score, series, found) for score, series, found in kept if found]
    if not kept:
        return None
    lanes = tuple(_lane(score, series, found) for score, series, found in kept)
    first, others = kept[0][2], [found for _, _, found in kept[1:]]

    def distance(key: str) -> float:
        return sum(gap * gap for gap in _gaps(first[key], lanes[0], peak))

    worst = sorted(first, key=lambda key: (-distance(key), key))[:room]
    windows = tuple(
        _window([first[key], *(found.get(key) for found in others)], lanes, peak) for key in worst
    )
    return HeldOut(lanes, windows, len(first))


def _lane(score: Score, series: int, found: dict[str, Prediction]) -> Lane:
    values = [v for p in found.values() for v in p.predicted]
    scale = next(iter(found.values())).scale
    return Lane(score.explainer, score.simulator, series, min(values), max(values), scale)


def _real(actual: float, peak: float) -> float:
    return min(1.0, max(0.0, actual / peak)) if peak > 0 else 0.0


def _gaps(prediction: Prediction, lane: Lane, peak: float) -> list[float]:
    """Predicted less real at each token, both from 0 to 1."""
    return [
        lane.part(predicted) - _real(actual, peak)
        for predicted, actual in zip(prediction.predicted, prediction.actual, strict=True)
    ]


def _window(made: Sequence[Prediction | None], lanes: Sequence[Lane], peak: float) -> Window:
    first = made[0]
    if first is None:
        raise ValueError("the first lane has a prediction of each window shown")
    gaps = _gaps(first, lanes[0], peak)
    wide = [i for i in range(len(gaps)) if abs(gaps[i]) >= WIDE]
    named = sorted(wide, key=lambda i: (-abs(gaps[i]), i))[:_NAMED]
    misses = tuple(
        Miss(
            shown(first.tokens[i].strip() or first.tokens[i], 60),
            "missed" if gaps[i] < 0 else "false alarm",
            short(first.actual[i]),
            short(first.predicted[i]),
        )
        for i in named
    )
    tokens = [_token(i, made, lanes, peak, i in named) for i in range(len(first.tokens))]
    return Window(
        Markup("").join(tokens),
        first.stratum,
        first.document,
        short(first.weight),
        misses,
    )


def _token(
    i: int, made: Sequence[Prediction | None], lanes: Sequence[Lane], peak: float, named: bool
) -> Markup:
    """One token: its text shaded by what happened, and under it a bar for each lane."""
    first = made[0]
    if first is None:
        return Markup("")
    said = [f"real {short(first.actual[i])}"]
    bars = []
    for prediction, lane in zip(made, lanes, strict=True):
        usable_here = prediction is not None and i < len(prediction.predicted)
        if prediction is None or not usable_here:
            said.append(f"{lane.explainer} failed")
            bars.append(_NO_BAR)
            continue
        value = prediction.predicted[i]
        said.append(f"{lane.explainer} {short(value)}")
        step = level(lane.part(value), 1.0)
        bars.append(_BARS["q" if lane.series < 0 else "p"][step])
    # Joined, which escapes as `format` does in a fifth of the time: a page has a thousand tokens.
    return Markup("").join(
        (
            _OFF if named else _TOKEN,
            attribute(" \u00b7 ".join(said), 200),
            _REAL[level(first.actual[i], peak)],
            shown(first.tokens[i], 60),
            _SHUT,
            *bars,
            _END,
        )
    )


def misjudged(score: Score, room: int) -> tuple[Judged, ...]:
    """The windows that `score` judged as a whole and got most wrong, the worst first."""
    made = [p for p in score.predictions if len(p.predicted) == 1 and p.tokens]
    if not made:
        return ()
    probable = all(p.scale == "probability" for p in made)
    low = 0.0 if probable else min(p.predicted[0] for p in made)
    high = 1.0 if probable else max(p.predicted[0] for p in made)

    def error(p: Prediction) -> float:
        part = (p.predicted[0] - low) / (high - low) if high > low else 0.5
        return part if p.stratum in (SILENT, MISMARKED) else 1 - part

    worst = sorted(made, key=lambda p: (-error(p), p.example))[:room]
    return tuple(
        Judged(
            shown("".join(p.tokens), 400),
            p.stratum not in (SILENT, MISMARKED),
            short(p.actual[0]),
            f"{p.predicted[0]:.2f}" if probable else short(p.predicted[0]),
            p.stratum,
        )
        for p in worst
        if error(p) >= WIDE
    )


def swatches(kind: str) -> Markup:
    """The steps of a colour scale, from nothing to the peak; `kind` is the letter of its class."""
    return Markup('<span class="scale" aria-hidden="true">{}</span>').format(
        Markup("").join(
            Markup('<i class="{}{}"></i>').format(kind, step) for step in range(LEVELS + 1)
        )
    )


__all__ = ["HeldOut", "Judged", "held_out", "misjudged", "series_class", "swatches", "token_wise"]
