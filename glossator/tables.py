"""The results as tables for people: typed pandas DataFrames.

Columns have one type each, also where a table is empty: texts are `string`, numbers that may be
missing are `float64` with NaN or `Int64` with NA, times are UTC. All tables begin with what names
the row. `TYPES` lists every column.

- **features**: one row for each record: for each feature and collection with text to show.
- **collected**: one row for each feature and collection, with a record or without. `evidence` is
  what the tests for its kind measured, as JSON.
- **explanations**: one row for each explanation, or for an abstention and its reason.
- **scores**: one row for each score, beside its feature and the explanation it judges. `q` is the
  Benjamini-Hochberg value of `p` among the p values of the same run and scorer, worked out when
  read. `cost` and `seconds` are of the scoring alone.
- **predictions**: one row for each predicted value. Where a scorer judged a whole window,
  `position` is NA and `token` is the window's text. Where it failed, `predicted` is NaN.
- **calls**: the ledger, one row for each request sent or found in the cache, and what it was for.
  Tokens read from and written to a provider's cache are among the prompt's, those of reasoning
  among the completion's. `assumed` is how much of the cost is the most that a call can have cost
  of which no bill is known. `price` is the price list's entry that the cost was reckoned by, as
  JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, Row, and_, null, select

from glossator import schema
from glossator.rows import plain, read_predictions

if TYPE_CHECKING:
    from pandas import DataFrame

Reader: TypeAlias = "Callable[[Connection, str | None], DataFrame]"

_FEATURE = {
    "feature": "string",
    "model": "string",
    "site": "string",
    "coder": "string",
    "index": "int64",
    "negative": "bool",
}
_USAGE = {
    "cost": "float64",
    "seconds": "float64",
    "n_calls": "int64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
}
_TIME = "datetime64[us, UTC]"

TYPES: dict[str, dict[str, str]] = {
    "features": {
        "collection": "string",
        **_FEATURE,
        "kind": "string",
        "density": "float64",
        "threshold": "float64",
        "peak": "float64",
        "mean": "float64",
        "std": "float64",
        "n_tokens": "int64",
    },
    "collected": {
        "collection": "string",
        **_FEATURE,
        "kind": "string",
        "density": "float64",
        "threshold": "float64",
        "peak": "float64",
        "lowest": "float64",
        "mean": "float64",
        "std": "float64",
        "n_tokens": "int64",
        "n_windows": "Int64",
        "evidence": "string",
    },
    "explanations": {
        "run": "string",
        **_FEATURE,
        "explainer": "string",
        "explanation": "string",
        "abstained": "string",
        "llm": "string",
        "prompt_version": "string",
        **_USAGE,
        "made": _TIME,
    },
    "scores": {
        "run": "string",
        **_FEATURE,
        "density": "float64",
        "kind": "string",
        "explainer": "string",
        "explanation": "string",
        "abstained": "string",
        "scorer": "string",
        "simulator": "string",
        "metric": "string",
        "llm": "string",
        "value": "float64",
        "low": "float64",
        "high": "float64",
        "null": "float64",
        "lift": "float64",
        "p": "float64",
        "q": "float64",
        "n": "Int64",
        "n_failed": "Int64",
        "note": "string",
        "cost": "float64",
        "seconds": "float64",
        "n_calls": "Int64",
        "prompt_tokens": "Int64",
        "completion_tokens": "Int64",
        "config_digest": "string",
        "seed": "int64",
        "made": _TIME,
    },
    "predictions": {
        "run": "string",
        "feature": "string",
        "explainer": "string",
        "scorer": "string",
        "simulator": "string",
        "example": "string",
        "document": "string",
        "stratum": "string",
        "weight": "float64",
        "position": "Int64",
        "token": "string",
        "actual": "float64",
        "predicted": "float64",
        "scale": "string",
        "failure": "string",
    },
    "calls": {
        "run": "string",
        "stage": "string",
        "feature": "string",
        "part": "string",
        "llm": "string",
        "request": "string",
        "attempt": "int64",
        "error": "string",
        "error_type": "string",
        "n_cached": "int64",
        **_USAGE,
        "assumed": "float64",
        "cache_read_tokens": "int64",
        "cache_write_tokens": "int64",
        "reasoning_tokens": "int64",
        "price": "string",
        "batched": "bool",
        "made": _TIME,
    },
}
"""The columns of each table, in order, with their pandas type."""


def features(connection: Connection, run: str | None) -> DataFrame:
    """What was collected; of the collection that `run` reads, if one is named."""
    kept = schema.records.c
    query = (
        select(
            kept.collection,
            *_of_feature(),
            *(kept.kind, kept.density, kept.threshold, kept.peak, kept.mean, kept.std),
            kept.n_tokens,
        )
        .join(schema.features)
        .order_by(kept.collection, kept.feature)
    )
    if run is not None:
        own = select(schema.runs.c.collection).where(schema.runs.c.id == run)
        query = query.where(kept.collection == own.scalar_subquery())
    return _frame("features", connection.execute(query).all())


def collected(connection: Connection, collection: str | None) -> DataFrame:
    """The summaries of all that was collected; of one `collection`, if it is named."""
    kept = schema.summaries.c
    query = (
        select(
            kept.collection,
            *_of_feature(),
            *(kept.kind, kept.density, kept.threshold, kept.peak, kept.lowest, kept.mean),
            *(kept.std, kept.n_tokens, kept.n_windows, kept.evidence),
        )
        .join(schema.features)
        .order_by(kept.collection, kept.feature)
    )
    if collection is not None:
        query = query.where(kept.collection == collection)
    return _frame("collected", connection.execute(query).all())


def explanations(connection: Connection, run: str | None) -> DataFrame:
    """All explanations and abstentions."""
    kept = schema.explanations.c
    query = (
        select(
            kept.run,
            *_of_feature(),
            *(kept.explainer, kept.text, kept.abstained, kept.model, kept.prompt_version),
            *_of_usage(schema.explanations),
            kept.made,
        )
        .join(schema.features)
        .order_by(kept.id)
    )
    if run is not None:
        query = query.where(kept.run == run)
    return _frame("explanations", connection.execute(query).all())


def scores(connection: Connection, run: str | None) -> DataFrame:
    """All scores, each with its q value."""
    return _with_q(_frame("scores", connection.execute(_score_query(run)).all()))


def scores_and_abstentions(connection: Connection, run: str | None) -> DataFrame:
    """All scores, then the explanations that have none, with nothing in the score's columns."""
    rows = [*connection.execute(_score_query(run)), *connection.execute(_unscored_query(run))]
    return _with_q(_frame("scores", rows))


