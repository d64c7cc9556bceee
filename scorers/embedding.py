"""The `embedding` scorer: is the explanation nearer in meaning to windows in which it fires?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from glossator.embedder import Embedder
from glossator.scorers.asking import one_by_one
from glossator.scorers.layout import unbroken
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import Frame
from glossator.scorers.rated import (
    Figure,
    Reading,
    base_rate,
    precision_of_ratings,
    rated,
    rating,
)
from glossator.scorers.sample import draw
from glossator.types import Example, Explanation, Prediction, Scale, Score, Split, Usage

METRIC = "AUPRC over windows, weighted to the pool"


@dataclass(frozen=True)
class EmbeddingScorer:
    """Average precision of the cosine of explanation and window; no language model is asked.

    It costs next to nothing and knows subjects; of form and order, and of one word among many, it
    knows little.
    """

    headline: ClassVar[Figure] = staticmethod(precision_of_ratings)

    embedder: Embedder
    wrong: Wrong
    n_scored: int = 40
    seed: int = 0

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`; nothing is fitted, so `dev` is not read."""
        frame = Frame(explanation, "embedding", f"cosine by {self.embedder.name}", "", METRIC)
        if why := frame.reason_against(split):
            return frame.nothing(why)
        examples = draw(split, self.n_scored, explanation.feature, self.seed)
        said = [unbroken(e.text) for e in (explanation, *self.wrong.explanations)]
        texts = list(dict.fromkeys([*said, *(e.text for e in examples)]))
        found = await asyncio.to_thread(self.embedder.embed, texts)  # (n_texts, dim)
        vectors = dict(zip(texts, found, strict=True))

        async def rate(by: Explanation, example: Example) -> tuple[Prediction, Usage]:
            cosine = float(vectors[unbroken(by.text)] @ vectors[example.text])
            return rating(example, cosine, Scale.COSINE.value), Usage()

        return await rated(frame, self.wrong, examples, one_by_one(rate), read, self.seed)


def read(own: Sequence[Prediction], on_dev: Sequence[Prediction]) -> Reading:
    """Average precision of the cosines; nothing is fitted."""
    return Reading(
        headline=precision_of_ratings,
        empty=base_rate,
        undefined="no average precision is defined",
        plain={"base rate": base_rate(own)},
    )
