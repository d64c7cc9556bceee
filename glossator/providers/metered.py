"""The meter around any language model: cache, budget, limits, retries and a ledger of calls.

A request goes through, in this order: an equal request already out (its reply is shared), the
cache, a place at the gate, the budget, the provider's pause. Nothing is sent before all agree.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import stamina

from glossator.errors import (
    ConfigError,
    GlossatorError,
    ProviderError,
    ProviderRefused,
    ReplyError,
)
from glossator.llm import LLM, Can, Reply, Request
from glossator.providers.budget import Budget, Charge
from glossator.providers.gate import Gate
from glossator.providers.prices import Price, worst_cost
from glossator.types import Usage

__all__ = ["Budget", "Call", "MemoryCache", "Metered", "ReplyCache", "Retries", "cache_key"]


class ReplyCache(Protocol):
    """Keeps replies between runs."""

    def get(self, key: str) -> Reply | None:
        """The reply that was put under `key`, if any."""
        ...

    def put(self, key: str, llm_name: str, request: Request, reply: Reply) -> None:
        """Keeps `reply` under `key`."""
        ...


@dataclass
class MemoryCache:
    """Replies of this process."""

    replies: dict[str, Reply] = field(default_factory=dict)

    def get(self, key: str) -> Reply | None:
        """The reply under `key`, if any."""
        return self.replies.get(key)

    def put(self, key: str, llm_name: str, request: Request, reply: Reply) -> None:
        """Keeps `reply` under `key`."""
        self.replies[key] = reply


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the ledger: a request that was sent, or a reply that was found in the cache."""

    llm: str
    request: str
    """`Request.digest`."""
    attempt: int
    """Counts from 1; 0 for a reply from the cache, or of the same request of somebody else."""
    usage: Usage
    error: str = ""
    """What went wrong, as the exception says it; empty if a reply came."""
    error_type: str = ""


@dataclass(frozen=True, slots=True)
class Retries:
    """When a request is sent again, and how long that may go on."""

    attempts: int = 6
    """Requests sent for one reply, those that met a 429 left out."""
    first_wait: float = 0.5
    """Seconds before the second attempt; doubles from there."""
    longest_wait: float = 30.0
    jitter: float = 1.0
    """Up to so many seconds are added by chance to each wait."""
    deadline: float = 900.0
    """Seconds after which nothing is sent again."""


def cache_key(llm: LLM, request: Request) -> str:
    """SHA-256, in hex, of who is asked and what.

    A model's `identity` (its server) and `revision`, if it has them, tell apart those that share a
    name.
    """
    apart = [str(getattr(llm, name, "")) for name in ("identity", "revision")]
    who = [llm.name, *apart, request.digest]
    return hashlib.sha256(json.dumps(who).encode()).hexdigest()


