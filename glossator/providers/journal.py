"""Ways of writing calls down: in memory, in groups as they come, or later with their results.

A reply and the line that says what it cost are written together, before anybody sees the reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from glossator.ledger import Call, Entry
from glossator.llm import Reply


@dataclass
class MemoryJournal:
    """Calls and replies of this process."""

    replies: dict[str, Reply] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def get(self, key: str) -> Reply | None:
        """The reply under `key`, if any."""
        return self.replies.get(key)

    async def write(self, entry: Entry) -> int:
        """Keeps `entry`."""
        if entry.reply is not None:
            self.replies.setdefault(entry.key, entry.reply)
        if entry.line is not None:
            self.calls[entry.line] = entry.call
            return entry.line
        self.calls.append(entry.call)
        return len(self.calls) - 1


@dataclass
class GroupJournal:
    """Writes entries that come in meanwhile together, in one transaction; one event loop.

    A disk takes milliseconds to confirm a transaction, whatever is in it.
    """

    kept: Callable[[str], Reply | None]
    """The reply under a key."""
    write_all: Callable[[Sequence[Entry]], Sequence[int]]
    """Writes entries in one transaction, gives their lines; called in a thread, once at a time."""
    _waiting: list[tuple[Entry, asyncio.Future[int]]] = field(default_factory=list, repr=False)
    _writer: asyncio.Task[None] | None = field(default=None, repr=False)

    def get(self, key: str) -> Reply | None:
        """The reply under `key`, if any."""
        return self.kept(key)

    async def write(self, entry: Entry) -> int:
        """Keeps `entry`.

        Raises:
            StoreError: if it cannot be written; so do all that were to be written with it.
        """
        written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        # Whoever gives up waiting leaves the entry to be written.
        return await asyncio.shield(written)

    async def _write(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting, []
            try:
                lines = await asyncio.to_thread(self.write_all, [e for e, _ in together])
                settled = list(zip(together, lines, strict=True))
            except BaseException as error:  # noqa: BLE001 - handed to everybody who waits
                for _, written in together:
                    if not written.done():
                        written.set_exception(error)
                        written.exception()  # Looked at: whoever waited may have given up.
                continue
            for (_, written), line in settled:
                if not written.done():
                    written.set_result(line)


@dataclass
class LaterJournal:
    """Holds entries until whoever used the replies writes them with the result: for free models."""

    kept: Callable[[str], Reply | None]
    entries: list[Entry] = field(default_factory=list)
    _replies: dict[str, Reply] = field(default_factory=dict, repr=False)

    def get(self, key: str) -> Reply | None:
        """The reply under `key`, if any."""
        return self._replies.get(key) or self.kept(key)

    async def write(self, entry: Entry) -> None:
        """Holds `entry`."""
        if entry.reply is not None:
            self._replies[entry.key] = entry.reply
        if entry.call.attempt:
            self.entries.append(entry)

    def taken(self) -> list[Entry]:
        """What is held, which is given away."""
        entries, self.entries = self.entries, []
        self._replies = {}
        return entries
