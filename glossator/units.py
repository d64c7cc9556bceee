"""The pieces of work that ask language models: one explanation, one score, as a run is set up.

A run does them, and an estimate tries them out on a model that only counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from glossator.config import RunConfig
from glossator.embedder import Embedder, bundled
from glossator.errors import (
    CutOff,
    GlossatorError,
    OutOfRange,
    PromptTooLong,
    ProviderError,
    Refused,
    ReplyError,
)
from glossator.explainers.build import build_explainer, needs_llm, with_triage
from glossator.inquiring import Bench, RunInquirer
from glossator.live import Live
from glossator.llm import LLM, Can, Reply, Request
from glossator.scorers.build import ASKS_NOBODY, AUTO, Settings, asks_llm, build_scorer
from glossator.scorers.nulls import Wrong, choose_wrong
from glossator.scorers.table import SCORERS, Scorer
from glossator.types import Explanation, FeatureRecord, Score, Split

TRIED_BY = ("detection", "simulation", "fuzzing", "rubric")
"""Scorers that rate windows one by one, by which explanations are tried out on dev."""
FREE_NULLS = 99
"""Wrong explanations where scoring one costs nothing, which makes p as fine as 0.01."""
_OF_KIND: dict[str, type[ReplyError]] = {
    "refused": Refused,
    "cut off": CutOff,
    "range": OutOfRange,
    # What else the provider does to a reply is told before a score is looked at.
    "provider": PromptTooLong,
}
"""The error that says that all windows failed in one way, by `Prediction.failure`."""


async def explain_one(
    config: RunConfig,
    record: FeatureRecord,
    name: str,
    llm: LLM | None,
    live: Live | None = None,
    embedder: Embedder | None = None,
    bench: Bench | None = None,
) -> Explanation:
    """What the explainer called `name` says of the feature of `record`, which `live` is of.

    `bench` is what an agent works with beside that.

    Raises:
        ReplyError, BudgetSpent: as the explainer does.
        ProviderError: as the explainer does, and if any reply was lost.
    """
    watched = Watched.of(llm)
    trial = OnDev(config, record, watched, embedder or bundled())
    explainer = build_explainer(
        name,
        watched,
        n_shown=config.n_shown,
        live=live,
        embedder=trial.embedder,
        trial=trial,
        draft=config.draft,
        inquirer=RunInquirer(config, record, trial, live, trial.embedder, bench or Bench()),
    )
    if config.triage and needs_llm(name):
        explainer = with_triage(explainer, trial, live)
    try:
        explanation = await explainer.explain(record.feature, record.train)
    except ReplyError as error:
        # Of several replies that were no good, an explainer may raise one that did come.
        if watched is not None and not error.broken:
            watched.check()
        raise
    if watched is not None:
        watched.check()
    # One from outside may call itself something else than what it was asked for by.
    return replace(explanation, explainer=name)


@dataclass(frozen=True)
class OnDev:
    """Tries explanations of one feature on dev, for explainers; see `explainers.trial.Trial`.

    The scorer is one of the run's, and it asks the model that explains: of local ones, only one is
    loaded at a time.
    """

    config: RunConfig
    record: FeatureRecord
    llm: LLM | None
    embedder: Embedder

    @property
    def dev(self) -> Split:
        """The windows that it is tried on."""
        return self.record.dev

    @property
    def scorer(self) -> str:
        """The first of `TRIED_BY` that the run scores with, or the first of all."""
        return next((name for name in TRIED_BY if name in self.config.scorers), TRIED_BY[0])

    async def __call__(self, explanation: Explanation) -> Score:
        """The score on dev. Nothing is fitted, and there is no null.

        Raises:
            ProviderError: if the provider lost a reply: what is said must not depend on that.
        """
        none = Wrong("shuffled", ())
        llm = Watched.of(self.llm)
        plain = replace(self.config, n_hard=0)
        scorer = scorer_for(plain, self.scorer, explanation, none, llm, self.embedder)
        score = await scorer.score(explanation, self.dev)
        if llm is not None:
            llm.check()
        return score


@dataclass(frozen=True)
class Watched:
    """A language model, and what its provider lost of that which it was asked.

    What is lost says nothing of an explanation, and is there when it is asked for again.
    """

    llm: LLM
    lost: list[GlossatorError] = field(default_factory=list)

    @classmethod
    def of(cls, llm: LLM | None) -> Watched | None:
        """`llm` with nothing lost so far; None for none."""
        return None if llm is None else cls(llm)

    @property
    def name(self) -> str:
        """As the model inside."""
        return self.llm.name

    @property
    def can(self) -> frozenset[Can]:
        """As the model inside."""
        return self.llm.can

    async def reply(self, request: Request) -> Reply:
        """As the model inside."""
        try:
            return await self.llm.reply(request)
        except (ReplyError, ProviderError) as error:
            if isinstance(error, ProviderError) or error.broken:
                self.lost.append(error)
            raise

    def check(self) -> None:
        """Refuses whatever was made of the replies if any was lost.

        Raises:
            ProviderError: quoting the first.
        """
        if self.lost:
            n = len(self.lost)
            replies = "a reply was" if n == 1 else f"{n} replies were"
            raise ProviderError(f"{replies} lost on the way: {self.lost[0]}")


def scorer_for(
    config: RunConfig,
    name: str,
    explanation: Explanation,
    wrong: Wrong,
    llm: LLM | None,
    embedder: Embedder,
    live: Live | None = None,
    neighbours: Sequence[FeatureRecord] = (),
) -> Scorer:
    """The scorer called `name`; `neighbours` as for `build_scorer`.

    Raises:
        ConfigError, Unsupported: if it cannot work with `llm`.
    """
    return build_scorer(
        name,
        explanation,
        wrong,
        simulator=config.simulator,
        llm=llm,
        settings=Settings(
            config.n_scored,
            seed=config.seed,
            n_hard=config.n_hard,
            precision=config.precision,
            per_call=config.per_call,
        ),
        embedder=embedder,
        live=live,
        neighbours=neighbours,
    )


def scoring_asks(config: RunConfig) -> bool:
    """Whether any score wants a language model, judging by the names alone."""
    wanted: set[str] = set()
    for name in config.scorers:
        wanted |= set(getattr(SCORERS.load(name), "__dataclass_fields__", {}))
    if "llm" in wanted:
        return True
    if not wanted & {"judge", "simulator"}:
        return False
    if config.simulator == AUTO:
        return any(needs_llm(e) for e in config.explainers)
    return config.simulator not in ASKS_NOBODY


async def score_one(
    config: RunConfig,
    record: FeatureRecord,
    explanation: Explanation,
    others: Sequence[Explanation],
    name: str,
    llm: LLM | None,
    embedder: Embedder,
    live: Live | None = None,
    neighbours: Sequence[FeatureRecord] = (),
) -> Score:
    """What the scorer called `name` gives `explanation`; `others` are all of the run.

    `neighbours` are features that fire on text like its, for hard windows.

    Raises:
        ReplyError: if no reply could be used, of the kind that most of the failures are.
        ProviderError: as the scorer does, and if any reply was lost.
        BudgetSpent: as the scorer does.
    """
    asks = asks_llm(name, explanation, config.simulator, llm)
    n_wrong = config.n_shuffled if asks else max(config.n_shuffled, FREE_NULLS)
    wrong = choose_wrong(explanation, others, n_wrong, config.seed)
    watched = Watched.of(llm)
    scorer = scorer_for(config, name, explanation, wrong, watched, embedder, live, neighbours)
    score = await scorer.score(explanation, record.test, record.dev)
    if watched is not None:
        watched.check()
    if score.n_failed and not score.n:
        raise _unusable(score)
    return replace(score, scorer=name)


def _unusable(score: Score) -> ReplyError:
    """The error of a score of which no window could be judged."""
    kind = max(score.failures, key=lambda kind: score.failures[kind], default="")
    raw = next((p.raw for p in score.predictions if p.raw and p.failure == kind), "")
    said = f"no reply of {score.n_failed} could be used: {score.note}"
    return _OF_KIND.get(kind, ReplyError)(said, raw)
