"""How much may be spent, shared by all language models of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from glossator.errors import BudgetSpent
from glossator.ledger import Assumed


@dataclass
class Charge:
    """What one call is charged; the caller sets it once it knows."""

    dollars: float
    known: bool = False
    """Whether it was billed so; if not, `dollars` is the most that it can be."""
    calls: int = 1
    """Requests that it took."""


@dataclass
class Budget:
    """US dollars and calls that may be spent, and those that were.

    A resumed run passes in what was spent before. One event loop at a time.
    """

    dollars: float | None = None
    """None for no limit."""
    max_calls: int | None = None
    """Requests that may be sent, failed ones included; None for no limit."""
    spent: float = 0.0
    """US dollars, as far as prices are known."""
    calls: int = 0
    """Requests sent, failed ones included, those answered from the cache left out."""
    owed: dict[str, float] = field(default_factory=dict, repr=False)
    """US dollars that each request may come to which an earlier process sent in a batch, by key.

    It is held until whoever asks for that request takes it over.
    """
    assumed: Assumed = field(default_factory=Assumed)
    """How much of `spent` no bill is known of."""
    reserved: float = field(default=0.0, init=False)
    """US dollars that calls in flight may come to."""
    in_flight: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.dollars is not None and not 0 <= self.dollars < float("inf"):
            raise ValueError(f"a budget is a number of dollars, at least 0, not {self.dollars}")
        if self.max_calls is not None and self.max_calls < 0:
            raise ValueError(f"--max-calls is at least 0, not {self.max_calls}")
        self._owed_dollars = sum(self.owed.values())
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def call(self, worst: float, key: str = "") -> AsyncIterator[Charge]:
        """Holds `worst` dollars and one call while a request is out; then books what it cost.

        Waits while calls in flight stand in the way, for most cost less than their worst; and
        where nothing more fits, so that those in flight are not stopped by it. A `key` that is
        owed was let in before, and waits for nothing.

        Raises:
            BudgetSpent: if the call could pass the budget; nothing is booked.
        """
        if key in self.owed:
            worst = self.owed.pop(key)
            self._owed_dollars = self._owed_dollars - worst if self.owed else 0.0
        else:
            await self._wait_for(worst)
        self.calls += 1
        self.in_flight += 1
        self.reserved += worst
        charge = Charge(worst)
        try:
            yield charge
        finally:
            self.in_flight -= 1
            self.reserved = self.reserved - worst if self.in_flight else 0.0
            self.spent += charge.dollars
            self.calls += charge.calls - 1
            if not charge.known:
                whole = self.assumed.dollars + charge.dollars
                self.assumed = replace(self.assumed, dollars=whole)
            self._changed.set()
            self._changed = asyncio.Event()

    async def _wait_for(self, worst: float) -> None:
        while (reason := self._reason_against(worst)) is not None:
            if not self.in_flight:
                raise BudgetSpent(reason, worst)
            await self._changed.wait()

    def retold(self, error: BudgetSpent) -> BudgetSpent:
        """`error` with what is spent by now: smaller calls may have been let in after it."""
        reason = self._reason_against(error.worst)
        return error if reason is None else BudgetSpent(reason, error.worst)

    def _reason_against(self, worst: float) -> str | None:
        """What keeps a call from being made now; None if nothing does."""
        n = len(self.owed)
        out = f" ({n:,} are out in batches, which --batch fetches)" if n else ""
        if self.max_calls is not None and self.calls + len(self.owed) >= self.max_calls:
            return (
                f"all {self.max_calls} calls are used{out}; the same command with a higher "
                "--max-calls goes on from here"
            )
        held = self.spent + self.reserved + self._owed_dollars
        if self.dollars is not None and held + worst > self.dollars:
            return (
                f"${self.spent:.4f} of ${self.dollars:.4f} are spent{out}{self._guessed()} and the "
                f"next call may cost ${worst:.4f}; the same command with a higher --budget goes on "
                "from here"
            )
        return None

    def _guessed(self) -> str:
        """How much of what is spent was perhaps never charged, in words; empty if nothing."""
        found = self.assumed
        if not found.dollars:
            return ""
        cut_off = "1 call" if found.n_cut_off == 1 else f"{found.n_cut_off:,} calls"
        killed = f", ${found.cut_off:.4f} for {cut_off} cut off by a kill" if found.cut_off else ""
        return (
            f" (${found.dollars:.4f} of it assumed: the most that calls without a known bill can "
            f"have cost{killed})"
        )
