"""How far a run is, as whoever watches is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glossator.types import Usage


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

    @property
    def spent(self) -> float | None:
        """US dollars in this run so far; None where a price is unknown."""
        return self.used.cost

    @property
    def calls(self) -> int:
        """Requests sent in this run so far."""
        return self.used.calls


Tell = Callable[[Progress], None]
