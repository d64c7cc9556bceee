"""What a run has used so far, added up as its calls are written down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from glossator.ledger import Entry, Journal
from glossator.llm import Reply
from glossator.types import Usage

SECONDS_BETWEEN = 2.0
"""Of units that take minutes each, people want to see what they cost meanwhile."""


@dataclass
class Tally:
    """The sum of all calls of a run."""

    used: Usage = Usage()
    """What earlier starts of the run used, to begin with."""
    changed: Callable[[], None] = lambda: None
    """Told now and then that `used` has grown."""
    clock: Callable[[], float] = time.monotonic
    _told: float = field(default=float("-inf"), init=False, repr=False)

    def add(self, usage: Usage) -> None:
        """Takes in what one call used."""
        self.used += usage
        now = self.clock()
        if now - self._told >= SECONDS_BETWEEN:
            self._told = now
            self.changed()


@dataclass(frozen=True)
class TalliedJournal:
    """A journal of which all lines are added up."""

    inner: Journal
    tally: Tally

    def get(self, key: str) -> Reply | None:
        """As the journal inside."""
        return self.inner.get(key)

    async def write(self, entry: Entry) -> None:
        """As the journal inside. What was paid counts, also where it cannot be written."""
        self.tally.add(entry.call.usage)
        await self.inner.write(entry)
