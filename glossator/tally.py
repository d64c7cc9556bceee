"""What a run has used so far and what is in its way, as its calls are written down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from glossator.ledger import Call, Entry, Journal
from glossator.llm import Reply
from glossator.progress import Trouble
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
    since: Usage = field(default=Usage(), init=False)
    """What was used since this was made, by one command."""
    clock: Callable[[], float] = time.monotonic
    _told: float = field(default=float("-inf"), init=False, repr=False)
    _failed: int = field(default=0, init=False, repr=False)
    _error: str = field(default="", init=False, repr=False)
    _out: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    """When each request that is out was sent, by its line of the ledger."""

    def trouble(self, pause: float = 0.0) -> Trouble:
        """What is in the way; `pause` is how long a provider wants to be left alone."""
        waiting = self.clock() - min(self._out.values()) if self._out else 0.0
        return Trouble(self._failed, self._error, max(0.0, pause), waiting, len(self._out))

    def note(self, call: Call) -> None:
        """Takes note of whether a call that was sent brought a reply."""
        if call.attempt:
            self._failed += bool(call.error_type)
            self._error = call.error

    def sent(self, line: int) -> None:
        """Takes note that the request of that line of the ledger is out."""
        self._out[line] = self.clock()

    def back(self, line: int) -> None:
        """Takes note that it is known what came of it."""
        self._out.pop(line, None)

    def add(self, usage: Usage) -> None:
        """Takes in what one call used."""
        self.used += usage
        self.since += usage

    def tell(self) -> None:
        """Tells of it, now and then."""
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

    async def write(self, entry: Entry) -> int | None:
        """As the journal inside. What was paid counts, also where it cannot be written.

        Nobody is told before it is written: a display that fails costs no reply.
        """
        if not entry.call.out:
            self.tally.note(entry.call)
            self.tally.add(entry.call.usage)
        if entry.line is not None:
            self.tally.back(entry.line)
        line = await self.inner.write(entry)
        if entry.call.out and line is not None:
            self.tally.sent(line)
        if not entry.call.out:
            self.tally.tell()
        return line
