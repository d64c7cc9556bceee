"""Replies of language models, kept so that no question is paid for twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from glossator import schema
from glossator.database import Database
from glossator.errors import StoreError
from glossator.ledger import Entry
from glossator.llm import Reply, ToolCall
from glossator.rows import dump, load, now
from glossator.types import JSON, Usage, to_json

_BY_KEY = select(schema.replies.c.reply).where(schema.replies.c.key == bindparam("wanted"))


class Replies:
    """Replies of language models by key, so that no question is paid for twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`, if there is one."""
        with self._database.reading() as connection:
            found = connection.execute(_BY_KEY, {"wanted": key}).scalar()
        if found is None:
            return None
        kept = load(found)
        try:
            return Reply(
                text=kept["text"],
                finish=kept["finish"],
                answers=_numbers(kept["answers"]),
                slots=tuple(_numbers(slot) for slot in kept["slots"]),
                usage=Usage.from_json(kept["usage"]),
                model=kept["model"],
                # Replies of older versions have none.
                calls=tuple(ToolCall(**call) for call in kept.get("calls", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"a stored reply cannot be read: {error}") from error

    def put_all(self, entries: Iterable[Entry]) -> None:
        """Keeps the replies of `entries`; the first one of a key stays."""
        made = now()
        rows = [
            {
                "key": entry.key,
                "llm": entry.call.llm,
                "request": dump(to_json(entry.request)),
                "reply": dump(_plain(entry.reply)),
                "made": made,
            }
            for entry in entries
            if entry.reply is not None
        ]
        with self._database.writing() as connection:
            if rows:
                dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
                statement = dialect.insert(schema.replies).on_conflict_do_nothing()
                connection.execute(statement, rows)


def _plain(reply: Reply) -> JSON:
    kept: Any = to_json(reply)
    # JSON has no infinity: what the provider did not list is kept as null.
    kept["answers"] = _nulls(reply.answers)
    kept["slots"] = [_nulls(slot) for slot in reply.slots]
    return kept  # type: ignore[no-any-return]


def _nulls(numbers: Iterable[float]) -> list[JSON]:
    return [None if number == -float("inf") else number for number in numbers]


def _numbers(kept: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(-float("inf") if number is None else float(number) for number in kept)
