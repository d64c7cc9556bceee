"""The language models of a run: made once, metered, and written down in the run's ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glossator.config import RunConfig, RunLimits
from glossator.errors import (
    ConfigError,
    CutOff,
    OutOfRange,
    Refused,
    ReplyError,
    RequestRefused,
)
from glossator.ledger import Entry, Journal
from glossator.llm import LLM, Purpose, Reply
from glossator.progress import LONG, Progress, Tell, Trouble
from glossator.providers.batching import BatchingLLM
from glossator.providers.budget import Budget
from glossator.providers.desks import desk_of
from glossator.providers.errand import PACE, Pace
from glossator.providers.gate import Gate
from glossator.providers.journal import GroupJournal, LaterJournal
from glossator.providers.metered import Metered, Retries
from glossator.providers.prices import FREE, price_of
from glossator.providers.refusals import Refusals
from glossator.providers.table import LOCAL, REMOTE, make_llm
from glossator.rows import plain
from glossator.store import Store
from glossator.tally import TalliedJournal, Tally

MANY = 4096
"""Requests out at a time where waiting costs nothing: a local model answers them together."""
BATCHED = 100_000
"""Requests out at a time that wait for batches."""
SECONDS_BETWEEN_LOOKS = 5.0
"""Seconds after which people are told anew that nothing comes back."""
_OF_NO_USE = {error.__name__ for error in (ReplyError, Refused, CutOff, OutOfRange)}
"""Failures of replies that are kept and could not be used."""
PATIENT = Retries(first_wait=0.1, jitter=0.0, deadline=30 * 24 * 3600.0)
"""A batch takes up to a day; what it did not get to goes into the next one, together."""


@dataclass(frozen=True, slots=True)
class Who:
    """Which language model: what people type, and where it is."""

    spec: str
    base_url: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it runs in this process, and fills memory."""
        return self.spec.partition(":")[0] in LOCAL


def explains(config: RunConfig) -> Who:
    """The model that explains."""
    return _who(config.llm, config.base_url)


def judges(config: RunConfig) -> Who:
    """The model that simulates and judges."""
    return _who(config.scorer_llm or config.llm, config.scorer_base_url or config.base_url)


def _who(spec: str, base_url: str) -> Who:
    remote = spec.partition(":")[0] in REMOTE
    return Who(spec, base_url if remote else "")


def check_batch(config: RunConfig, limits: RunLimits) -> None:
    """Refuses `--batch` where nobody could be asked that way, before anything is loaded.

    Raises:
        ConfigError: naming the model.
    """
    if limits.batch and explains(config).is_local and judges(config).is_local:
        raise ConfigError(
            f"{judges(config).spec} runs on this machine and has no batch API: leave out --batch"
        )


