"""The simulator `tiny`: a small encoder that was trained to read a description beside a text.

It asks nobody and knows what its lessons held, see MODEL.md: words by meaning and by form, and what
stands beside them; little of long contexts, and nothing of what a feature does to the output.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from glossator.errors import ReplyError
from glossator.scorers.layout import unbroken
from glossator.scorers.tiny.desk import LONGEST_DESCRIPTION, Said, desk
from glossator.types import Explanation, Scale, Simulation


@dataclass(frozen=True)
class TinySimulator:
    """The activation that the trained network expects at each token, from 0 to 10.

    The network is loaded when it is first asked. Windows that are asked about at the same time are
    read together.
    """

    scale: ClassVar[Scale] = Scale.TENTHS
    """0 to 10."""

    offline: bool = False
    """Whether the encoder may not be fetched."""

    @property
    def model(self) -> str:
        """None: it asks nobody."""
        return ""

    async def simulate(self, explanation: Explanation, tokens: tuple[str, ...]) -> Simulation:
        """The expected activation at each token; 0 where a token shows nothing to read.

        Raises:
            ReplyError: if the explanation is empty, too long, or in letters it does not know.
            AssetError: if the encoder could not be had.
        """
        said = await self.says(explanation, tokens)
        return Simulation(tokens, said.activations, Scale.TENTHS)

    async def says(self, explanation: Explanation, tokens: tuple[str, ...]) -> Said:
        """The same with the probability that each token fires at all.

        Raises:
            ReplyError, AssetError: as `simulate` does.
        """
        text = unbroken(explanation.text)
        if not text:
            raise ReplyError("the explanation is empty, so tiny has nothing to go by")
        said = await asyncio.to_thread(lambda: desk(self.offline).ask(text, tokens))
        if isinstance(said, Said):
            return said
        raise ReplyError(
            f"the explanation has {said.pieces} word pieces, and tiny reads at most "
            f"{LONGEST_DESCRIPTION}: shorten it or take another simulator"
            if said.pieces > LONGEST_DESCRIPTION
            else "tiny knows English, and most letters of the explanation are not in its "
            "vocabulary: take another simulator"
        )
