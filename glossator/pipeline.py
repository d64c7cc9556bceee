"""The main job: collect, explain, score and record, going on where it was cut off.

A unit of work is one feature collected, one explanation, or one score. Its result, its cost and its
being done are written together, so a run that is killed repeats only what was in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

from glossator.acts import is_human
from glossator.collecting import Collecting
from glossator.config import RunConfig, RunLimits
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.readings import Coder
from glossator.datasets.search import CorpusSearch
from glossator.embedder import bundled
from glossator.errors import (
    BudgetSpent,
    ConfigError,
    CorpusError,
    GlossatorError,
    ProviderError,
    ProviderRefused,
    ReplyError,
)
from glossator.experiments import Experiments
from glossator.explainers.build import inquires, needs_llm
from glossator.laboratory import Laboratory
from glossator.live import Live
from glossator.llm import Purpose, working_on
from glossator.models import Models, Who, check_batch, explains, judges
from glossator.neighbours import Neighbours
from glossator.progress import Progress, Tell
from glossator.providers.budget import Budget
from glossator.providers.errand import PACE, Pace
from glossator.providers.metered import Metered
from glossator.providers.prices import FREE
from glossator.providers.server import knock
from glossator.providers.table import check_address, check_spec
from glossator.reading import (
    chosen_features,
    coder_digest,
    coder_of,
    collection_key,
    control_notice,
    site_notice,
    sites_of,
    subject_of,
)
from glossator.runs import Run, RunStatus
from glossator.scorers.build import AUTO, takes
from glossator.scorers.nulls import Wrong
from glossator.scorers.table import SCORERS, SIMULATORS
from glossator.scorers.together import first_of
from glossator.store import Store
from glossator.subject import Subject
from glossator.tally import Tally
from glossator.types import Explanation, FeatureId, Usage
from glossator.units import explain_one, score_one, scorer_for, scoring_asks

STAGES = ("collect", "explain", "score")
TOGETHER = 16
"""Units worked on at a time; the language models batch or limit what these ask."""
LOCAL_TOGETHER = 4
"""The same for scores by a model in this process: enough to batch, and little lost at a kill."""
BATCH_TOGETHER = {"explain": 4096, "score": 128}
"""The same where requests wait for a batch: a score asks hundreds of times, and each of these takes
about 20 kB of memory while it waits."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    run: Run
    done: int
    """Features of which everything asked for is there."""
    failed: int
    """Features of which something was given up; where the run was stopped, others may be left."""
    status: RunStatus
    stopped: GlossatorError | None = None
    """What ended it before its time: the budget, or a provider that refuses."""
    used: Usage = Usage()
    """What language models used in the run, in all."""
    since: Usage = Usage()
    """The same since this start of it."""


_Result = TypeVar("_Result")


async def run(
    config: RunConfig,
    limits: RunLimits,
    store: Store,
    *,
    stages: Sequence[str] = STAGES,
    fresh: bool = False,
    on_progress: Tell | None = None,
    pace: Pace = PACE,
) -> Outcome:
    """Does what `config` asks for and `store` lacks; `pace` is that of batches.

    Raises:
        ConfigError, NotRegistered, AssetError, CorpusError, Unsupported: before anything is paid.
        StoreError: if the store cannot be written.
        asyncio.CancelledError: if interrupted; what is done is stored, and the run marked so.
    """
    check_names(config)
    check_batch(config, limits)
    if fresh or not store.has_run(config):
        await check_servers(config, limits, stages, on_progress or (lambda _: None))
    async with Job.prepared(config, limits, store, fresh, on_progress, pace) as job:
        return await _finished(job, stages)


