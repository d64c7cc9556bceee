"""What an inquiry writes down, in order, and never changes: its transcript, and how it resumes.

Every entry has a key, such as `E3` for an experiment as it was planned and `E3 found` for what it
showed. Whoever does the same work again finds what was written and does not do it twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from glossator.errors import StoreError
from glossator.types import JSON


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a transcript."""

    key: str
    kind: str
    """`seen`, `proposed`, `experiment`, `evidence`, `dev`, `beliefs`, `failure`, `decision`,
    `conclusion`, `user`, `assistant`."""
    content: Mapping[str, JSON]
    made: str = ""
    """ISO 8601, UTC; empty where it is kept in memory alone."""


class Notebook(Protocol):
    """Keeps the entries of one inquiry."""

    def put(self, key: str, kind: str, content: Mapping[str, JSON]) -> None:
        """Writes an entry down for good.

        Raises:
            StoreError: if `key` is there with other content, or the store cannot be written.
        """
        ...

    def get(self, key: str) -> Entry | None:
        """The entry, if it was written."""
        ...

    def entries(self) -> Iterator[Entry]:
        """All of them, the oldest first."""
        ...


@dataclass
class MemoryNotebook:
    """See `Notebook`; gone with the process."""

    kept: dict[str, Entry] = field(default_factory=dict)

    def put(self, key: str, kind: str, content: Mapping[str, JSON]) -> None:
        """See `Notebook`."""
        known = self.kept.get(key)
        if known is None:
            self.kept[key] = Entry(key, kind, dict(content))
        elif known.content != content:
            raise StoreError(changed(key))

    def get(self, key: str) -> Entry | None:
        """See `Notebook`."""
        return self.kept.get(key)

    def entries(self) -> Iterator[Entry]:
        """See `Notebook`."""
        return iter(tuple(self.kept.values()))


def changed(key: str) -> str:
    """What is said of an entry that is to be written differently."""
    return f"{key} is written down already, and what is written down is not changed"
