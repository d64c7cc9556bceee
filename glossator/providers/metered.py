"""The meter around any language model: kept replies, budget, limits, retries and a ledger of calls.

A request goes through, in this order: an equal one that this process has out (its reply is shared),
the journal's kept replies, a place at the gate, the budget, the provider's pause. Nothing is sent
before all agree. What comes back is written down, then read: tools are called for through a schema
where a model has no form for that, and a reply that should keep to a schema is checked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import stamina

from glossator.errors import (
    BadReply,
    ConfigError,
    GlossatorError,
    ProviderError,
    ProviderRefused,
    StoreError,
)
from glossator.ledger import OUT, Call, Entry, Journal
from glossator.llm import LLM, Can, Reply, Request, purpose
from glossator.providers.budget import Budget, Charge
from glossator.providers.gate import Gate
from glossator.providers.journal import MemoryJournal
from glossator.providers.outage import Outage
from glossator.providers.prices import FREE, Price, price_snapshot, worst_cost
from glossator.providers.refusals import Refusals
from glossator.providers.retries import Faults, Retries
from glossator.providers.schema import with_value
from glossator.providers.tools import plain_request, read_calls
from glossator.providers.usage import priced, usage_of_failure
from glossator.types import Usage

# Retries are in the ledger; without this, stamina's log of them is printed where nobody set one up.
logging.getLogger("stamina").addHandler(logging.NullHandler())

__all__ = ["Budget", "Call", "Journal", "MemoryJournal", "Metered", "Retries", "cache_key"]


_LETTERS = re.compile("[A-Za-z]{2,}")


def cache_key(llm: LLM, request: Request) -> str:
    """SHA-256, in hex, of who is asked and what.

    A model's `identity` (its server) and `revision`, if it has them, tell apart those that share a
    name.
    """
    apart = [str(getattr(llm, name, "")) for name in ("identity", "revision")]
    who = [llm.name, *apart, request.digest]
    return hashlib.sha256(json.dumps(who).encode()).hexdigest()


def prompt_tokens_at_most(request: Request) -> int:
    """A guess, rather too high, of a prompt's tokens: what a tokenizer that knows few words makes.

    Two letters are one, any other byte is one: digits, marks and other scripts are often cut so.
    """
    texts = [request.prefill, request.schema]
    for message in request.messages:
        texts += [message.content, *(call.name + call.arguments for call in message.calls)]
    texts += [tool.name + tool.description + tool.schema for tool in request.tools]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    letters = sum(len(run) for text in texts for run in _LETTERS.findall(text))
    return size - letters // 2 + 16 * len(request.messages) + 32


def worst_call(llm: LLM, price: Price | None, request: Request) -> float:
    """US dollars that one call can cost at most; 0 where the price is unknown."""
    if price is None:
        return 0.0
    made = max(1, request.max_tokens) + int(getattr(llm, "overhead_tokens", 0))
    return worst_cost(price, prompt_tokens_at_most(request), made)


@dataclass
class _Flight:
    """A request that is out, for those who ask the same meanwhile."""

    landed: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: Reply | GlossatorError | None = None
    """None if whoever sent it gave up."""


@dataclass
class Metered:
    """A language model with its meter; itself one. Serves one event loop.

    Replies from the cache, and those shared with an equal request already out, have `usage` with
    `cached_calls=1` and no cost.
    """

    llm: LLM
    journal: Journal | None = None
    budget: Budget = field(default_factory=Budget)
    """May be shared by several."""
    price: Price | None = None
    """None if it is unknown: then costs are None, and a budget in dollars is refused."""
    limit: int = 16
    """Requests out at a time, where `gate` is not given."""
    gate: Gate | None = None
    """Shared by all models of one provider and key."""
    retries: Retries = field(default_factory=Retries)
    refusals: Refusals = field(default_factory=Refusals, repr=False)
    drain: float = 150.0
    """Seconds that a cancelled call may still take to finish, so that what is paid is kept."""

    _refused: ProviderRefused | BadReply | None = field(default=None, init=False, repr=False)
    """Why it is of no use to ask again, for good: nobody else needs to be told."""
    _outage: Outage = field(default_factory=Outage, init=False, repr=False)
    _answers: bool = field(default=False, init=False, repr=False)
    """Whether it has come back with something else than a refusal for good."""
    _unwritable: StoreError | None = field(default=None, init=False, repr=False)
    """Why a reply that was paid for could not be kept: no other is paid for after that."""

    def __post_init__(self) -> None:
        if self.budget.dollars is not None and self.price is None:
            raise ConfigError(
                f"nobody knows what {self.llm.name} costs, so a budget in dollars cannot hold: "
                "use --max-calls in place of --budget, or a class of yours with a `price` as --llm"
            )
        self._gate = self.gate or Gate(self.limit)
        self._snapshot = "" if self.price is None else price_snapshot(self.price)
        self._flights: dict[str, _Flight] = {}
        self._batched = bool(getattr(self.llm, "batched", False))
        self._first = asyncio.Lock()

    @property
    def name(self) -> str:
        """The name of the model inside."""
        return self.llm.name

    @property
    def can(self) -> frozenset[Can]:
        """What the model inside can do; tools can be called through all of them."""
        return self.llm.can | {Can.TOOLS}

    async def aclose(self) -> None:
        """Closes the model inside, if it can be closed."""
        close = getattr(self.llm, "aclose", None)
        if close is not None:
            await close()

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`, a kept one if there is one; raises as `LLM` says.

        If cancelled while a request is out, waits for its reply, keeps it, and then gives way; a
        second cancellation stops at once.
        """
        if request.tools and Can.TOOLS not in self.llm.can:
            plain = plain_request(request, schema=Can.SCHEMA in self.llm.can)
            return read_calls(await self._answer(plain), request)
        return with_value(await self._answer(request), request)

    async def _answer(self, request: Request) -> Reply:
        """What the model said, from whoever has it first."""
        key = cache_key(self.llm, request)
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if isinstance(flight.outcome, Reply):
                return await self._free_reply(request, flight.outcome)
            if flight.outcome is not None:
                raise flight.outcome
        if (kept := self._kept(key)) is not None:
            return await self._free_reply(request, kept)
        flight = self._flights[key] = _Flight()
        try:
            flight.outcome = await self._ask(key, request)
        except GlossatorError as error:
            flight.outcome = error
            raise
        finally:
            del self._flights[key]
            flight.landed.set()
        return flight.outcome

    async def _free_reply(self, request: Request, reply: Reply) -> Reply:
        usage = Usage(cached_calls=1)
        await self._write(request, 0, usage)
        return replace(reply, usage=usage)

    async def _ask(self, key: str, request: Request) -> Reply:
        """Sends `request` until there is a reply, or an error that sending again will not mend."""
        faults = Faults(self.retries)
        worst = worst_call(self.llm, self.price, request)
        attempts = stamina.retry_context(
            on=faults.wait,
            attempts=None,
            timeout=self.retries.deadline,
            wait_initial=self.retries.first_wait,
            wait_max=self.retries.longest_wait,
            wait_jitter=self.retries.jitter,
        )
        async for attempt in attempts:
            with attempt:
                async with self._gate.slot():
                    # Another process may have been told while this one waited.
                    if (kept := self._kept(key)) is not None:
                        return await self._free_reply(request, kept)
                    return await self._send(key, request, attempt.num, worst)
        raise AssertionError("stamina ends with a reply or an error")

    async def _send(self, key: str, request: Request, number: int, worst: float) -> Reply:
        """Sends `request` once, when the budget and the provider's pause let it through."""
        async with self.budget.call(worst, key if self._batched else "") as charge:
            await self._gate_open(charge)
            async with self._alone_at_first(charge):
                if (ended := self._refused or self._unwritable) is not None:
                    charge.dollars = 0.0
                    raise type(ended)(str(ended))
                return await _finish(self._attempt(key, request, number, charge), self.drain)

    def _kept(self, key: str) -> Reply | None:
        return None if self.journal is None else self.journal.get(key)

    async def _gate_open(self, charge: Charge) -> None:
        held, charge.dollars = charge.dollars, 0.0  # Nothing is owed if cancelled while waiting.
        await self._gate.open()
        charge.dollars = held

    @asynccontextmanager
    async def _alone_at_first(self, charge: Charge) -> AsyncIterator[None]:
        """Lets one request go ahead of all others: a key that is refused is refused once."""
        if self._answers or self._batched or self.price is FREE:
            yield
            return
        held, charge.dollars = charge.dollars, 0.0
        await self._first.acquire()
        charge.dollars = held
        if self._answers:
            self._first.release()
            yield
            return
        try:
            yield
        finally:
            self._first.release()

    async def _attempt(self, key: str, request: Request, number: int, charge: Charge) -> Reply:
        """Sends `request` once, books what it cost and keeps the reply."""
        line = await self._write_out(request, number, charge)
        started = time.monotonic()
        try:
            reply = await self.llm.reply(request)
        except GlossatorError as raised:
            error = raised
            seconds = time.monotonic() - started
            used = replace(usage_of_failure(error, self.price), seconds=seconds)
            usage = self._booked(used, charge)
            if isinstance(error, ProviderError) and error.busy:
                wait = error.retry_after
                self._gate.too_many(self.retries.first_wait if wait is None else wait)
            if isinstance(error, ProviderRefused):
                error = self.refusals.weigh(error, request)
            if isinstance(error, ProviderRefused | BadReply):
                self._refused = error
            else:
                self._answers = True
                if not self._batched:
                    self._refused = self._outage.failed(self.name, error) or self._refused
            await self._write(request, number, usage, error, key=key, line=line)
            if error is not raised:
                raise error from raised
            raise
        self._answers = True
        self._outage.came()
        self.refusals.note_reply()
        reply = replace(reply, usage=priced(reply.usage, self.price))
        usage = self._booked(reply.usage, charge)
        self._gate.went_well()
        await self._write(request, number, usage, key=key, reply=reply, line=line)
        return reply

    def _booked(self, usage: Usage, charge: Charge) -> Usage:
        """`usage` of one attempt as the ledger has it, and charges that.

        A call that does not say what it cost is assumed to have cost the most it can, so that the
        budget holds, in this process and in the next.
        """
        charge.calls, charge.known = usage.calls, usage.cost is not None
        if usage.cost is not None:
            charge.dollars = usage.cost
        elif self.price is not None:
            usage = replace(usage, cost=charge.dollars, assumed=charge.dollars)
        return usage

    async def _write_out(self, request: Request, attempt: int, charge: Charge) -> int | None:
        """Notes at the most it can cost that a call goes out, so that no kill hides it.

        What is free need not be, and a batch is written down before it is sent.
        """
        if self._batched or self.price is FREE:
            return None
        usage = Usage(calls=1, cost=None)
        if self.price is not None:
            usage = Usage(calls=1, cost=charge.dollars, assumed=charge.dollars)
        call = replace(
            self._call(request, attempt, usage),
            error="out when the process ended; it may have been charged",
            error_type=OUT,
        )
        held, charge.dollars = charge.dollars, 0.0  # Nothing is owed if it cannot be written.
        line = await self._keep(Entry(call))
        charge.dollars = held
        return line

    async def _write(
        self,
        request: Request,
        attempt: int,
        usage: Usage,
        error: Exception | None = None,
        *,
        key: str = "",
        reply: Reply | None = None,
        line: int | None = None,
    ) -> None:
        call = self._call(request, attempt, usage, error)
        await self._keep(Entry(call, key, request if reply else None, reply, line))

    def _call(
        self, request: Request, attempt: int, usage: Usage, error: Exception | None = None
    ) -> Call:
        return Call(
            self.llm.name,
            request.digest,
            attempt,
            usage,
            "" if error is None else str(error),
            "" if error is None else type(error).__name__,
            purpose(),
            self._snapshot,
            self._batched and attempt > 0,
        )

    async def _keep(self, entry: Entry) -> int | None:
        if self.journal is None:
            return None
        try:
            return await self.journal.write(entry)
        except StoreError as failed:
            self._unwritable = failed
            raise


async def _finish(attempt: Coroutine[Any, Any, Reply], drain: float) -> Reply:
    """Awaits `attempt`; if cancelled, first lets it finish for at most `drain` seconds."""
    task = asyncio.create_task(attempt)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait({task}, timeout=drain)
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # Looked at, so that asyncio does not complain of it.
        raise
