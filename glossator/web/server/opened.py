"""The store that the pages show, opened when the first of them is asked for."""

from __future__ import annotations

import threading

from glossator.cli.session import sqlite_file
from glossator.errors import StoreError
from glossator.store import Store, open_as_may_be, open_to_read


class NothingYet(StoreError):
    """There is no store at that place, or nothing in it."""


class Opened:
    """The store at `url`, for as long as the server runs.

    One that an older version wrote is not brought up to date: a run of that version may be at
    work on it. One that is not there may be made while the server runs.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._store: Store | None = None

    def store(self) -> Store:
        """The store.

        Raises:
            NothingYet: if there is none yet, or it is empty.
            StoreError: if it cannot be read, or another version wrote it.
        """
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store

    def close(self) -> None:
        """Gives back the file."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _open(self) -> Store:
        file = sqlite_file(self.url)
        if file is not None and not file.exists():
            raise NothingYet(f"There is no store at {self.url} yet.")
        found = open_to_read(self.url)
        if found is None:
            raise NothingYet(f"The store at {self.url} is empty.")
        found.close()
        return open_as_may_be(self.url)
