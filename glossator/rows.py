"""How values become rows of the store and come back, checked."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from glossator import schema
from glossator.errors import StoreError
from glossator.ledger import Call, Entry
from glossator.types import (
    JSON,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureSummary,
    Kind,
    Prediction,
    Score,
    Usage,
)

_Stored = TypeVar("_Stored", Explanation, FeatureRecord, Score)

_MOST_NAMES = 500
"""Features looked up in one statement: databases limit its parameters."""


def read(wanted: type[_Stored], value: Any) -> _Stored:
    """`value` as `wanted` says it should be, or a StoreError."""
    try:
        return wanted.from_json(value)
    except (ValueError, AttributeError) as error:
        raise StoreError(f"a stored {wanted.__name__} cannot be read: {error}") from error


def insert_once(connection: Connection, table: Table, **values: Any) -> Any:
    """Inserts the row unless one is there; its first key column, or None if one was there."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    key = next(iter(table.primary_key))
    values = {n: plain(value) if isinstance(value, str) else value for n, value in values.items()}
    statement = dialect.insert(table).values(**values).on_conflict_do_nothing().returning(key)
    return connection.execute(statement).scalar()


def feature_id(connection: Connection, feature: FeatureId) -> int:
    """The row of `feature`, made if need be."""
    query = select(schema.features.c.id).where(schema.features.c.name == str(feature))
    found = connection.execute(query).scalar()
    if found is None:
        found = insert_once(connection, schema.features, **_feature_columns(feature))
    # Another process of a PostgreSQL store may have made it in between.
    return int(found if found is not None else connection.execute(query).scalar_one())


def feature_ids(connection: Connection, features: Iterable[FeatureId]) -> dict[str, int]:
    """The rows of `features` by their names; those that are missing are made, in their order."""
    named = {str(feature): feature for feature in features}
    found = dict(_ids_of(connection, list(named)))
    missing = [name for name in named if name not in found]
    if missing:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(
            dialect.insert(schema.features).on_conflict_do_nothing(),
            [_feature_columns(named[name]) for name in missing],
        )
        found.update(_ids_of(connection, missing))
    return found


def put_summaries(
    connection: Connection, collection: str, summaries: Iterable[FeatureSummary]
) -> None:
    """Writes the rows, in place of those of the same features; what is None stays as it was."""
    given = list(summaries)
    if not given:
        return
    ids = feature_ids(connection, [one.feature for one in given])
    made = now()
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    table = schema.summaries
    statement = dialect.insert(table)
    new = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    for name in ("lowest", "n_windows"):
        new[name] = func.coalesce(statement.excluded[name], table.c[name])
    connection.execute(
        statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new),
        [
            {
                "collection": collection,
                "feature": ids[str(one.feature)],
                "kind": one.kind.value,
                "evidence": dump(dict(one.evidence)),
                "density": one.density,
                "threshold": one.threshold,
                "peak": one.peak,
                "lowest": one.lowest,
                "mean": one.mean,
                "std": one.std,
                "n_tokens": one.n_tokens,
                "n_windows": one.n_windows,
                "made": made,
            }
            for one in given
        ],
    )


def read_summary(row: Any) -> FeatureSummary:
    """The summary in `row`, which has the columns of the feature and of its summary."""
    try:
        return FeatureSummary(
            FeatureId(row.model, row.site, row.number, row.coder, row.negative),
            kind=Kind(row.kind),
            density=row.density,
            threshold=row.threshold,
            peak=row.peak,
            mean=row.mean,
            std=row.std,
            n_tokens=row.n_tokens,
            lowest=row.lowest,
            n_windows=row.n_windows,
            evidence=dict(load(row.evidence)),
        )
    except (ValueError, TypeError) as error:
        raise StoreError(f"a stored summary cannot be read: {error}") from error


def _ids_of(connection: Connection, names: list[str]) -> Iterator[tuple[str, int]]:
    kept = schema.features.c
    for start in range(0, len(names), _MOST_NAMES):
        some = names[start : start + _MOST_NAMES]
        rows = connection.execute(select(kept.name, kept.id).where(kept.name.in_(some)))
        yield from ((row.name, row.id) for row in rows)


