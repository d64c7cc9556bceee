"""What `tiny` was to reach, beside what it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulating.cases import HELD_OUT, REAL, WINDOWS
from simulating.figures import Row
from simulating.gathered import TINY, Comparison, Found

from glossator.datasets.truth import LIBRARY

PEARSON, TIMES_LEXICAL, OVER_UNRELATED, OVER_NEAR = 0.35, 2.0, 0.95, 0.75
FEATURES_A_SECOND, TIMES_AS_FAST = 5.0, 100.0
_SYMBOLIC = "symbolic"


@dataclass(frozen=True)
class Target:
    """One aim."""

    asked: str
    measured: str
    met: bool | None
    """None where not all cases were measured yet."""


def targets_of(found: Found) -> Iterator[Target]:
    """The aims of which there are measurements."""
    for comparison in found.comparisons:
        if not comparison.part and comparison.windows == WINDOWS:
            if comparison.ground == REAL:
                yield from _of_real(comparison)
            if comparison.ground == HELD_OUT:
                yield from _of_held_out(comparison)
        if not comparison.part and comparison.ground == REAL:
            yield from _above_others(comparison)
    for row in found.truth:
        if row.who == str(TINY) and row.scorer == "simulation":
            for value, least, name in (
                (row.over_unrelated.value, OVER_UNRELATED, "unrelated"),
                (row.over_near.value, OVER_NEAR, "near misses"),
            ):
                if value is not None:
                    asked = f"(b) truth above {name} in at least {least:.0%} of features"
                    whole = row.n == len(LIBRARY)
                    measured = f"{value:.1%} of {row.n}"
                    yield Target(asked, measured, value >= least if whole else None)
    yield from _speeds(found)


def _row(comparison: Comparison, who: str) -> Row | None:
    return next((row for row in comparison.rows if row.who == who), None)


def _of_real(comparison: Comparison) -> Iterator[Target]:
    own = _row(comparison, str(TINY))
    if own is not None and own.measures["Pearson"].value is not None:
        value = own.measures["Pearson"].value
        yield Target(f"(c) mean Pearson at least {PEARSON}", f"{value:.3f}", value >= PEARSON)


def _above_others(comparison: Comparison) -> Iterator[Target]:
    most = max((row.n for row in comparison.rows), default=0)
    for other in comparison.differences:
        low, high = other.measures["Pearson"].low, other.measures["Pearson"].high
        if other.who == _SYMBOLIC or low is None or high is None:
            continue
        yield Target(
            f"(c) Pearson above that of `{other.who}`, {other.n} features, "
            f"{comparison.windows} windows, with an interval without 0",
            f"{other.measures['Pearson'].value:+.3f} [{low:+.3f}, {high:+.3f}]",
            low > 0 if other.n == most else None,
        )


def _of_held_out(comparison: Comparison) -> Iterator[Target]:
    own = _row(comparison, str(TINY))
    other = next((o for o in comparison.differences if o.who == "lexical"), None)
    if own is None or other is None or own.n != other.n:
        return
    most = max(row.n for row in comparison.rows)
    name = "AUPRC of tokens"
    area, more = own.measures[name].value, other.measures[name].value
    if area is not None and more is not None and area > more:
        lexical = area - more  # on the same cases
        yield Target(
            f"(a) AUPRC of tokens at least {TIMES_LEXICAL:.0f} times that of `lexical`",
            f"{area:.3f} against {lexical:.3f}, {area / lexical:.1f} times, {own.n} concepts",
            area >= TIMES_LEXICAL * lexical if own.n == most else None,
        )


def _speeds(found: Found) -> Iterator[Target]:
    rows = {row["who"]: row for row in found.speed.get("rows", ())}
    own = rows.get(str(TINY))
    if own is None:
        return
    rate = own["features_a_second"]
    yield Target(
        f"at least {FEATURES_A_SECOND:.0f} features a second on 2 cores",
        f"{rate:.2f}",
        rate >= FEATURES_A_SECOND,
    )
    for who, row in rows.items():
        if who.endswith(" local"):
            times = row["seconds"] / own["seconds"]
            asked = f"{TIMES_AS_FAST:.0f} times as fast as `{who}`"
            yield Target(asked, f"{times:.0f} times", times >= TIMES_AS_FAST)
