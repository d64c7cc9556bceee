"""What a scorer gives the true description of a feature, near misses and unrelated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glossator.datasets.truth_claims import Miss, Planted
from glossator.embedder import Embedder
from glossator.live import Live
from glossator.llm import LLM
from glossator.scorers.build import Settings, build_scorer
from glossator.scorers.nulls import Wrong
from glossator.scorers.sample import chance_for
from glossator.scorers.table import Scorer
from glossator.types import Explanation, FeatureRecord, Score, Usage

TRUTH = "truth"
"""Who wrote the descriptions that are scored."""

BLIND: dict[str, frozenset[Miss]] = {
    # wrong marks stand on tokens drawn by chance, which a description that is too broad rarely fits
    "fuzzing": frozenset({Miss.BROAD}),
    # texts written from a part of the meaning set the feature off as well
    "generation": frozenset({Miss.NARROW, Miss.SENSE}),
    "intruder": frozenset(Miss),
}
"""Near misses that a scorer cannot notice by what it asks; `intruder` reads no description."""
NOT_FOR = {"generation": frozenset({"positions"})}
"""Groups of features that a scorer is not for: every text that is written has a first word."""
READS_NOTHING = frozenset({"intruder"})
"""Scorers that no description can change."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A scorer, and the simulator that it is run with."""

    scorer: str
    simulator: str = "auto"

    def __str__(self) -> str:
        return self.scorer if self.simulator == "auto" else f"{self.scorer} by {self.simulator}"


@dataclass(frozen=True)
class Ranked:
    """One feature by one scorer, all descriptions on the same windows."""

    feature: Planted
    reader: Reader
    true: Score
    near: tuple[tuple[Miss, Score], ...]
    unrelated: tuple[Score, ...]

    @property
    def scores(self) -> tuple[Score, ...]:
        """All of them."""
        return (self.true, *(score for _, score in self.near), *self.unrelated)

    @property
    def wrong_values(self) -> tuple[float, ...]:
        """What unrelated descriptions get; an undefined score counts as chance, 0, as in a null."""
        return tuple(score.value or 0.0 for score in self.unrelated)


@dataclass(frozen=True)
class Bench:
    """What all scores of one feature are made with."""

    feature: Planted
    record: FeatureRecord
    unrelated: tuple[Explanation, ...]
    """True descriptions of other features of other groups."""
    settings: Settings
    embedder: Embedder
    live: Live

    def claim(self, text: str) -> Explanation:
        """`text` as an explanation of the feature."""
        return Explanation(self.record.feature, text, TRUTH)

    def built(self, reader: Reader, explanation: Explanation, llm: LLM | None) -> Scorer:
        """The scorer, ready to run.

        Raises:
            Unsupported: if it cannot work with `llm`.
        """
        return build_scorer(
            reader.scorer,
            explanation,
            Wrong("shuffled", self.unrelated),
            simulator=reader.simulator,
            llm=llm,
            settings=self.settings,
            embedder=self.embedder,
            live=self.live,
        )

    async def score(self, reader: Reader, explanation: Explanation, llm: LLM | None) -> Score:
        """What the scorer gives on the test split, without wrong ones of its own.

        Raises:
            ProviderError, BudgetSpent, Unsupported: as the scorer does.
        """
        scorer = self.built(reader, explanation, llm)
        if hasattr(scorer, "wrong"):
            # They are scored one by one, so that each is in the figures by itself.
            scorer = replace(scorer, wrong=Wrong("shuffled", ()))  # type: ignore[type-var]
        score = await scorer.score(explanation, self.record.test, self.record.dev)
        return replace(score, predictions=())

    async def rank(self, reader: Reader, llm: LLM | None) -> Ranked:
        """The scores of all descriptions of the feature; see `score` for what it raises."""
        if reader.scorer in READS_NOTHING:
            true = await self.score(reader, self.claim(self.feature.true.text), llm)
            return Ranked(self.feature, reader, true, (), ())
        true = await self.score(reader, self.claim(self.feature.true.text), llm)
        near = [
            (claim.miss, await self.score(reader, self.claim(claim.text), llm))
            for claim in self.feature.near
        ]
        others = [
            await self.score(reader, replace(e, feature=self.record.feature), llm)
            for e in self.unrelated
        ]
        return Ranked(self.feature, reader, true, tuple(near), tuple(others))


def unrelated_to(
    feature: Planted, others: Sequence[tuple[Planted, FeatureRecord]], n: int, seed: int
) -> tuple[Explanation, ...]:
    """`n` true descriptions of features of other groups, drawn by chance."""
    fitting = [(o, record) for o, record in others if o.group != feature.group]
    order = chance_for(seed, "unrelated", feature.name).permutation(len(fitting))[:n]
    return tuple(Explanation(fitting[i][1].feature, fitting[i][0].true.text, TRUTH) for i in order)


def used_by(scores: Sequence[Score]) -> Usage:
    """What they used together."""
    return sum((score.usage for score in scores), Usage())
