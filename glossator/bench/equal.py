"""An explainer with as many calls to a language model as another one took."""

from __future__ import annotations

from dataclasses import replace

from glossator.config import RunConfig
from glossator.embedder import Embedder
from glossator.explainers.best_of import BestOfExplainer
from glossator.explainers.build import build_explainer, needs_llm
from glossator.live import Live
from glossator.llm import LLM
from glossator.types import Explanation, FeatureRecord, Usage
from glossator.units import OnDev, explain_one

RIVALS = ("max-act", "contrastive", "revise", "n2g")
"""Whom an agent is held against, where they are benched."""
AGENT = "agent"
MOST_DRAFTS = 8


def calls_of(usage: Usage) -> int:
    """Asked of the language model, those from the cache among them."""
    return usage.calls + usage.cached_calls


async def explain_within(
    config: RunConfig,
    record: FeatureRecord,
    name: str,
    llm: LLM,
    live: Live,
    embedder: Embedder,
    calls: int,
) -> Explanation:
    """The best on dev of as many drafts by the explainer called `name` as `calls` pay for.

    One draft is made whatever it takes, and `MOST_DRAFTS` at most. One that asks nobody has nothing
    to spend.

    Raises:
        ReplyError, ProviderError, BudgetSpent: as the explainer does.
    """
    if not needs_llm(name):
        return await explain_one(config, record, name, llm, live, embedder)
    trial = OnDev(config, record, llm, embedder)

    async def best_of(k: int) -> Explanation:
        drafter = build_explainer(
            name,
            llm,
            n_shown=config.n_shown,
            live=live,
            embedder=embedder,
            trial=trial,
            draft=config.draft,
        )
        found = await BestOfExplainer(drafter, trial, k, seed=config.seed).explain(
            record.feature, record.train
        )
        return replace(found, explainer=name)

    one = await best_of(1)
    k = min(MOST_DRAFTS, calls // max(1, calls_of(one.usage)))
    return one if k < 2 else await best_of(k)
