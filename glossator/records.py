"""What was collected of features, in the store: records, and a summary of every feature."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from glossator import schema
from glossator.errors import StoreError
from glossator.rows import dump, feature_id, feature_ids, load, now, packed, read, unpacked
from glossator.types import FeatureId, FeatureRecord, FeatureSummary, Kind


def put(connection: Connection, collection: str, record: FeatureRecord) -> None:
    """Writes the record and its summary, in place of those of the same feature."""
    put_summaries(connection, collection, [FeatureSummary.of(record)])
    feature = feature_id(connection, record.feature)
    kept = schema.records.c
    connection.execute(
        delete(schema.records).where(kept.collection == collection, kept.feature == feature)
    )
    connection.execute(
        insert(schema.records).values(
            collection=collection,
            feature=feature,
            kind=record.kind.value,
            density=record.density,
            threshold=record.threshold,
            peak=record.peak,
            mean=record.mean,
            std=record.std,
            n_tokens=record.n_tokens,
            payload=packed(record.to_json()),
            made=now(),
        )
    )


def known(connection: Connection, collection: str) -> frozenset[FeatureId]:
    """The features of which there is a record."""
    rows = connection.execute(
        select(schema.features.c.name)
        .join(schema.records)
        .where(schema.records.c.collection == collection)
    )
    return frozenset(FeatureId.parse(row.name) for row in rows)


def one(connection: Connection, collection: str, feature: FeatureId) -> FeatureRecord | None:
    """The record of `feature`, if there is one."""
    payload = connection.execute(
        select(schema.records.c.payload)
        .join(schema.features)
        .where(schema.records.c.collection == collection)
        .where(schema.features.c.name == str(feature))
    ).scalar()
    return None if payload is None else read_record(payload)


def some(
    connection: Connection, collection: str, after: int, n: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The next `n` rows behind that of feature `after`: for each, its feature and the record."""
    kept = schema.records.c
    query = (
        select(kept.feature, kept.payload)
        .where(kept.collection == collection, kept.feature > after)
        .order_by(kept.feature)
        .limit(n)
    )
    return connection.execute(query).all()


def read_record(payload: bytes) -> FeatureRecord:
    """The record that is stored so."""
    return read(FeatureRecord, unpacked(payload))


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


def some_summaries(
    connection: Connection, collection: str, kinds: Collection[Kind] | None, after: int, n: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The same for summaries: those of `kinds` alone, unless that is None."""
    kept, named = schema.summaries.c, schema.features.c
    query = (
        select(schema.summaries, named.model, named.site, named.coder)
        .add_columns(named.number, named.negative)
        .join(schema.features)
        .where(kept.collection == collection, kept.feature > after)
        .order_by(kept.feature)
        .limit(n)
    )
    if kinds is not None:
        query = query.where(kept.kind.in_([Kind(kind).value for kind in kinds]))
    return connection.execute(query).all()


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
