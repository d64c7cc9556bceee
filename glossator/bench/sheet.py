"""Tables as rows of text, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glossator.types import Measure


@dataclass(frozen=True)
class Table:
    """Rows of text under a headline."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def written_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float | None) -> str:
    """Two digits, or a dash."""
    return "-" if value is None else f"{value:.2f}"


def shown(measure: Measure) -> str:
    """The figure with its interval."""
    if measure.value is None:
        return "-"
    if measure.low is None or measure.high is None:
        return number(measure.value)
    return f"{measure.value:.2f} [{measure.low:.2f}, {measure.high:.2f}]"
