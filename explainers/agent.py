"""The `agent` explainer: hypotheses tested by experiments, or an abstention where none is decided.

The inquiry itself is of the layer above; whoever builds the explainer hands it over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from glossator.llm import LLM
from glossator.types import Explanation, FeatureId, Split


class Inquirer(Protocol):
    """Inquires into the one feature that it was made for."""

    async def inquire(self, llm: LLM) -> Explanation:
        """What was decided, or an abstention that begins with `undecided`.

        Raises:
            ProviderError, BudgetSpent: as the language model does; the next call goes on there.
        """
        ...


@dataclass(frozen=True)
class AgentExplainer:
    """Lets an agent find out."""

    llm: LLM
    inquirer: Inquirer

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """See `Explainer`; the agent sees dev, too, and never test."""
        return await self.inquirer.inquire(self.llm)
