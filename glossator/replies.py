"""Replies of language models, kept so that no question is paid for twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from glossator import schema
from glossator.database import Database
from glossator.errors import StoreError
from glossator.llm import Reply, Request
from glossator.rows import dump, insert_once, load, now
from glossator.types import JSON, Usage, to_json


class Replies:
    """Replies of language models by key, so that no question is paid for twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`, if there is one."""
        query = select(schema.replies.c.reply).where(schema.replies.c.key == key)
        with self._database.reading() as connection:
            found = connection.execute(query).scalar()
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
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"a stored reply cannot be read: {error}") from error

    def put(self, key: str, llm_name: str, request: Request, reply: Reply) -> None:
        """Keeps `reply` under `key`; the first one stays."""
        kept: Any = to_json(reply)
        # JSON has no infinity: what the provider did not list is kept as null.
        kept["answers"] = _nulls(reply.answers)
        kept["slots"] = [_nulls(slot) for slot in reply.slots]
        row = {"request": dump(to_json(request)), "reply": dump(kept), "made": now()}
        with self._database.writing() as connection:
            insert_once(connection, schema.replies, key=key, llm=llm_name, **row)


def _nulls(numbers: Iterable[float]) -> list[JSON]:
    return [None if number == -float("inf") else number for number in numbers]


def _numbers(kept: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(-float("inf") if number is None else float(number) for number in kept)
