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
        "agent": "glossator.explainers.agent:AgentExplainer",
        "best-of": "glossator.explainers.best_of:BestOfExplainer",
        "both": "glossator.explainers.both:BothExplainer",
        "contrastive": "glossator.explainers.contrastive:ContrastiveExplainer",
        "max-act": "glossator.explainers.max_act:MaxActExplainer",
        "n2g": "glossator.explainers.n2g:N2GExplainer",
        "output": "glossator.explainers.output:OutputExplainer",
        "revise": "glossator.explainers.revise:ReviseExplainer",
        "sasc": "glossator.explainers.sasc:SascExplainer",
        "senses": "glossator.explainers.senses:SensesExplainer",
        "unigram": "glossator.explainers.unigram:UnigramExplainer",
    },
)
