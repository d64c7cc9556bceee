"""How much of a planted feature an explainer finds: its explanation read on held-out text.

Whoever reads is the same for all: the scorers of the bench, which also read the true description.
An explanation that carries a pattern of its own is read by running that pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glossator.bench.equal import explain_within
from glossator.bench.ranking import Bench, Reader
from glossator.config import RunConfig
from glossator.datasets.truth_claims import Planted
from glossator.errors import ReplyError
from glossator.llm import LLM
from glossator.scorers.build import asks_llm
from glossator.types import Explanation, Score
from glossator.units import explain_one


@dataclass(frozen=True)
class Recovered:
    """One feature by one explainer."""

    feature: Planted
    explainer: str
    explanation: Explanation | None
    """None if no reply of the language model could be used."""
    scores: tuple[tuple[Reader, Score], ...]
    failure: str = ""

    @property
    def named(self) -> str:
        """Whether the explanation is a description of the library: `true`, or in which way near.

        Empty where it is another text.
        """
        if self.explanation is None:
            return ""
        if self.explanation.text == self.feature.true.text:
            return "true"
        near = [c.miss.value for c in self.feature.near if c.text == self.explanation.text]
        return near[0] if near else ""


async def recover(
    bench: Bench,
    explainer: str,
    readers: Sequence[Reader],
    llm: LLM,
    config: RunConfig,
    legible: Callable[[str], bool],
    calls: int | None = None,
) -> Recovered:
    """What `explainer` says from the train split, and what the readers make of it on test.

    Args:
        bench: the feature, and what scores are made with.
        explainer: its registered name.
        readers: who reads the explanation.
        llm: who explains, and reads.
        config: how many examples the explainer is shown, and the like.
        legible: whether the language model can read a text; one that it cannot is read by those
            alone who ask nobody.
        calls: to the language model, which it may spend on drafts; None: as it does by itself.

    Raises:
        ProviderError, BudgetSpent, Unsupported: as the explainer and the scorers do.
    """
    try:
        explanation = await explained(bench, explainer, llm, config, calls)
    except ReplyError as error:
        return Recovered(bench.feature, explainer, None, (), str(error))
    if explanation.abstained:
        return Recovered(bench.feature, explainer, explanation, ())
    scores: list[tuple[Reader, Score]] = []
    for reader in readers:
        if explanation.runs and reader.scorer in {r.scorer for r, _ in scores}:
            continue  # the pattern is run, whoever would have read it
        own = Reader(reader.scorer) if explanation.runs else reader
        asks = asks_llm(own.scorer, explanation, own.simulator, llm)
        if asks and not legible(explanation.text):
            continue
        scores.append((reader, await bench.score(own, explanation, llm)))
    return Recovered(bench.feature, explainer, explanation, tuple(scores))


async def explained(
    bench: Bench, explainer: str, llm: LLM, config: RunConfig, calls: int | None
) -> Explanation:
    """What `explainer` says, by itself or with `calls` to spend; raises as the explainer does."""
    work = (config, bench.record, explainer, llm, bench.live, bench.embedder)
    return await (explain_one(*work) if calls is None else explain_within(*work, calls))
