"""Work that is tried out on stand-ins for the language models, to know what it would ask.

The explainers and scorers that would run do run, on some units of each kind and on models that
only count; what these units would use is taken for all of them. So no part has to say what it
asks, and a new one is counted like the others.

What a run asks may hang on what is answered, and these models mean nothing by their answers. So
there are two trials then: one that asks as little as a run can, and one that asks as much.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from glossator.blank import BlankEmbedder, BlankLive
from glossator.config import RunConfig
from glossator.errors import ReplyError
from glossator.explainers.build import needs_llm
from glossator.llm import LLM, Purpose, Reply, working_on
from glossator.neighbours import N_NEAREST
from glossator.providers.budget import Budget
from glossator.providers.gate import Gate
from glossator.providers.journal import LaterJournal
from glossator.providers.metered import Metered
from glossator.providers.rehearsal import WORDS, Rehearsal
from glossator.scorers.build import asks_llm, takes
from glossator.scorers.looks import FIRST
from glossator.types import Explanation, FeatureId, FeatureRecord, Usage
from glossator.units import TRIED_BY, OnDev, explain_one, score_one

MOST_TRIED = 24
"""Units of one kind that are tried, of all that there are."""
MOST_CALLS = 3000
"""Calls of the tried units of one kind after which no more are tried, but three are."""
MADE_UP = 64
"""Explanations made up for features of which none was tried, beside the wrong ones asked for."""

_Unit = TypeVar("_Unit")


class Case(StrEnum):
    """How what is answered turns out for what has to be asked next."""

    LEAST = "least"
    """Scorers are precise enough at their first look, triage needs no language model, and the live
    subject finds no hard window."""
    MOST = "most"
    """Scorers read all there is, triage asks for each feature, and hard windows abound."""


def hangs_on_answers(config: RunConfig) -> bool:
    """Whether the two cases may differ."""
    return bool(config.precision or config.triage or config.n_hard)


@dataclass(frozen=True)
class StandIn:
    """A counting model behind the same meter as the real one."""

    rehearsal: Rehearsal
    llm: Metered
    kept: Callable[[str], Reply | None]

    @classmethod
    def of(cls, rehearsal: Rehearsal, kept: Callable[[str], Reply | None]) -> StandIn:
        """With the replies that are `kept`."""
        gate = Gate(MOST_CALLS)
        journal = LaterJournal(kept)
        llm = Metered(rehearsal, journal, Budget(), rehearsal.price, gate=gate)
        return cls(rehearsal, llm, kept)

    def anew(self) -> StandIn:
        """The same, of which nothing was asked so far."""
        return StandIn.of(self.rehearsal.anew(), self.kept)


@dataclass(frozen=True, slots=True)
class Amount:
    """What some work comes to."""

    stage: str = ""
    part: str = ""
    llm: str = ""
    units: int = 0
    used: Usage = Usage()
    """As it usually goes."""
    dollars_at_most: float = 0.0
    fresh_tokens: float = 0.0
    """Prompt tokens less those with which an earlier prompt began."""
    stored_bytes: float = 0.0


@dataclass
class Trial:
    """Tries out a run on stand-ins."""

    config: RunConfig
    record: Callable[[FeatureId], FeatureRecord]
    """What was collected of a feature, or might be."""
    explanations: dict[tuple[FeatureId, str], Explanation]
    """By feature and explainer: those there are; the trial adds what it makes up."""
    features: Sequence[FeatureId] = ()
    """All of the run."""
    case: Case = Case.MOST

    async def explain(self, name: str, features: Sequence[FeatureId], by: StandIn) -> Amount:
        """What the explainer called `name` would ask of `features`."""
        config = self._config(TRIED_BY[0])

        async def work(feature: FeatureId) -> None:
            if self._triaged(name):
                cheap = await self._cheap(feature, name, by.llm)
                if self.case is Case.LEAST:
                    self.explanations[feature, name] = cheap
                    return
            said = await explain_one(
                config,
                self.record(feature),
                name,
                by.llm,
                BlankLive(feature),
                BlankEmbedder(),
            )
            if said.usage.calls and not said.abstained:
                said = _reworded(said, feature)
            self.explanations[feature, name] = said

        return await _tried("explain", name, features, work, by)

    async def score(
        self, explainer: str, name: str, features: Sequence[FeatureId], by: StandIn
    ) -> Amount:
        """What the scorer called `name` would ask of explanations by `explainer`."""
        others = await self._others(explainer, features)

        async def work(feature: FeatureId) -> None:
            explanation = await self._explanation(feature, explainer)
            config, llm = self._config(name), by.llm
            if asks_llm(name, explanation, config.simulator, llm):
                record = self.record(feature)
                blank, live, near = BlankEmbedder(), BlankLive(feature), []
                if takes(name, "hard") and self.case is Case.MOST:
                    live = BlankLive(feature, peak=0.0)  # silent on whatever it reads
                    near = self._near(feature)
                await score_one(config, record, explanation, others, name, llm, blank, live, near)

        return await _tried("score", f"{explainer}/{name}", features, work, by)

    def _config(self, scorer: str) -> RunConfig:
        """The options with which the scorer called `scorer` does without answers that mean much."""
        config = replace(self.config, precision=0.0, triage=False)
        if self.config.precision and self.case is Case.LEAST and takes(scorer, "precision"):
            return replace(config, n_scored=min(config.n_scored, FIRST))
        return config

    def _near(self, feature: FeatureId) -> list[FeatureRecord]:
        """Records of some other features, which might be the nearest."""
        others = [f for f in self.features if f != feature and f.source == feature.source]
        return [self.record(f) for f in others[:N_NEAREST]]

    def _triaged(self, name: str) -> bool:
        """Whether the explainer called `name` is asked only where a cheap one fails."""
        return self.config.triage and needs_llm(name)

    async def _cheap(self, feature: FeatureId, name: str, llm: LLM | None = None) -> Explanation:
        """What a cheap explainer says in the place of `name`; tried on dev where `llm` is given."""
        record = self.record(feature)
        said = await explain_one(self.config, record, "unigram", None)
        if llm is not None and not said.abstained:
            await OnDev(self._config(TRIED_BY[0]), record, llm, BlankEmbedder())(said)
        return replace(said, explainer=name)

    async def _others(self, explainer: str, features: Sequence[FeatureId]) -> Sequence[Explanation]:
        """Explanations to draw wrong ones from: those there are, and some made-up ones."""
        missing = [f for f in features if (f, explainer) not in self.explanations]
        for feature in missing[: MADE_UP + 2 * self.config.n_shuffled]:
            await self._explanation(feature, explainer)
        return [e for (_, name), e in self.explanations.items() if name == explainer]

    async def _explanation(self, feature: FeatureId, name: str) -> Explanation:
        known = self.explanations.get((feature, name))
        if known is None:
            known = self.explanations[feature, name] = await self._made_up(feature, name)
        return known

    async def _made_up(self, feature: FeatureId, name: str) -> Explanation:
        """One like those that were tried; by who asks nobody, what it would say."""
        if self._triaged(name) and self.case is Case.LEAST:
            return await self._cheap(feature, name)
        tried = [e for (_, who), e in self.explanations.items() if who == name and e.model]
        if not tried and not needs_llm(name):
            return await explain_one(
                self.config,
                self.record(feature),
                name,
                None,
                BlankLive(feature),
                BlankEmbedder(),
            )
        if not tried:
            return _reworded(Explanation(feature, WORDS, name), feature)
        longest = max(tried, key=lambda e: len(e.text.split()))
        if longest.abstained:
            return replace(longest, feature=feature)
        return _reworded(longest, feature)


async def _tried(
    stage: str,
    part: str,
    units: Sequence[FeatureId],
    work: Callable[[FeatureId], Awaitable[None]],
    by: StandIn,
) -> Amount:
    """What `work` on all `units` comes to, by that on some of them, drawn by chance."""
    counted = by.rehearsal
    before = (counted.used, counted.dollars_at_most, counted.fresh_tokens, counted.stored_bytes)
    n = 0
    for unit in random.Random(0).sample(units, min(len(units), MOST_TRIED)):
        # An answer that is no good is ours; what would have been asked is counted.
        with working_on(Purpose(stage, unit, part)), suppress(ReplyError):
            await work(unit)
        n += 1
        if n >= 3 and counted.used.calls - before[0].calls > MOST_CALLS:
            break
    times = len(units) / n if n else 0.0
    return Amount(
        stage,
        part,
        counted.name,
        len(units),
        _scaled(counted.used, before[0], times),
        times * (counted.dollars_at_most - before[1]),
        times * (counted.fresh_tokens - before[2]),
        times * (counted.stored_bytes - before[3]),
    )


def _scaled(after: Usage, before: Usage, times: float) -> Usage:
    """What was used between the two, so many times over."""
    unknown = after.cost is None or before.cost is None
    return Usage(
        calls=round(times * (after.calls - before.calls)),
        prompt_tokens=round(times * (after.prompt_tokens - before.prompt_tokens)),
        completion_tokens=round(times * (after.completion_tokens - before.completion_tokens)),
        cost=None if unknown else times * ((after.cost or 0.0) - (before.cost or 0.0)),
        cache_read_tokens=round(times * (after.cache_read_tokens - before.cache_read_tokens)),
    )


def _reworded(explanation: Explanation, feature: FeatureId) -> Explanation:
    """The same words in an order of the feature's own: as long, and not the same text."""
    words = explanation.text.split()
    random.Random(str(feature)).shuffle(words)
    return replace(explanation, feature=feature, text=" ".join(words))
