"""Where an agent works: one feature, what may be seen of it, and what can be done with it.

The test split is not in here, so no tool can read it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from glossator.datasets.search import TextSearch
from glossator.embedder import Embedder
from glossator.inside import Inside
from glossator.live import Live
from glossator.types import Explanation, FeatureId, FeatureRecord, Kind, Score, Split


@dataclass(frozen=True)
class Seen:
    """What of a record an agent may see."""

    feature: FeatureId
    train: Split
    dev: Split
    density: float
    threshold: float
    """Firing means above this, raw units."""
    peak: float
    """Strongest activation on train text, raw units; 0 if nothing fires there."""
    kind: Kind

    @classmethod
    def of(cls, record: FeatureRecord) -> Seen:
        """All of `record` but the test split, and what was measured with it."""
        return cls(
            *(record.feature, record.train, record.dev, record.density, record.threshold),
            *(record.train.peak, record.kind),
        )


class Nearest(Protocol):
    """Features like another."""

    async def by_decoder(self, n: int) -> Sequence[tuple[FeatureId, float]]:
        """Those that write most alike, with the cosine of what they write.

        Raises:
            Unsupported: if the feature writes no one direction.
        """
        ...

    async def by_firing(self, n: int) -> Sequence[tuple[FeatureId, float]]:
        """Those that fire most at the same tokens of train and dev text, with the correlation.

        Raises:
            Unsupported: if the feature is dead there, or stands alone.
        """
        ...


@dataclass(frozen=True)
class Lab:
    """What the tools work with."""

    seen: Seen
    live: Live
    embedder: Embedder
    cut: Callable[[str], Sequence[str]]
    """From a text to its tokens, as the model cuts it."""
    score_on_dev: Callable[[Explanation], Awaitable[Score]]
    """How well an explanation does on dev."""
    inside: Inside | None = None
    """The model around the feature; None for a planted one."""
    search: TextSearch | None = None
    """Train and dev text; None where there is no corpus at hand."""
    nearest: Nearest | None = None
    seed: int = 0
    shows_dev: bool = True
    """Whether tools may show dev windows. Not in an inquiry, which compares hypotheses on them."""
