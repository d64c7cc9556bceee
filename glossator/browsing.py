"""Features of a run sorted, filtered and searched, a page at a time, by indexes alone.

A page is asked for by a `Selection` and begins behind a `Cursor`, so the thousandth costs what the
first does. What is listed is all that was collected for the run. A list sorted by a score holds
the features that have one.

Two ways lead to a page. Where some filter leaves few features, they are looked up by it and sorted.
Otherwise the index of the sorting order is walked, and each feature on the way is held against the
filters, until the page is full. SQLite is led to the one or the other by where its indexes can be
used: `coalesce` around a column keeps one from being used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    literal,
    select,
    tuple_,
)

from glossator import schema
from glossator.narrowing import Narrowing, Order, narrowings
from glossator.selection import Cursor, Listed, Listing, Mark, Selection
from glossator.types import FeatureId, Kind

if TYPE_CHECKING:
    from glossator.database import Database

FEW = 5000
"""Features that are looked up and sorted rather than met on the way along an index."""
SHOWN = 1000
"""Characters of an explanation in a list."""


class Browser:
    """Reads the lists of `database`.

    Raises:
        StoreError: from every method, if the database cannot do it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, selection: Selection, *, whole: bool = False) -> Listing:
        """The page of features that `selection` asks for; with `whole` explanations if asked."""
        with self._database.reading() as connection:
            order = Order.of(selection)
            backwards = selection.before is not None
            found = connection.execute(_query(connection, selection, order)).all()
            more = len(found) > selection.limit
            found = found[: selection.limit]
            if backwards:
                found = found[::-1]
            rows = _listed(connection, selection, [row.feature for row in found], whole=whole)
        there = [Cursor(row.key, row.feature) for row in found]
        after = there[-1] if there and (more or backwards) else None
        before = there[0] if there and (more if backwards else selection.after) else None
        return Listing(tuple(rows), before, after)

    def all(self, selection: Selection, each: int = 1000) -> Iterator[Listed]:
        """Every feature that `selection` leaves, in its order, `each` of them in memory.

        Their explanations are whole.
        """
        step = replace(selection, limit=each, after=None, before=None)
        while True:
            listing = self.page(step, whole=True)
            yield from listing.rows
            if listing.after is None:
                return
            step = replace(step, after=listing.after)

    def count(self, selection: Selection, most: int) -> int:
        """How many features `selection` leaves; `most` where there are as many or more."""
        with self._database.reading() as connection:
            ids = _query(connection, selection.from_the_start, Order.of(selection))
            some = ids.order_by(None).limit(most).subquery()
            return connection.execute(select(func.count()).select_from(some)).scalar_one()

    def scorers(self, run: str) -> tuple[str, ...]:
        """The scorers that gave a mark in `run`, by name."""
        kept = schema.marks.c
        return self._distinct(kept.scorer, kept.run == run)

    def explainers(self, run: str) -> tuple[str, ...]:
        """Those who wrote a best explanation in `run`, by name."""
        kept = schema.bests.c
        return self._distinct(kept.explainer, kept.run == run)

    def sites(self) -> tuple[str, ...]:
        """The sites of all features there are, by name."""
        return self._distinct(schema.features.c.site, literal(True))

    def _distinct(self, named: ColumnElement[str], where: ColumnElement[bool]) -> tuple[str, ...]:
        """The values of a column that an index begins with: a step along it for each."""
        found: list[str] = []
        with self._database.reading() as connection:
            while True:
                query = select(func.min(named)).where(where)
                if found:
                    query = query.where(named > found[-1])
                value = connection.execute(query).scalar()
                if value is None:
                    return tuple(found)
                found.append(value)

    def kinds(self, collection: str) -> dict[Kind, int]:
        """Features under `collection` by kind."""
        kept = schema.summaries.c
        query = select(kept.kind, func.count()).where(kept.collection == collection)
        with self._database.reading() as connection:
            rows = connection.execute(query.group_by(kept.kind))
            counts = {row[0]: row[1] for row in rows}
        return {kind: counts[kind] for kind in Kind if kind in counts}

    def flags(self, run: str) -> dict[str, int]:
        """Features of `run` by what is flagged of them."""
        kept = schema.flags.c
        query = select(kept.flag, func.count()).where(kept.run == run).group_by(kept.flag)
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def row_of(self, feature: FeatureId) -> int | None:
        """The row of `feature`, if it is in the store."""
        query = select(schema.features.c.id).where(schema.features.c.name == str(feature))
        with self._database.reading() as connection:
            return connection.execute(query).scalar()

    def runs_of(self, row: int) -> list[str]:
        """The runs in which the feature of that row is listed, the newest first."""
        of_run, kept = schema.runs.c, schema.summaries.c
        collected = exists().where(kept.collection == of_run.collection, kept.feature == row)
        said = exists().where(
            schema.explanations.c.run == of_run.id, schema.explanations.c.feature == row
        )
        failed = exists().where(
            schema.failures.c.run == of_run.id, schema.failures.c.feature == row
        )
        # Those that say something of it come first.
        query = select(of_run.id).where(collected | said | failed)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(said.desc(), of_run.number.desc()))
            return list(rows.scalars())


