"""The ledger in the store: calls to language models written down, and what they used added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from glossator import schema
from glossator.ledger import OUT, Assumed, Call, Entry
from glossator.rows import feature_ids, insert_once, now, plain, usage_columns
from glossator.types import Usage

_SUMMED = ("calls", "cached_calls", "prompt_tokens", "completion_tokens", *schema.TOKEN_CLASSES)
"""Columns that are whole numbers and are added up."""


def put(connection: Connection, run: str, entries: Sequence[Entry]) -> list[int]:
    """Writes lines of the ledger; gives the line of each entry, in order."""
    rows = _rows_of(connection, [entry.call for entry in entries])
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


def spent(connection: Connection, run: str | None = None) -> tuple[float, int]:
    """US dollars and calls, in `run` or in all; see `Store.spent`."""
    query = select(func.sum(schema.calls.c.cost), func.sum(schema.calls.c.calls))
    if run is not None:
        query = query.where(schema.calls.c.run == run)
    dollars, calls = connection.execute(query).one()
    return float(dollars or 0.0), int(calls or 0)


def assumed(connection: Connection, run: str) -> Assumed:
    """What calls of `run` are assumed to have cost; those that are out now count as cut off."""
    kept = schema.calls.c
    cut_off = kept.error_type == OUT
    query = select(
        func.sum(kept.assumed),
        func.sum(kept.assumed).filter(cut_off),
        func.count().filter(cut_off),
    )
    whole, cut, n_cut = connection.execute(query.where(kept.run == run)).one()
    return Assumed(float(whole or 0.0), float(cut or 0.0), int(n_cut))


def used(connection: Connection, run: str) -> Usage:
    """The sum of all calls of `run`; the cost is None if that of any is unknown."""
    kept = schema.calls.c
    sums = [func.sum(kept[name]) for name in _SUMMED]
    unknown = func.count().filter(kept.cost.is_(None) & (kept.calls > 0))
    amounts = [func.sum(kept[name]) for name in ("cost", "seconds", "assumed")]
    query = select(*amounts, unknown, *sums).where(kept.run == run)
    cost, seconds, guessed, n_unknown, *rest = connection.execute(query).one()
    whole = {name: int(value or 0) for name, value in zip(_SUMMED, rest, strict=True)}
    known = None if n_unknown else float(cost or 0.0)
    return Usage(cost=known, seconds=float(seconds or 0.0), assumed=float(guessed or 0.0), **whole)


def has_answered(connection: Connection, run: str, llm: str) -> bool:
    """Whether the model called `llm` has answered any request that `run` sent."""
    kept = schema.calls.c
    found = select(kept.id).where(
        kept.run == run, kept.llm == llm, kept.attempt > 0, kept.error == ""
    )
    return connection.execute(found.limit(1)).first() is not None


def asked(connection: Connection, llm: str) -> dict[tuple[str, str], Usage]:
    """What the replies of the model called `llm` used, by stage and part; see `Store.asked`."""
    kept = schema.calls.c
    columns = ("calls", "prompt_tokens", "completion_tokens", "seconds")
    query = (
        select(kept.stage, kept.part, *(func.sum(kept[name]).label(name) for name in columns))
        .where(kept.llm == llm, kept.attempt > 0, kept.error == "", kept.batched.is_(False))
        .where(kept.assumed == 0)
        .group_by(kept.stage, kept.part)
    )
    return {
        (row.stage, row.part): Usage(
            calls=int(row.calls),
            prompt_tokens=int(row.prompt_tokens),
            completion_tokens=int(row.completion_tokens),
            seconds=float(row.seconds),
        )
        for row in connection.execute(query)
    }


def _rows_of(connection: Connection, calls: Sequence[Call]) -> list[dict[str, Any]]:
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
            "assumed": call.usage.assumed,
            "price": prices.get((call.llm, call.price)),
            "batched": call.batched,
            "made": made,
        }
        for call, feature in zip(calls, about, strict=True)
    ]


def _price_id(connection: Connection, llm: str, snapshot: str) -> int:
    """The row of a price, made if need be."""
    kept = schema.prices.c
    query = select(kept.id).where(kept.llm == llm, kept.snapshot == snapshot)
    found = connection.execute(query).scalar()
    if found is None:
        row = {"llm": llm, "snapshot": snapshot, "made": now()}
        found = insert_once(connection, schema.prices, **row)
    return int(found if found is not None else connection.execute(query).scalar_one())
