"""Opens the database, brings its tables up to date, and says in a sentence what is wrong with it.

On SQLite, all writing goes one at a time: a lock between threads, a lock file between processes,
`BEGIN IMMEDIATE` within the database. The lock file is there because SQLite from 3.7.0 to 3.51.2
can lose committed data in WAL mode when two connections write or checkpoint at the same moment.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from glossator.errors import StoreError
from glossator.schema import REVISIONS, metadata
from glossator.words import holds

if sys.platform != "win32":
    import fcntl

_PATIENCE = 30.0
"""Seconds to wait for another writer."""
_MOMENT = 0.3
"""Seconds in which somebody who only looks has let go."""
_ADVISORY = """
SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND CAST(classid AS bigint) = :high AND CAST(objid AS bigint) = :low
"""
"""Who holds the lock of a number, whose halves are `high` and `low`."""

_TELLING = {
    "SQLITE_FULL": "the disk is full; what was stored before is intact. Free space, then give the "
    "same command again",
    "SQLITE_READONLY": "it cannot be written to; check who may write to the file and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check the path, and who may write to its folder",
    "SQLITE_NOTADB": "it is not a SQLite database; name another file",
    "SQLITE_CORRUPT": "the file is damaged; restore it from a copy, or rescue what is left with "
    "`sqlite3 FILE .recover`",
    "SQLITE_BUSY": "another program is writing to it and does not finish; stop that one first",
    "SQLITE_LOCKED": "another program is writing to it and does not finish; stop that one first",
    "SQLITE_IOERR": "reading or writing the disk failed; check the disk, then give the same "
    "command again",
    "SQLITE_TOOBIG": "a value is too large to be stored",
    "SQLITE_CONSTRAINT": "it refused a row that does not fit those that are there",
}


class Database:
    """One open database, for any number of threads.

    Args:
        url: where it is.
        read_only: change nothing, not even what an older version has left; make no file.

    Raises:
        StoreError: from every method, if the database cannot do what was asked.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        parsed = _parsed(url)
        self._read_only = read_only
        self.empty = False
        """Whether there were no tables in it, which only one that is read can be."""
        self.shown = parsed.render_as_string(hide_password=True)
        """The URL without its password, for messages."""
        self._writing = threading.Lock()
        self._local = threading.local()
        self._file_lock: int | None = None
        self._closed = False
        file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        in_memory = file is None or str(file) in ("", ".", ":memory:")
        self.file = None if in_memory else file
        """The file of a SQLite database; None for one that is no file."""
        if file is not None and not read_only:
            self._file_lock = self._open_lock_file(file)
        try:
            self._engine = _engine(_for_reading(parsed) if read_only else parsed)
        except ModuleNotFoundError as error:
            self.close()
            raise StoreError(
                f"{self.shown} needs {error.name}: pip install 'glossator[postgres]'"
            ) from error
        # An engine of its own for writing: the same connections, begun with BEGIN IMMEDIATE.
        self._writer = self._engine.execution_options(writes=True)
        try:
            if read_only:
                self._look()
            else:
                self._open()
        except StoreError:
            self.close()
            raise

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user may want to know about the database, for `doctor`."""
        if self._engine.dialect.name != "sqlite":
            return ()
        return wal_notices(sqlite3.sqlite_version_info)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database."""
        held: Connection | None = getattr(self._local, "connection", None)
        if held is not None:
            yield held
            return
        self._check_open()
        with self._told(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: all that is written inside is stored, or none of it.

        One inside another is part of the outer one. Nothing may be awaited inside: another task
        of the same thread would write into this transaction.
        """
        held: Connection | None = getattr(self._local, "connection", None)
        if held is not None:
            yield held
            return
        self._check_open()
        if self._read_only:
            raise StoreError(f"{self.shown} was opened for reading alone")
        with self._told(), self._writing, self._alone(), self._writer.begin() as connection:
            self._local.connection = connection
            try:
                yield connection
            finally:
                self._local.connection = None

    @contextmanager
    def claimed(self, what: str) -> Iterator[None]:
        """Holds `what`, such as a run, for this process alone; a kill lets go of it.

        Raises:
            StoreError: if another process holds it.
        """
        if self._engine.dialect.name == "postgresql":
            with self._told(), self._engine.connect() as connection:
                key = _key_of(what)
                asked = text("SELECT pg_try_advisory_lock(:key)")
                got = connection.execute(asked, {"key": key}).scalar()
                connection.commit()  # The session holds it, and nothing else.
                if not got:
                    raise self._held(what)
                try:
                    yield
                finally:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
            return
        lock = self._claim(what)
        try:
            with self._told():
                # Whoever asks whether it is held has it for a moment.
                lock.acquire(timeout=_MOMENT)
        except Timeout:
            raise self._held(what) from None
        except OSError as error:
            raise StoreError(f"{self.shown} cannot be written to ({error.strerror})") from error
        try:
            yield
        finally:
            lock.release()

    def is_claimed(self, what: str) -> bool:
        """Whether a process holds `what`; True as well where that cannot be found out."""
        if self._engine.dialect.name == "postgresql":
            with self.reading() as connection:
                high, low = divmod(_key_of(what), 2**32)
                found = connection.execute(text(_ADVISORY), {"high": high, "low": low}).first()
            return found is not None
        if self._read_only:
            return True
        lock = self._claim(what)
        if not os.path.exists(lock.lock_file):
            return False
        try:
            with lock.acquire(timeout=0):
                return False
        except (Timeout, OSError):
            return True

    def _claim(self, what: str) -> FileLock:
        return FileLock(f"{self._engine.url.database}-{what}.lock")

    def _held(self, what: str) -> StoreError:
        return StoreError(
            f"another process is at work on {what} in {self.shown}: wait until it has ended, or "
            "stop it; the same command then goes on from there"
        )

    def close(self) -> None:
        """Gives back the file and all connections; a second time does nothing."""
        engine: Engine | None = getattr(self, "_engine", None)
        with self._writing:
            self._closed = True
            if engine is not None:
                # The last connection to close moves the write-ahead log into the file: a write.
                with self._alone():
                    engine.dispose()
            if self._file_lock is not None:
                os.close(self._file_lock)
                self._file_lock = None

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.shown} was closed; open it again")

    def _open(self) -> None:
        with self._told(), self._alone():
            if self._engine.dialect.name == "sqlite":
                with self._engine.connect() as connection:
                    raw = connection.connection.driver_connection
                    if isinstance(raw, sqlite3.Connection):
                        # Outside a transaction, and kept in the file from then on.
                        raw.execute("PRAGMA journal_mode=WAL")
            with self._engine.connect() as connection:
                revision = self._revision(connection)
        if revision != REVISIONS[-1]:
            with self.writing() as connection:
                # Again, for another process may have come first.
                if self._engine.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(7103219420251122)"))
                if self._revision(connection) != REVISIONS[-1]:
                    _migrate(connection)
        else:
            # A file that cannot be written is found out now, and not after the first paid call.
            with self.writing() as connection:
                pass

    def _look(self) -> None:
        """Refuses tables that this version could read only after changing them."""
        with self._told(), self._engine.connect() as connection:
            revision = self._revision(connection)
        self.empty = revision is None
        if revision not in (None, REVISIONS[-1]):
            raise StoreError(
                f"{self.shown} was written by an older glossator; `glossator list` brings it up to "
                "date"
            )

    def _revision(self, connection: Connection) -> str | None:
        """The revision that the tables have; None if there are none yet."""
        tables = set(inspect(connection).get_table_names())
        if "alembic_version" not in tables:
            foreign = (
                tables if connection.dialect.name == "sqlite" else tables & set(metadata.tables)
            )
            if foreign:
                raise StoreError(
                    f"{self.shown} is the database of another program (it has a table "
                    f"{min(foreign)!r}); name another"
                )
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if found is not None and found not in REVISIONS:
            raise StoreError(
                f"{self.shown} was written by a newer glossator (its tables are of revision "
                f"{str(found)[:40]!r}, this one knows up to {REVISIONS[-1]!r}); update glossator"
            )
        return found

    def _open_lock_file(self, file: Path) -> int:
        if not os.path.isdir(file.parent):
            raise StoreError(
                f"{self.shown}: there is no folder {str(file.parent)!r}; make it, or name another"
            )
        if os.path.isdir(file):
            raise StoreError(f"{self.shown} is a folder; name a file in it")
        try:
            # Not the database itself: closing it would drop the locks that SQLite holds on it.
            return os.open(f"{file}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"{self.shown} cannot be written to ({error.strerror}); check who may write to "
                f"its folder {str(file.parent)!r}"
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes from writing to the same SQLite file."""
        if self._file_lock is None or sys.platform == "win32":
            yield
            return
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._file_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StoreError(f"{self.shown}: {_TELLING['SQLITE_BUSY']}") from None
                time.sleep(0.005)
        try:
            yield
        finally:
            fcntl.flock(self._file_lock, fcntl.LOCK_UN)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns the errors of the database into one sentence each."""
        try:
            yield
        except DBAPIError as error:
            name: str = getattr(error.orig, "sqlite_errorname", "")
            known = "_".join(name.split("_")[:2])
            first = str(error.orig).strip().splitlines()
            told = _TELLING.get(known, first[0] if first else "the database failed")
            raise StoreError(f"{self.shown}: {told}") from error
        except PoolTimeout as error:
            raise StoreError(f"{self.shown}: no connection became free in time") from error


def _key_of(what: str) -> int:
    """The number of an advisory lock, below 2**56."""
    return int.from_bytes(hashlib.sha256(what.encode()).digest()[:7], "big")


def wal_notices(version: tuple[int, ...]) -> tuple[str, ...]:
    """What to know about SQLite of `version` in WAL mode."""
    if not (3, 7, 0) <= version < (3, 51, 3):
        return ()
    return (
        f"SQLite {'.'.join(map(str, version))} can lose data when two connections write at the "
        "same moment (mended in 3.51.3). glossator writes one at a time; let no other program "
        "write to the store meanwhile, and keep it off network disks",
    )


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # The text may hold a password, so it is not repeated.
        raise StoreError(
            "the store is not a URL such as sqlite:///glossator.db or postgresql://host/name"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql" and parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise StoreError(
            f"there is no store of the kind {parsed.drivername!r}; there are: sqlite, postgresql"
        )
    if parsed.database in (None, "", ":memory:") or "\0" in (parsed.database or ""):
        raise StoreError("a store is a file, such as sqlite:///glossator.db")
    if (parsed.database or "").startswith("file:") or parsed.query:
        raise StoreError("the URL of a SQLite store is sqlite:/// and a path, without options")
    return parsed


def _for_reading(url: URL) -> URL:
    """The same database, opened so that no file is made or changed."""
    if url.get_backend_name() != "sqlite":
        return url
    file = Path(url.database or "")
    options = {"mode": "ro", "uri": "true"}
    log = file.with_name(f"{file.name}-wal")
    if not (log.exists() and log.stat().st_size):
        # Nobody has it open. Otherwise even reading would make files beside it.
        options["immutable"] = "1"
    return url.set(database=f"file:{quote(str(file))}", query=options)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    # Threads may each read on a connection of their own; more wait for one at most _PATIENCE.
    engine = create_engine(
        url, connect_args={"timeout": _PATIENCE}, max_overflow=20, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def _connected(raw: sqlite3.Connection, _: object) -> None:
        raw.isolation_level = None  # BEGIN is sent below; the driver sends none of its own
        raw.create_function("holds_words", 2, holds, deterministic=True)
        raw.execute("PRAGMA foreign_keys=ON")
        # FULL: what was paid for survives a power cut too, for one sync a transaction.
        raw.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _migrate(connection: Connection) -> None:
    # Imported here: a database that is up to date is opened without it, in a tenth of the time.
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
