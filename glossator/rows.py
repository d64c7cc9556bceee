"""How values become rows of the store and come back, checked."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from glossator import schema
from glossator.errors import StoreError
from glossator.types import (
    JSON,
    Explanation,
    FeatureId,
    FeatureRecord,
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
