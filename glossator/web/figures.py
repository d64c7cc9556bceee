"""Charts as inline SVG and texts shaded by activation, without a style attribute or a script.

Horizontal places are percentages and heights are pixels, so that a chart is as wide as there is
room and its lettering stays as large as the text around it. Colours are classes of the style sheet,
which has them for light and for dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from glossator.types import Example
from glossator.web.words import attribute, figure, short, shown

LEVELS = 8
"""Steps of the colour scales above nothing; the style sheet has one class for each."""

_SHADE = [
    [Markup('<b class="r{}{}" title="').format(step, fires) for step in range(LEVELS + 1)]
    for fires in ("", " f")
]
"""By whether the token fires, and by step."""
_SHADED, _END = Markup('">'), Markup("</b>")

_MARKS = (
    Markup('<circle r="4.5"/>'),
    Markup('<path d="M0-5.5 5.5 0 0 5.5-5.5 0z"/>'),
    Markup('<path d="M0-5 5 4H-5z"/>'),
)
_BASELINE_MARK = Markup('<rect x="-3.8" y="-3.8" width="7.6" height="7.6"/>')


def level(value: float, peak: float, low: float = 0.0) -> int:
    """The step of the colour scale for `value`, where `low` is 0 and `peak` is the last."""
    if peak <= low:
        return 0
    return round(LEVELS * min(1.0, max(0.0, (value - low) / (peak - low))))


@dataclass(frozen=True, slots=True)
class Axis:
    """A horizontal range that charts share."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float | None], least: float = 0.0, most: float = 1.0) -> Axis:
        """From `least` to `most`, and in quarters as far beyond as `values` go."""
        known = [v for v in values if v is not None]
        low, high = min([*known, least]), max([*known, most])
        return cls(math.floor(low * 4 + 1e-9) / 4, math.ceil(high * 4 - 1e-9) / 4)

    def at(self, value: float) -> str:
        """Where `value` is, as a percentage of the width; outside values at the end."""
        part = (value - self.low) / (self.high - self.low)
        return f"{100 * min(1.0, max(0.0, part)):.4g}%"

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values to letter, at most six of them."""
        step = next(s for s in (0.25, 0.5, 1.0, 2.5, 5.0, 1e9) if (self.high - self.low) / s <= 4)
        first = math.ceil(self.low / step - 1e-9)
        return tuple(n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1))


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval, and what a wrong explanation gets."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    null: float | None = None
    series: int = 0
    """Which of the explainers, for shape and colour; -1 for the baseline."""

    @property
    def said(self) -> str:
        """The same in words."""
        if self.value is None:
            return f"{self.label}: no value"
        interval = "" if self.low is None else f" [{figure(self.low)}, {figure(self.high)}]"
        null = "" if self.null is None else f", null {figure(self.null)}"
        return f"{self.label}: {figure(self.value)}{interval}{null}"


def dot_row(axis: Axis, dots: Sequence[Dot], pitch: int = 11, zero: float = 0.0) -> Markup:
    """One row of a dot plot: every dot on a line of its own, `pitch` pixels apart."""
    height = str(pitch * max(1, len(dots)) + 5)
    label = attribute("; ".join(dot.said for dot in dots), 400)
    at = axis.at(zero)
    parts: list[str] = [_DOTS, label, _TALL, height, _ZERO, at, _TO, at, _DOWN, height, _LINE]
    for number, dot in enumerate(dots):
        parts += _dot(axis, dot, pitch * number + pitch / 2 + 2.5)
    # Joined, which escapes as `format` does in a fifth of the time: a list has hundreds of these.
    return Markup("").join([*parts, _SVG])


_DOTS = Markup('<svg class="dots" role="img" aria-label="')
_TALL, _SVG = Markup('" width="100%" height="'), Markup("</svg>")
_ZERO, _TO = Markup('"><line class="zero" x1="'), Markup('" x2="')
_DOWN, _LINE = Markup('" y1="0" y2="'), Markup('"/>')
_RANGE, _NULL = Markup('<line class="range" x1="'), Markup('<line class="null" x1="')
_Y1, _Y2 = Markup('" y1="'), Markup('" y2="')
_MARK, _Y, _OPEN = Markup('<svg class="mark" x="'), Markup('" y="'), Markup('">')
_GROUP, _TITLE, _TITLED = Markup('<g class="'), Markup('"><title>'), Markup("</title>")
_GROUPED = Markup("</g>")


def _dot(axis: Axis, dot: Dot, middle: float) -> list[str]:
    y = f"{middle:g}"
    parts = [_GROUP, series_class(dot.series), _TITLE, attribute(dot.said, 200), _TITLED]
    if dot.low is not None and dot.high is not None:
        parts += [_RANGE, axis.at(dot.low), _TO, axis.at(dot.high), _Y1, y, _Y2, y, _LINE]
    if dot.null is not None:
        at, up, down = axis.at(dot.null), f"{middle - 5:g}", f"{middle + 5:g}"
        parts += [_NULL, at, _TO, at, _Y1, up, _Y2, down, _LINE]
    if dot.value is not None:
        mark = _BASELINE_MARK if dot.series < 0 else _MARKS[dot.series % len(_MARKS)]
        parts += [_MARK, axis.at(dot.value), _Y, y, _OPEN, mark, _SVG]
    return [*parts, _GROUPED]


def series_class(series: int) -> str:
    """The class that colours an explainer."""
    return "base" if series < 0 else f"e{series % 3}"


def key_mark(series: int) -> Markup:
    """The sign of an explainer, for a legend."""
    mark = _BASELINE_MARK if series < 0 else _MARKS[series % len(_MARKS)]
    return Markup(
        '<svg class="key {}" aria-hidden="true" width="14" height="14" viewBox="-7 -7 14 14">'
        "{}</svg>"
    ).format(series_class(series), mark)


def axis_row(axis: Axis, ends: tuple[str, str] = ("", "")) -> Markup:
    """The ticks of `axis` in letters, and what lies towards either end."""
    parts = []
    for tick in axis.ticks:
        place = axis.at(tick)
        anchor = {"0%": "start", "100%": "end"}.get(place, "middle")
        parts.append(
            Markup(
                '<line x1="{0}" x2="{0}" y1="0" y2="4"/>'
                '<text x="{0}" y="15" text-anchor="{1}">{2}</text>'
            ).format(place, anchor, figure(tick, 2 if tick % 0.5 else 1))
        )
    for place, anchor, text in (("0%", "start", ends[0]), ("100%", "end", ends[1])):
        if text:
            parts.append(
                Markup('<text class="end" x="{}" y="30" text-anchor="{}">{}</text>').format(
                    place, anchor, text
                )
            )
    return Markup('<svg class="axis" aria-hidden="true" width="100%" height="{}">{}</svg>').format(
        34 if any(ends) else 18, Markup("").join(parts)
    )


def histogram(edges: Sequence[float], counts: Sequence[int], threshold: float) -> Markup:
    """Tokens by activation: bins of equal width whatever their range, heights by log10.

    Bins above `threshold` are in the colour of activation. Empty bins leave a gap.
    """
    height, top = 96, 12
    most = math.log10(max([*counts, 1]) + 1)
    width = 100 / max(1, len(counts))
    parts = []
    for i, number in enumerate(counts):
        if not number:
            continue
        tall = max(1.5, (height - top) * math.log10(number + 1) / most)
        parts.append(
            Markup(
                '<rect class="{}" x="{}%" y="{}" width="{}%" height="{}">'
                "<title>{} to {}: {} tokens</title></rect>"
            ).format(
                # A bin that the threshold cuts belongs to the side that most of it is on.
                "fires" if (edges[i] + edges[i + 1]) / 2 > threshold else "quiet",
                f"{i * width:.4g}",
                f"{height - tall:.1f}",
                f"{width * 0.88:.4g}",
                f"{tall:.1f}",
                short(edges[i]),
                short(edges[i + 1]),
                f"{number:,}",
            )
        )
    every = max(1, math.ceil(len(edges) / 6))
    named = sorted({*range(0, len(edges) - every + 1, every), len(edges) - 1})
    for i in named:
        anchor = "start" if i == 0 else "end" if i == len(edges) - 1 else "middle"
        parts.append(
            Markup('<text x="{}%" y="{}" text-anchor="{}">{}</text>').format(
                f"{i * width:.4g}", height + 14, anchor, short(edges[i])
            )
        )
    label = (
        f"Histogram of {sum(counts):,} tokens by activation, logarithmic counts, "
        f"from {short(edges[0])} to {short(edges[-1])}; firing above {short(threshold)}"
    )
    return Markup(
        '<svg class="hist" role="img" aria-label="{}" width="100%" height="{}">'
        '<line class="floor" x1="0" x2="100%" y1="{}" y2="{}"/>{}</svg>'
    ).format(label, height + 18, height, height, Markup("").join(parts))


def shaded(example: Example, peak: float, threshold: float) -> Markup:
    """A window's tokens shaded by activation, firing ones underlined, the strongest in figures.

    `peak` is where the scale ends. Values are in the titles; tokens without activation have none.
    """
    strongest = example.activations.index(example.peak) if example.peak > threshold else None
    parts: list[str] = []
    for i, (token, act) in enumerate(zip(example.tokens, example.activations, strict=True)):
        step = level(act, peak)
        text = shown(token, 80)
        if step or act > threshold:
            parts += [_SHADE[act > threshold][step], short(act), _SHADED, text, _END]
        else:
            parts.append(text)
        if i == strongest:
            parts.append(Markup('<sub class="peak">{}</sub>').format(short(act)))
    # Joining escapes what is no markup yet.
    return Markup("").join(parts)
