"""What was collected, explained or not: a row for each feature, with its kind and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from glossator.cli.results import number, shared_model
from glossator.cli.text import visible
from glossator.errors import ConfigError
from glossator.registry import nearest
from glossator.types import JSON, FeatureSummary, Kind, to_json

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 50
"""Rows of a table unless `--limit` says more: all neurons of a model are tens of thousands."""

_EVIDENCE: dict[Kind, tuple[str, ...]] = {
    Kind.POSITIONAL: ("position_information", "position_p"),
    Kind.TOKEN: ("token_share", "token_fires_share", "n_tokens_covering"),
    Kind.NGRAM: ("pair_share", "pair_fires_share", "token_fires_share"),
    Kind.SUPPRESSING: ("suppression_z", "token_share", "token_fires_share"),
    Kind.OTHER: ("token_share", "position_information", "effective_documents"),
}
"""What a row says of a kind's reasons; the density has a column of its own."""


def kinds_named(names: Sequence[str] | None) -> frozenset[Kind] | None:
    """The kinds of those names; None, for all, if none is named.

    Raises:
        ConfigError: if there is no kind of such a name.
    """
    known = [kind.value for kind in Kind]
    for name in names or ():
        if name not in known:
            raise ConfigError(f"there is no kind {name!r}; there are: {', '.join(known)}")
    return frozenset(map(Kind, names)) if names else None


def ordered_summaries(rows: Sequence[FeatureSummary], column: str) -> list[FeatureSummary]:
    """`rows` by `column`, a minus in front for descending; equal ones stay in their order.

    Raises:
        ConfigError: if there is no such column.
    """
    keys: dict[str, Callable[[FeatureSummary], Any]] = {
        "kind": lambda row: row.kind.value,
        "density": lambda row: row.density,
        "peak": lambda row: row.peak,
        "feature": _place,
    }
    name, descending = column.removeprefix("-"), column.startswith("-")
    if name not in keys:
        hint = nearest(name, list(keys)) if name else f"there are: {', '.join(keys)}"
        raise ConfigError(f"features that were collected are not sorted by {name!r}; {hint}")
    return sorted(rows, key=keys[name], reverse=descending)


def summary_json(row: FeatureSummary) -> dict[str, JSON]:
    """The row as `--json` prints it."""
    return {**row.to_json(), "feature": str(row.feature), "evidence": to_json(row.evidence)}


def summaries_table(rows: Sequence[FeatureSummary]) -> Table:
    """The rows as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("feature", overflow="fold", min_width=12)
    table.add_column("kind", no_wrap=True)
    for name in ("density", "threshold", "peak"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("evidence", overflow="fold", ratio=1)
    short = shared_model([str(row.feature) for row in rows])
    for row in rows:
        cells = [
            visible(str(row.feature).removeprefix(short)),
            row.kind.value,
            f"{row.density:.3%}",
            number(row.threshold),
            number(row.peak),
            visible(main_evidence(row)),
        ]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def main_evidence(row: FeatureSummary) -> str:
    """The figures that a row's kind rests on, and for `other` those that did not suffice."""
    named = [name for name in _EVIDENCE.get(row.kind, ()) if name in row.evidence]
    return ", ".join(f"{name} {row.evidence[name]:.3g}" for name in named)


def counts_of(rows: Sequence[FeatureSummary]) -> str:
    """How many there are of each kind."""
    counts = Counter(row.kind for row in rows)
    return ", ".join(f"{counts[kind]} {kind.value}" for kind in Kind if counts[kind])


def _place(row: FeatureSummary) -> tuple[Any, ...]:
    """Sorts layer 10 behind layer 9."""
    feature = row.feature
    parts = [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", feature.site)]
    return feature.model, parts, feature.coder or "", feature.index, feature.negative
