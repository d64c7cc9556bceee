"""Which features to list, in what order, from where on; and what a list shows of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from glossator.listing import FLAGS
from glossator.types import FeatureId, Kind

OWN = ("id", "site", "kind", "density", "peak", "explainer", "width")
"""What every list can be sorted by; any other name is a scorer's."""
RANGES = ("density", "peak", "width")
"""Numbers that every list can be cut to; any other name is a scorer's."""
UNEXPLAINED = "unexplained"
"""The flag of features of which nobody has said anything."""
ALL_FLAGS = (*FLAGS, UNEXPLAINED)
TEXTUAL = ("site", "kind", "explainer")
"""Of `OWN`, those sorted as texts."""

Bounds: TypeAlias = "tuple[float | None, float | None]"
"""Least and greatest value, each None where there is no bound."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: what it is sorted by and the row of the feature there."""

    key: float | str
    feature: int

    def __str__(self) -> str:
        return f"{self.feature}~{self.key}"

    @classmethod
    def parse(cls, text: str, sort: str) -> Cursor:
        """The place that prints as `text` in a list sorted by `sort`.

        Raises:
            ValueError: if it is none.
        """
        number, separator, key = text.partition("~")
        if not separator or not re.fullmatch(r"[0-9]{1,18}", number):
            raise ValueError(f"{text[:40]!r} is no place in a list; begin at its first page")
        if sort in TEXTUAL:
            return cls(key, int(number))
        if sort == "id":
            return cls(int(number), int(number))
        return cls(finite(key), int(number))


def finite(text: str) -> float:
    """The finite number that `text` says.

    Raises:
        ValueError: if it says none.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is not a number") from error
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]!r} is not a finite number")
    return value


@dataclass(frozen=True, slots=True)
class Selection:
    """One page of a list of features."""

    run: str
    collection: str
    """Of the run: what was collected for it is what is listed."""
    sort: str = "id"
    """One of `OWN`, or a scorer."""
    descending: bool = False
    kinds: tuple[Kind, ...] = ()
    """Of one of these, as everywhere here; empty for all."""
    sites: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    """Positions on their site."""
    explainers: tuple[str, ...] = ()
    """Who wrote the best explanation."""
    flags: tuple[str, ...] = ()
    """All of these hold."""
    ranges: Mapping[str, Bounds] = field(default_factory=dict)
    """By one of `RANGES` or a scorer; both ends belong to it. Who has no such value is out."""
    text: str = ""
    """Words that one explanation of the feature holds, as `glossator.words` says."""
    like: str = ""
    """What explanations are to mean, in words; whoever lists finds the `rows` of it."""
    rows: tuple[int, ...] | None = None
    """Only these features, by row; None for all."""
    after: Cursor | None = None
    before: Cursor | None = None
    """At most one of both: begin behind it, or end before it."""
    limit: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= 1000:
            raise ValueError(f"a page holds 1 to 1000 features, not {self.limit}")
        if self.after and self.before:
            raise ValueError("a page begins behind a place or ends before one, not both")
        unknown = [flag for flag in self.flags if flag not in ALL_FLAGS]
        if unknown:
            raise ValueError(f"no flag is called {unknown[0][:40]!r}; {', '.join(ALL_FLAGS)}")

    @property
    def from_the_start(self) -> Selection:
        """The same list from its first page on."""
        return replace(self, after=None, before=None)

    @property
    def is_filtered(self) -> bool:
        """Whether it leaves anything out."""
        named = (self.kinds, self.sites, self.numbers, self.explainers, self.flags)
        return (
            any(named)
            or self.rows is not None
            or bool(self.ranges)
            or bool(self.text.strip() or self.like.strip())
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """What one scorer gave the best explanation of a feature."""

    value: float
    low: float | None
    high: float | None
    null: float | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A feature in a list."""

    row: int
    """Its number in the store, which its page is called by."""
    feature: FeatureId
    kind: Kind
    density: float
    peak: float
    explainer: str
    """Who wrote the best explanation; empty if nobody has."""
    text: str
    """The explanation, cut to a length that a list can show; empty if there is none."""
    abstained: str
    """The reason, where there is one in its place."""
    n_explanations: int
    width: float | None
    """Of the widest interval among the marks."""
    marks: Mapping[str, Mark]
    """By scorer."""
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list, and the places where its neighbours begin."""

    rows: tuple[Listed, ...]
    before: Cursor | None
    """Ends the page before this one; None on the first."""
    after: Cursor | None
    """Begins the next page; None on the last."""
    n: int | None
    """Features in the whole list; None where counting them would take longer than the page."""
