"""Notebooks of inquiries and conversations, in the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from glossator import schema
from glossator.database import Database
from glossator.errors import StoreError
from glossator.notebook import Entry, changed
from glossator.rows import dump, feature_id, insert_once, load, now
from glossator.types import JSON, FeatureId

_inquiries, _entries = schema.inquiries.c, schema.entries.c
INQUIRY, CHAT = "inquiry", "chat"


@dataclass(frozen=True, slots=True)
class Named:
    """An inquiry or a conversation that there is."""

    name: str
    kind: str
    """`inquiry` or `chat`."""
    run: str
    """Id of its run, empty if it is of none."""
    feature: FeatureId | None
    made: str
    """ISO 8601, UTC."""
    n_entries: int


class Notebooks:
    """All transcripts of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_inquiry(self, run: str, feature: FeatureId, explainer: str = "agent") -> StoredNotebook:
        """The notebook of one feature's inquiry in a run; begun if need be."""
        return self.named(f"{run}/{explainer}/{feature}", INQUIRY, run, feature)

    def named(
        self, name: str, kind: str, run: str = "", feature: FeatureId | None = None
    ) -> StoredNotebook:
        """The notebook called `name`; begun if need be."""
        with self._database.writing() as connection:
            query = select(_inquiries.id).where(_inquiries.name == name)
            found = connection.execute(query).scalar()
            if found is None:
                row = None if feature is None else feature_id(connection, feature)
                values = {"name": name, "kind": kind, "run": run or None, "feature": row}
                found = insert_once(connection, schema.inquiries, **values, made=now())
            if found is None:  # another process of a PostgreSQL store began it in between
                found = connection.execute(query).scalar_one()
        return StoredNotebook(self._database, int(found))

    def find(self, name: str) -> StoredNotebook | None:
        """The notebook called `name`, if there is one."""
        with self._database.reading() as connection:
            query = select(_inquiries.id).where(_inquiries.name == name)
            found = connection.execute(query).scalar()
        return None if found is None else StoredNotebook(self._database, int(found))

    def known(self, kind: str = "", run: str = "", feature: FeatureId | None = None) -> list[Named]:
        """Those there are, the newest first."""
        counted = (
            select(_entries.inquiry, func.count().label("n")).group_by(_entries.inquiry).subquery()
        )
        query = (
            select(schema.inquiries, schema.features.c.name.label("named"), counted.c.n)
            .outerjoin(schema.features, _inquiries.feature == schema.features.c.id)
            .outerjoin(counted, counted.c.inquiry == _inquiries.id)
            .order_by(_inquiries.id.desc())
        )
        if kind:
            query = query.where(_inquiries.kind == kind)
        if run:
            query = query.where(_inquiries.run == run)
        if feature is not None:
            query = query.where(schema.features.c.name == str(feature))
        with self._database.reading() as connection:
            return [_named(row) for row in connection.execute(query)]


@dataclass(frozen=True)
class StoredNotebook:
    """See `glossator.notebook.Notebook`."""

    database: Database
    inquiry: int

    def put(self, key: str, kind: str, content: Mapping[str, JSON]) -> None:
        """See `Notebook`."""
        written = dump(dict(content))
        with self.database.writing() as connection:
            known = self._content(connection, key)
            if known is None:
                last = select(func.max(_entries.number)).where(_entries.inquiry == self.inquiry)
                number = (connection.execute(last).scalar() or 0) + 1
                connection.execute(
                    insert(schema.entries).values(
                        inquiry=self.inquiry,
                        key=key,
                        number=number,
                        kind=kind,
                        content=written,
                        made=now(),
                    )
                )
            elif load(known) != load(written):
                raise StoreError(changed(key))

    def get(self, key: str) -> Entry | None:
        """See `Notebook`."""
        query = select(schema.entries).where(_entries.inquiry == self.inquiry, _entries.key == key)
        with self.database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _entry(row)

    def entries(self) -> Iterator[Entry]:
        """See `Notebook`."""
        query = (
            select(schema.entries).where(_entries.inquiry == self.inquiry).order_by(_entries.number)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return iter([_entry(row) for row in rows])

    def _content(self, connection: Connection, key: str) -> str | None:
        query = select(_entries.content).where(
            _entries.inquiry == self.inquiry, _entries.key == key
        )
        found: str | None = connection.execute(query).scalar()
        return found


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.key, row.kind, load(row.content), row.made)


def _named(row: Row[Any]) -> Named:
    feature = None if row.named is None else FeatureId.parse(row.named)
    return Named(row.name, row.kind, row.run or "", feature, row.made, row.n or 0)
