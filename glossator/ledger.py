"""What is written down of calls: each attempt with its cost, each reply for the next time.

And of batches, before they are sent, which requests are in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from glossator.llm import NO_PURPOSE, Purpose, Reply, Request
from glossator.types import Usage

OUT = "Out"
"""`Call.error_type` of a request that is being sent, at the most that it can cost.

If that is the last that the ledger knows of it, the process was stopped meanwhile.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the ledger: a request that was sent, or a reply that was there already."""

    llm: str
    request: str
    """`Request.digest`."""
    attempt: int
    """Counts from 1; 0 for a reply from the cache, or of the same request of somebody else."""
    usage: Usage
    error: str = ""
    """What went wrong, as the exception says it; empty if a reply came."""
    error_type: str = ""
    purpose: Purpose = NO_PURPOSE
    price: str = ""
    """The price list's entry at the time, as JSON text; empty where no price is known."""
    batched: bool = False
    """Whether it went through a provider's batch API."""

    @property
    def out(self) -> bool:
        """Whether nothing is known yet of what came of it."""
        return self.error_type == OUT


@dataclass(frozen=True, slots=True)
class Assumed:
    """US dollars in the ledger of which no bill is known: the most that calls can have cost."""

    dollars: float = 0.0
    cut_off: float = 0.0
    """Of them, of calls that were out when a process was killed."""
    n_cut_off: int = 0
    """How many calls that are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A call, and the reply to keep if one came."""

    call: Call
    key: str = ""
    """Under which the reply is kept: `cache_key`. Empty for a reply that is kept already."""
    request: Request | None = None
    reply: Reply | None = None
    """None where none came, or where it is kept already."""
    line: int | None = None
    """Which line of the ledger said that the call was out, where one did: this takes its place."""


class Journal(Protocol):
    """Where calls and replies are written down."""

    def get(self, key: str) -> Reply | None:
        """The reply that was kept under `key`, if any."""
        ...

    async def write(self, entry: Entry) -> int | None:
        """Keeps `entry`, whole; it is safe when this returns. Gives its line, where it has one."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One request of a batch."""

    key: str
    """Under which its reply will be kept."""
    worst: float
    """US dollars that it may cost; 0 where the price is unknown."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that go to a provider together, with those of them that are not answered yet."""

    token: str
    """Ours; tells it from all others, also at the provider."""
    run: str
    llm: str
    account: str
    """Whose it is: the provider's address. No key."""
    n: int
    """Requests in it, the answered ones included."""
    made: datetime
    """When it was written down, which is before it was sent."""
    items: Mapping[int, Item]
    """By number, from 0: those whose replies are not written down."""
    id: str = ""
    """The provider's name for it; empty until that is known."""


class Shelf(Protocol):
    """Where batches are written down. Each method is one transaction, on disk when it returns."""

    def open(self, account: str, llm: str) -> list[Batch]:
        """The batches to `llm` of which replies are still to be written down, oldest first."""
        ...

    def known(self, account: str) -> set[str]:
        """The provider's names of all batches of `account`, those that are through included."""
        ...

    def plan(self, batch: Batch) -> None:
        """Writes down `batch`, which is to be sent now."""
        ...

    def sent(self, token: str, id: str) -> None:
        """Notes what the provider calls the batch."""
        ...

    def settle(self, items: Iterable[tuple[str, int]]) -> None:
        """Notes that what came of these is written down; each is a token and a number."""
        ...

    def drop(self, token: str) -> None:
        """Notes that nothing will come of the batch any more."""
        ...
