"""Whether a provider still answers, or something in its place sends what are no replies."""

from __future__ import annotations

from dataclasses import dataclass, field

from glossator.errors import GlossatorError, ProviderError, ProviderRefused, ReplyError
from glossator.llm import Purpose, purpose

IN_A_ROW = 24
"""Replies lost one after the other, after which no more are sent for."""
PIECES_OF_WORK = 3
"""For how many different ones: a single prompt may be what a gateway does not let through."""


@dataclass
class Outage:
    """The replies of one model that were lost on their way since the last that came."""

    lost: int = 0
    works: set[Purpose] = field(default_factory=set)

    def came(self) -> None:
        """Takes note that the model answered."""
        self.lost, self.works = 0, set()

    def failed(self, model: str, error: GlossatorError) -> ProviderRefused | None:
        """Takes note of what came in the place of a reply; gives the error to stop with, if any.

        A provider that says that something is wrong is no part of this: it is asked again later.
        """
        if not isinstance(error, ReplyError) or not error.broken:
            if not isinstance(error, ProviderError):
                self.came()
            return None
        self.lost += 1
        self.works.add(purpose())
        if self.lost < IN_A_ROW or len(self.works) < PIECES_OF_WORK:
            return None
        return ProviderRefused(
            f"the last {self.lost} replies of {model} were lost, this one: {error}; a proxy or "
            "gateway may answer in its place: check the network and --base-url. The same command "
            "goes on from here"
        )
