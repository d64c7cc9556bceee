"""Windows of text on a terminal: firing tokens shown, and predictions beside what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glossator.cli.text import visible
from glossator.types import Example, Prediction, Scale

if TYPE_CHECKING:
    from rich.text import Text

_SHADES = ("on grey23", "on #5f4b00", "on #875f00", "bold on #af5f00", "bold on #d75f00")
"""Backgrounds from the weakest activation to the strongest."""

_LONGEST_TOKEN = 16


def marked(tokens: Sequence[str], activations: Sequence[float], threshold: float) -> str:
    """The text with `<<` and `>>` round each run of firing tokens."""
    parts = []
    open_ = False
    for token, activation in zip(tokens, activations, strict=True):
        fires = activation > threshold
        if fires and not open_:
            bare = token.lstrip(" ")
            parts.append(" " * (len(token) - len(bare)) + "<<" + visible(bare))
        elif open_ and not fires:
            parts.append(">>" + visible(token))
        else:
            parts.append(visible(token))
        open_ = fires
    return "".join(parts) + (">>" if open_ else "")


def highlighted(
    tokens: Sequence[str],
    activations: Sequence[float],
    threshold: float,
    peak: float,
    colours: bool,
) -> Text:
    """The text with firing tokens on a background by their strength, or marked without colours."""
    from rich.text import Text

    if not colours:
        return Text(marked(tokens, activations, threshold))
    text = Text()
    for token, activation in zip(tokens, activations, strict=True):
        text.append(visible(token), style=shade(activation, threshold, peak))
    return text


def shade(activation: float, threshold: float, peak: float) -> str:
    """The style of a token with this activation; empty where it does not fire."""
    if activation <= threshold or peak <= 0:
        return ""
    step = int(len(_SHADES) * activation / peak)
    return _SHADES[max(0, min(step, len(_SHADES) - 1))]


def misses(predictions: Sequence[Prediction]) -> list[tuple[float, Prediction]]:
    """The predictions that could be made, each with how far it was off, the worst first.

    Only for choosing what to show: both sides are brought to 0..1 over all of `predictions`, for
    the unit of a predicted value is seldom that of the real one.
    """
    made = [p for p in predictions if not p.failure]
    actual = _unit([value for p in made for value in p.actual], floor=0.0)
    fixed = {Scale.TENTHS: (0.0, 10.0), "probability": (0.0, 1.0)}
    found = []
    for scale in dict.fromkeys(p.scale for p in made):
        own = [p for p in made if p.scale == scale]
        low, high = fixed.get(scale) or _unit([v for p in own for v in p.predicted])
        for prediction in own:
            off = max(
                abs(_placed(real, *actual) - _placed(guess, low, high))
                for real, guess in zip(prediction.actual, prediction.predicted, strict=True)
            )
            found.append((off, prediction))
    return sorted(found, key=lambda pair: -pair[0])


def beside(prediction: Prediction, width: int) -> list[str]:
    """A prediction of tokens as lines: the tokens, what was real under them, what was predicted."""
    from rich.cells import cell_len  # a Chinese character is two columns wide

    labels = ("token", "real", "predicted")
    margin = max(map(len, labels)) + 2
    blocks: list[list[tuple[str, str, str]]] = [[]]
    used = margin
    for token, real, guess in zip(
        prediction.tokens, prediction.actual, prediction.predicted, strict=True
    ):
        cells = (_cell(token), _figure(real), _figure(guess))
        room = max(map(cell_len, cells)) + 2
        if used + room > width and blocks[-1]:
            blocks.append([])
            used = margin
        blocks[-1].append(cells)
        used += room
    lines = []
    for block in blocks:
        widths = [max(map(cell_len, cells)) for cells in block]
        for row, label in enumerate(labels):
            padded = [
                " " * (w - cell_len(cells[row])) + cells[row]
                for cells, w in zip(block, widths, strict=True)
            ]
            lines.append(label.ljust(margin) + "  ".join(padded))
        lines.append("")
    return lines[:-1]


def strongest(examples: Sequence[Example], n_top: int, n_each: int) -> list[Example]:
    """The first `n_top` of the top stratum, and `n_each` of each quantile, strongest first."""
    ranked = sorted(examples, key=lambda e: (-e.peak, e.key))
    shown = [e for e in ranked if e.stratum == "top"][:n_top]
    for stratum in sorted({e.stratum for e in ranked} - {"top", "silent"}, reverse=True):
        shown += [e for e in ranked if e.stratum == stratum][:n_each]
    return shown


def _cell(token: str) -> str:
    # A leading space tells words from pieces of words; trimmed cells would hide it.
    shown = visible(token).replace(" ", "\u00b7")
    return shown if len(shown) <= _LONGEST_TOKEN else shown[: _LONGEST_TOKEN - 1] + "\u2026"


def _figure(value: float) -> str:
    if value == 0:
        return "."
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(value, 1) + 0.0:.1f}" if abs(value) < 100 else f"{value:.0f}"


def _unit(values: Sequence[float], floor: float | None = None) -> tuple[float, float]:
    low = min(values, default=0.0) if floor is None else floor
    return low, max(values, default=1.0)


def _placed(value: float, low: float, high: float) -> float:
    return 0.0 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
