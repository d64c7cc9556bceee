"""Trying an explanation out on dev: explainers know no scorers, and never see test."""

from __future__ import annotations

from typing import Protocol

from glossator.types import Explanation, Score, Split


class Trial(Protocol):
    """Scores explanations of one feature on dev, by a scorer that whoever runs it has chosen.

    A call raises:
        ReplyError, ProviderError, BudgetSpent: as the scorer does.
    """

    @property
    def dev(self) -> Split:
        """The windows that it is tried on."""
        ...

    async def __call__(self, explanation: Explanation) -> Score:
        """The score on dev, with a prediction for each window."""
        ...


def value_of(score: Score) -> float:
    """What a score is worth when the best is chosen; one without a value is under all others."""
    return float("-inf") if score.value is None else score.value


def said(score: Score) -> str:
    """The score in a few words, for a note."""
    return f"{score.scorer} {'none' if score.value is None else f'{score.value:.2f}'} on dev"
