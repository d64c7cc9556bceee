"""The main job: collect, explain, score and record, going on where it was cut off.

A unit of work is one feature collected, one explanation, or one score. Its result, its cost and its
being done are written together, so a run that is killed repeats only what was in flight.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, TypeVar

from glossator.config import RunConfig, RunLimits
from glossator.datasets.collect import collect_features
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.digest import digest_of, keeps_acts
from glossator.datasets.outputs import Outputs
from glossator.datasets.readings import Coder, reading_of
from glossator.datasets.sink import CacheSink
from glossator.datasets.summaries import summaries_of
from glossator.errors import (
    BudgetSpent,
    ConfigError,
    CorpusError,
    GlossatorError,
    ProviderError,
    ProviderRefused,
    ReplyError,
)
from glossator.explainers.build import build_explainer, needs_llm
from glossator.llm import LLM, Reply, Request
from glossator.providers.budget import Budget
from glossator.providers.metered import Call, MemoryCache, Metered, ReplyCache
from glossator.providers.prices import FREE, price_of
from glossator.providers.table import REMOTE, check_spec, make_llm
from glossator.reading import (
    chosen_features,
    coder_digest,
    coder_of,
    collect_settings,
    site_notice,
    sites_of,
    work_folder,
)
from glossator.rows import plain
from glossator.runs import Run, RunStatus
from glossator.scorers.build import (
    ASKS_NOBODY,
    AUTO,
    Settings,
    asks_llm,
    build_scorer,
)
from glossator.scorers.nulls import Wrong, choose_wrong
from glossator.scorers.table import SCORERS, SIMULATORS, Scorer
from glossator.scorers.together import first_of
from glossator.store import Store
from glossator.subject import Subject, load_subject
from glossator.types import Explanation, FeatureId, FeatureRecord

STAGES = ("collect", "explain", "score")
LOCAL = ("local", "hf", "gguf")
"""Kinds of language models that run in this process."""
TOGETHER = 16
"""Units worked on at a time; the language models batch or limit what these ask."""
LOCAL_TOGETHER = 4
"""The same for scores by a model in this process: enough to batch, and little lost at a kill."""
FREE_NULLS = 99
"""Wrong explanations where scoring one costs nothing, which makes p as fine as 0.01."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    stage: str
    done: int
    """Units, or tokens in the stage `read`."""
    total: int
    """0 where it is not known."""
    failed: int = 0
    spent: float | None = 0.0
    """US dollars in this run so far."""
    calls: int = 0
    note: str = ""


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


Tell = Callable[[Progress], None]
_Result = TypeVar("_Result")


async def run(
    config: RunConfig,
    limits: RunLimits,
    store: Store,
    *,
    stages: Sequence[str] = STAGES,
    fresh: bool = False,
    on_progress: Tell | None = None,
) -> Outcome:
    """Does what `config` asks for and `store` lacks.

    Raises:
        ConfigError, NotRegistered, AssetError, CorpusError, Unsupported: before anything is paid.
        StoreError: if the store cannot be written.
        asyncio.CancelledError: if interrupted; what is done is stored, and the run marked so.
    """
    check_names(config)
    job = await _Job.prepare(config, limits, store, fresh, on_progress)
    status = RunStatus.DONE
    stopped: GlossatorError | None = None
    try:
        async with job.language_models():
            # What is wrong with a model behind an API shows before the text is read for minutes.
            await job.meet(stages, local=False)
            if "collect" in stages:
                await job.collect(alone=tuple(stages) == ("collect",))
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
        status, stopped = RunStatus.BUDGET_SPENT, error
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
    return Outcome(store.run(job.run.id), done, len(failed), status, stopped)


def check_names(config: RunConfig) -> None:
    """Refuses names that nobody has, before anything is loaded.

    Raises:
        NotRegistered: naming the near ones.
    """
    for name in config.explainers:
        needs_llm(name)
    for name in config.scorers:
        SCORERS.load(name)
    if config.simulator != AUTO:
        SIMULATORS.load(config.simulator)
    specs = {config.llm, config.scorer_llm or config.llm}
    for spec in specs:
        check_spec(spec)
    if config.base_url and not any(s.partition(":")[0] in REMOTE for s in specs):
        raise ConfigError("--base-url goes with --llm openai:MODEL or anthropic:MODEL")


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
        say(Progress("load", 0, 0, note=f"{bad} of {n} documents hold bytes that are no UTF-8"))


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


class _StoppedReadingError(Exception):
    """Ends the thread that reads the text when the run is cancelled."""


