"""One feature whole, as a run has it: what was collected, said and scored, and what failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from glossator import runs, schema
from glossator.errors import StoreError
from glossator.records import read_record
from glossator.rows import load, read, read_predictions
from glossator.runs import Failure, Run
from glossator.types import Explanation, FeatureId, FeatureRecord, Kind, Prediction, Score

if TYPE_CHECKING:
    from glossator.database import Database


@dataclass(frozen=True, slots=True)
class Dossier:
    """One feature in one run."""

    row: int
    """Its number in the store."""
    feature: FeatureId
    run: Run
    kind: Kind | None
    """None where nothing was collected of it."""
    record: FeatureRecord | None
    """None where no text was kept of it."""
    explanations: tuple[Explanation, ...]
    """In the order stored."""
    scores: Mapping[int, Score]
    """By row, in the order stored; without their predictions."""
    failures: tuple[Failure, ...]
    flags: tuple[str, ...]
    best: str
    """Who wrote the best explanation; empty if there is none."""


class Dossiers:
    """Reads what `database` holds of single features.

    Raises:
        StoreError: from every method, if the database cannot do it or holds what cannot be read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, run: Run, row: int) -> Dossier | None:
        """The feature in `row` of the store as `run` has it; None if there is no such feature."""
        s, f, r = schema.summaries.c, schema.features.c, schema.records.c
        said, kept, b = schema.explanations.c, schema.scores.c, schema.bests.c
        lost, flagged = schema.failures.c, schema.flags.c
        with self._database.reading() as connection:
            name = connection.execute(select(f.name).where(f.id == row)).scalar()
            if name is None:
                return None
            feature = FeatureId.parse(name)
            collected = s.collection == run.collection, s.feature == row
            kind = connection.execute(select(s.kind).where(*collected)).scalar()
            stored = connection.execute(
                select(r.payload).where(r.collection == run.collection, r.feature == row)
            ).scalar()
            texts = connection.execute(
                select(said.payload)
                .where(said.run == run.id, said.feature == row)
                .order_by(said.id)
            ).scalars()
            judged = connection.execute(
                select(kept.id, kept.payload)
                .where(kept.run == run.id, kept.feature == row)
                .order_by(kept.id)
            ).all()
            failed = connection.execute(
                select(schema.failures)
                .where(lost.run == run.id, lost.feature == row)
                .order_by(lost.id)
            ).all()
            flags = connection.execute(
                select(flagged.flag)
                .where(flagged.run == run.id, flagged.feature == row)
                .order_by(flagged.flag)
            ).scalars()
            best = select(b.explainer).where(b.run == run.id, b.feature == row)
            return Dossier(
                row=row,
                feature=feature,
                run=run,
                kind=None if kind is None else Kind(kind),
                record=None if stored is None else read_record(stored),
                explanations=tuple(read(Explanation, load(text)) for text in texts),
                scores={
                    one.id: read(Score, {**load(one.payload), "predictions": []}) for one in judged
                },
                failures=tuple(runs.read_failure(one, feature) for one in failed),
                flags=tuple(flags),
                best=connection.execute(best).scalar() or "",
            )

    def predictions(self, score: int) -> tuple[Prediction, ...]:
        """What the score of that row predicted, window by window."""
        kept = schema.predictions.c
        with self._database.reading() as connection:
            stored = connection.execute(select(kept.payload).where(kept.score == score)).scalar()
        if stored is None:
            raise StoreError(f"the predictions of score {score} are gone")
        return read_predictions(stored)
