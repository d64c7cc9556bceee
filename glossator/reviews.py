"""What people say of explanations, in the store: written once, folded when read."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, insert, select

from glossator import listing, runs, schema
from glossator.acts import (
    LONGEST,
    RATINGS,
    Act,
    ActKind,
    Standing,
    human,
    in_force,
    reviewer_name,
)
from glossator.errors import StoreError
from glossator.rows import feature_id, now, plain
from glossator.types import Explanation, FeatureId

if TYPE_CHECKING:
    from glossator.database import Database

_acts = schema.acts.c
MOST_QUEUED = 1000
"""Features in a queue."""


class Conflict(StoreError):
    """What somebody wants to do cannot be done any more, for somebody did something before."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a reviewer wants to do; becomes an act."""

    reviewer: str
    kind: ActKind
    explainer: str = ""
    """See `Act`."""
    value: str = ""
    base: tuple[int, ...] = ()
    """Of an edit: the edits whose text the reviewer saw."""
    undoes: int | None = None

    def __post_init__(self) -> None:
        if reviewer_name(self.reviewer) != self.reviewer:
            raise ValueError("a reviewer's name holds no line breaks and no double spaces")
        if (self.undoes is None) == (self.kind is ActKind.UNDO):
            raise ValueError("an undo names the act that it takes back, and nothing else does")
        if self.kind is ActKind.RATING and self.value not in RATINGS:
            raise ValueError(f"a rating is a whole number from {RATINGS[0]} to {RATINGS[-1]}")
        if self.kind in (ActKind.EDIT, ActKind.COMMENT):
            if not self.value.strip() or len(self.value) > LONGEST:
                raise ValueError(f"a text of 1 to {LONGEST:,} characters is wanted")
        elif self.kind is not ActKind.RATING and self.value:
            raise ValueError(f"there is nothing to say with: {self.kind.value}")
        if self.kind not in (ActKind.EDIT, ActKind.COMMENT, ActKind.UNDO) and not self.explainer:
            raise ValueError("which explanation is meant?")


@dataclass(frozen=True, slots=True)
class Rated:
    """What one reviewer rates one explanation."""

    feature: int
    """Row of the feature in the store."""
    explainer: str
    reviewer: str
    rating: int


