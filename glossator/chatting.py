"""What a conversation is made with: its run, the lab of its feature, its notebook, its models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from glossator.config import RunConfig, RunLimits
from glossator.embedder import bundled
from glossator.errors import ConfigError, GlossatorError, ReplyError
from glossator.inquiring import RunInquirer
from glossator.llm import LLM, Purpose, working_on
from glossator.models import explains, judges
from glossator.notebook import Notebook
from glossator.notebooks import CHAT
from glossator.pipeline import Job, ungrouped
from glossator.progress import Tell
from glossator.providers.errand import PACE
from glossator.providers.server import knock
from glossator.providers.table import check_address, check_spec
from glossator.runs import RunStatus
from glossator.scorers.build import takes
from glossator.scorers.table import SCORERS
from glossator.store import Store
from glossator.types import Explanation, FeatureId, FeatureRecord, Score, Usage
from glossator.units import OnDev, Watched, score_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glossator.agent.chat.conversation import Conversation
    from glossator.evidence import Hypothesis

HUMAN = "human"
"""Who explains in the run of a conversation."""


@dataclass
class Chat:
    """An open conversation."""

    id: str
    """`c1`, `c2` and so on in a store: what it goes on by."""
    feature: FeatureId
    conversation: Conversation
    record: FeatureRecord
    job: Job
    judge: LLM
    kept: tuple[str, Explanation] | None = None
    """The run that the last explanation was kept in, and it."""

    @contextmanager
    def working(self) -> Iterator[None]:
        """What is asked inside is written down as this conversation's, its replies at the end."""
        try:
            with working_on(Purpose("chat", self.feature, self.id)):
                yield
        finally:
            with self.job.store.transaction():
                self.job.models.settle()

    @property
    def used(self) -> Usage:
        """What the run of this conversation used, in all."""
        return self.job.models.tally.used

    @property
    def since(self) -> Usage:
        """The same since it was opened."""
        return self.job.models.tally.since

    def keep(self, hypothesis: Hypothesis) -> str:
        """Keeps `hypothesis` as an explanation by `human`; gives the run that has it.

        The first one goes into the conversation's own run; another of the same feature into a run
        of its own, for a run has one explanation by each explainer.
        """
        store, run = self.job.store, self.job.run
        explanation = Explanation(
            self.feature,
            hypothesis.text,
            HUMAN,
            trigger=hypothesis.trigger,
            output_effect=hypothesis.output_effect,
            note=self._note(hypothesis),
        )
        for one in reversed(store.runs()):
            if one.config_digest == run.config_digest:
                known = store.explanation_of(one.id, self.feature, HUMAN)
                if known is not None and known.text == explanation.text:
                    self.kept = (one.id, known)
                    return one.id
        where = run.id
        if store.explanation_of(where, self.feature, HUMAN) is not None:
            own = store.begin_run(
                self.job.config, versions=run.versions, collection=run.collection, fresh=True
            )
            where = own.id
            store.finish_run(where, RunStatus.DONE)
        store.put_explanation(where, explanation)
        self.kept = (where, explanation)
        return where

    async def score(self) -> list[Score]:
        """Scores what was kept last on test, as any other explanation, and keeps that.

        Raises:
            ConfigError: if nothing was kept.
            ReplyError, ProviderError, BudgetSpent: as a scorer does; what was scored stays.
        """
        if self.kept is None:
            self.kept = self._kept_before()
        if self.kept is None:
            raise ConfigError("nothing is kept yet that could be scored: /keep keeps a hypothesis")
        run, explanation = self.kept
        store, config = self.job.store, self.job.config
        found: list[Score] = []
        others = self._others()
        embedder = bundled(self.job.limits.offline)
        live = self.job.experiments.on(
            self.feature, self.record.train.peak, self.job.collecting.coder
        )
        for name in config.scorers:
            known = [
                s
                for s in store.scores_of(run)
                if s.feature == self.feature and s.explainer == HUMAN and s.scorer == name
            ]
            if known:
                found += known
                continue
            part = f"{HUMAN}/{name}"
            hard = config.n_hard > 0 and takes(name, "hard")
            near = await asyncio.to_thread(self.job.neighbours.of, self.record) if hard else ()
            try:
                score = await ungrouped(
                    score_one(
                        *(config, self.record, explanation, others, name, self.judge),
                        *(embedder, live, near),
                    )
                )
            except GlossatorError as error:
                reply = error.reply if isinstance(error, ReplyError) else ""
                kind, why = type(error).__name__, str(error)
                store.put_failure(run, self.feature, "score", part, kind, why, reply)
                raise
            with store.transaction():
                self.job.models.settle()
                store.put_score(run, score)
                store.mark_done(run, self.feature, "score", part)
            found.append(score)
        return found

    def evidence_for(self, hypothesis: str) -> list[str]:
        """Ids of the experiments that tested the hypothesis called so."""
        found: list[str] = []
        for entry in self.conversation.turns.notebook.entries():
            supposed: Any = entry.content.get("hypothesis") if entry.kind == "plan" else None
            if isinstance(supposed, Mapping) and supposed["id"] == hypothesis:
                experiments: Any = entry.content["experiments"]
                found += [str(e["id"]) for e in experiments]
        return found

    def _note(self, hypothesis: Hypothesis) -> str:
        ids = self.evidence_for(hypothesis.id)
        tested = f"tested by {', '.join(ids)}" if ids else "not tested"
        return f"{hypothesis.id} of the conversation {self.id}, {tested}"

    def _kept_before(self) -> tuple[str, Explanation] | None:
        store, run = self.job.store, self.job.run
        for one in reversed(store.runs()):
            if one.config_digest == run.config_digest:
                known = store.explanation_of(one.id, self.feature, HUMAN)
                if known is not None:
                    return one.id, known
        return None

    def _others(self) -> Sequence[Explanation]:
        """What is said of other features of the model, for the null."""
        return [
            replace(e, explainer=HUMAN)
            for one in self.job.store.runs()
            for e in self.job.store.explanations_of(one.id)
            if e.feature != self.feature and e.feature.model == self.feature.model
        ]


