"""Finding windows of a corpus by what they say, in the train and dev pools alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from glossator.types import Pool


@dataclass(frozen=True, slots=True)
class Found:
    """A window of the corpus."""

    text: str
    document: str
    start: int
    """Position of its first token in its document."""
    pool: Pool
    """Never test."""


class TextSearch(Protocol):
    """Looks for windows of train and dev text."""

    async def containing(self, string: str, n: int) -> tuple[Found, ...]:
        """Windows with `string`, case ignored, up to `n`, spread over documents."""
        ...

    async def matching(self, pattern: str, n: int) -> tuple[Found, ...]:
        """Windows that a regular expression matches.

        Raises:
            ConfigError: if it is none, or takes too long.
        """
        ...

    async def meaning(self, description: str, n: int) -> tuple[Found, ...]:
        """The windows nearest in meaning, the nearest first."""
        ...
