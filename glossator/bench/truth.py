"""`bench truth`: scorers and explainers on planted features, whose truth is known.

Which scorer ranks a true description above a near miss, and that above an unrelated one? How much
of the function does an explainer find? And what do they ask for it?
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from glossator.bench.causal import Judged, RuleOf, judged
from glossator.bench.causal_tables import CausalRow, paired_causal, paired_recovery
from glossator.bench.competent import Competent
from glossator.bench.config import MADE_UP, NO_OUTPUT, ORACLE, TruthConfig
from glossator.bench.equal import AGENT, RIVALS, calls_of
from glossator.bench.ranking import NOT_FOR, READS_NOTHING, Bench, Ranked, Reader, unrelated_to
from glossator.bench.recovery import Recovered, explained, recover
from glossator.bench.tables import ExplainerRow, ScorerRow, TruthReport
from glossator.blank import BlankEmbedder
from glossator.config import RunLimits
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.truth import LIBRARY, Ground, function_of, plant, spread
from glossator.datasets.truth_causal import CAUSAL, CausalGround, plant_causal
from glossator.datasets.truth_effects import Causal
from glossator.datasets.truth_text import made_up
from glossator.embedder import Embedder, bundled
from glossator.errors import ConfigError, ReplyError, Unsupported
from glossator.experiments.of_function import live_function
from glossator.experiments.of_planted import live_planted
from glossator.llm import LLM, Purpose, working_on
from glossator.models import Models, Who
from glossator.pipeline import ungrouped
from glossator.progress import Progress, Tell
from glossator.providers.budget import Budget
from glossator.runs import RunStatus
from glossator.scorers.build import Settings
from glossator.store import Store
from glossator.tally import Tally
from glossator.types import Explanation

TOGETHER = 4
"""Features worked on at a time."""
N_COMPARED = 150
"""Documents on which triggers are compared."""
READS_EXPLANATIONS = ("detection", "simulation")
"""Scorers that read what explainers say, where they are benched; else all do."""


async def bench_truth(
    config: TruthConfig,
    limits: RunLimits,
    store: Store | None = None,
    *,
    embedder: Embedder | None = None,
    tell: Tell | None = None,
) -> TruthReport:
    """Runs scorers and explainers on planted features.

    Args:
        config: what to bench.
        limits: budget, offline and the like.
        store: keeps the replies, so that a bench goes on where it stopped; the oracle's are not.
        embedder: in place of the bundled one.
        tell: told how far it is.

    Raises:
        ConfigError, Unsupported: if a part cannot work with the language model.
        ProviderError, BudgetSpent: as the language model does.
    """
    say = tell or (lambda _: None)
    ground, causal = await asyncio.to_thread(lambda: _grounds(config, limits, say))
    embedder = embedder or (bundled(limits.offline) if config.embeds else BlankEmbedder())
    settings = Settings(
        config.n_scored, seed=config.seed, precision=config.precision, per_call=config.per_call
    )
    benches = [
        Bench(
            feature,
            record,
            unrelated_to(feature, list(ground.pairs()), config.n_unrelated, config.seed),
            settings,
            embedder,
            live_function(function_of(feature.function), record),
        )
        for feature, record in ground.pairs()
    ]
    acting = [] if causal is None else _acting(causal, settings, embedder)
    found = Found()
    async with _language_model(config, limits, store, (ground, causal), say) as (llm, settle):
        able, notes = able_readers(config.readers, benches[0], llm)
        gate = asyncio.Semaphore(TOGETHER)
        total = len(benches) + len(acting)
        done = 0
        say(Progress("bench", 0, total, 0))

        async def worked(work: Callable[[], Awaitable[Found]]) -> Found:
            nonlocal done
            async with gate:
                some = await work()
                settle()
            done += 1
            say(Progress("bench", done, total, 0))
            return some

        documents = [] if causal is None else list(causal.ground.documents.values())[:N_COMPARED]
        works: list[Callable[[], Awaitable[Found]]] = [
            functools.partial(_of_feature, config, able, bench, llm) for bench in benches
        ]
        works += [
            functools.partial(_of_causal, config, feature, bench, llm, documents)
            for feature, bench in acting
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ungrouped(worked(work))) for work in works]
        for task in tasks:
            found += task.result()
    return report(config, able, ground, found, notes)


def _acting(
    causal: CausalGround, settings: Settings, embedder: Embedder
) -> list[tuple[Causal, Bench]]:
    """What is known of features that act, and what they are worked on with."""
    return [
        (
            feature,
            Bench(
                feature.planted,
                record,
                (),
                settings,
                embedder,
                live_planted(feature, causal.words, record),
            ),
        )
        for feature, record in causal.pairs()
    ]


@dataclass(frozen=True)
class Found:
    """What was found, of one feature or of all."""

    ranked: tuple[Ranked, ...] = ()
    recovered: tuple[Recovered, ...] = ()
    judged: tuple[Judged, ...] = ()
    rivals: tuple[Recovered, ...] = ()
    """By explainers that had as many calls as the agent took."""
    rivals_judged: tuple[Judged, ...] = ()

    def __add__(self, other: Found) -> Found:
        return Found(
            self.ranked + other.ranked,
            self.recovered + other.recovered,
            self.judged + other.judged,
            self.rivals + other.rivals,
            self.rivals_judged + other.rivals_judged,
        )


def able_readers(
    readers: Sequence[Reader], bench: Bench, llm: LLM
) -> tuple[tuple[Reader, ...], tuple[str, ...]]:
    """Those of `readers` that can work with `llm`, and why the others cannot."""
    able, notes = [], []
    for reader in readers:
        try:
            bench.built(reader, bench.claim(bench.feature.true.text), llm)
        except Unsupported as error:
            notes.append(f"Not run: {error}")
        else:
            able.append(reader)
    return tuple(able), tuple(notes)


async def _of_feature(
    config: TruthConfig, readers: Sequence[Reader], bench: Bench, llm: LLM
) -> Found:
    feature = bench.record.feature
    ranked, recovered, rivals = [], [], []
    for reader in readers:
        if bench.feature.group in NOT_FOR.get(reader.scorer, ()):
            continue
        with working_on(Purpose("score", feature, f"truth/{reader.scorer}")):
            ranked.append(await bench.rank(reader, llm))
    legible = llm.legible if isinstance(llm, Competent) else lambda _: True
    reading = reading_of(readers)
    for name in config.explainers:
        if name in NO_OUTPUT and config.n_causal:
            continue
        with working_on(Purpose("explain", feature, name)):
            recovered.append(await recover(bench, name, reading, llm, config.run, legible))
    calls = spent_by_agent(one.explanation for one in recovered if one.explainer == AGENT)
    if calls is not None:
        for name in (n for n in RIVALS if n in config.explainers):
            with working_on(Purpose("explain", feature, f"{name}/equal")):
                rivals.append(await recover(bench, name, reading, llm, config.run, legible, calls))
    return Found(tuple(ranked), tuple(recovered), rivals=tuple(rivals))


async def _of_causal(
    config: TruthConfig,
    feature: Causal,
    bench: Bench,
    llm: LLM,
    documents: Sequence[Sequence[str]],
) -> Found:
    rule_of: RuleOf | None = llm.rule_of if isinstance(llm, Competent) else None

    async def one(name: str, calls: int | None) -> Judged:
        with working_on(Purpose("explain", bench.record.feature, name)):
            try:
                explanation = await explained(bench, name, llm, config.run, calls)
            except ReplyError as error:
                return Judged(feature, name, None, failure=str(error))
        with working_on(Purpose("score", bench.record.feature, f"truth/{name}")):
            return await judged(feature, name, explanation, llm, rule_of, documents)

    found = [await one(name, None) for name in config.explainers]
    calls = spent_by_agent(j.explanation for j in found if j.explainer == AGENT)
    names = [n for n in RIVALS if n in config.explainers] if calls is not None else []
    return Found(
        judged=tuple(found), rivals_judged=tuple([await one(name, calls) for name in names])
    )


def spent_by_agent(explanations: Iterable[Explanation | None]) -> int | None:
    """Calls that the agent took; None where there is no agent, or no reply could be used."""
    return next((calls_of(e.usage) for e in explanations if e is not None), None)


def reading_of(readers: Sequence[Reader]) -> list[Reader]:
    """Those of `readers` who read what explainers say."""
    return [r for r in readers if r.scorer in READS_EXPLANATIONS] or [
        r for r in readers if r.scorer not in READS_NOTHING
    ]


def _grounds(
    config: TruthConfig, limits: RunLimits, say: Tell
) -> tuple[Ground, CausalGround | None]:
    features = spread(LIBRARY, config.n_features)
    acting = spread(CAUSAL, config.n_causal)
    if config.corpus == MADE_UP:
        corpus, tokens = Corpus.of(made_up(LIBRARY, seed=config.seed), MADE_UP), None
    else:
        say(Progress("load", 0, 0, note=f"corpus {config.corpus}"))
        corpus, tokens = load_corpus(config.corpus, offline=limits.offline), config.tokens
    n = len(features) + len(acting)
    say(Progress("load", 0, 0, note=f"{n} planted features on {corpus.name}"))
    ground = plant(features, corpus, tokens=tokens, seed=config.seed)
    if not acting:
        return ground, None
    return ground, plant_causal(acting, corpus, tokens=tokens, seed=config.seed)


@asynccontextmanager
async def _language_model(
    config: TruthConfig,
    limits: RunLimits,
    store: Store | None,
    grounds: Sequence[Ground | CausalGround | None],
    say: Tell,
) -> AsyncIterator[tuple[LLM, Callable[[], None]]]:
    """Who is asked, and what writes down the calls so far."""
    if config.llm == ORACLE:
        known = [ground for ground in grounds if ground is not None]
        yield Competent.of(*known, seed=config.seed), lambda: None
        return
    if store is None:
        raise ConfigError(f"a bench of {config.llm} needs a store for its replies")
    run = store.begin_run(config.run)
    spent, calls = store.spent(run.id)
    budget = Budget(
        limits.budget,
        limits.max_calls,
        spent,
        calls,
        store.batches.owed(run.id),
        store.assumed(run.id),
    )
    models = Models(config.run, limits, store, run.id, budget, say, tally=Tally(store.used(run.id)))

    def settle() -> None:
        with store.transaction():
            models.settle()

    status = RunStatus.INTERRUPTED
    try:
        try:
            yield await models.get(Who(config.llm, config.base_url)), settle
            status = RunStatus.DONE
        finally:
            await models.aclose()
    finally:
        store.finish_run(run.id, status)


def report(
    config: TruthConfig,
    readers: Sequence[Reader],
    ground: Ground,
    found: Found,
    notes: Sequence[str],
) -> TruthReport:
    """The rows of each scorer and explainer."""
    ranked, recovered = found.ranked, found.recovered
    paired = [
        row
        for reader in reading_of(readers)
        for row in paired_recovery(recovered, found.rivals, reader)
    ]
    groups = dict.fromkeys(feature.group for feature in ground.features)
    known = config.llm == ORACLE
    return TruthReport(
        {
            "language model": config.llm,
            "planted features": f"{len(ground.features)} of {len(LIBRARY)}, {len(groups)} classes",
            "features that act, or look as if": f"{config.n_causal} of {len(CAUSAL)}",
            "corpus": config.corpus,
            "tokens read": ground.records[0].n_tokens,
            "windows a score": config.n_scored,
            "windows judged in a request": config.per_call or "auto",
            "half width asked for": config.precision or "any",
            "unrelated descriptions": config.n_unrelated,
            "seed": config.seed,
        },
        tuple(
            ScorerRow.of(reader, [r for r in ranked if r.reader == reader], len(readers))
            for reader in readers
        ),
        tuple(
            ExplainerRow.of(name, [r for r in recovered if r.explainer == name], ranked, known)
            for name in dict.fromkeys(r.explainer for r in recovered)
        ),
        (*notes, *NOTES, *(CAUSAL_NOTES if config.n_causal else ())),
        tuple(
            CausalRow.of(name, [j for j in found.judged if j.explainer == name])
            for name in dict.fromkeys(j.explainer for j in found.judged)
        ),
        (*paired, *paired_causal(found.judged, found.rivals_judged)),
    )


NOTES = (
    "Shares are means over features, with Wilson's interval for as many trials; means have a "
    "bootstrap interval over features. Ties are not above.",
    "*: the scorer cannot notice these by what it asks; they are left out of `true > near`.",
    "`generation` is not for positions: every text that is written has a first word.",
    "`intruder` reads no description, so nothing can be ranked: its `true` is the share of "
    "intruders found.",
    "`shuffled - null`: the score of a description of another feature, less the mean score of "
    "others, with an interval for all scorers at once (Bonferroni). 0 should be in it.",
    "Calls, tokens and seconds are of one explanation scored, or made. What came from the cache "
    "counts as a call, and has no tokens and no seconds.",
    "Explanations are read by the scorers of this table and this language model; one that carries "
    "a pattern of its own (`unigram`, `n2g`) by running it.",
    "Features that act on the output are no functions of a text: they are in tables of their own.",
)
CAUSAL_NOTES = (
    "What a feature that acts does is known: its words gain or lose probability in a small exact "
    "model of next words. Of two that fire alike one acts; of some that do nothing the output "
    "direction looks as if they did; some have no rule at all.",
    "An explanation that says nothing of the output counts as saying that there is no effect. An "
    "effect is named rightly where at least 75% of its words and of others, each alike, are told "
    "apart by it, as this language model reads it.",
    "Triggers are compared as the oracle reads them: they are the same from F1 0.95 over tokens "
    "on. With another language model nobody knows, and that part is left out.",
    "At equal budget the others may make as many drafts, of which dev chooses, as the agent's "
    "calls on that feature pay for: 8 at most. `n2g` asks nobody.",
)