@asynccontextmanager
async def open_chat(
    config: RunConfig,
    limits: RunLimits,
    store: Store,
    feature: FeatureId,
    resume: str = "",
    on_progress: Tell | None = None,
) -> AsyncIterator[Chat]:
    """A conversation about `feature`: a new one, or that called `resume`.

    Args:
        config: as `chat_config` gives it.
        limits: where and how long.
        store: where it is kept.
        feature: the one feature of `config`.
        resume: id of a conversation; empty for a new one.
        on_progress: told how far the preparations are.

    Raises:
        ConfigError, AssetError, CorpusError, StoreError: before anything is paid.
    """
    # LangGraph takes long to import, and most commands never converse.
    from glossator.agent.chat.conversation import Conversation
    from glossator.agent.chat.limits import Limits
    from glossator.agent.chat.turns import Turns

    who, judge = explains(config), judges(config)
    for one in {who, judge}:
        check_spec(one.spec)
        if one.base_url:
            check_address(one.spec, one.base_url, offline=limits.offline)
            await knock(one.base_url)
    for scorer in config.scorers:
        SCORERS.load(scorer)
    async with (
        Job.prepared(config, limits, store, False, on_progress, PACE) as job,
        aclosing(job.models),
    ):
        llm = await job.models.get(who)
        lost = await job.collecting.collect([feature])
        if feature in lost:
            raise ConfigError(f"{feature} cannot be collected: {lost[feature]}")
        record = job.collecting.record(feature)
        judging = await job.models.get(judge)
        name = resume or new_id(store)
        bench = await job.laboratory.bench(record, HUMAN, name)
        _open(bench.notebook, config, feature, job.run.id)
        embedder = bundled(limits.offline)
        trial = OnDev(config, record, Watched.of(llm), embedder)
        live = job.experiments.on(feature, record.train.peak, job.collecting.coder)
        made = RunInquirer(config, record, trial, live, embedder, bench).inquiry(llm)
        turn = Limits(n_shown=config.n_shown)
        turns = Turns(made.lab, llm, made.foreteller, bench.notebook, turn)
        saver = bench.checkpointer
        conversation = (
            Conversation(turns, thread=name) if saver is None else Conversation(turns, saver, name)
        )
        try:
            yield Chat(name, feature, conversation, record, job, judging)
        finally:
            store.finish_run(job.run.id, RunStatus.DONE)


def chat_config(config: RunConfig, feature: FeatureId) -> RunConfig:
    """`config` for a run that holds what people say of one feature."""
    return replace(
        config,
        sites=(feature.site,),
        sae=(config.sae or feature.coder or "") if feature.coder is not None else "",
        features=str(feature),
        explainers=(HUMAN,),
    )


def new_id(store: Store) -> str:
    """Of the next conversation."""
    known = {named.name for named in store.notebooks.known(kind=CHAT)}
    number = len(known) + 1
    while f"c{number}" in known:
        number += 1
    return f"c{number}"


def resumed(store: Store, name: str) -> tuple[RunConfig, FeatureId]:
    """The config and the feature of the conversation called `name`.

    Raises:
        ConfigError: if there is none; those there are, are named.
    """
    notebook = store.notebooks.find(name)
    entry = None if notebook is None else notebook.get("opened")
    if entry is None:
        known = [named.name for named in store.notebooks.known(kind=CHAT)][:10]
        there = f"there are: {', '.join(known)}" if known else "there are none yet"
        raise ConfigError(f"no conversation is called {name!r:.40}; {there}")
    content: Any = entry.content
    config = RunConfig.from_mapping(
        {k: tuple(v) if isinstance(v, list) else v for k, v in content["config"].items()}
    )
    return config, FeatureId.parse(content["feature"])


def _open(notebook: Notebook, config: RunConfig, feature: FeatureId, run: str) -> None:
    if notebook.get("opened") is None:
        plain: Any = config.to_json()
        notebook.put("opened", "opened", {"config": plain, "feature": str(feature), "run": run})
