"""`--triage`: money is spent only where it is needed.

A cheap explainer that asks no language model comes first; where it fails on dev, the one that was
asked for. Which step was taken is in the explanation's note.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from glossator.explainers.table import Explainer
from glossator.explainers.trial import Trial, said, value_of
from glossator.types import Explanation, FeatureId, Split

ENOUGH = 0.8
"""The score on dev with which the cheap one is good enough."""


@dataclass(frozen=True)
class TriageExplainer:
    """The cheap explainer's explanation where it does well enough on dev, else the other's."""

    cheap: Explainer
    drafter: Explainer
    """Who is asked where the cheap one fails."""
    trial: Trial
    enough: float = ENOUGH

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """An explanation, of which the note says by which step it came.

        Raises:
            ReplyError: as the other explainer does.
        """
        first = await self.cheap.explain(feature, train)
        how = f"triage: {first.explainer} abstained"
        usage = first.usage
        if not first.abstained:
            score = await self.trial(first)
            usage += score.usage
            how = f"triage: {first.explainer} has {said(score)}"
            if value_of(score) >= self.enough:
                return _noted(replace(first, usage=usage), f"{how}, which is enough")
        found = await self.drafter.explain(feature, train)
        how += f", so {found.explainer} was asked"
        return _noted(replace(found, usage=usage + found.usage), how)


def _noted(explanation: Explanation, note: str) -> Explanation:
    return replace(explanation, note="; ".join(filter(None, [note, explanation.note])))
