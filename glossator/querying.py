"""Queries that people or language models write, run so that they can only read the views.

What a query may do is decided by the database, never by its text: the file is opened read-only,
and an authorizer is asked of every table, column and function that a statement uses before it runs.
A column can be read if one of the views reads it; no other can, under whatever name.
"""

from __future__ import annotations

import math
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from glossator.documented import VIEWS, View
from glossator.errors import GlossatorError, StoreError
from glossator.rows import plain

Cell = str | int | float | None

_FUNCTIONS = """
abs avg ceil ceiling coalesce count cume_dist date datetime dense_rank exp first_value floor format
glob group_concat hex ifnull iif instr julianday lag last_value lead length like ln log log10 log2
lower ltrim max min mod nth_value ntile nullif percent_rank pow power printf rank replace round
row_number rtrim sign sqrt strftime substr substring sum time total trim typeof unicode unixepoch
upper
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""What a query may call: nothing that reads a file, loads code or makes values of any size."""
PERMITTED = frozenset({sqlite3.SQLITE_SELECT})
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,  # bytes of a value
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 20_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_OF_SQLITE = frozenset(
    ("sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema")
)
_STEPS = 1000
"""Instructions of the database between two looks at the clock."""


class QueryError(GlossatorError):
    """A query cannot be run; the message says why, and is for whoever wrote it."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a query may use."""

    seconds: float = 5.0
    rows: int = 1000
    size: int = 4_000_000
    """Characters of the whole answer."""


BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    is_cut: bool
    """Whether there are more rows than these."""

    def column(self, number: int) -> list[Cell]:
        """Shape (n_rows,): what stands in that column."""
        return [row[number] for row in self.rows]


def run_query(file: Path | None, sql: str, bounds: Bounds = BOUNDS) -> Answer:
    """What `sql` finds in the views of the store in `file`.

    Args:
        file: a SQLite store; None for a store that is none.
        sql: one SELECT.
        bounds: what it may use.

    Raises:
        QueryError: if it is refused, wrong or takes too long.
        StoreError: if the store cannot be read.
    """
    if file is None:
        raise StoreError(
            "questions can be asked of a store in a SQLite file only so far, and not of PostgreSQL"
        )
    if not sql.strip():
        raise QueryError("there is no query; write one such as SELECT * FROM runs")
    connection = _opened(file)
    try:
        columns = _columns_of(connection)
        guard = _Guard(columns, _closed(connection, columns))
        connection.set_authorizer(guard)
        until = time.monotonic() + bounds.seconds
        connection.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)
        return _read(connection, sql, bounds, guard)
    finally:
        connection.close()


class _Guard:
    """Answers the database what a statement may do, and remembers what was refused first."""

    def __init__(self, columns: frozenset[tuple[str, str]], closed: frozenset[str]) -> None:
        self._columns = columns
        self._closed = closed
        self._views = {view.name: frozenset(view.columns) for view in VIEWS}
        self.refused = ""

    def __call__(
        self, action: int, a: str | None, b: str | None, database: str | None, inside: str | None
    ) -> int:
        """Stands for `sqlite3_set_authorizer`'s callback; `inside` names a view or a subquery."""
        if action in PERMITTED:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and self._may_read(a or "", b or "", database, inside):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (b or "").lower() in FUNCTIONS:
            return sqlite3.SQLITE_OK
        self.refused = self.refused or _refusal(action, a or "", b or "")
        return sqlite3.SQLITE_DENY

    def _may_read(self, table: str, column: str, database: str | None, inside: str | None) -> bool:
        if not column:
            # Rows are counted and nothing of them is read. The table may also be a subquery.
            return table not in self._closed
        if table in self._views and database != "main":
            return column in self._views[table]
        # A subquery can be called as a view is, so that alone says little: the column must be one
        # that a view reads.
        return inside is not None and (table, column) in self._columns


def _refusal(action: int, a: str, b: str) -> str:
    names = ", ".join(view.name for view in VIEWS)
    if action == sqlite3.SQLITE_READ:
        return f"{a}.{b}".rstrip(".") + f" cannot be read; a query reads the views {names}"
    if action == sqlite3.SQLITE_FUNCTION:
        return f"the function {b} cannot be called in a query"
    if action == sqlite3.SQLITE_RECURSIVE:
        return "a query cannot be recursive"
    return f"a query only reads: it is one SELECT over the views {names}"


def _opened(file: Path) -> sqlite3.Connection:
    """A connection that cannot write, with the views in it."""
    address = f"file:{quote(str(file))}?mode=ro"
    if not file.with_name(f"{file.name}-wal").exists():
        # Nobody has it open. Otherwise even reading would make files beside it.
        address += "&immutable=1"
    try:
        connection = sqlite3.connect(address, uri=True, timeout=2.0, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"the store {file} cannot be opened ({error})") from error
    try:
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.execute("PRAGMA trusted_schema=OFF")
        for view in VIEWS:
            connection.execute(_created(view))
        connection.execute("PRAGMA query_only=ON")
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"the store {file} cannot be read ({error})") from error
    return connection


def _created(view: View) -> str:
    return f"CREATE TEMP VIEW {view.name} ({', '.join(view.columns)}) AS {view.sql}"


def _columns_of(connection: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """The columns of tables that the views read, as the database tells them."""
    found: set[tuple[str, str]] = set()

    def note(action: int, a: str | None, b: str | None, database: str | None, _: object) -> int:
        if action == sqlite3.SQLITE_READ and database == "main" and a and b:
            found.add((a, b))
        return sqlite3.SQLITE_OK

    connection.set_authorizer(note)
    try:
        for view in VIEWS:
            connection.execute(f"SELECT * FROM temp.{view.name} LIMIT 0")  # noqa: S608
    except sqlite3.Error as error:
        raise StoreError(f"the store cannot be asked ({error}); `glossator list` reads it") from (
            error
        )
    return frozenset(found)


def _closed(connection: sqlite3.Connection, columns: frozenset[tuple[str, str]]) -> frozenset[str]:
    """The tables of the store that no view reads."""
    names = {row[0] for row in connection.execute("SELECT name FROM main.sqlite_master")}
    return frozenset((names | _OF_SQLITE) - {table for table, _ in columns})


def _read(connection: sqlite3.Connection, sql: str, bounds: Bounds, guard: _Guard) -> Answer:
    rows: list[tuple[Cell, ...]] = []
    size, is_cut = 0, False
    try:
        cursor = connection.execute(sql)
        if cursor.description is None:
            raise QueryError("a query only reads: it is one SELECT")
        names = tuple(plain(str(column[0])) for column in cursor.description)
        for raw in cursor:
            row = tuple(_cell(value) for value in raw)
            size += sum(len(cell) if isinstance(cell, str) else 8 for cell in row)
            if len(rows) == bounds.rows or size > bounds.size:
                is_cut = True
                break
            rows.append(row)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise QueryError(guard.refused or _told(error, bounds)) from error
    except (UnicodeError, ValueError, OverflowError) as error:
        raise QueryError("the query holds characters that no database takes") from error
    return Answer(sql, names, tuple(rows), is_cut)


def _told(error: Exception, bounds: Bounds) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_INTERRUPT":
        return (
            f"the query took longer than {bounds.seconds:g} seconds; ask for less, such as one run"
        )
    if name.startswith("SQLITE_TOOBIG"):
        return "the query, or a value that it makes, is too long"
    said = plain(str(error))[:300].rstrip(".")
    if "one statement" in said:
        return "a query is one statement, not several"
    return f"the database does not understand the query: {said}"


def _cell(value: object) -> Cell:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return plain(str(value))