class Reviews:
    """The acts of people, in `database`.

    Raises:
        StoreError: from every method, if the database cannot do it.
    """

    def __init__(
        self, database: Database, put_explanation: Callable[[str, Explanation], bool]
    ) -> None:
        self._database = database
        self._put_explanation = put_explanation

    def put(self, run: str, feature: FeatureId, wish: Wish) -> Act:
        """Keeps what a reviewer does about `feature` in `run`.

        An edit, which names the text it is of or is a new explanation, becomes an explanation of
        the run as well, by `human`, `human-2` and so on.

        Raises:
            Conflict: if the act to undo is of somebody else, of another feature, or undone.
            ValueError: if there is no explanation by the one named.
        """
        with self._database.writing() as connection:
            runs.known(connection, run)
            row = feature_id(connection, feature)
            before = Standing.of(_of(connection, run, row))
            if wish.undoes is not None:
                _check_undo(before, wish)
            elif wish.explainer and not _has(connection, run, row, wish.explainer):
                raise ValueError("there is no such explanation of this feature")
            became = ""
            if wish.kind is ActKind.EDIT:
                became = self._put_text(run, feature, wish)
            values = {
                "run": run,
                "feature": row,
                "explainer": wish.explainer,
                "reviewer": plain(wish.reviewer),
                "kind": wish.kind.value,
                "value": plain(wish.value),
                "base": " ".join(map(str, wish.base)),
                "became": became,
                "undoes": wish.undoes,
                "made": now(),
            }
            added = insert(schema.acts).values(**values).returning(_acts.id)
            number = connection.execute(added).scalar_one()
            listing.refresh(connection, run, row)
            stored = connection.execute(_query().where(_acts.id == number)).one()
            return _act(stored)

    def _put_text(self, run: str, feature: FeatureId, wish: Wish) -> str:
        """Keeps the text of an edit under the first free name, and gives that."""
        note = f"edited from {wish.explainer}" if wish.explainer else ""
        for number in itertools.count(1):
            said = Explanation(feature, wish.value, human(number), note=note)
            if self._put_explanation(run, said):
                return said.explainer
        raise AssertionError("numbers do not end")

    def of(self, run: str, feature: int) -> Standing:
        """What people did about the feature in that row of the store, in `run`."""
        with self._database.reading() as connection:
            return Standing.of(_of(connection, run, feature))

    def last(self, run: str, reviewer: str) -> tuple[int, Act] | None:
        """What `reviewer` did last in `run` that holds, behind the row of its feature."""
        own = [_acts.run == run, _acts.reviewer == reviewer]
        query = select(_acts.id, _acts.feature, _acts.kind, _acts.undoes).where(*own)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(_acts.id)).all()
            # Nobody takes back what others did, so that one's own acts are enough.
            held = in_force((row.id, row.undoes) for row in rows)
            own_acts = [row for row in rows if row.id in held and row.kind != ActKind.UNDO]
            if not own_acts:
                return None
            stored = connection.execute(_query().where(_acts.id == own_acts[-1].id)).one()
        return own_acts[-1].feature, _act(stored)

    def ratings(self, run: str) -> list[Rated]:
        """The ratings that hold in `run`: one of each reviewer for each explanation."""
        query = select(
            *(_acts.id, _acts.feature, _acts.explainer, _acts.reviewer),
            *(_acts.kind, _acts.value, _acts.undoes),
        ).where(_acts.run == run, _acts.kind.in_((ActKind.RATING.value, ActKind.UNDO.value)))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(_acts.id)).all()
        held = in_force((row.id, row.undoes) for row in rows)
        found: dict[tuple[int, str, str], Rated] = {}
        for row in rows:
            if row.kind == ActKind.RATING and row.id in held:
                key = (row.feature, row.explainer, row.reviewer)
                found[key] = Rated(*key, int(row.value))
        return list(found.values())

    def scores_of_rated(self, run: str) -> dict[tuple[int, str, str], float]:
        """Values in `run` by row of the feature, explainer and scorer, of features with acts.

        Of the first simulator; what has no value is left out.
        """
        kept = schema.scores.c
        rated = select(_acts.feature).where(_acts.run == run)
        query = select(kept.feature, kept.explainer, kept.scorer, kept.value)
        query = query.where(kept.run == run, kept.feature.in_(rated)).order_by(kept.id)
        found: dict[tuple[int, str, str], float | None] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query):
                found.setdefault((row.feature, row.explainer, row.scorer), row.value)
        return {key: value for key, value in found.items() if value is not None}

    def withdrawn(self, run: str) -> frozenset[tuple[FeatureId, str]]:
        """Explanations by people of `run` that were taken back: their features and names."""
        query = _query().where(_acts.run == run)
        query = query.where(_acts.kind.in_((ActKind.EDIT.value, ActKind.UNDO.value)))
        with self._database.reading() as connection:
            acts = [_act(row) for row in connection.execute(query)]
        held = Standing.of(acts).held
        edits = [act for act in acts if act.kind is ActKind.EDIT and act.id not in held]
        return frozenset((act.feature, act.became) for act in edits)

    def queue(self, run: str, most: int = MOST_QUEUED) -> tuple[tuple[int, str], ...]:
        """Features of `run` that somebody explained, what is worth most time first, with reasons.

        First those whose scorers disagree, then those where the baseline predicts better than the
        best explanation, then the rest; within each, the widest interval first.
        """
        b, flagged = schema.bests.c, schema.flags.c
        widest = (b.width.is_(None), b.width.desc(), b.feature)
        here = select(b.feature, b.width).where(b.run == run)
        found: dict[int, str] = {}
        with self._database.reading() as connection:
            queries = []
            for flag in (listing.DISAGREEMENT, listing.BEATEN):
                on = (flagged.run == b.run) & (flagged.feature == b.feature)
                query = here.join(schema.flags, on).where(flagged.flag == flag)
                queries.append((flag, query.order_by(*widest)))
            known = here.where(b.width.is_not(None)).order_by(b.width.desc(), b.feature)
            unknown = here.where(b.width.is_(None)).order_by(b.feature)
            for why, query in (*queries, ("width", known), ("", unknown)):
                if len(found) < most:
                    for row in connection.execute(query.limit(most)):
                        found.setdefault(row.feature, why)
        return tuple(found.items())[:most]


def _check_undo(before: Standing, wish: Wish) -> None:
    undone = next((act for act in before.acts if act.id == wish.undoes), None)
    if undone is None:
        raise Conflict("There is no such act on this feature.")
    if undone.reviewer != wish.reviewer:
        raise Conflict("That was somebody else's act: only they can take it back.")
    if undone.id not in before.held:
        raise Conflict("That was taken back already, perhaps in another tab.")


def _has(connection: Connection, run: str, feature: int, explainer: str) -> bool:
    kept = schema.explanations.c
    query = select(kept.id).where(kept.run == run, kept.feature == feature)
    return connection.execute(query.where(kept.explainer == explainer)).first() is not None


def _query() -> Any:
    names = schema.features.c.name.label("name")
    return select(schema.acts, names).join(schema.features, schema.features.c.id == _acts.feature)


def _of(connection: Connection, run: str, feature: int) -> list[Act]:
    query = _query().where(_acts.run == run, _acts.feature == feature)
    return [_act(row) for row in connection.execute(query.order_by(_acts.id))]


def _act(row: Row[Any]) -> Act:
    return Act(
        row.id,
        row.run,
        FeatureId.parse(row.name),
        row.explainer,
        row.reviewer,
        ActKind(row.kind),
        row.value,
        tuple(int(number) for number in row.base.split()),
        row.became,
        row.undoes,
        row.made,
    )