async def _finished(job: Job, stages: Sequence[str]) -> Outcome:
    """Does what is left of `job`."""
    store = job.store
    status = RunStatus.DONE
    stopped: GlossatorError | None = None
    try:
        async with aclosing(job.models):
            # What is wrong with a model behind an API shows before the text is read for minutes.
            await job.meet(stages, local=False)
            if "collect" in stages:
                await job.collect(tuple(stages) == ("collect",))
            job.leave_out()
            # One local model at a time: together they would fill a laptop's memory.
            if "explain" in stages:
                await job.meet(["explain"], local=True)
                await job.explain()
            if "score" in stages:
                await job.let_go()
                await job.meet(["score"], local=True)
                await job.score()
    except asyncio.CancelledError:
        store.finish_run(job.run.id, RunStatus.INTERRUPTED)
        raise
    except BudgetSpent as error:
        status, stopped = RunStatus.BUDGET_SPENT, job.models.budget.retold(error)
    except ProviderRefused as error:
        status, stopped = RunStatus.REFUSED, error
    except GlossatorError:
        store.finish_run(job.run.id, RunStatus.INTERRUPTED)
        raise
    failed = {f.feature for f in store.failures(job.run.id)}
    if failed and stopped is None:
        status = RunStatus.SOME_FAILED
    store.finish_run(job.run.id, status)
    done = len(job.complete(stages) - failed)
    tally = job.models.tally
    return Outcome(
        store.run(job.run.id), done, len(failed), status, stopped, tally.used, tally.since
    )


def check_names(config: RunConfig) -> None:
    """Refuses names that nobody has, before anything is loaded.

    Raises:
        NotRegistered: naming the near ones.
    """
    for name in (*config.explainers, config.draft):
        needs_llm(name)
    for name in config.scorers:
        SCORERS.load(name)
    if config.simulator != AUTO:
        SIMULATORS.load(config.simulator)
    for spec in {config.llm, config.scorer_llm or config.llm}:
        check_spec(spec)
    who = (explains(config), judges(config))
    if config.base_url and not any(w.base_url == config.base_url for w in who):
        raise ConfigError("--base-url goes with --llm openai:MODEL or anthropic:MODEL")
    if config.scorer_base_url and not who[1].base_url:
        raise ConfigError("--scorer-base-url goes with a scorer's openai:MODEL or anthropic:MODEL")


async def check_servers(
    config: RunConfig, limits: RunLimits, stages: Sequence[str], say: Tell
) -> None:
    """Refuses addresses at which nobody listens, before anything is loaded.

    For new runs: of one that goes on, nothing may be left to ask them.

    Raises:
        ConfigError: naming the address, also if it is none, or out of bounds.
    """
    asked = {
        "explain": explains(config) if any(map(needs_llm, config.explainers)) else None,
        "score": judges(config) if scoring_asks(config) else None,
    }
    for who in {who for stage, who in asked.items() if stage in stages and who is not None}:
        if who.base_url:
            say(Progress("load", 0, 0, note=f"language model {who.spec}"))
            check_address(who.spec, who.base_url, offline=limits.offline)
            await knock(who.base_url)


def check_readable(corpus: Corpus, say: Tell) -> None:
    """Says how much of the text is no UTF-8.

    Raises:
        CorpusError: if most of it is: then it is no text.
    """
    bad, n = corpus.n_unreadable, corpus.n_documents
    if bad * 2 > n:
        raise CorpusError(
            f"{bad} of {n} documents of {corpus.name} hold bytes that are no UTF-8: it is no text, "
            "or text in another encoding"
        )
    if bad:
        note = f"{bad} of {n} documents hold bytes that are no UTF-8"
        say(Progress("load", 0, 0, note=note, is_notice=True))


def versions(subject: Subject, coder: Coder | None = None) -> dict[str, str]:
    """Of what computes a run's numbers."""
    packages = ("glossator", "torch", "transformers", "numpy")
    found = {name: metadata.version(name) for name in packages}
    if coder is not None:
        found["coder"] = coder_digest(coder)
    return found | {f"subject {subject.name}": f"{subject.revision} in {subject.dtype}"}


