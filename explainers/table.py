"""The explainers there are, by the names people type."""

from __future__ import annotations

from typing import Protocol

from glossator.registry import Registry
from glossator.types import Explanation, FeatureId, Split


class Explainer(Protocol):
    """Says in words what a feature does, from training examples alone.

    `explain` raises:
        ReplyError: if a language model's reply is no explanation.
        ProviderError, BudgetSpent: as the language model does.
    """

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """An explanation of `feature`, or an abstention with its reason."""
        ...


EXPLAINERS = Registry(
    "explainer",
    {
        "max-act": "glossator.explainers.max_act:MaxActExplainer",
        "unigram": "glossator.explainers.unigram:UnigramExplainer",
    },
)