def predictions(connection: Connection, run: str | None) -> DataFrame:
    """All predicted values beside what happened."""
    kept = schema.scores.c
    query = (
        select(
            *(kept.run, schema.features.c.name, kept.explainer, kept.scorer, kept.simulator),
            schema.predictions.c.payload,
        )
        .join(schema.features, schema.features.c.id == kept.feature)
        .join(schema.predictions)
        .order_by(kept.id)
    )
    if run is not None:
        query = query.where(kept.run == run)
    rows: list[tuple[Any, ...]] = []
    for *named, payload in connection.execute(query):
        for made in read_predictions(payload):
            example = (*named, made.example, made.document, made.stratum, made.weight)
            whole = len(made.tokens) != len(made.actual)
            for position, actual in enumerate(made.actual):
                rows.append(
                    (
                        *example,
                        None if whole else position,
                        "".join(made.tokens) if whole else made.tokens[position],
                        actual,
                        made.predicted[position] if made.predicted else None,
                        made.scale,
                        made.failure,
                    )
                )
    return _frame("predictions", rows)


def calls(connection: Connection, run: str | None) -> DataFrame:
    """The ledger."""
    kept = schema.calls.c
    query = (
        select(
            *(kept.run, kept.stage, schema.features.c.name, kept.part, kept.llm, kept.request),
            *(kept.attempt, kept.error, kept.error_type, kept.cached_calls),
            *_of_usage(schema.calls),
            kept.assumed,
            *(kept[name] for name in schema.TOKEN_CLASSES),
            *(schema.prices.c.snapshot, kept.batched, kept.made),
        )
        .outerjoin(schema.features, kept.feature == schema.features.c.id)
        .outerjoin(schema.prices, kept.price == schema.prices.c.id)
        .order_by(kept.id)
    )
    if run is not None:
        query = query.where(kept.run == run)
    return _frame("calls", connection.execute(query).all())


