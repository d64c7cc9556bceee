"""The `best-of` explainer: several drafts, of which the one is kept that does best on dev."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from glossator.errors import ReplyError
from glossator.explainers.table import Explainer
from glossator.explainers.trial import Trial, said, value_of
from glossator.types import Explanation, FeatureId, Split, Usage

VERSION = "best-of-1"


@dataclass(frozen=True)
class BestOfExplainer:
    """Has another explainer look at different train windows, and keeps the best draft.

    The first draft is made from all of them, the others each from a random part of those that fire:
    so they differ whoever writes them, also where replies are the same each time.
    """

    drafter: Explainer
    trial: Trial
    k: int = 4
    """Drafts."""
    share: float = 0.6
    """Of the firing windows, what each draft but the first is made from."""
    seed: int = 0

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """The draft with the best score on dev, or an abstention where all abstain.

        Raises:
            ReplyError: if no draft could be read.
        """
        usage = Usage()
        failed: ReplyError | None = None
        drafts: dict[str, Explanation] = {}
        for number in range(self.k):
            try:
                draft = await self.drafter.explain(feature, self._part(train, feature, number))
            except ReplyError as error:
                usage += error.usage or Usage()
                failed = error
                continue
            usage += draft.usage
            drafts.setdefault(draft.text, draft)
        if not drafts:
            assert failed is not None
            raise type(failed)(str(failed), failed.reply, usage) from failed
        tried: list[tuple[float, int, Explanation, str]] = []
        for number, draft in enumerate(drafts.values()):
            if not draft.abstained:
                score = await self.trial(draft)
                usage += score.usage
                tried.append((value_of(score), -number, draft, said(score)))
        if not tried:
            return replace(next(iter(drafts.values())), explainer="best-of", usage=usage)
        *_, best, how = max(tried, key=lambda one: one[:2])
        note = f"the best of {len(tried)} different drafts: {how}"
        return replace(
            best,
            explainer="best-of",
            prompt_version=f"{VERSION}, {best.prompt_version}".rstrip(", "),
            usage=usage,
            note="; ".join(filter(None, [best.note, note])),
        )

    def _part(self, train: Split, feature: FeatureId, number: int) -> Split:
        """The windows that draft `number` is made from."""
        n = max(1, round(self.share * len(train.firing)))
        if number == 0 or n == len(train.firing) or not train.firing:
            return train
        chance = random.Random(f"{self.seed} {feature} {number}")
        kept = sorted(chance.sample(range(len(train.firing)), n))
        return replace(train, firing=tuple(train.firing[i] for i in kept), strata=())
