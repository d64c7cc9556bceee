"""The Python names: collect, explain and score from a script or a notebook."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from glossator.asking import Asked, ask_views
from glossator.comparing import compare
from glossator.config import RunConfig
from glossator.datasets.collect import collect
from glossator.datasets.directions import learn_direction, projector
from glossator.datasets.functions import CallableFeatures, collect_function
from glossator.datasets.planted import collect_planted
from glossator.datasets.readings import Coder
from glossator.embedder import bundled
from glossator.experiments import Experiments, live_function
from glossator.explainers.build import DRAFT, needs_llm
from glossator.live import Live
from glossator.llm import LLM, as_llm
from glossator.neighbours import Neighbours
from glossator.pipeline import ungrouped
from glossator.providers.budget import Budget
from glossator.providers.journal import MemoryJournal
from glossator.providers.metered import Metered
from glossator.providers.outside import outside
from glossator.providers.prices import FREE, price_of
from glossator.providers.table import REMOTE, make_llm
from glossator.sae import load_coder
from glossator.scorers.build import ASKS_NOBODY, AUTO, Settings, build_scorer, wants_llm
from glossator.scorers.nulls import choose_wrong
from glossator.store import Store, open_store
from glossator.subject import Subject, load_subject
from glossator.types import Explanation, FeatureRecord, Score
from glossator.units import Watched, explain_one

__all__ = [
    "CallableFeatures",
    "ask",
    "collect",
    "collect_function",
    "collect_planted",
    "compare",
    "explain",
    "learn_direction",
    "live_function",
    "live_on",
    "load_coder",
    "load_subject",
    "open_store",
    "projector",
    "run_sync",
    "score",
]

_Result = TypeVar("_Result")


async def explain(
    record: FeatureRecord,
    explainer: str = "max-act",
    llm: Any = "local",
    *,
    n_shown: int = 10,
    offline: bool = False,
    live: Live | None = None,
    draft: str = DRAFT,
) -> Explanation:
    """What `explainer` says of a feature, from the train split of its record.

    Those that choose among drafts or rewrite them try them out on dev. None sees test.

    Args:
        record: what was collected.
        explainer: a registered name or a dotted path.
        llm: a name such as `local`, a language model, or a function from messages to a reply.
        n_shown: excerpts shown.
        offline: never try the network.
        live: for an explainer that makes experiments, from `live_on` or `live_function`.
        draft: the explainer that `revise` and `best-of` start from.

    Raises:
        NotRegistered: if there is no such explainer or language model.
        ConfigError: if it makes experiments and there is no `live`.
        ReplyError, ProviderError: as the language model does.
    """
    model = _metered(llm, offline) if needs_llm(explainer) else None
    try:
        config = RunConfig(n_shown=n_shown, draft=draft)
        said = explain_one(config, record, explainer, model, live, bundled(offline))
        return await ungrouped(said)
    finally:
        await _close(model, llm)


async def score(
    explanation: Explanation,
    record: FeatureRecord,
    scorers: str | Sequence[str] = ("simulation", "detection"),
    llm: Any = "local",
    *,
    simulator: str = AUTO,
    others: Sequence[Explanation] = (),
    n_scored: int = 40,
    n_shuffled: int = 5,
    seed: int = 0,
    precision: float = 0.0,
    per_call: int = 0,
    n_hard: int = 0,
    neighbours: Sequence[FeatureRecord] = (),
    offline: bool = False,
    live: Live | None = None,
) -> list[Score]:
    """How well `explanation` predicts the test split of `record`, by each of `scorers`.

    Args:
        explanation: anybody's, `Explanation.written_by_hand` included.
        record: what was collected of the same feature.
        scorers: registered names or dotted paths.
        llm: as for `explain`; None where simulator and judge ask nobody.
        simulator: a registered name, or `auto`.
        others: explanations of other features, for the null; with under two, fixed decoys serve.
        n_scored: test windows, at most.
        n_shuffled: wrong explanations scored for the null.
        seed: of the sample of windows and the intervals.
        precision: half of the interval's width at which no more windows are read; 0 reads all.
        per_call: windows that a language model judges in one request; 0 means twelve, and one where
            the model runs in this process.
        n_hard: silent windows that look like firing ones, of each kind, that detection is asked
            about beside these; `neighbours` and `live` are needed for two of the three kinds.
        neighbours: records of other features of the site, among which the nearest are found.
        offline: never try the network.
        live: for scorers that make experiments, from `live_on` or `live_function`.

    Raises:
        ValueError: if explanation and record are of different features.
        NotRegistered: if there is no such scorer, simulator or language model.
        Unsupported: if the language model cannot do what the simulator needs.
        ProviderError: if the provider lost a reply: a score must not depend on which.
    """
    if explanation.feature != record.feature:
        raise ValueError(
            f"the explanation is of {explanation.feature}, the record of {record.feature}"
        )
    names = [scorers] if isinstance(scorers, str) else scorers
    asks_nobody = simulator in ASKS_NOBODY or (simulator == AUTO and explanation.runs)
    asks_nobody = asks_nobody and not any(map(wants_llm, names))
    model = None if llm is None or asks_nobody else _metered(llm, offline)
    watched = Watched.of(model)
    wrong = choose_wrong(
        explanation,
        [replace(e, explainer=explanation.explainer) for e in others],
        n_shuffled,
        seed,
    )
    try:
        near: tuple[FeatureRecord, ...] = ()
        if n_hard and neighbours:
            among = Neighbours.among(neighbours, bundled(offline))
            near = await asyncio.to_thread(among.of, record)
        parts = [
            build_scorer(
                name,
                explanation,
                wrong,
                simulator=simulator,
                llm=watched,
                settings=Settings(
                    n_scored, seed=seed, n_hard=n_hard, precision=precision, per_call=per_call
                ),
                embedder=bundled(offline),
                live=live,
                neighbours=near,
            )
            for name in names
        ]
        found = []
        for part in parts:
            found.append(await ungrouped(part.score(explanation, record.test, record.dev)))
            if watched is not None:
                watched.check()
        return found
    finally:
        await _close(model, llm)


def live_on(subject: Subject, record: FeatureRecord, coder: Coder | None = None) -> Live:
    """Experiments on `subject` with the feature of `record`, its coder given if it has one.

    Texts are read as they were when it was collected.

    Raises:
        ConfigError: if the subject, or the coder, has no such feature.
    """
    ctx = int(record.provenance.get("ctx", 128))
    return Experiments(subject, ctx).on(record.feature, record.train.peak, coder)


async def ask(
    question: str,
    store: Store,
    llm: Any = "local",
    *,
    offline: bool = False,
    budget: float | None = None,
) -> Asked:
    """What `store` answers to `question`, by a read-only query that `llm` writes.

    Args:
        question: in words.
        store: from `open_store`; one in a SQLite file.
        llm: as for `explain`. It is shown the meaning of columns, and no data.
        offline: never try the network.
        budget: US dollars; None for no limit.

    Raises:
        ConfigError: if there is no question, or no such language model.
        StoreError: if the store cannot be asked.
        ReplyError, ProviderError, BudgetSpent: as the language model does.
    """
    model = _metered(llm, offline, Budget(budget))
    try:
        return await ask_views(store.file, question, model)
    finally:
        await _close(model, llm)


def run_sync(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `coroutine`, for scripts; works inside a running event loop too."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    found: list[_Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            errors.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


@functools.lru_cache(maxsize=2)
def _kept_local(spec: str, offline: bool) -> LLM:
    """A local model stays loaded from call to call."""
    return make_llm(spec, offline=offline)


def _metered(llm: Any, offline: bool, budget: Budget | None = None) -> Metered:
    if isinstance(llm, str):
        local = llm.partition(":")[0] not in REMOTE
        model = _kept_local(llm, offline) if local else make_llm(llm, offline=offline)
    else:
        model = outside(as_llm(llm))
    price = price_of(model)
    limit = 4096 if price is FREE else 16
    return Metered(model, MemoryJournal(), budget or Budget(), price=price, limit=limit)


async def _close(model: Metered | None, llm: Any) -> None:
    """Closes a connection that was opened here, and no model that somebody handed in."""
    if model is not None and isinstance(llm, str) and price_of(model.llm) is not FREE:
        await model.aclose()
