"""`bench truth`: scorers and explainers on planted features, whose truth is known.

Which scorer ranks a true description above a near miss, and that above an unrelated one? How much
of the function does an explainer find? And what do they ask for it?
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from glossator.bench.config import MADE_UP, ORACLE, TruthConfig
from glossator.bench.oracle import Oracle
from glossator.bench.ranking import NOT_FOR, READS_NOTHING, Bench, Ranked, Reader, unrelated_to
from glossator.bench.recovery import Recovered, recover
from glossator.bench.tables import ExplainerRow, ScorerRow, TruthReport
from glossator.blank import BlankEmbedder
from glossator.config import RunLimits
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.truth import LIBRARY, Ground, function_of, plant, spread
from glossator.datasets.truth_text import made_up
from glossator.embedder import Embedder, bundled
from glossator.errors import ConfigError, Unsupported
from glossator.experiments.of_function import live_function
from glossator.llm import LLM, Purpose, working_on
from glossator.models import Models, Who
from glossator.pipeline import ungrouped
from glossator.progress import Progress, Tell
from glossator.providers.budget import Budget
from glossator.runs import RunStatus
from glossator.scorers.build import Settings
from glossator.store import Store
from glossator.tally import Tally

TOGETHER = 4
"""Features worked on at a time."""
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
    ground = await asyncio.to_thread(lambda: _ground(config, limits, say))
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
    ranked: list[Ranked] = []
    recovered: list[Recovered] = []
    async with _language_model(config, limits, store, ground, say) as (llm, settle):
        able, notes = able_readers(config.readers, benches[0], llm)
        gate = asyncio.Semaphore(TOGETHER)
        done = 0
        say(Progress("bench", 0, len(benches), 0))

        async def one(bench: Bench) -> tuple[list[Ranked], list[Recovered]]:
            nonlocal done
            async with gate:
                found = await _of_feature(config, able, bench, llm)
                settle()
            done += 1
            say(Progress("bench", done, len(benches), 0))
            return found

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ungrouped(one(bench))) for bench in benches]
        for task in tasks:
            ranked += task.result()[0]
            recovered += task.result()[1]
    return report(config, able, ground, ranked, recovered, notes)


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
) -> tuple[list[Ranked], list[Recovered]]:
    feature = bench.record.feature
    ranked, recovered = [], []
    for reader in readers:
        if bench.feature.group in NOT_FOR.get(reader.scorer, ()):
            continue
        with working_on(Purpose("score", feature, f"truth/{reader.scorer}")):
            ranked.append(await bench.rank(reader, llm))
    legible = llm.legible if isinstance(llm, Oracle) else lambda _: True
    reading = [r for r in readers if r.scorer in READS_EXPLANATIONS] or [
        r for r in readers if r.scorer not in READS_NOTHING
    ]
    for name in config.explainers:
        with working_on(Purpose("explain", feature, name)):
            recovered.append(await recover(bench, name, reading, llm, config.run, legible))
    return ranked, recovered


def _ground(config: TruthConfig, limits: RunLimits, say: Tell) -> Ground:
    features = spread(LIBRARY, config.n_features)
    if config.corpus == MADE_UP:
        corpus, tokens = Corpus.of(made_up(LIBRARY, seed=config.seed), MADE_UP), None
    else:
        say(Progress("load", 0, 0, note=f"corpus {config.corpus}"))
        corpus, tokens = load_corpus(config.corpus, offline=limits.offline), config.tokens
    say(Progress("load", 0, 0, note=f"{len(features)} planted features on {corpus.name}"))
    return plant(features, corpus, tokens=tokens, seed=config.seed)


@asynccontextmanager
async def _language_model(
    config: TruthConfig, limits: RunLimits, store: Store | None, ground: Ground, say: Tell
) -> AsyncIterator[tuple[LLM, Callable[[], None]]]:
    """Who is asked, and what writes down the calls so far."""
    if config.llm == ORACLE:
        yield Oracle.of(ground), lambda: None
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
    ranked: Sequence[Ranked],
    recovered: Sequence[Recovered],
    notes: Sequence[str],
) -> TruthReport:
    """The rows of each scorer and explainer."""
    groups = dict.fromkeys(feature.group for feature in ground.features)
    known = config.llm == ORACLE
    return TruthReport(
        {
            "language model": config.llm,
            "planted features": f"{len(ground.features)} of {len(LIBRARY)}, {len(groups)} classes",
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
            for name in config.explainers
        ),
        (*notes, *NOTES),
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
    "Features that act only on the output are no functions of a text: that class is not here.",
)