READERS: dict[str, Reader] = {
    "features": features,
    "explanations": explanations,
    "scores": scores,
    "predictions": predictions,
    "calls": calls,
}
"""The tables that a folder of exported files holds."""


def _score_query(run: str | None) -> Any:
    kept, said = schema.scores.c, schema.explanations.c
    same = and_(
        said.run == kept.run, said.feature == kept.feature, said.explainer == kept.explainer
    )
    query = (
        select(
            kept.run,
            *_of_feature(),
            *(schema.records.c.density, schema.records.c.kind),
            *(kept.explainer, said.text, said.abstained),
            *(kept.scorer, kept.simulator, kept.metric, kept.model),
            *(kept.value, kept.low, kept.high, kept.null_value, kept.lift, kept.p),
            null().label("q"),
            *(kept.n, kept.n_failed, kept.note),
            *_of_usage(schema.scores),
            *(schema.runs.c.config_digest, schema.runs.c.seed, kept.made),
        )
        .select_from(schema.scores)
        .join(schema.runs, schema.runs.c.id == kept.run)
        .join(schema.features, schema.features.c.id == kept.feature)
        .join(schema.explanations, same, isouter=True)
        .join(schema.records, _own_record(schema.scores), isouter=True)
        .order_by(kept.id)
    )
    return query if run is None else query.where(kept.run == run)


def _unscored_query(run: str | None) -> Any:
    said, kept = schema.explanations.c, schema.scores.c
    same = and_(
        said.run == kept.run, said.feature == kept.feature, said.explainer == kept.explainer
    )
    # From `scorer` to `completion_tokens`, all that only a score has.
    columns = list(TYPES["scores"])
    empty = columns[columns.index("scorer") : columns.index("config_digest")]
    query = (
        select(
            said.run,
            *_of_feature(),
            *(schema.records.c.density, schema.records.c.kind),
            *(said.explainer, said.text, said.abstained),
            *(null().label(name) for name in empty),
            *(schema.runs.c.config_digest, schema.runs.c.seed, said.made),
        )
        .select_from(schema.explanations)
        .join(schema.runs, schema.runs.c.id == said.run)
        .join(schema.features, schema.features.c.id == said.feature)
        .join(schema.records, _own_record(schema.explanations), isouter=True)
        .where(~select(kept.id).where(same).exists())
        .order_by(said.id)
    )
    return query if run is None else query.where(said.run == run)


def _own_record(table: Any) -> Any:
    """Joins a row of `table` to the record that its run read."""
    kept = schema.records.c
    return and_(kept.collection == schema.runs.c.collection, kept.feature == table.c.feature)


def _of_feature() -> tuple[Any, ...]:
    kept = schema.features.c
    return (kept.name, kept.model, kept.site, kept.coder, kept.number, kept.negative)


def _of_usage(table: Any) -> tuple[Any, ...]:
    kept = table.c
    return (kept.cost, kept.seconds, kept.calls, kept.prompt_tokens, kept.completion_tokens)


def _frame(table: str, rows: Sequence[Row[Any] | tuple[Any, ...]]) -> DataFrame:
    # Imported here, as scipy below: `import glossator` should not take half a second for them.
    import pandas as pd

    types = TYPES[table]
    # Built as objects, so that no type is guessed from a column's values.
    # Texts out of payloads may hold half a character, which no string type takes.
    clean = [[plain(v) if isinstance(v, str) else v for v in row] for row in rows]
    frame = pd.DataFrame(clean, columns=list(types), dtype=object)
    for name, wanted in types.items():
        if wanted == _TIME:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame.astype(types)


def _with_q(frame: DataFrame) -> DataFrame:
    """`frame` with `q`: Benjamini and Hochberg 1995, among the p values of a run and scorer."""
    known = frame[frame["p"].notna()]
    if known.empty:
        return frame
    from scipy.stats import false_discovery_control

    for _, family in known.groupby(["run", "scorer"])["p"]:
        frame.loc[family.index, "q"] = false_discovery_control(family.to_numpy(), method="bh")
    return frame
