"""Stand-ins for the embedder and for experiments: they load nothing and mean nothing.

For trying out what explainers and scorers would ask of language models.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glossator.embedder import Vectors
from glossator.live import Activations, Attention, NextToken, Promotion, Shift, TokenShift
from glossator.types import FeatureId

WORDS = ("the", "of", "a", "water", "run", "blue", "after", "seven", "people", "house", "city")
DIM = 8


class BlankEmbedder:
    """Texts as vectors by chance; equal texts have equal ones."""

    name = "blank"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, 8), rows of length 1."""
        rows = [np.random.default_rng(_seed(text)).standard_normal(DIM) for text in texts]
        found: Vectors = np.array(rows, dtype=np.float32).reshape(len(rows), DIM)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found


@dataclass(frozen=True)
class BlankLive:
    """Experiments that were never made."""

    feature: FeatureId
    peak: float = 1.0

    async def activations(self, texts: Sequence[str]) -> tuple[Activations, ...]:
        """By chance, from 0 to 1; words are tokens."""
        return tuple(self._activations(text) for text in texts)

    async def promoted(self, n: int = 20) -> Promotion:
        """Some words, always the same."""
        ranked = [(f" {WORDS[i % len(WORDS)]}", 5.0 - i / n) for i in range(n)]
        return Promotion(tuple(ranked), tuple((token, -z) for token, z in ranked))

    async def next_tokens(
        self, texts: Sequence[str], clamp: float, n: int = 10
    ) -> tuple[NextToken, ...]:
        """Some words, always the same."""
        shifts = tuple(Shift(f" {WORDS[i % len(WORDS)]}", -5.0, -3.0) for i in range(n))
        return tuple(NextToken(1.0, shifts, shifts) for _ in texts)

    async def shifts(
        self, texts: Sequence[str], tokens: Sequence[str], clamp: float, n_like: int = 50
    ) -> tuple[TokenShift, ...]:
        """All alike."""
        before, after = (-5.0,) * len(texts), (-3.0,) * len(texts)
        return tuple(TokenShift(token, before, after, (2.0,) * n_like) for token in tokens)

    async def continuations(
        self,
        texts: Sequence[str],
        clamp: float | None = None,
        max_tokens: int = 12,
        seed: int | None = None,
    ) -> tuple[str, ...]:
        """Words by chance."""
        return tuple(
            " " + " ".join(random.Random(f"{text} {clamp} {seed}").choices(WORDS, k=max_tokens))
            for text in texts
        )

    async def attention(self, texts: Sequence[str]) -> tuple[Attention, ...]:
        """To all earlier tokens alike."""
        found = []
        for text in texts:
            tokens = _tokens(text)
            rows = [
                tuple(1 / (i + 2) if j <= i else 0.0 for j in range(len(tokens)))
                for i in range(len(tokens))
            ]
            found.append(Attention(tokens, tuple(rows)))
        return tuple(found)

    def _activations(self, text: str) -> Activations:
        chance = random.Random(f"{self.feature} {text}")
        tokens = _tokens(text)
        return Activations(tokens, tuple(self.peak * chance.random() for _ in tokens))


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\s*\S+", text)) or (text or " ",)


def _seed(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "replace"))
