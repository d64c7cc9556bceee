"""The conditions of a list of features, each as a test of one feature and as a list of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select, and_, column, exists, func, literal, select, table
from sqlalchemy.sql.selectable import FromClause

from glossator import schema
from glossator.selection import OWN, UNEXPLAINED, Bounds, Selection
from glossator.words import match_query, words_of

FEW = 5000
"""Features that are looked up and sorted rather than met on the way along an order."""
FEW_FLAGGED = 5 * FEW
"""Of flagged ones more, where it is by scores, too: both go together, and none may ever be met."""
_WORDS = table(schema.WORDS, column("rowid"), column(schema.WORDS))
_Test: TypeAlias = Callable[[Any], ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is sorted by: a table that an index gives in that order, and its columns."""

    source: FromClause
    key: Any
    feature: Any
    where: tuple[ColumnElement[bool], ...] = ()
    """Which rows of the table are in the list."""

    @classmethod
    def of(cls, selection: Selection) -> Order:
        """The order that `selection` asks for."""
        s, b, m, f = (t.c for t in (schema.summaries, schema.bests, schema.marks, schema.features))
        name = selection.sort
        if name in ("explainer", "width"):
            known = (b.run == selection.run, b[name].is_not(None))
            return cls(schema.bests, b[name], b.feature, known)
        if name in ("id", "site") and len(selection.sites) == 1:
            # The features of a site lie together: an index of all would be walked up to them.
            key = f.id if name == "id" else f.site
            return cls(schema.features, key, f.id, (f.site == selection.sites[0],))
        if name == "site":
            return cls(schema.features, f.site, f.id)
        if name in OWN:
            key = s.feature if name == "id" else s[name]
            return cls(schema.summaries, key, s.feature, (s.collection == selection.collection,))
        here = (m.run == selection.run, m.scorer == name)
        return cls(schema.marks, m.value, m.feature, here)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """One condition, both ways."""

    holds: ColumnElement[bool]
    """Of the feature that the order has come to."""
    features: Select[Any] | None
    """All of which it holds, by an index; None where those are the most of them."""
    few: int
    """So many are looked up rather than met on the way along an order."""


def narrowings(selection: Selection, order: Order, *, sqlite: bool) -> Iterator[Narrowing]:
    """The conditions of `selection` on a list in that `order`."""
    s, b, f = (t.c for t in (schema.summaries, schema.bests, schema.features))
    listed, own = s.collection == selection.collection, b.run == selection.run
    if selection.kinds:
        kinds = [kind.value for kind in selection.kinds]
        of_kind = _narrowing(order, s.kind, lambda c: c.in_(kinds), s.feature, listed)
        yield _within_the_site(of_kind, s.feature, selection)
    if selection.sites:
        yield _narrowing(order, f.site, lambda c: c.in_(selection.sites), f.id)
    if selection.numbers:
        yield _narrowing(order, f.number, lambda c: c.in_(selection.numbers), f.id)
    if selection.explainers:
        yield _narrowing(order, b.explainer, lambda c: c.in_(selection.explainers), b.feature, own)
    for name, bounds in selection.ranges.items():
        inside = _inside(bounds)
        if name in ("density", "peak"):
            yield _narrowing(order, s[name], inside, s.feature, listed)
        elif name == "width":
            yield _narrowing(order, b.width, inside, b.feature, own)
        else:
            # Under a name of its own, for the order may be by another scorer's marks.
            m = schema.marks.alias().c
            of_scorer = and_(m.run == selection.run, m.scorer == name)
            there = _narrowing(order, m.value, inside, m.feature, of_scorer)
            at_hand = name == selection.sort
            yield replace(there, holds=inside(order.key)) if at_hand else there
    for flag in selection.flags:
        yield _flagged(flag, selection, order)
    if selection.rows is not None:
        rows = selection.rows
        yield _narrowing(order, f.id, lambda c: c.in_(rows), f.id)
    if selection.text.strip():
        yield _searched(selection.text, selection.run, order, sqlite=sqlite)


def _narrowing(
    order: Order, own: Any, test: _Test, feature: Any, *where: ColumnElement[bool]
) -> Narrowing:
    """That `test` is true of the column `own`, in the row that has the feature in `feature`."""
    features = select(feature).where(*where, test(own))
    if own is order.key:
        return Narrowing(test(own), features, FEW)
    # An index of this column would lead off the order.
    value = func.coalesce(own, own)
    if own.table is order.source:
        return Narrowing(test(value), features, FEW)
    here = select(literal(1)).select_from(own.table)
    here = here.where(feature == order.feature, *where, test(value))
    return Narrowing(exists(here.correlate(order.source)), features, FEW)


def _within_the_site(found: Narrowing, feature: Any, selection: Selection) -> Narrowing:
    """`found`, its features only as far as those of the one site reach that is asked for.

    The features of a site are stored together, and the index that finds them is in their order.
    """
    if len(selection.sites) != 1 or found.features is None:
        return found
    f = schema.features.c
    ends = (select(end(f.id)).where(f.site == selection.sites[0]) for end in (func.min, func.max))
    first, last = (end.scalar_subquery() for end in ends)
    return replace(found, features=found.features.where(feature.between(first, last)))


def _inside(bounds: Bounds) -> _Test:
    low, high = bounds

    def test(value: Any) -> ColumnElement[bool]:
        parts = [] if low is None else [value >= low]
        parts += [] if high is None else [value <= high]
        return and_(value.is_not(None), *parts)

    return test


def _flagged(flag: str, selection: Selection, order: Order) -> Narrowing:
    b, marked, run = schema.bests.alias().c, schema.flags.alias().c, selection.run
    if flag == UNEXPLAINED:
        said = select(literal(1)).where(b.run == run, b.feature == order.feature)
        return Narrowing(~exists(said), None, 0)
    own = and_(marked.run == run, marked.flag == flag)
    here = select(literal(1)).where(own, marked.feature == order.feature)
    by_score = order.source in (schema.marks, schema.bests)
    by_score = by_score or bool(set(selection.ranges) - {"density", "peak"})
    few = FEW_FLAGGED if by_score or len(selection.flags) > 1 else FEW
    found = Narrowing(exists(here), select(marked.feature).where(own), few)
    return _within_the_site(found, marked.feature, selection)


def _searched(text: str, run: str, order: Order, *, sqlite: bool) -> Narrowing:
    said = schema.explanations.alias()
    here = select(literal(1)).select_from(said)
    here = here.where(said.c.run == run, said.c.feature == order.feature)
    query = match_query(text)
    if not query:
        # Signs alone are in no word.
        return Narrowing(literal(1) == literal(0), None, 0)
    if not sqlite:
        wanted = and_(*(said.c.text.icontains(w, autoescape=True) for w in words_of(text)))
        return Narrowing(exists(here.where(wanted)), None, 0)
    words = _WORDS.alias()
    # From the words to the explanations, never the other way: each step of that is a search.
    found = (
        select(said.c.feature)
        .select_from(words.outerjoin(said, said.c.id == words.c.rowid))
        .where(words.c[schema.WORDS].op("MATCH")(query), func.coalesce(said.c.run, "") == run)
    )
    holding = here.where(func.holds_words(said.c.text, text) == 1)
    return Narrowing(exists(holding), found, FEW)
