"""What a run would come to, before it is begun: units, calls, tokens, dollars, time and disk.

No key is needed, no language model is loaded and nothing is written. What the store holds already
is not counted again. Calls and tokens come from a trial (`glossator.trial`) on the records that
there are, or on imagined ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from glossator.blank import BlankEmbedder, BlankLive
from glossator.collecting import not_collected
from glossator.config import RunConfig, RunLimits
from glossator.datasets.corpora import load_corpus
from glossator.datasets.digest import keeps_acts
from glossator.datasets.imagined import ImaginedText
from glossator.datasets.readings import Reading, reading_of
from glossator.explainers.build import inquires, needs_llm
from glossator.forecast import Forecast, download_bytes, subject_rate
from glossator.models import Usable, Who, check_batch, explains, judges
from glossator.pipeline import STAGES, check_names, check_readable
from glossator.providers.prices import FREE
from glossator.reading import (
    chosen_features,
    coder_of,
    collect_settings,
    collection_key,
    control_notice,
    site_notice,
    sites_of,
    subject_of,
)
from glossator.rows import packed
from glossator.scorers.looks import FIRST
from glossator.scorers.nulls import Wrong
from glossator.standing import stand_in_for
from glossator.store import Store
from glossator.trial import Amount, Case, StandIn, Trial, hangs_on_answers
from glossator.types import Explanation, FeatureId, FeatureRecord, Usage
from glossator.units import scorer_for, scoring_asks

ROW_BYTES, SUMMARY_BYTES, SCORE_BYTES = 1.25, 400, 10_000
"""What a stored byte takes on disk with its indexes; a feature's summary; a score with its
predictions. Of the demo's store."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An estimate of what is left to do."""

    features: int
    units: Mapping[str, int]
    """What is left, by stage: features to collect, explanations, scores."""
    calls: int
    """Calls to language models, repeated attempts left out; like all that has a `_high` beside it,
    the least, where it hangs on what is answered how much has to be asked."""
    prompt_tokens: int
    cache_read_tokens: int
    """Of these, read from the provider's cache if that hits."""
    completion_tokens: int
    dollars_low: float | None
    """With replies of the usual length, and what providers cache read from there; None where a
    price is unknown."""
    dollars_high: float | None
    """With as much asked as may have to be, nothing cached, and every reply as long as it may
    be."""
    seconds: float
    disk_bytes: int
    """By which the store grows, at most."""
    download_bytes: int
    """Of models that are still to be fetched."""
    notes: tuple[str, ...]
    calls_high: int
    """With as much asked as may have to be; the same as `calls` where that is known before."""
    prompt_tokens_high: int
    completion_tokens_high: int
    seconds_high: float


def plan(
    config: RunConfig,
    limits: RunLimits,
    store: Store | None,
    stages: Sequence[str] = STAGES,
    *,
    fresh: bool = False,
) -> Plan:
    """The estimate for what `config` asks for and `store` lacks.

    Args:
        config: as of the run.
        limits: as of the run.
        store: is read and not changed; None if there is none yet.
        stages: as of the run.
        fresh: whether it is to be begun anew.

    Raises:
        ConfigError, NotRegistered, AssetError, CorpusError, Unsupported: as the run would.
    """
    check_names(config)
    check_batch(config, limits)
    return asyncio.run(_Estimate.of(config, limits, store, fresh).plan(stages))


