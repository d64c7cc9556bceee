"""Runs of the store, and the work given up in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from glossator import schema
from glossator.config import RunConfig
from glossator.errors import StoreError
from glossator.registry import nearest
from glossator.rows import dump, feature_id, insert_once, load, now, plain
from glossator.types import JSON, FeatureId


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    DONE = "done"
    SOME_FAILED = "some failed"
    REFUSED = "refused"
    BUDGET_SPENT = "budget spent"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it stood when it was read."""

    id: str
    """`r1`, `r2` and so on, in the order they were begun."""
    name: str
    config: Mapping[str, JSON]
    """The resolved options. Not a `RunConfig`: an older version may have had others."""
    config_digest: str
    collection: str
    """Names the records that the run reads."""
    seed: int
    versions: Mapping[str, str]
    """Of models and packages; where one changed between two starts, `old, new`."""
    started: str
    """ISO 8601, UTC."""
    finished: str | None
    """When it last ended; None while it runs, and after a kill."""
    status: RunStatus
    budget: float | None = None
    """US dollars that its latest start might spend in all; None where there was no bound."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A piece of work that was given up. It goes away when the work succeeds."""

    run: str
    feature: FeatureId | None
    """None where it concerns no one feature."""
    stage: str
    part: str
    kind: str
    message: str
    reply: str
    """What the language model sent, at most 2,000 characters."""
    made: str
    """When, in ISO 8601, UTC."""


def begin(
    connection: Connection,
    config: RunConfig,
    name: str,
    versions: Mapping[str, str],
    collection: str,
    *,
    fresh: bool,
    budget: float | None = None,
) -> Run:
    """The newest run of `config`, or a new one."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE runs IN EXCLUSIVE MODE")
    runs = schema.runs.c
    newest = (
        select(schema.runs)
        .where(runs.config_digest == config.digest)
        .order_by(runs.number.desc())
        .limit(1)
    )
    row = None if fresh else connection.execute(newest).first()
    if row is None:
        number = (connection.execute(select(func.max(runs.number))).scalar() or 0) + 1
        found = f"r{number}"
        connection.execute(
            insert(schema.runs).values(
                id=found,
                number=number,
                name=plain(name),
                config_digest=config.digest,
                collection=collection or config.collection_digest,
                config=dump(config.to_json()),
                seed=config.seed,
                versions=dump({**versions}),
                started=now(),
                status=RunStatus.RUNNING.value,
                budget=budget,
            )
        )
    else:
        found = row.id
        values = {
            "status": RunStatus.RUNNING.value,
            "finished": None,
            "budget": budget,
            "versions": dump(_both(json.loads(row.versions), versions)),
        }
        connection.execute(update(schema.runs).where(runs.id == found).values(**values))
    return read_run(known(connection, found))


def finish(connection: Connection, run: str, status: RunStatus | str) -> None:
    """Notes that `run` has ended, and how."""
    try:
        ended = RunStatus(status)
    except ValueError as error:
        raise StoreError(
            f"a run does not end as {status!r}; {nearest(str(status), list(RunStatus))}"
        ) from error
    known(connection, run)
    values = {"status": ended.value, "finished": now()}
    connection.execute(update(schema.runs).where(schema.runs.c.id == run).values(**values))


def known(connection: Connection, run: str) -> Row[Any]:
    """The row of `run`.

    Raises:
        StoreError: if there is none; it names the runs there are.
    """
    row = connection.execute(select(schema.runs).where(schema.runs.c.id == run)).first()
    if row is None:
        latest = select(schema.runs.c.id).order_by(schema.runs.c.number.desc()).limit(20)
        names = list(connection.execute(latest).scalars())
        there = nearest(run, names) if names else "there are none yet"
        raise StoreError(f"no run is called {run!r}; {there}")
    return row


def finish_unit(connection: Connection, run: str, feature: int, stage: str, part: str) -> bool:
    """Notes that a unit is done, and forgets that it ever failed; True if it had."""
    unit = {"run": run, "feature": feature, "stage": stage, "part": part}
    insert_once(connection, schema.units, **unit, made=now())
    return _forget_failure(connection, run, feature, stage, part)


def put_failure(
    connection: Connection,
    run: str,
    feature: FeatureId | None,
    stage: str,
    part: str,
    kind: str,
    message: str,
    reply: str,
) -> int | None:
    """Keeps why a unit was given up, in place of an earlier reason; the row of its feature."""
    key = None if feature is None else feature_id(connection, feature)
    _forget_failure(connection, run, key, stage, part)
    connection.execute(
        insert(schema.failures).values(
            run=run,
            feature=key,
            stage=stage,
            part=part,
            kind=kind,
            message=plain(message)[:2000],
            reply=plain(reply)[:2000],
            made=now(),
        )
    )
    return key


def failures(connection: Connection, run: str) -> list[Failure]:
    """What is given up in `run`, in the order it was."""
    kept = schema.failures.c
    rows = connection.execute(
        select(schema.failures, schema.features.c.name)
        .join(schema.features, isouter=True)
        .where(kept.run == run)
        .order_by(kept.id)
    )
    return [
        read_failure(row, None if row.name is None else FeatureId.parse(row.name)) for row in rows
    ]


def read_failure(row: Row[Any], feature: FeatureId | None) -> Failure:
    """The failure that `row` of the table holds, which concerns `feature`."""
    told = (row.stage, row.part, row.kind, row.message, row.reply, row.made)
    return Failure(row.run, feature, *told)


def read_run(row: Row[Any]) -> Run:
    """The run that `row` of the table holds."""
    return Run(
        row.id,
        row.name,
        load(row.config),
        row.config_digest,
        row.collection,
        row.seed,
        load(row.versions),
        row.started,
        row.finished,
        RunStatus(row.status),
        row.budget,
    )


def _forget_failure(
    connection: Connection, run: str, feature: int | None, stage: str, part: str
) -> bool:
    kept = schema.failures.c
    same = and_(kept.run == run, kept.stage == stage, kept.part == part)
    gone = connection.execute(delete(schema.failures).where(same, kept.feature == feature))
    return gone.rowcount > 0


def _both(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, JSON]:
    """The versions of two starts; where they differ, all that were seen, the newest last."""
    seen = dict(old)
    for name, version in new.items():
        before = seen.get(name, "").split(", ") if seen.get(name) else []
        seen[name] = ", ".join([*(v for v in before if v != version), version])
    return {**seen}