def _feature_columns(feature: FeatureId) -> dict[str, Any]:
    return {
        "name": str(feature),
        "model": feature.model,
        "site": feature.site,
        "coder": feature.coder,
        "number": feature.index,
        "negative": feature.negative,
    }


def usage_columns(usage: Usage) -> dict[str, Any]:
    """The columns that hold `usage`."""
    return {
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost": usage.cost,
        "seconds": usage.seconds,
    }


def call_rows(connection: Connection, calls: Sequence[Call]) -> list[dict[str, Any]]:
    """The columns that hold `calls`, but for their run; what they name is looked up together."""
    about = [c.purpose.feature for c in calls]
    features = feature_ids(connection, [f for f in about if f is not None])
    prices = {c: _price_id(connection, *c) for c in {(c.llm, c.price) for c in calls} if c[1]}
    made = now()
    return [
        {
            "stage": call.purpose.stage,
            "feature": None if feature is None else features[str(feature)],
            "part": plain(call.purpose.part),
            "llm": call.llm,
            "request": call.request,
            "attempt": call.attempt,
            "error": plain(call.error)[:500],
            "error_type": call.error_type,
            "cached_calls": call.usage.cached_calls,
            **usage_columns(call.usage),
            **{name: getattr(call.usage, name) for name in schema.TOKEN_CLASSES},
            "price": prices.get((call.llm, call.price)),
            "batched": call.batched,
            "made": made,
        }
        for call, feature in zip(calls, about, strict=True)
    ]


def put_calls(connection: Connection, run: str, entries: Sequence[Entry]) -> list[int]:
    """Writes lines of the ledger; gives the line of each entry, in order."""
    rows = call_rows(connection, [entry.call for entry in entries])
    fresh = [{"run": run, **row} for e, row in zip(entries, rows, strict=True) if e.line is None]
    ids: list[int] = []
    if fresh:
        statement = insert(schema.calls).returning(schema.calls.c.id, sort_by_parameter_order=True)
        ids = list(connection.execute(statement, fresh).scalars())
    known = [
        {"line": e.line, **row} for e, row in zip(entries, rows, strict=True) if e.line is not None
    ]
    if known:
        columns: dict[str, Any] = {name: bindparam(name) for name in rows[0]}
        found = schema.calls.c.id == bindparam("line")
        connection.execute(update(schema.calls).where(found).values(**columns), known)
    made = iter(ids)
    return [next(made) if e.line is None else e.line for e in entries]


def _price_id(connection: Connection, llm: str, snapshot: str) -> int:
    """The row of a price, made if need be."""
    kept = schema.prices.c
    query = select(kept.id).where(kept.llm == llm, kept.snapshot == snapshot)
    found = connection.execute(query).scalar()
    if found is None:
        row = {"llm": llm, "snapshot": snapshot, "made": now()}
        found = insert_once(connection, schema.prices, **row)
    return int(found if found is not None else connection.execute(query).scalar_one())


def now() -> str:
    """The time, as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def plain(text: str) -> str:
    """`text` without what a database column cannot hold; payloads keep it as it is."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def dump(value: JSON) -> str:
    """`value` as JSON text."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise StoreError(
            f"a value that is not a finite number cannot be stored: {error}"
        ) from error


def load(stored: str) -> Any:
    """What `stored` holds as JSON text."""
    try:
        return json.loads(stored)
    except ValueError as error:
        raise StoreError(f"a stored value is not JSON: {error}") from error


def packed(value: JSON) -> bytes:
    """`value` as compressed JSON."""
    return zlib.compress(dump(value).encode())


def unpacked(stored: bytes) -> Any:
    """What `stored` holds as compressed JSON."""
    try:
        return json.loads(zlib.decompress(stored))
    except (zlib.error, ValueError) as error:
        raise StoreError(f"a stored value is damaged: {error}") from error


def read_predictions(stored: bytes) -> tuple[Prediction, ...]:
    """The predictions of a score."""
    try:
        return tuple(Prediction.from_json(value) for value in unpacked(stored))
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"a stored prediction cannot be read: {error}") from error