@dataclass
class _Estimate:
    """An estimate in the making."""

    config: RunConfig
    limits: RunLimits
    store: Store | None
    run: str | None
    """The run that would be gone on with."""
    key: str
    """Of the collection."""
    features: list[FeatureId]
    reading: Reading
    notes: list[str]
    recorded: frozenset[FeatureId] = frozenset()
    _text: ImaginedText | None = None
    _stand_ins: dict[Who, StandIn] = field(default_factory=dict)

    @classmethod
    def of(
        cls, config: RunConfig, limits: RunLimits, store: Store | None, fresh: bool
    ) -> _Estimate:
        """Loads the subject and the text, as the run would."""
        notes: list[str] = []
        subject = subject_of(config, limits)
        coder = coder_of(config, subject, limits.offline)
        sites = sites_of(config, subject, coder)
        corpus = load_corpus(config.corpus, offline=limits.offline)
        check_readable(corpus, lambda progress: notes.append(progress.note))
        features = chosen_features(config, subject, corpus, coder)
        notes.insert(
            0,
            f"{len(features)} features of {', '.join(sites)}"
            + (f" by the coder {coder.name}" if coder else ""),
        )
        notes += filter(None, [control_notice(config, coder), site_notice(sites, subject, coder)])
        coders = {coder.name: coder} if coder is not None else {}
        reading = reading_of(subject, features, corpus, collect_settings(config), coders)
        key = collection_key(config, subject, corpus, coder)
        run = None
        if store is not None and not fresh:
            same = [r.id for r in store.runs() if r.config_digest == config.digest]
            run = same[-1] if same else None
        found = cls(config, limits, store, run, key, features, reading, notes)
        if store is not None:
            # Where it goes on with a run, that one says which records it reads.
            found.key = key if run is None else store.run(run).collection
            found.recorded = store.recorded(found.key)
        return found

    async def plan(self, stages: Sequence[str]) -> Plan:
        """The estimate for `stages`."""
        config, units = self.config, dict.fromkeys(stages, 0)
        seconds = disk = 0.0
        if "collect" in stages:
            units["collect"], seconds, disk = self._collecting(tuple(stages) == ("collect",))
        elif any(f not in self.recorded for f in self.features) and "explain" in stages:
            raise not_collected(next(f for f in self.features if f not in self.recorded))
        cases = tuple(Case) if hangs_on_answers(config) else (Case.MOST,)
        found = [await self._asked(case, stages, units) for case in cases]
        disk += units.get("score", 0) * SCORE_BYTES
        return self._sum(units, found[0], found[-1], seconds, disk)

    async def _asked(
        self, case: Case, stages: Sequence[str], units: dict[str, int]
    ) -> list[Amount]:
        """What `stages` ask, part by part, in the one case; what is left is put into `units`."""
        config = self.config
        self._stand_ins = {who: by.anew() for who, by in self._stand_ins.items()}
        trial = Trial(config, self._record, self._explanations(), self.features, case)
        amounts: list[Amount] = []
        if "explain" in stages:
            left = self._left("explain", config.explainers, self.features)
            units["explain"] = sum(map(len, left.values()))
            for name, features in left.items():
                if features and needs_llm(name):
                    by = await self._stand_in(explains(config))
                    amounts.append(await trial.explain(name, features, by))
        if "score" in stages:
            both = "explain" in stages
            there = [key for key in trial.explanations if key[1] in config.explainers]
            of = {e: self.features if both else [f for f, n in there if n == e]
                  for e in config.explainers}  # fmt: skip
            left = {
                f"{e}/{s}": features
                for e in config.explainers
                for s in config.scorers
                for features in self._left("score", [f"{e}/{s}"], of[e]).values()
            }
            units["score"] = sum(map(len, left.values()))
            if units["score"] and scoring_asks(config):
                by = await self._stand_in(judges(config))
                self._check_scorers(by)
                for part, features in left.items():
                    explainer, _, name = part.partition("/")
                    if features:
                        amounts.append(await trial.score(explainer, name, features, by))
        return amounts

    def _sum(
        self,
        units: Mapping[str, int],
        least: Sequence[Amount],
        most: Sequence[Amount],
        seconds: float,
        disk: float,
    ) -> Plan:
        # What asks less of one part may lead to dearer questions in another.
        pairs = [sorted(two, key=lambda a: a.used.calls) for two in zip(least, most, strict=True)]
        low, high = ([pair[i] for pair in pairs] for i in (0, 1))
        used, used_high = (sum((a.used for a in amounts), Usage()) for amounts in (low, high))
        forecast = Forecast(self.store, self.limits)
        priced = {s.rehearsal.name: s.rehearsal.price for s in self._stand_ins.values()}
        took, took_high = (
            sum(forecast.seconds(a, local=priced[a.llm] is FREE) for a in amounts)
            for amounts in (low, high)
        )
        disk += ROW_BYTES * sum(a.stored_bytes for a in high)
        unknown = used.cost is None or used_high.cost is None
        at_most = None if unknown else sum(a.dollars_at_most for a in high)
        asked = {a.llm for a in high if a.used.calls}
        self.notes += forecast.notes
        if any(map(inquires, self.config.explainers)):
            self.notes.append(
                "what an agent asks hangs on what it finds: the figures are of inquiries that end "
                "early, and --max-calls and --budget hold for whatever it asks"
            )
        self.notes += self._about_answers(used, used_high)
        self.notes += self._about_money(sorted(n for n in asked if priced[n] is None), used_high)
        specs = [who.spec for who in self._stand_ins if who.is_local]
        wanted = download_bytes(specs) if used_high.calls else 0
        if wanted and self.limits.offline:
            self.notes.append("models are missing, and the run would refuse: leave out --offline")
        return Plan(
            len(self.features),
            units,
            used.calls,
            used.prompt_tokens,
            used.cache_read_tokens,
            used.completion_tokens,
            None if unknown else used.cost,
            at_most,
            seconds + took,
            int(disk),
            wanted,
            tuple(self.notes),
            used_high.calls,
            used_high.prompt_tokens,
            used_high.completion_tokens,
            seconds + took_high,
        )

    # -- collecting ------------------------------------------------------------------------------

    def _collecting(self, alone: bool) -> tuple[int, float, float]:
        """Features to collect, seconds and bytes; reads a little, to see how fast that is."""
        config, settings = self.config, collect_settings(self.config)
        many = alone and not keeps_acts(len(self.features), settings)
        known: Collection[FeatureId] = self.recorded
        if many and self.store is not None:
            known = {s.feature for s in self.store.summaries(self.key)}
        missing = [f for f in self.features if f not in known]
        if not missing and not self.limits.cache:
            return 0, 0.0, 0.0
        record = self._imagined().record(self.features[0])
        each = SUMMARY_BYTES if many else ROW_BYTES * len(packed(record.to_json()))
        rate, n = subject_rate(self.reading, settings)
        self.notes.append(f"time of reading the text: {rate:,.0f} tokens a second, on {n:,} tokens")
        if self.limits.cache:
            self.notes.append("the cache of all activations comes on top of the disk named here")
        tokens = config.tokens + config.calibration_tokens
        return len(missing), tokens / rate, each * len(missing)

    def _imagined(self) -> ImaginedText:
        if self._text is None:
            self._text = ImaginedText.of(self.reading, collect_settings(self.config))
        return self._text

    def _record(self, feature: FeatureId) -> FeatureRecord:
        found = None if self.store is None else self.store.record(self.key, feature)
        return found or self._imagined().record(feature)

    # -- what is left, and who would be asked ------------------------------------------------------

    def _explanations(self) -> dict[tuple[FeatureId, str], Explanation]:
        """By feature and explainer: those that the run has."""
        if self.store is None or self.run is None:
            return {}
        wanted = set(self.features)
        kept = self.store.explanations_of(self.run)
        return {(e.feature, e.explainer): e for e in kept if e.feature in wanted}

    def _left(
        self, stage: str, parts: Sequence[str], features: Sequence[FeatureId]
    ) -> dict[str, list[FeatureId]]:
        """By part, the features of which it is not done."""
        done: frozenset[tuple[FeatureId, str]] = frozenset()
        if self.store is not None and self.run is not None:
            done = self.store.done(self.run, stage)
        return {part: [f for f in features if (f, part) not in done] for part in parts}

    async def _stand_in(self, who: Who) -> StandIn:
        if who not in self._stand_ins:
            store = self.store
            asked = (lambda _: {}) if store is None else store.asked
            rehearsal, notice = await stand_in_for(who, self.limits, asked)
            self.notes += [notice] if notice else []
            kept = (lambda _: None) if store is None else Usable.of(store, self.run).get
            self._stand_ins[who] = StandIn.of(rehearsal, kept)
        return self._stand_ins[who]

    def _check_scorers(self, by: StandIn) -> None:
        """Refuses what cannot work with the model, as the run does."""
        anything = Explanation.written_by_hand(self.features[0], "anything")
        for name in self.config.scorers:
            wrong, live = Wrong("decoys", ()), BlankLive(self.features[0])
            scorer_for(self.config, name, anything, wrong, by.llm, BlankEmbedder(), live)

    # -- money -------------------------------------------------------------------------------------

    def _about_answers(self, low: Usage, high: Usage) -> list[str]:
        """What the low figures and the high ones stand for, where they differ."""
        config, notes = self.config, []
        if low.calls == high.calls:
            return []
        if config.precision and config.n_scored > FIRST:
            notes.append(
                f"precision: low if {FIRST} windows a score are enough for \u00b1 "
                f"{config.precision:g}, high if it takes all {config.n_scored}"
            )
        if config.triage:
            notes.append("triage: low if no feature needs a language model, high if all do")
        if config.n_hard:
            notes.append("n-hard: low if only the nearest windows are to be had, high if all are")
        return notes

    def _about_money(self, unpriced: Sequence[str], used: Usage) -> list[str]:
        notes = []
        budget, most = self.limits.budget, self.limits.max_calls
        if unpriced:
            notes.append(f"nobody knows the price of {', '.join(unpriced)}")
        if unpriced and budget is not None:
            notes.append(
                "so a budget in dollars cannot hold, and the run would refuse: use --max-calls"
            )
        elif budget is not None:
            notes.append(f"the run stops before it passes {budget:g} dollars")
        if most is not None and used.calls:
            notes.append(f"the run stops after {most:,} calls, those of earlier starts included")
        return notes