@dataclass
class Models:
    """The language models of one run, behind one budget."""

    config: RunConfig
    limits: RunLimits
    store: Store
    run: str
    budget: Budget
    tell: Tell
    pace: Pace = PACE
    """Of batches."""
    tally: Tally = field(default_factory=Tally)
    """Of what the run has used."""
    _made: dict[Who, Metered] = field(default_factory=dict, repr=False)
    _gates: dict[str, Gate] = field(default_factory=dict, repr=False)
    """One for each server: a key has its limits there, whatever the model."""
    _later: LaterJournal | None = field(default=None, repr=False)
    _batching: list[BatchingLLM] = field(default_factory=list, repr=False)
    _shown: Progress = field(default_factory=lambda: Progress("load", 0, 0), repr=False)
    _out: str = ""
    """What is to be said of batches that are out."""

    def __post_init__(self) -> None:
        self.tally.changed = lambda: self.show(self._shown)

    async def get(self, who: Who) -> Metered:
        """The model `who`; the same each time.

        Raises:
            ConfigError, AssetError, NotRegistered: if there is none such, or it has no batch API
                where that is to be used.
            ProviderRefused: if its provider does not accept the key, or has no batch API.
        """
        if who not in self._made:
            self._say(f"language model {who.spec}")
            options: dict[str, Any] = {
                "offline": self.limits.offline,
                "device": self.limits.device,
                "base_url": who.base_url or None,
            }
            llm = await asyncio.to_thread(lambda: make_llm(who.spec, **options))
            self._made[who] = self._metered(llm)
            await self._check(llm)
        return self._made[who]

    async def drop(self, who: Who) -> None:
        """Lets go of the model `who`, and of the memory it takes."""
        await self._made.pop(who).aclose()

    async def aclose(self) -> None:
        """Writes down what is left to be, and closes all models."""
        with self.store.transaction():
            self.settle()
        for model in self._made.values():
            await model.aclose()

    def settle(self) -> None:
        """Writes the calls to free models and their replies, in the transaction of a result."""
        if self._later is not None:
            self.store.put_calls(self.run, self._later.taken())

    def show(self, progress: Progress) -> None:
        """Tells how far the run is, what it used, what is in its way, and how its batches go."""
        self._shown = progress
        note, trouble = progress.note or self._out, self._trouble()
        self.tell(replace(progress, used=self.tally.used, note=note, trouble=trouble))

    async def keep_showing(self, every: float = SECONDS_BETWEEN_LOOKS) -> None:
        """Shows it again and again while replies fail or are waited for; until cancelled."""
        while True:
            await asyncio.sleep(every)
            trouble = self._trouble()
            if trouble.error or trouble.pause or trouble.waiting >= LONG:
                self.show(self._shown)

    def _trouble(self) -> Trouble:
        pauses = [gate.pause_until for gate in self._gates.values()]
        return self.tally.trouble(max(pauses, default=0.0) - time.monotonic())

    def _say(self, note: str, *, is_notice: bool = False) -> None:
        self.tell(Progress("load", 0, 0, note=note, is_notice=is_notice))

    def _say_out(self, note: str) -> None:
        self._out = note
        self.show(self._shown)

    async def _check(self, llm: LLM) -> None:
        """Asks the server, before the text is read for minutes and anything is paid."""
        check = getattr(llm, "check", None)
        notice = await check() if check is not None else ""
        if notice:
            self._say(notice, is_notice=True)
        for batching in self._batching:
            if batching.name == llm.name:
                await batching.desk.check()

    def _metered(self, llm: LLM) -> Metered:
        price = price_of(llm)
        free = price is FREE
        if self.limits.batch and not free:
            return self._batched(llm)
        where = str(getattr(llm, "identity", "") or llm.name)
        gate = self._gates.setdefault(where, Gate(MANY if free else self.limits.concurrency))
        # Where nothing is paid for, who stops does not wait for what is out.
        return Metered(
            llm,
            self._journal(free),
            self.budget,
            price=price,
            gate=gate,
            refusals=self._refusals(llm.name),
            drain=0.0 if free else Metered.drain,
        )

    def _batched(self, llm: LLM) -> Metered:
        """`llm` asked through its batch API. Whoever stops is not held up: what is out is known."""
        shelf = self.store.batches
        batching = BatchingLLM(desk_of(llm), shelf, self.run, self.pace, self._say_out)
        self._batching.append(batching)
        return Metered(
            batching,
            self._journal(free=False),
            self.budget,
            price=batching.price,
            gate=Gate(BATCHED),
            retries=PATIENT,
            refusals=self._refusals(batching.name),
            drain=0.0,
        )

    def _refusals(self, llm: str) -> Refusals:
        """What earlier starts of the run know of what the model called `llm` refuses."""
        refused = [f for f in self.store.failures(self.run) if f.kind == RequestRefused.__name__]
        known = frozenset(Purpose(f.stage, f.feature, f.part) for f in refused)
        return Refusals(self.store.has_answered(self.run, llm), known)

    def _journal(self, free: bool) -> Journal:
        kept = Usable.of(self.store, self.run)
        if not free:
            return TalliedJournal(GroupJournal(kept.get, self._write), self.tally)
        if self._later is None:
            self._later = LaterJournal(kept.get)
        return TalliedJournal(self._later, self.tally)

    def _write(self, entries: Sequence[Entry]) -> list[int]:
        with self.store.transaction():
            lines = self.store.put_calls(self.run, entries)
            keys = [entry.key for entry in entries if entry.key]
            for batching in self._batching:
                self.store.batches.settle(batching.taken(keys))
        return lines


@dataclass(frozen=True)
class Usable:
    """Replies that are kept, less those that could not be used: these are asked for again."""

    store: Store
    unusable: frozenset[str]
    """Their texts, as failures keep them."""

    @classmethod
    def of(cls, store: Store, run: str | None) -> Usable:
        """What is of use to `run`; to a new one, if that is None."""
        failures = [] if run is None else store.failures(run)
        return cls(store, frozenset(f.reply for f in failures if f.kind in _OF_NO_USE))

    def get(self, key: str) -> Reply | None:
        """The reply under `key`, if there is one and it was of use."""
        reply = self.store.replies.get(key)
        if reply is None or reply.answers or reply.slots:
            return reply
        return None if plain(reply.text)[:2000] in self.unusable else reply
