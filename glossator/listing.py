"""What features are listed by: of each in a run, its best explanation, with marks and flags.

All of it follows from the other tables. It is kept so that a million features can be sorted and
filtered by an index, and written in the same transaction as what it follows from.

The *best* explanation is no abstention and not the baseline's where there is another, and has the
highest value by `simulation`, else by the first scorer in the alphabet that gave one; of equals,
the one stored first. `intruder` does not count, for it reads no explanation. A *mark* is the value
of the best explanation by one scorer, of the first simulator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from glossator import schema
from glossator.acts import ActKind, in_force

FAILED = "failed"
"""Some of its work was given up."""
ABSTAINED = "abstained"
"""Every explainer that was asked abstained."""
DISAGREEMENT = "disagreement"
"""By one scorer the whole interval of the best explanation is above the null, by another not."""
BEATEN = "beaten"
"""The baseline has a higher value by `simulation` than the best explanation."""
RATED = "rated"
"""Somebody has rated one of its explanations."""
FLAGS = (ABSTAINED, BEATEN, DISAGREEMENT, FAILED, RATED)

FIRST = "simulation"
"""The scorer that says which explanation is best, where it ran."""
READS_NONE = "intruder"
BASELINE = "unigram"

_Rows = Sequence[Row[*tuple[Any, ...]]]


def refresh(connection: Connection, run: str, feature: int) -> None:
    """Makes the rows of `feature` in `run` anew."""
    said, kept, lost = schema.explanations.c, schema.scores.c, schema.failures.c
    done = schema.acts.c
    explanations = connection.execute(
        select(said.id, said.explainer, said.abstained)
        .where(said.run == run, said.feature == feature)
        .order_by(said.id)
    ).all()
    scores = connection.execute(
        select(kept.id, kept.explainer, kept.scorer, kept.value)
        .add_columns(kept.low, kept.high, kept.null_value)
        .where(kept.run == run, kept.feature == feature)
        .order_by(kept.id)
    ).all()
    failed = connection.execute(
        select(lost.id).where(lost.run == run, lost.feature == feature).limit(1)
    ).first()
    acts = connection.execute(
        select(done.id, done.kind, done.undoes).where(done.run == run, done.feature == feature)
    ).all()
    held = in_force((act.id, act.undoes) for act in acts)
    scores = _of_first_simulator(scores)
    best = _best(explanations, scores)
    marks = [s for s in scores if best and s.explainer == best.explainer and s.value is not None]
    for table in (schema.bests, schema.marks, schema.flags):
        gone = delete(table).where(table.c.run == run, table.c.feature == feature)
        connection.execute(gone)
    here = {"run": run, "feature": feature}
    if best is not None:
        values = {"explanation": best.id, "explainer": best.explainer, "width": _width(marks)}
        _put(connection, schema.bests, [{**here, **values, "n_explanations": len(explanations)}])
    columns = ("scorer", "value", "low", "high", "null_value")
    _put(
        connection,
        schema.marks,
        [{**here, "score": s.id, **{name: getattr(s, name) for name in columns}} for s in marks],
    )
    holds = {
        FAILED: failed is not None,
        ABSTAINED: best is not None and bool(best.abstained),
        BEATEN: _beaten(best, scores),
        RATED: any(act.kind == ActKind.RATING and act.id in held for act in acts),
        DISAGREEMENT: len({s.low > s.null_value for s in marks if _judged(s)}) > 1,
    }
    _put(connection, schema.flags, [{**here, "flag": flag} for flag in FLAGS if holds[flag]])


def _of_first_simulator(scores: _Rows) -> list[Any]:
    found: dict[tuple[str, str], Any] = {}
    for score in scores:
        found.setdefault((score.explainer, score.scorer), score)
    return list(found.values())


def _best(explanations: _Rows, scores: Iterable[Any]) -> Any:
    """The explanation to show of a feature; None if there is none."""
    if not explanations:
        return None
    own: dict[str, list[Any]] = {}
    for score in scores:
        if score.value is not None and score.scorer != READS_NONE:
            own.setdefault(score.explainer, []).append(score)

    def place(explanation: Any) -> tuple[Any, ...]:
        ranked = sorted((s.scorer != FIRST, s.scorer, -s.value) for s in own[explanation.explainer])
        return ranked[0]

    def order(explanation: Any) -> tuple[Any, ...]:
        valued = explanation.explainer in own
        first = (bool(explanation.abstained), explanation.explainer == BASELINE, not valued)
        return (*first, *(place(explanation) if valued else ()), explanation.id)

    return min(explanations, key=order)


def _beaten(best: Any, scores: Iterable[Any]) -> bool:
    values = {s.explainer: s.value for s in scores if s.scorer == FIRST}
    own = values.get(best.explainer) if best is not None else None
    baseline = values.get(BASELINE)
    return own is not None and baseline is not None and bool(baseline > own)


def _width(marks: Iterable[Any]) -> float | None:
    known = [m.high - m.low for m in marks if m.low is not None and m.high is not None]
    return max(known, default=None)


def _judged(mark: Any) -> bool:
    return mark.low is not None and mark.null_value is not None


def _put(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    # Another process of a PostgreSQL store may have written the same at the same moment.
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))