async def ungrouped(work: Awaitable[_Result]) -> _Result:
    """What `work` gives; of a group of exceptions, as task groups raise them, the first alone."""
    try:
        return await work
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None


@dataclass
class Job:
    """A run at work."""

    config: RunConfig
    limits: RunLimits
    store: Store
    run: Run
    features: list[FeatureId]
    tell: Tell
    models: Models
    collecting: Collecting
    experiments: Experiments
    neighbours: Neighbours
    laboratory: Laboratory
    explainer_llm: Metered | None = None
    scorer_llm: Metered | None = None

    @classmethod
    @asynccontextmanager
    async def prepared(
        cls,
        config: RunConfig,
        limits: RunLimits,
        store: Store,
        fresh: bool,
        tell: Tell | None,
        pace: Pace,
    ) -> AsyncIterator[Job]:
        """Loads the subject and the text, finds or begins the run, and holds it.

        Raises:
            StoreError: if another process is at work on it.
        """
        say = tell or (lambda _: None)

        def load() -> tuple[Subject, Corpus, Coder | None, list[FeatureId]]:
            say(Progress("load", 0, 0, note=f"subject {config.model}"))
            subject = subject_of(config, limits)
            coder = coder_of(config, subject, limits.offline)
            if notice := control_notice(config, coder):
                say(Progress("load", 0, 0, note=notice, is_notice=True))
            # before a corpus is built for minutes
            if notice := site_notice(sites_of(config, subject, coder), subject, coder):
                say(Progress("load", 0, 0, note=notice, is_notice=True))
            say(Progress("load", 0, 0, note=f"corpus {config.corpus}"))
            corpus = load_corpus(config.corpus, offline=limits.offline)
            check_readable(corpus, say)
            return subject, corpus, coder, chosen_features(config, subject, corpus, coder)

        # The run is begun outside of the thread: whoever cancels leaves none half begun.
        subject, corpus, coder, features = await asyncio.to_thread(load)
        key = collection_key(config, subject, corpus, coder)
        begun = store.begin_run(
            config,
            versions=versions(subject, coder),
            collection=key,
            fresh=fresh,
            budget=limits.budget,
        )
        with store.working_on(begun.id):
            spent, calls = store.spent(begun.id)
            owed = store.batches.owed(begun.id)
            budget = Budget(
                limits.budget, limits.max_calls, spent, calls, owed, store.assumed(begun.id)
            )
            tally = Tally(store.used(begun.id))
            models = Models(config, limits, store, begun.id, budget, say, pace, tally)
            collecting = Collecting(
                config, limits, store, begun.collection, subject, corpus, coder, say
            )
            experiments = Experiments(subject, config.ctx, config.batch_size)
            neighbours = Neighbours(
                features, lambda f: store.record(begun.collection, f), bundled(limits.offline)
            )
            embedder = bundled(limits.offline)
            search = CorpusSearch(
                corpus, experiments.cut, embedder, config.ctx, config.window, config.seed
            )
            shared = Laboratory(subject, corpus, coder, experiments, store, begun.id, search)
            async with shared as laboratory:
                yield cls(
                    *(config, limits, store, begun, features, say, models, collecting),
                    *(experiments, neighbours, laboratory),
                )

    # -- language models -----------------------------------------------------------------------

    async def meet(self, stages: Sequence[str], *, local: bool) -> None:
        """Has the models ready that the stages need; local ones, which fill memory, if `local`.

        Raises:
            ConfigError, Unsupported: if a part cannot work with its model; nothing was asked yet.
        """
        config = self.config
        asking = [e for e in config.explainers if needs_llm(e)]
        if "explain" in stages and self._left("explain", asking):
            self.explainer_llm = await self._model(explains(config), local)
        unscored = self._left("score", self._scores()) or self._unscored_by_people()
        if "score" in stages and scoring_asks(config) and unscored:
            self.scorer_llm = await self._model(judges(config), local)
            if self.scorer_llm is not None:
                embedder = bundled(self.limits.offline)
                anything = Explanation.written_by_hand(self.features[0], "anything")
                live = self._live(self.features[0], 0.0)
                for name in config.scorers:
                    wrong = Wrong("decoys", ())
                    scorer_for(config, name, anything, wrong, self.scorer_llm, embedder, live)

    def _live(self, feature: FeatureId, peak: float) -> Live:
        """Experiments on the subject; `peak` is the feature's on train text."""
        return self.experiments.on(feature, peak, self.collecting.coder)

    async def _model(self, who: Who, local: bool) -> Metered | None:
        """The model `who`; None if it is a local one and those are not wanted yet."""
        return await self.models.get(who) if local or not who.is_local else None

    async def let_go(self) -> None:
        """Drops the local model that explains, unless it scores too."""
        who = explains(self.config)
        if self.explainer_llm is not None and who.is_local and who != judges(self.config):
            self.explainer_llm = None
            await self.models.drop(who)

    def _scores(self) -> list[str]:
        """What is scored of each feature, as `done` names it."""
        return [f"{e}/{s}" for e in self.config.explainers for s in self.config.scorers]

    def _left(self, stage: str, parts: Collection[str]) -> bool:
        done = self.store.done(self.run.id, stage)
        return any((f, part) not in done for f in self.features for part in parts)

    def complete(self, stages: Sequence[str]) -> set[FeatureId]:
        """The features of which everything is there that `stages` ask for."""
        found = set(self.features)
        if tuple(stages) == ("collect",):
            found &= self.collecting.summarised()
        elif "collect" in stages:
            found &= self.store.recorded(self.run.collection)
        for stage, parts in (("explain", self.config.explainers), ("score", self._scores())):
            if stage in stages:
                done = self.store.done(self.run.id, stage)
                found = {f for f in found if all((f, part) in done for part in parts)}
        return found

    # -- collect ---------------------------------------------------------------------------------

    async def collect(self, alone: bool) -> None:
        """What was not collected yet; features that cannot be are noted as failures."""
        before = self._uncollected()
        lost = await self.collecting.collect(self.features, alone)
        with self.store.transaction():
            for feature, error in lost.items():
                kind, why = type(error).__name__, str(error)
                self.store.put_failure(self.run.id, feature, "collect", "", kind, why)
            for feature in before - set(lost):
                self.store.mark_done(self.run.id, feature, "collect")

    def leave_out(self) -> None:
        """Leaves those features out of the work that could not be collected."""
        lost = self._uncollected()
        self.features = [f for f in self.features if f not in lost]

    def _uncollected(self) -> set[FeatureId]:
        failures = self.store.failures(self.run.id)
        return {f.feature for f in failures if f.stage == "collect" and f.feature is not None}

    # -- explain and score -----------------------------------------------------------------------

    async def explain(self) -> None:
        """One explanation for each feature and explainer that has none."""
        done = self.store.done(self.run.id, "explain")
        units = [
            (feature, name, self._explain(feature, name))
            for feature in self.features
            for name in self.config.explainers
            if (feature, name) not in done
        ]
        await self._work("explain", units, len(self.features) * len(self.config.explainers))

    async def _explain(self, feature: FeatureId, name: str) -> None:
        record = self.collecting.record(feature)
        live = self._live(feature, record.train.peak)
        bench = await self.laboratory.bench(record, name) if inquires(name) else None
        embedder = bundled(self.limits.offline)
        explanation = await explain_one(
            self.config, record, name, self.explainer_llm, live, embedder, bench
        )
        with self.store.transaction():
            self.models.settle()
            self.store.put_explanation(self.run.id, explanation)

    async def score(self) -> None:
        """One score for each explanation and scorer that has none."""
        explanations = self._explained()
        done = self.store.done(self.run.id, "score")
        units = [
            (e.feature, f"{e.explainer}/{scorer}", self._score(e, explanations, scorer))
            for e in explanations
            for scorer in self.config.scorers
            if (e.feature, f"{e.explainer}/{scorer}") not in done
        ]
        await self._work("score", units, len(explanations) * len(self.config.scorers))

    def _explained(self) -> list[Explanation]:
        """What is to be scored: by the explainers asked for, and by people."""
        asked, withdrawn = set(self.features), self.store.reviews.withdrawn(self.run.id)
        return [
            e
            for e in self.store.explanations_of(self.run.id)
            if e.feature in asked
            and (e.explainer in self.config.explainers or is_human(e.explainer))
            and (e.feature, e.explainer) not in withdrawn
        ]

    def _unscored_by_people(self) -> bool:
        done = self.store.done(self.run.id, "score")
        people = [e for e in self._explained() if is_human(e.explainer)]
        return any(
            (e.feature, f"{e.explainer}/{scorer}") not in done
            for e in people
            for scorer in self.config.scorers
        )

    async def _score(
        self, explanation: Explanation, others: Sequence[Explanation], name: str
    ) -> None:
        feature = explanation.feature
        record = self.collecting.record(feature)
        embedder = bundled(self.limits.offline)
        live = self._live(feature, record.train.peak)
        hard = self.config.n_hard > 0 and takes(name, "hard")
        near = await asyncio.to_thread(self.neighbours.of, record) if hard else ()
        score = await score_one(
            self.config, record, explanation, others, name, self.scorer_llm, embedder, live, near
        )
        with self.store.transaction():
            self.models.settle()
            self.store.put_score(self.run.id, score)
            # The score's own part names its judge, which whoever looks for it does not know.
            self.store.mark_done(self.run.id, feature, "score", f"{explanation.explainer}/{name}")

    async def _work(
        self,
        stage: str,
        units: list[tuple[FeatureId, str, Coroutine[Any, Any, None]]],
        total: int,
    ) -> None:
        """Runs the units, a few at a time; a failed one is set aside, a fatal error ends all."""
        finished, failed = total - len(units), 0
        gate = asyncio.Semaphore(self._together(stage))
        self._say(stage, finished, total, failed)

        async def one(feature: FeatureId, part: str, work: Coroutine[Any, Any, None]) -> None:
            nonlocal finished, failed
            async with gate:
                try:
                    with working_on(Purpose(stage, feature, part)):
                        await ungrouped(work)
                except ProviderRefused:
                    raise
                except (ReplyError, ProviderError) as error:
                    failed += 1
                    reply = error.reply if isinstance(error, ReplyError) else ""
                    lost = isinstance(error, ReplyError) and error.broken
                    kind = ProviderError.__name__ if lost else type(error).__name__
                    with self.store.transaction():
                        self.models.settle()
                        self.store.put_failure(
                            self.run.id, feature, stage, part, kind, str(error), reply
                        )
                finished += 1
                self._say(stage, finished, total, failed)

        tasks = [asyncio.create_task(one(*unit)) for unit in units]
        showing = asyncio.create_task(self.models.keep_showing())
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in (*tasks, showing):
                # Once: a second time would not let what is out come back.
                if not task.cancelling():
                    task.cancel()
            await asyncio.gather(*tasks, showing, return_exceptions=True)
            for *_, work in units:
                work.close()

    def _together(self, stage: str) -> int:
        """How many units of `stage` are worked on at a time."""
        llm = self.explainer_llm if stage == "explain" else self.scorer_llm
        free = llm is not None and llm.price is FREE
        if stage == "score" and free:
            return LOCAL_TOGETHER
        return BATCH_TOGETHER[stage] if self.limits.batch and not free else TOGETHER

    def _say(self, stage: str, done: int, total: int, failed: int) -> None:
        self.models.show(Progress(stage, done, total, failed))
