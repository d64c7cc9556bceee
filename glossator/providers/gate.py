"""How many requests may be out at a time, found by trying: one gate for each provider and key."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Gate:
    """Lets at most `width` requests through, and none during a pause.

    The width grows by about one for each `width` replies and is halved when the provider says that
    there are too many requests, at most once for each pause. One event loop at a time.
    """

    limit: int
    """The width is never above this."""
    width: float = field(init=False)
    active: int = field(default=0, init=False)
    pause_until: float = field(default=0.0, init=False)
    """On the clock of `time.monotonic`."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"at least one request at a time is needed, not {self.limit}")
        self.width = float(self.limit)
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds one of the places; waits for one, in turn."""
        if self._waiting or self.active >= int(self.width):
            await self._turn()
        else:
            self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._wake()

    async def _turn(self) -> None:
        """Waits until a place is given to whoever awaits this."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.active -= 1  # The place had just been given.
            self._wake()
            raise

    async def open(self) -> None:
        """Waits until the pause is over."""
        # Sleeping again is right here: a pause may be made longer while we wait for its end.
        while (left := self.pause_until - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    def went_well(self) -> None:
        """Lets the width grow a little."""
        self.width = min(float(self.limit), self.width + 1 / self.width)
        self._wake()

    def too_many(self, pause: float) -> None:
        """Halves the width, and lets nothing through for `pause` seconds."""
        now = time.monotonic()
        if now >= self.pause_until:
            self.width = max(1.0, self.width / 2)
        self.pause_until = max(self.pause_until, now + pause)

    def _wake(self) -> None:
        """Gives the free places to those who wait longest, and wakes nobody else."""
        while self._waiting and self.active < int(self.width):
            turn = self._waiting.popleft()
            if not turn.done():
                self.active += 1
                turn.set_result(None)
