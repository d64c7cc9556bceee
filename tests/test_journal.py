"""What is written down of calls, when, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from glossator.errors import StoreError
from glossator.ledger import Call, Entry
from glossator.llm import Message, Reply, Request, ScriptedLLM
from glossator.providers.journal import GroupJournal, LaterJournal
from glossator.providers.metered import Metered
from glossator.providers.prices import FREE
from glossator.types import Usage


def entry(number: int, attempt: int = 1) -> Entry:
    request = Request((Message("user", str(number)),))
    return Entry(Call("m", request.digest, attempt, Usage(1)), str(number), request, Reply("fine"))


class Disk:
    """Takes what is written, in the groups it came in; slow and broken on demand."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.free = threading.Event()
        self.free.set()
        self.broken = False

    def write(self, entries: Sequence[Entry]) -> list[int]:
        assert self.free.wait(10)
        if self.broken:
            raise StoreError("the disk is full")
        before = sum(map(len, self.groups))
        self.groups.append([e.key for e in entries])
        return list(range(before, before + len(entries)))

    def get(self, key: str) -> Reply | None:
        return Reply("kept") if any(key in group for group in self.groups) else None


def test_what_comes_while_the_disk_is_busy_is_written_together() -> None:
    disk = Disk()
    disk.free.clear()

    async def work() -> None:
        journal = GroupJournal(disk.get, disk.write)
        writes = [asyncio.create_task(journal.write(entry(0)))]
        await asyncio.sleep(0.05)
        writes += [asyncio.create_task(journal.write(entry(i))) for i in range(1, 50)]
        await asyncio.sleep(0.05)
        assert not any(w.done() for w in writes)
        disk.free.set()
        await asyncio.gather(*writes)

    asyncio.run(work())
    assert disk.groups == [["0"], [str(i) for i in range(1, 50)]]


def test_nobody_sees_a_reply_before_it_is_safe() -> None:
    disk = Disk()
    disk.free.clear()

    async def work() -> None:
        model = Metered(ScriptedLLM(["fine"]), GroupJournal(disk.get, disk.write), price=FREE)
        asked = asyncio.create_task(model.reply(Request((Message("user", "hm"),))))
        await asyncio.sleep(0.1)
        assert not asked.done()
        assert disk.groups == []
        disk.free.set()
        assert (await asked).text == "fine"
        assert len(disk.groups) == 1

    asyncio.run(work())


def test_a_disk_that_fails_fails_all_that_was_to_be_written_and_not_what_comes_later() -> None:
    disk = Disk()
    disk.broken = True

    async def work() -> None:
        journal = GroupJournal(disk.get, disk.write)
        writes = [asyncio.create_task(journal.write(entry(i))) for i in range(3)]
        for write in writes:
            with pytest.raises(StoreError, match="full"):
                await write
        disk.broken = False
        await journal.write(entry(4))

    asyncio.run(work())
    assert disk.groups == [["4"]]


def test_who_gives_up_waiting_leaves_the_line_to_be_written() -> None:
    disk = Disk()
    disk.free.clear()

    async def work() -> None:
        journal = GroupJournal(disk.get, disk.write)
        first = asyncio.create_task(journal.write(entry(0)))
        second = asyncio.create_task(journal.write(entry(1)))
        await asyncio.sleep(0.05)
        second.cancel()
        disk.free.set()
        await first

    asyncio.run(work())
    assert [key for group in disk.groups for key in group] == ["0", "1"]


def test_calls_to_free_models_are_held_until_their_result_is_written() -> None:
    async def work() -> None:
        journal = LaterJournal({"old": Reply("kept")}.get)
        await journal.write(entry(0))
        await journal.write(entry(0, attempt=0))  # Found again: no line of its own.
        assert journal.get("0") == Reply("fine")
        assert journal.get("old") == Reply("kept")
        assert [e.key for e in journal.taken()] == ["0"]
        assert journal.taken() == []

    asyncio.run(work())
