"""One batch on its way: sent once, looked after until it has ended, and fetched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from glossator.errors import GlossatorError, ProviderError, ProviderRefused
from glossator.ledger import Batch, Shelf
from glossator.providers.desks import (
    Crowded,
    Desk,
    Found,
    Missing,
    Payload,
    Slip,
    no_batches,
    read_lines,
)

KEPT = timedelta(days=29)
"""How long providers keep results: Anthropic 29 days, OpenAI 30."""
FETCHED = 3
"""How often results are fetched that lack a request: a line may be lost on its way."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is waited for what, in seconds."""

    quiet: float = 2.0
    """A batch is sent when no request has come for so long."""
    longest: float = 60.0
    """Or when its first request has waited so long."""
    first: float = 5.0
    """Before a batch is looked at again; grows by half each time."""
    most: float = 60.0
    """The longest that this grows to."""
    grace: float = 60.0
    """How late a batch may show at the provider, so that it is not taken for one not sent."""
    patience: float = 900.0
    """How long sending may go on failing."""
    leave: float = 10.0
    """How long a batch that is just being sent may hold up whoever wants to stop."""

    def waits(self) -> Iterator[float]:
        """Seconds between looks."""
        wait = self.first
        while True:
            yield min(wait, self.most)
            wait = min(wait * 1.5, self.most)


PACE = Pace()


class End(Enum):
    """What came of a batch."""

    FETCHED = "fetched"
    """Its results are there."""
    NOT_THERE = "not there"
    """It was never sent, or is kept no longer: its requests may be sent in another."""
    CROWDED = "crowded"
    """It was too much at once: the same."""


@dataclass
class Errand:
    """A batch that was written down and is to be seen through."""

    desk: Desk
    shelf: Shelf
    batch: Batch
    pace: Pace
    say: Callable[[str], None]
    """Told when the batch was looked at, and of what went wrong then, if anything did."""
    payloads: Sequence[Payload] = ()
    """What is sent; empty if an earlier process was to send it, or it was sent."""
    id: str = ""
    """What the provider calls it, once that is known."""
    done: int = 0
    """Requests that were through when it was looked at last."""
    short: bool = False
    """Whether the provider ended it before all were."""
    dropped: bool = False
    """Whether nothing will come of it."""
    lines: dict[int, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Results by the number of the request."""
    _doubtful: bool = False
    """Whether it may have been sent."""

    def __post_init__(self) -> None:
        self.id = self.batch.id
        self._doubtful = not self.payloads
        self._fresh_until = 0.0

    @property
    def placing(self) -> bool:
        """Whether it is not known to be at the provider."""
        return not self.id

    async def go(self) -> End:
        """Sees it through; may be called again after an error.

        Raises:
            ProviderRefused: if the provider wants nothing to do with it.
            ProviderError: if it could not be sent for long, or the provider gave it up.
        """
        if self.placing and (end := await self._place()) is not None:
            return end
        return await self._wait() or await self._fetch()

    async def _place(self) -> End | None:
        """Sends it, after any failure only once it is clear that it is not there."""
        began = doubted = time.monotonic()
        for wait in self.pace.waits():
            retry_after = 0.0
            try:
                if self._doubtful:
                    found = await self._find()
                    self.id = found.id
                    self.say("one may have been sent, and is looked for")
                    late = time.monotonic() - doubted >= self.pace.grace
                    if late and not found.id and not found.undecided:
                        if not self.payloads:
                            return await self._drop(End.NOT_THERE)
                        self._doubtful = False
                else:
                    self.id = await self.desk.submit(self.batch.token, self.payloads)
            except Crowded:
                return await self._drop(End.CROWDED)
            except GlossatorError as error:
                if not isinstance(error, ProviderError) or not error.retryable:
                    if not self._doubtful:
                        await self._drop(End.NOT_THERE)
                    if isinstance(error, Missing):
                        raise no_batches(self.desk.account) from None
                    raise
                self.say(str(error))
                if not self._doubtful and not error.busy:
                    self._doubtful, doubted = True, time.monotonic()
                if time.monotonic() - began >= self.pace.patience:
                    raise ProviderError(str(error), retryable=False) from error
                retry_after = error.retry_after or 0.0
            if self.id:
                await asyncio.to_thread(self.shelf.sent, self.batch.token, self.id)
                self.payloads = ()
                self._fresh_until = time.monotonic() + self.pace.grace
                self.say("")
                await asyncio.sleep(self.pace.first)
                return None
            await asyncio.sleep(max(wait, retry_after))
        raise AssertionError("the waits have no end")

    async def _find(self) -> Found:
        others = await asyncio.to_thread(self.shelf.known, self.batch.account)
        slip = Slip(self.batch.token, self.batch.n, self.batch.made)
        return await self.desk.find(slip, others)

    async def _wait(self) -> End | None:
        """Looks at it until it has ended, however long a provider is out of reach."""
        for wait in self.pace.waits():
            retry_after = 0.0
            try:
                state = await self.desk.state(self.id)
            except Missing:
                if time.monotonic() >= self._fresh_until:
                    return await self._gone()
            except ProviderError as error:
                retry_after = self._passing(error)
            else:
                self.done, self.short = state.done, state.short
                self.say("")
                if isinstance(state.error, Crowded):
                    return await self._drop(End.CROWDED)
                if state.error is not None:
                    await self._drop(End.NOT_THERE)
                    raise state.error
                if state.ended:
                    return None
            await asyncio.sleep(max(wait, retry_after))
        raise AssertionError("the waits have no end")

    async def _fetch(self) -> End:
        """Fetches the results, again if some are missing that should be there."""
        fetched = 0
        for wait in self.pace.waits():
            retry_after = 0.0
            try:
                text = await self.desk.results(self.id)
            except Missing:
                return await self._gone()
            except ProviderError as error:
                retry_after = self._passing(error)
            else:
                found = await asyncio.to_thread(read_lines, text, self.batch.token)
                self.lines = {**found, **self.lines}
                fetched += 1
                if self.short or len(self.lines) >= self.batch.n or fetched == FETCHED:
                    return End.FETCHED
            await asyncio.sleep(max(wait, retry_after))
        raise AssertionError("the waits have no end")

    def _passing(self, error: ProviderError) -> float:
        """Says what is in the way; gives the least seconds to wait, if waiting helps at all."""
        if not error.retryable:
            raise error
        self.say(str(error))
        return error.retry_after or 0.0

    async def _gone(self) -> End:
        """The end of a batch that the provider knows no more, or never knew from this key."""
        if datetime.now(UTC) - self.batch.made > KEPT:
            return await self._drop(End.NOT_THERE)
        account = self.desk.account
        raise ProviderRefused(
            f"{account.title} shows no batch {account.clean(self.id)} to the key in "
            f"{account.key_variable}: use the key that it was sent with, or leave out --batch to "
            "have its requests answered, and paid for, again"
        )

    async def _drop(self, end: End) -> End:
        await asyncio.to_thread(self.shelf.drop, self.batch.token)
        self.dropped = True
        return end
