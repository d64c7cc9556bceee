"""A simulator without a language model: how near is the explanation to the text at each token?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from glossator.embedder import Embedder
from glossator.scorers.layout import unbroken
from glossator.types import Explanation, Scale, Simulation

BEFORE, AFTER = 2, 1
"""Tokens of the context on either side."""


@dataclass(frozen=True)
class EmbeddingSimulator:
    """The cosine of the explanation with the token, and what the token adds to its context's.

    The context alone smears a token's meaning over its neighbours: for four planted features it
    reached a mean Pearson of 0.27, the token alone 0.56 and their sum, as here, 0.57.
    """

    scale: ClassVar[Scale] = Scale.COSINE
    """A cosine."""

    embedder: Embedder

    @property
    def model(self) -> str:
        """None: it asks nobody."""
        return ""

    async def simulate(self, explanation: Explanation, tokens: tuple[str, ...]) -> Simulation:
        """The two figures' sum at each token."""
        beside = [
            ("".join(tokens[max(0, i - BEFORE) : i]), "".join(tokens[i + 1 : i + AFTER + 1]))
            for i in range(len(tokens))
        ]
        texts = [
            unbroken(explanation.text),
            *(token.strip() for token in tokens),
            *((a + token + b).strip() for token, (a, b) in zip(tokens, beside, strict=True)),
            *((a + b).strip() for a, b in beside),
        ]
        found = await asyncio.to_thread(self.embedder.embed, texts)  # (1 + 3 n_tokens, dim)
        alone, inside, without = (found[1:] @ found[0]).reshape(3, -1)  # each (n_tokens,)
        return Simulation(tokens, tuple(map(float, alone + inside - without)), Scale.COSINE)
