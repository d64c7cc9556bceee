"""How much may be spent, shared by all language models of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from glossator.errors import BudgetSpent


@dataclass
class Charge:
    """What one call is charged; the caller sets `dollars` once it knows."""

    dollars: float


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
    reserved: float = field(default=0.0, init=False)
    """US dollars that calls in flight may come to."""
    in_flight: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.dollars is not None and not 0 <= self.dollars < float("inf"):
            raise ValueError(f"a budget is a number of dollars, at least 0, not {self.dollars}")
        if self.max_calls is not None and self.max_calls < 0:
            raise ValueError(f"--max-calls is at least 0, not {self.max_calls}")
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def call(self, worst: float) -> AsyncIterator[Charge]:
        """Holds `worst` dollars and one call while a request is out; then books what it cost.

        Waits while only the calls in flight stand in the way: most cost less than their worst.

        Raises:
            BudgetSpent: if the call could pass the budget; nothing is booked.
        """
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
            self._changed.set()
            self._changed = asyncio.Event()

    async def _wait_for(self, worst: float) -> None:
        while True:
            if self.max_calls is not None and self.calls >= self.max_calls:
                raise BudgetSpent(
                    f"all {self.max_calls} calls are used; the same command with a higher "
                    "--max-calls goes on from here"
                )
            if self.dollars is None or self.spent + self.reserved + worst <= self.dollars:
                return
            if self.spent + worst > self.dollars or not self.in_flight:
                raise BudgetSpent(
                    f"${self.spent:.4f} of ${self.dollars:.4f} are spent and the next call may "
                    f"cost ${worst:.4f}; the same command with a higher --budget goes on from here"
                )
            await self._changed.wait()
