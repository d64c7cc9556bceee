"""Features of a run sorted, filtered and searched, a page at a time, by indexes alone.

A page is asked for by a `Selection` and begins behind a `Cursor`, so the thousandth costs what the
first does. What is listed is all that was collected for the run. A list sorted by a score holds
the features that have one.

Two ways lead to a page. Where some filter leaves few features, they are looked up by it and sorted.
Otherwise the index of the sorting order is walked, and each feature on the way is held against the
filters, until the page is full. That is long where hardly any of many fits, such as features of
one site by a kind that is elsewhere.
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
from glossator.narrowing import FEW, Narrowing, Order, narrowings
from glossator.selection import Cursor, Listed, Listing, Mark, Selection
from glossator.types import FeatureId, Kind

if TYPE_CHECKING:
    from glossator.database import Database

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
            backwards = selection.before is not None
            query, few = _query(connection, selection)
            found = connection.execute(query).all()
            more = len(found) > selection.limit
            found = found[: selection.limit]
            if backwards:
                found = found[::-1]
            rows = _listed(connection, selection, [row.feature for row in found], whole=whole)
            n = None
            if not more and selection.after is None and not backwards:
                n = len(rows)
            elif few:
                whole_list, _ = _query(connection, replace(selection.from_the_start, limit=1000))
                ids = whole_list.order_by(None).limit(None).subquery()
                n = connection.execute(select(func.count()).select_from(ids)).scalar_one()
        there = [Cursor(row.key, row.feature) for row in found]
        after = there[-1] if there and (more or backwards) else None
        before = there[0] if there and (more if backwards else selection.after) else None
        return Listing(tuple(rows), before, after, n)

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

    def scorers(self, run: str) -> tuple[str, ...]:
        """The scorers that gave a mark in `run`, by name."""
        kept = schema.marks.c
        return self._distinct(kept.scorer, kept.run == run)

    def explainers(self, run: str) -> tuple[str, ...]:
        """Those who wrote a best explanation in `run`, by name."""
        kept = schema.bests.c
        return self._distinct(kept.explainer, kept.run == run)

    def texts(self, run: str, most: int) -> list[tuple[int, str]]:
        """The features explained in `run` and the text of each explanation, the first `most`."""
        said = schema.explanations.c
        query = select(said.feature, said.text).where(said.run == run, said.text != "")
        with self._database.reading() as connection:
            return [(row[0], row[1]) for row in connection.execute(query.limit(most))]

    def n_texts(self, run: str) -> int:
        """How many explanations `run` has that say something."""
        said = schema.explanations.c
        query = select(func.count()).where(said.run == run, said.text != "")
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()

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


def _query(connection: Connection, selection: Selection) -> tuple[Select[Any], bool]:
    """The features of a page and what they are sorted by, and one more if there is another.

    With it, whether few are looked up, so that counting them costs little.
    """
    sqlite, order = connection.dialect.name == "sqlite", Order.of(selection)
    key, feature = order.key, order.feature
    narrowed = [*narrowings(selection, order, sqlite=sqlite)]
    few, n = _fewest(connection, narrowed)
    conditions = [*order.where, *(one.holds for one in narrowed if one is not few)]
    if order.source is not schema.summaries:
        kept = schema.summaries.c
        here = exists().where(kept.collection == selection.collection, kept.feature == feature)
        conditions.append(here.correlate(order.source))
    cursor = selection.before or selection.after
    down = selection.descending != (selection.before is not None)
    if cursor is not None:
        there, place = tuple_(key, feature), tuple_(literal(cursor.key), literal(cursor.feature))
        conditions.append(there < place if down else there > place)
    query = select(key.label("key"), feature.label("feature"))
    if few is None or few.features is None:
        query = query.select_from(order.source).where(*conditions)
    elif sqlite:
        # SQLite turns a join round, and walks a whole index to meet the few: an outer join that it
        # cannot see to be none it leaves as it is.
        given = _given(connection, few.features, n)
        on = and_(feature == given, *conditions)
        query = query.select_from(given.table.outerjoin(order.source, on))
        query = query.where(func.coalesce(feature, 0) != 0)
    else:
        query = query.select_from(order.source).where(*conditions, feature.in_(few.features))
    order_by = (key.desc(), feature.desc()) if down else (key, feature)
    return query.order_by(*order_by).limit(selection.limit + 1), few is not None and n <= FEW


def _fewest(connection: Connection, narrowed: Sequence[Narrowing]) -> tuple[Narrowing | None, int]:
    """The condition that leaves the fewest features, where any leaves few; and how many."""
    best, least = None, 0
    for one in narrowed:
        if one.features is None:
            continue
        some = one.features.limit(one.few + 1).subquery()
        n = connection.execute(select(func.count()).select_from(some)).scalar_one()
        if n <= one.few and (best is None or n < least):
            best, least = one, n
    return best, least


def _given(connection: Connection, features: Select[Any], n: int) -> Any:
    """The `n` features that `features` finds, each once, as a column of a table."""
    if n > FEW:
        # Only flags are so many, and name each feature once; the database keeps them to itself.
        return features.subquery().c[0]
    ids = [*dict.fromkeys(connection.execute(features).scalars())]
    return func.json_each(json.dumps(ids)).table_valued("value").c.value


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
