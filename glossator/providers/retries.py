"""When a request is sent again, and how long that may go on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from glossator.errors import ProviderError, ReplyError
from glossator.llm import ASKED_AGAIN


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


@dataclass
class Faults:
    """Decides after each fault of one request whether, and when, it is sent again.

    A reply that was lost on its way is sent for again as often as one that cannot be read.
    """

    retries: Retries
    count: int = 0
    broken: int = 0
    started: float = field(default_factory=time.monotonic)

    def wait(self, error: Exception) -> bool | float:
        """False to give up, True for the usual wait, or seconds."""
        if isinstance(error, ReplyError) and error.broken:
            self.broken += 1
            return self.broken <= ASKED_AGAIN
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