def _query(connection: Connection, selection: Selection, order: Order) -> Select[Any]:
    """The features of a page and what they are sorted by, and one more if there is another."""
    conditions = [*narrowings(selection, order, sqlite=connection.dialect.name == "sqlite")]
    key, feature = order.key, order.feature
    few, ids = _fewest(connection, conditions)
    query = select(key.label("key"), feature.label("feature")).select_from(order.source)
    query = query.where(*(order.where if few is None else order.looked_up))
    if order.source is not schema.summaries:
        kept = schema.summaries.c
        here = exists().where(kept.collection == selection.collection, kept.feature == feature)
        query = query.where(here.correlate(order.source))
    query = query.where(*(c.holds for c in conditions if c is not few))
    cursor = selection.before or selection.after
    down = selection.descending != (selection.before is not None)
    if cursor is not None:
        there, place = tuple_(key, feature), tuple_(literal(cursor.key), literal(cursor.feature))
        query = query.where(there < place if down else there > place)
    if few is not None:
        # Sorted by an expression, so that no index of the order is walked for it.
        query = query.where(feature.in_(_given(connection, ids)))
        key = func.coalesce(key, key)
    order_by = (key.desc(), feature.desc()) if down else (key, feature)
    return query.order_by(*order_by).limit(selection.limit + 1)


def _given(connection: Connection, ids: Sequence[int]) -> Any:
    """The features `ids` as what a column can be in; on SQLite as one parameter, not thousands."""
    if connection.dialect.name != "sqlite":
        return ids
    return select(func.json_each(json.dumps(list(ids))).table_valued("value").c.value)


def _fewest(
    connection: Connection, conditions: Sequence[Narrowing]
) -> tuple[Narrowing | None, Sequence[int]]:
    """The condition that leaves the fewest features, where any leaves at most `FEW`; and those."""
    best: Narrowing | None = None
    ids: Sequence[int] = ()
    for one in conditions:
        if one.features is None:
            continue
        # One step further than allowed, and nothing on the way: that costs no more than a count.
        beyond = one.features.with_only_columns(literal(1)).offset(FEW).limit(1)
        if connection.execute(beyond).first() is not None:
            continue
        found = connection.execute(one.features.limit(FEW)).scalars().all()
        if best is None or len(found) < len(ids):
            best, ids = one, found
    return best, ids


def _listed(
    connection: Connection, selection: Selection, ids: Sequence[int], *, whole: bool
) -> list[Listed]:
    """What the list shows of the features `ids`, in their order."""
    s, f, b = schema.summaries.c, schema.features.c, schema.bests.c
    said, m, flagged = schema.explanations.c, schema.marks.c, schema.flags.c
    own = and_(b.run == selection.run, b.feature == s.feature)
    text = said.text if whole else func.substr(said.text, 1, SHOWN)
    rows = connection.execute(
        select(s.feature, f.name, s.kind, s.density, s.peak, b.n_explanations, b.width)
        .add_columns(b.explainer, said.abstained, text.label("text"))
        .select_from(schema.summaries)
        .join(schema.features, f.id == s.feature)
        .outerjoin(schema.bests, own)
        .outerjoin(schema.explanations, said.id == b.explanation)
        .where(s.collection == selection.collection, s.feature.in_(ids))
    )
    by_id = {row.feature: row for row in rows}
    marks: dict[int, dict[str, Mark]] = {}
    # In no order: with one, SQLite walks a whole index that has it.
    for feature, scorer, *ends in connection.execute(
        select(m.feature, m.scorer, m.value, m.low, m.high, m.null_value).where(
            m.run == selection.run, m.feature.in_(ids)
        )
    ):
        marks.setdefault(feature, {})[scorer] = Mark(*ends)
    flags: dict[int, list[str]] = {}
    for feature, flag in connection.execute(
        select(flagged.feature, flagged.flag).where(
            flagged.run == selection.run, flagged.feature.in_(ids)
        )
    ):
        flags.setdefault(feature, []).append(flag)
    return [
        Listed(
            row=i,
            feature=FeatureId.parse(row.name),
            kind=Kind(row.kind),
            density=row.density,
            peak=row.peak,
            explainer=row.explainer or "",
            text=row.text or "",
            abstained=row.abstained or "",
            n_explanations=row.n_explanations or 0,
            width=row.width,
            marks=dict(sorted(marks.get(i, {}).items())),
            flags=tuple(sorted(flags.get(i, ()))),
        )
        for i, row in ((i, by_id[i]) for i in ids)
    ]
