"""Batches that are out at a provider, kept so that what is paid for is found again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import Row, bindparam, delete, insert, select, update

from glossator import schema
from glossator.database import Database
from glossator.errors import StoreError
from glossator.ledger import Batch, Item
from glossator.rows import now

_batches, _items = schema.batches.c, schema.batch_items.c
_ONE_ITEM = delete(schema.batch_items).where(
    _items.batch == bindparam("of"), _items.number == bindparam("which")
)


class Batches:
    """Batches with the requests whose replies are still to come; a `Shelf`.

    An item is taken away once what came of it is in the ledger, so what is left is what is owed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, account: str, llm: str) -> list[Batch]:
        """The batches to `llm` of which replies are still to be written down, oldest first."""
        mine = [_batches.account == account, _batches.llm == llm, _batches.ended.is_(None)]
        with self._database.reading() as connection:
            found = connection.execute(
                select(schema.batches).where(*mine).order_by(_batches.id)
            ).all()
            left: dict[int, dict[int, Item]] = {row.id: {} for row in found}
            rows = connection.execute(
                select(schema.batch_items).join(schema.batches).where(*mine).order_by(_items.number)
            )
            for row in rows:
                left.setdefault(row.batch, {})[row.number] = Item(row.key, row.worst)
        return [_read(row, left[row.id]) for row in found]

    def known(self, account: str) -> set[str]:
        """The provider's names of all batches of `account`, those that are through included."""
        query = select(_batches.batch).where(_batches.account == account, _batches.batch != "")
        with self._database.reading() as connection:
            return set(connection.execute(query).scalars())

    def owed(self, run: str) -> dict[str, float]:
        """What `run` has out: US dollars that each may cost, by the key of its reply."""
        query = select(_items.key, _items.worst).join(schema.batches).where(_batches.run == run)
        with self._database.reading() as connection:
            return {row.key: float(row.worst) for row in connection.execute(query)}

    def plan(self, batch: Batch) -> None:
        """Writes down `batch`, which is to be sent now."""
        with self._database.writing() as connection:
            of = connection.execute(
                insert(schema.batches)
                .values(
                    token=batch.token,
                    run=batch.run,
                    llm=batch.llm,
                    account=batch.account,
                    batch=batch.id,
                    n=batch.n,
                    made=batch.made.astimezone(UTC).isoformat(timespec="microseconds"),
                )
                .returning(_batches.id)
            ).scalar_one()
            connection.execute(
                insert(schema.batch_items),
                [
                    {"batch": of, "number": number, "key": item.key, "worst": item.worst}
                    for number, item in batch.items.items()
                ],
            )

    def sent(self, token: str, id: str) -> None:
        """Notes what the provider calls the batch."""
        with self._database.writing() as connection:
            connection.execute(
                update(schema.batches).where(_batches.token == token).values(batch=id)
            )

    def settle(self, items: Iterable[tuple[str, int]]) -> None:
        """Notes that what came of these is written down; each is a token and a number."""
        given = list(items)
        if not given:
            return
        tokens = {token for token, _ in given}
        with self._database.writing() as connection:
            found = connection.execute(
                select(_batches.token, _batches.id).where(_batches.token.in_(tokens))
            )
            ids = {row.token: row.id for row in found}
            gone = [{"of": ids[token], "which": number} for token, number in given]
            connection.execute(_ONE_ITEM, gone)
            left = select(_items.batch).where(_items.batch == _batches.id).exists()
            connection.execute(
                update(schema.batches)
                .where(_batches.id.in_(ids.values()), ~left)
                .values(ended=now())
            )

    def drop(self, token: str) -> None:
        """Notes that nothing will come of the batch any more."""
        with self._database.writing() as connection:
            own = select(_batches.id).where(_batches.token == token).scalar_subquery()
            connection.execute(delete(schema.batch_items).where(_items.batch == own))
            connection.execute(
                update(schema.batches).where(_batches.token == token).values(ended=now())
            )


def _read(row: Row[tuple[object, ...]], items: dict[int, Item]) -> Batch:
    try:
        made = datetime.fromisoformat(row.made)
    except ValueError as error:
        raise StoreError(f"a stored batch cannot be read: {error}") from error
    return Batch(row.token, row.run, row.llm, row.account, row.n, made, items, row.batch)