def prompt_tokens_at_most(request: Request) -> int:
    """A guess, rather too high, of a prompt's tokens: one for two bytes, and some a message."""
    size = sum(len(m.content.encode("utf-8", "replace")) for m in request.messages)
    size += len(request.prefill.encode("utf-8", "replace")) + len(request.schema.encode())
    return size // 2 + 16 * len(request.messages) + 32


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
    cache: ReplyCache | None = None
    budget: Budget = field(default_factory=Budget)
    """May be shared by several."""
    price: Price | None = None
    """None if it is unknown: then costs are None, and a budget in dollars is refused."""
    limit: int = 16
    """Requests out at a time."""
    on_call: Callable[[Call], None] | None = None
    """Is told of each request sent and each reply found in the cache."""
    retries: Retries = Retries()
    drain: float = 150.0
    """Seconds that a cancelled call may still take to finish, so that what is paid is kept."""

    _refused: ProviderRefused | None = field(default=None, init=False, repr=False)
    """What the provider said when it refused for good: nobody else needs to be told again."""

    def __post_init__(self) -> None:
        if self.budget.dollars is not None and self.price is None:
            raise ConfigError(
                f"nobody knows what {self.llm.name} costs, so a budget in dollars cannot hold: "
                "use --max-calls in place of --budget, or a model with a known price"
            )
        self._gate = Gate(self.limit)
        self._flights: dict[str, _Flight] = {}

    @property
    def name(self) -> str:
        """The name of the model inside."""
        return self.llm.name

    @property
    def can(self) -> frozenset[Can]:
        """What the model inside can do."""
        return self.llm.can

    async def aclose(self) -> None:
        """Closes the model inside, if it can be closed."""
        close = getattr(self.llm, "aclose", None)
        if close is not None:
            await close()

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`, from the cache if it is there; raises as `LLM` says.

        If cancelled while a request is out, waits for its reply, keeps it, and then gives way; a
        second cancellation stops at once.
        """
        key = cache_key(self.llm, request)
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if isinstance(flight.outcome, Reply):
                return self._free_reply(request, flight.outcome)
            if flight.outcome is not None:
                raise flight.outcome
        if self.cache is not None and (kept := self.cache.get(key)) is not None:
            return self._free_reply(request, kept)
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

    def _free_reply(self, request: Request, reply: Reply) -> Reply:
        usage = Usage(cached_calls=1)
        self._tell(request, 0, usage)
        return replace(reply, usage=usage)

    async def _ask(self, key: str, request: Request) -> Reply:
        """Sends `request` until there is a reply, or an error that sending again will not mend."""
        faults = _Faults(self.retries)
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
                async with (
                    self._gate.slot(),
                    self.budget.call(self._worst(request)) as charge,
                ):
                    await self._gate_open(charge)
                    if self._refused is not None:
                        charge.dollars = 0.0
                        raise ProviderRefused(str(self._refused))
                    return await _finish(
                        self._attempt(key, request, attempt.num, charge), self.drain
                    )
        raise AssertionError("stamina ends with a reply or an error")

    async def _gate_open(self, charge: Charge) -> None:
        held, charge.dollars = charge.dollars, 0.0  # Nothing is owed if cancelled while waiting.
        await self._gate.open()
        charge.dollars = held

    def _worst(self, request: Request) -> float:
        if self.price is None:
            return 0.0
        made = max(1, request.max_tokens) + int(getattr(self.llm, "overhead_tokens", 0))
        return worst_cost(self.price, prompt_tokens_at_most(request), made)

    async def _attempt(self, key: str, request: Request, number: int, charge: Charge) -> Reply:
        """Sends `request` once, books what it cost and keeps the reply."""
        started = time.monotonic()
        try:
            reply = await self.llm.reply(request)
        except GlossatorError as error:
            seconds = time.monotonic() - started
            usage = Usage(calls=1, cost=self._cost_of_failure(error, charge), seconds=seconds)
            charge.dollars = usage.cost or 0.0
            if isinstance(error, ProviderError) and error.busy:
                wait = error.retry_after
                self._gate.too_many(self.retries.first_wait if wait is None else wait)
            self._tell(request, number, usage, error)
            if isinstance(error, ProviderRefused):
                self._refused = error
            raise
        reply = replace(reply, usage=self._priced(reply.usage))
        # A reply that does not say what it cost is charged the worst, so that the budget holds.
        charge.dollars = charge.dollars if reply.usage.cost is None else reply.usage.cost
        self._gate.went_well()
        if self.cache is not None:
            self.cache.put(key, self.llm.name, request, reply)
        self._tell(request, number, reply.usage)
        return reply

    def _priced(self, usage: Usage) -> Usage:
        known = usage.prompt_tokens or usage.completion_tokens
        if usage.cost is None and self.price is not None and known:
            cost = self.price.cost(usage.prompt_tokens, usage.completion_tokens)
            return replace(usage, cost=cost)
        return usage

    def _cost_of_failure(self, error: GlossatorError, charge: Charge) -> float | None:
        """US dollars; the worst where it may have been charged, None if the price is unknown."""
        if isinstance(error, ReplyError):
            known = None if error.usage is None else self._priced(error.usage).cost
            billed = True
        else:
            known = None
            billed = isinstance(error, ProviderError) and error.maybe_billed
        if known is not None or not billed:
            return known or 0.0
        return None if self.price is None else charge.dollars

    def _tell(
        self, request: Request, attempt: int, usage: Usage, error: Exception | None = None
    ) -> None:
        if self.on_call is not None:
            kind = "" if error is None else type(error).__name__
            said = "" if error is None else str(error)
            self.on_call(Call(self.llm.name, request.digest, attempt, usage, said, kind))


@dataclass
class _Faults:
    """Decides after each fault of one request whether, and when, it is sent again."""

    retries: Retries
    count: int = 0
    started: float = field(default_factory=time.monotonic)

    def wait(self, error: Exception) -> bool | float:
        """False to give up, True for the usual wait, or seconds."""
        if not isinstance(error, ProviderError) or not error.retryable:
            return False
        if not error.busy:
            self.count += 1
            if self.count >= self.retries.attempts:
                return False
        wait = error.retry_after
        left = self.retries.deadline - (time.monotonic() - self.started)
        if wait is None:
            return True
        # What all wait for together, after a 429, is the gate's pause.
        return False if wait > left else (0.0 if error.busy else max(wait, math.ulp(1.0)))


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