@dataclass(frozen=True)
class _AskedAgain:
    """Replies that are kept, less those that could not be used: these are asked for again."""

    kept: ReplyCache
    unusable: frozenset[str]
    """Their texts, as failures keep them."""

    def get(self, key: str) -> Reply | None:
        """The reply under `key`, if there is one and it was of use."""
        reply = self.kept.get(key)
        if reply is None or reply.answers or reply.slots:
            return reply
        return None if plain(reply.text)[:2000] in self.unusable else reply

    def put(self, key: str, llm_name: str, request: Request, reply: Reply) -> None:
        """Keeps `reply` under `key`."""
        self.kept.put(key, llm_name, request, reply)


@dataclass
class _Job:
    """A run at work."""

    config: RunConfig
    limits: RunLimits
    store: Store
    run: Run
    subject: Subject
    corpus: Corpus
    coder: Coder | None
    features: list[FeatureId]
    tell: Tell
    budget: Budget
    explainer_llm: Metered | None = None
    scorer_llm: Metered | None = None
    stage: str = ""
    made: dict[str, Metered] = field(default_factory=dict)
    ledger: list[tuple[str, Call]] = field(default_factory=list)
    """Calls to free models, written with the result that used them."""

    @classmethod
    async def prepare(
        cls, config: RunConfig, limits: RunLimits, store: Store, fresh: bool, tell: Tell | None
    ) -> _Job:
        """Loads the subject and the text, and finds or begins the run."""
        say = tell or (lambda _: None)

        def load() -> tuple[Subject, Corpus, Coder | None, list[FeatureId]]:
            say(Progress("load", 0, 0, note=f"subject {config.model}"))
            subject = load_subject(config.model, limits.device, config.dtype, limits.offline)
            coder = coder_of(config, subject, limits.offline)
            # before a corpus is built for minutes
            if notice := site_notice(sites_of(config, subject, coder), subject, coder):
                say(Progress("load", 0, 0, note=notice))
            say(Progress("load", 0, 0, note=f"corpus {config.corpus}"))
            corpus = load_corpus(config.corpus, offline=limits.offline)
            check_readable(corpus, say)
            return subject, corpus, coder, chosen_features(config, subject, corpus, coder)

        # The run is begun outside of the thread: whoever cancels leaves none half begun.
        subject, corpus, coder, features = await asyncio.to_thread(load)
        what = [config.collection_digest, subject.revision, subject.dtype, corpus.digest]
        what += [coder_digest(coder)] if coder is not None else []
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        begun = store.begin_run(
            config, versions=versions(subject, coder), collection=key, fresh=fresh
        )
        spent, calls = store.spent(begun.id)
        budget = Budget(limits.budget, limits.max_calls, spent, calls)
        return cls(config, limits, store, begun, subject, corpus, coder, features, say, budget)

    # -- collect -----------------------------------------------------------------------------

    async def collect(self, alone: bool = False) -> None:
        """Records of all features that the store has none of, in one reading of the text.

        Args:
            alone: nothing comes after it, so summaries do where records would be too large.
        """
        many = alone and not keeps_acts(len(self.features), collect_settings(self.config))
        known = self._collected() if many else self.store.recorded(self.run.collection)
        missing = [f for f in self.features if f not in known]
        if missing or self.limits.cache:
            await self._in_thread(missing or self.features, many)
        total = len(self.features)
        self.tell(Progress("collect", total, total, note="activations are stored"))

    def _there(self, features: Collection[FeatureId], many: bool) -> bool:
        """Whether the store has all of `features`."""
        known = self._collected() if many else self.store.recorded(self.run.collection)
        return known.issuperset(features)

    def _collected(self) -> frozenset[FeatureId]:
        """The features that there is a summary of."""
        return frozenset(s.feature for s in self.store.summaries(self.run.collection))

    async def _in_thread(self, missing: list[FeatureId], many: bool) -> None:
        """Collects in a thread; if cancelled, waits until that has stopped."""
        stop = threading.Event()
        reading = asyncio.create_task(asyncio.to_thread(self._collect, missing, many, stop))
        try:
            await asyncio.shield(reading)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({reading})
            reading.exception()  # Looked at, so that asyncio does not complain of it.
            raise

    def _collect(self, missing: list[FeatureId], many: bool, stop: threading.Event) -> None:
        def progress(stage: str, done: int, total: int | None) -> None:
            if stop.is_set():
                raise _StoppedReadingError
            self.tell(Progress("read", done, total or 0, note=stage))

        settings = collect_settings(self.config)
        coders = {self.coder.name: self.coder} if self.coder is not None else {}
        reading = reading_of(self.subject, missing, self.corpus, settings, coders)
        folder = work_folder(self.store.url, self.run.collection)
        sink = CacheSink.of(self.limits.cache, reading, settings) if self.limits.cache else None
        try:
            if sink is not None and sink.writer.complete and self._there(missing, many):
                return
            if many:
                digest = digest_of(reading, settings, progress, folder=folder, sink=sink)
                progress("naming kinds", 0, None)
                summaries = summaries_of(digest, Outputs.of(self.subject))
                self.store.put_summaries(self.run.collection, summaries)
            else:
                records = collect_features(
                    self.subject,
                    missing,
                    self.corpus,
                    settings,
                    progress,
                    coders=coders,
                    folder=folder,
                    sink=sink,
                )
                # In one transaction: all is read together, and goes on from the folder if killed.
                self.store.put_records(self.run.collection, records)
            if sink is not None:
                sink.finish()
        finally:
            if sink is not None:
                sink.release()
        if not many:
            shutil.rmtree(folder, ignore_errors=True)

    def record(self, feature: FeatureId) -> FeatureRecord:
        """What was collected of `feature`.

        Raises:
            ConfigError: if nothing was.
        """
        found = self.store.record(self.run.collection, feature)
        if found is None and feature in self._collected():
            raise ConfigError(
                f"only a summary was kept of {feature}, as of all features that are collected "
                "together in large numbers: explain fewer at once, with run and fewer --features"
            )
        if found is None:
            raise ConfigError(
                f"nothing was collected of {feature} with these options: collect it first, with "
                "the command collect or run"
            )
        return found

    # -- language models -----------------------------------------------------------------------

    @asynccontextmanager
    async def language_models(self) -> AsyncIterator[None]:
        """Closes at the end what `meet` opened, and writes down what it was asked."""
        try:
            yield
        finally:
            with self.store.transaction():
                self._settle()
            for model in self.made.values():
                await model.aclose()

    async def meet(self, stages: Sequence[str], *, local: bool) -> None:
        """Has the models ready that the stages need; local ones, which fill memory, if `local`.

        Raises:
            ConfigError, Unsupported: if a part cannot work with its model; nothing was asked yet.
        """
        config = self.config
        asking = [e for e in config.explainers if needs_llm(e)]
        if "explain" in stages and self._left("explain", asking):
            self.explainer_llm = await self._model(config.llm, local)
        if "score" in stages and self._scoring_asks() and self._left("score", self._scores()):
            self.scorer_llm = await self._model(config.scorer_llm or config.llm, local)
            if self.scorer_llm is not None:
                anything = Explanation.written_by_hand(self.features[0], "anything")
                for name in config.scorers:
                    self._scorer(name, anything, Wrong("decoys", ()))

    async def let_go(self) -> None:
        """Drops the local model that explains, unless it scores too."""
        config = self.config
        if self.explainer_llm is None or (config.scorer_llm or config.llm) == config.llm:
            return
        if config.llm.partition(":")[0] in LOCAL:
            self.explainer_llm = None
            await self.made.pop(config.llm).aclose()

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
            found &= self._collected()
        elif "collect" in stages:
            found &= self.store.recorded(self.run.collection)
        for stage, parts in (("explain", self.config.explainers), ("score", self._scores())):
            if stage in stages:
                done = self.store.done(self.run.id, stage)
                found = {f for f in found if all((f, part) in done for part in parts)}
        return found

    def _scoring_asks(self) -> bool:
        """Whether any score wants a language model, judging by the names alone."""
        config = self.config
        if any(
            "llm" in getattr(SCORERS.load(s), "__dataclass_fields__", {}) for s in config.scorers
        ):
            return True
        if config.simulator == AUTO:
            return any(needs_llm(e) for e in config.explainers)
        return config.simulator not in ASKS_NOBODY

    async def _model(self, spec: str, local: bool) -> Metered | None:
        """The model called `spec`; None if it is a local one and those are not wanted yet."""
        if spec in self.made:
            return self.made[spec]
        if not local and spec.partition(":")[0] in LOCAL:
            return None
        self.tell(Progress("load", 0, 0, note=f"language model {spec}"))
        options: dict[str, Any] = {
            "offline": self.limits.offline,
            "device": self.limits.device,
        }
        if self.config.base_url and spec.startswith(("openai:", "anthropic:")):
            options["base_url"] = self.config.base_url
        llm: LLM = await asyncio.to_thread(make_llm, spec, **options)
        price = price_of(llm)
        free = price is FREE
        cache: ReplyCache = MemoryCache() if free else self._replies()
        self.made[spec] = Metered(
            llm,
            cache,
            self.budget,
            price=price,
            limit=4096 if free else 16,
            on_call=self._later if free else self._book,
        )
        return self.made[spec]

    def _replies(self) -> ReplyCache:
        failures = self.store.failures(self.run.id)
        unusable = frozenset(f.reply for f in failures if f.kind == ReplyError.__name__)
        return _AskedAgain(self.store.replies, unusable)

    def _later(self, call: Call) -> None:
        self.ledger.append((self.stage, call))

    def _book(self, call: Call, stage: str = "") -> None:
        self.store.put_call(
            self.run.id,
            stage or self.stage,
            call.llm,
            call.usage,
            request=call.request,
            attempt=call.attempt,
            error=call.error,
            error_type=call.error_type,
        )

    def _settle(self) -> None:
        """Writes the ledger of free calls; inside the transaction of a result."""
        calls, self.ledger = self.ledger, []
        for stage, call in calls:
            if call.attempt:
                self._book(call, stage)

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
        record = self.record(feature)
        explainer = build_explainer(name, self.explainer_llm, n_shown=self.config.n_shown)
        explanation = await explainer.explain(feature, record.train)
        # One from outside may call itself something else than what it was asked for by.
        explanation = replace(explanation, explainer=name)
        with self.store.transaction():
            self._settle()
            self.store.put_explanation(self.run.id, explanation)

    async def score(self) -> None:
        """One score for each explanation and scorer that has none."""
        asked = set(self.features)
        explanations = [
            e
            for e in self.store.explanations_of(self.run.id)
            if e.feature in asked and e.explainer in self.config.explainers
        ]
        done = self.store.done(self.run.id, "score")
        units = [
            (e.feature, f"{e.explainer}/{scorer}", self._score(e, explanations, scorer))
            for e in explanations
            for scorer in self.config.scorers
            if (e.feature, f"{e.explainer}/{scorer}") not in done
        ]
        await self._work("score", units, len(explanations) * len(self.config.scorers))

    def _scorer(self, name: str, explanation: Explanation, wrong: Wrong) -> Scorer:
        config = self.config
        return build_scorer(
            name,
            explanation,
            wrong,
            simulator=config.simulator,
            llm=self.scorer_llm,
            settings=Settings(config.n_scored, seed=config.seed),
        )

    async def _score(
        self, explanation: Explanation, others: Sequence[Explanation], name: str
    ) -> None:
        feature, config = explanation.feature, self.config
        record = self.record(feature)
        asks = asks_llm(name, explanation, config.simulator, self.scorer_llm)
        n_wrong = config.n_shuffled if asks else max(config.n_shuffled, FREE_NULLS)
        wrong = choose_wrong(explanation, others, n_wrong, config.seed)
        scorer = self._scorer(name, explanation, wrong)
        score = await scorer.score(explanation, record.test, record.dev)
        if score.n_failed and not score.n:
            raw = next((p.raw for p in score.predictions if p.raw), "")
            raise ReplyError(f"no reply of {score.n_failed} could be used: {score.note}", raw)
        score = replace(score, scorer=name)
        with self.store.transaction():
            self._settle()
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
        self.stage = stage
        finished, failed = total - len(units), 0
        here = self.scorer_llm is not None and self.scorer_llm.price is FREE
        gate = asyncio.Semaphore(LOCAL_TOGETHER if here and stage == "score" else TOGETHER)
        self._say(stage, finished, total, failed)

        async def one(feature: FeatureId, part: str, work: Coroutine[Any, Any, None]) -> None:
            nonlocal finished, failed
            async with gate:
                try:
                    await ungrouped(work)
                except ProviderRefused:
                    raise
                except (ReplyError, ProviderError) as error:
                    failed += 1
                    reply = error.reply if isinstance(error, ReplyError) else ""
                    kind = type(error).__name__
                    with self.store.transaction():
                        self._settle()
                        self.store.put_failure(
                            self.run.id, feature, stage, part, kind, str(error), reply
                        )
                finished += 1
                self._say(stage, finished, total, failed)

        tasks = [asyncio.create_task(one(*unit)) for unit in units]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for *_, work in units:
                work.close()

    def _say(self, stage: str, done: int, total: int, failed: int) -> None:
        self.tell(Progress(stage, done, total, failed, self.budget.spent, self.budget.calls))
