"""How far a run is, as whoever watches is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glossator.types import Usage

LONG = 20.0
"""Seconds for a reply after which people want to know that it is waited for."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is in the way of a run's requests to language models."""

    failed: int = 0
    """Attempts that brought no reply, since the command began."""
    error: str = ""
    """What went wrong with the latest; empty once a reply has come after it."""
    pause: float = 0.0
    """Seconds for which a provider wants to be left alone."""
    waiting: float = 0.0
    """Seconds since the oldest request that is out was sent."""
    out: int = 0
    """Requests that are out; what they cost is not known yet."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    stage: str
    done: int
    """Units, or tokens in the stage `read`."""
    total: int
    """0 where it is not known."""
    failed: int = 0
    used: Usage = Usage()
    """What language models used in this run so far, earlier starts of it included."""
    note: str = ""
    is_notice: bool = False
    """Whether the note is something to know, which is said once and to be read whole."""
    trouble: Trouble = Trouble()

    @property
    def spent(self) -> float | None:
        """US dollars in this run so far; None where a price is unknown."""
        return self.used.cost

    @property
    def calls(self) -> int:
        """Requests sent in this run so far."""
        return self.used.calls


Tell = Callable[[Progress], None]
