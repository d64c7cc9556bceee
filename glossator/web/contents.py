"""What a report holds, read from the store: one feature's predictions in memory at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from markupsafe import Markup

from glossator.store import Failure, Run, Store
from glossator.types import (
    SILENT,
    TOP,
    Example,
    Explanation,
    FeatureId,
    FeatureRecord,
    Score,
    Split,
    Usage,
)
from glossator.web.figures import Axis, Dot, dot_row, histogram, shaded
from glossator.web.heldout import held_out, misjudged, token_wise
from glossator.web.verdicts import (
    BASELINE,
    Against,
    Gap,
    Standing,
    compared_by,
    series_of,
    standing,
)
from glossator.web.views import Cell, Contents, Page, Room, Row, Shown, Strip
from glossator.web.words import local_name, natural

MOST_FEATURES = 300
"""Features that a report shows; the counts are over all."""

Paired = Callable[[Score, Score, int], tuple[float | None, float | None, float | None, int]]
"""Difference of two scores with the ends of its interval and the windows in it."""
_Key = tuple[FeatureId, str, str, str]


def read_contents(store: Store, run: Run, paired: Paired) -> Contents:
    """What there is to show of `run`."""
    explanations = {(e.feature, e.explainer): e for e in store.explanations_of(run.id)}
    scores = store.scores_of(run.id)
    failures = tuple(store.failures(run.id))
    q = _q_values(store, run.id)
    features = _features_of(store, run, [*explanations], scores, failures)
    named = [e for _, e in explanations] + [s.explainer for s in scores]
    named += [f.part.split("/")[0] for f in failures if f.stage in ("explain", "score") and f.part]
    explainers = _ordered(named, _names(run.config, "explainers"))
    # The baseline comes last, below what it is there to judge.
    explainers = tuple(sorted(explainers, key=lambda name: name == BASELINE))
    scorers = _ordered([s.scorer for s in scores], _names(run.config, "scorers"))
    compared = compared_by(scorers)
    series, axes = series_of(explainers), {}
    for scorer in scorers:
        own = [s for s in scores if s.scorer == scorer]
        axes[scorer] = Axis.over(v for s in own for v in (s.value, s.low, s.high, s.null))
    by_feature: dict[FeatureId, list[Score]] = {}
    for score in scores:
        by_feature.setdefault(score.feature, []).append(score)

    room = Room.for_features(min(len(features), MOST_FEATURES))
    pages: list[Page] = []
    gaps: dict[tuple[str, str, str], list[Gap]] = {}
    for number, feature in enumerate(features, 1):
        full = [
            store.score_of(run.id, feature, s.explainer, s.scorer, s.simulator) or s
            for s in by_feature.get(feature, [])
        ]
        full.sort(key=lambda s: explainers.index(s.explainer))
        for key, gap in _gaps(feature, full, paired, compared, run.seed):
            gaps.setdefault(key, []).append(gap)
        if number <= MOST_FEATURES:
            given_up = tuple(f for f in failures if f.feature == feature)
            record = store.record(run.collection, feature)
            rows = tuple(
                _row(name, series[name], explanations.get((feature, name)), full, q, axes, given_up)
                for name in explainers
                if (feature, name) in explanations
                or any(s.explainer == name for s in full)
                or any(_concerns(f, name) for f in given_up)
            )
            pages.append(_page(number, feature, record, rows, full, given_up, series, room))
    return Contents(
        run=run,
        explainers=explainers,
        series=series,
        scorers=scorers,
        pages=tuple(pages),
        n_features=len(features),
        n_abstained=sum(bool(e.abstained) for e in explanations.values()),
        strips=tuple(_strip(s, axes[s], scores, pages, series) for s in scorers),
        standings=tuple(_standings(scores, explanations, q, scorers, explainers)),
        against=tuple(_against(explanations, gaps, explainers)),
        compared=compared,
        failures=failures,
        usage=sum(
            [*(e.usage for e in explanations.values()), *(s.usage for s in scores)], start=Usage()
        ),
        spent=store.spent(run.id),
        assumed=store.assumed(run.id).dollars,
        llms=_llms(explanations.values(), scores),
        writers=_writers(explanations.values()),
    )


def _features_of(
    store: Store,
    run: Run,
    explained: Iterable[tuple[FeatureId, str]],
    scores: Iterable[Score],
    failures: Iterable[Failure],
) -> list[FeatureId]:
    """The features of `run`, in the order of their names; a collection may hold those of others."""
    found = {feature for feature, _ in explained} | {s.feature for s in scores}
    found |= {f.feature for f in failures if f.feature is not None}
    found |= {feature for feature, _ in store.done(run.id, "collect")}
    alone = all(r.id == run.id for r in store.runs() if r.collection == run.collection)
    if alone or not found:
        found |= store.recorded(run.collection)
    return sorted(found, key=natural)


def _names(config: Mapping[str, object], option: str) -> list[str]:
    names = config.get(option)
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def _ordered(found: Iterable[str], first: Sequence[str]) -> tuple[str, ...]:
    """The names in `found`, those in `first` before the rest."""
    there = set(found)
    return (*(n for n in first if n in there), *sorted(there.difference(first)))


def _q_values(store: Store, run: str) -> dict[_Key, float]:
    frame = store.scores(run)
    known = frame[frame["q"].notna()]
    columns = (known[name] for name in ("feature", "explainer", "scorer", "simulator", "q"))
    return {
        (FeatureId.parse(feature), explainer, scorer, simulator): float(q)
        for feature, explainer, scorer, simulator, q in zip(*columns, strict=True)
    }


def _key(score: Score) -> _Key:
    return score.feature, score.explainer, score.scorer, score.simulator


def _row(
    name: str,
    series: int,
    explanation: Explanation | None,
    scores: Sequence[Score],
    q: Mapping[_Key, float],
    axes: Mapping[str, Axis],
    failures: Sequence[Failure],
) -> Row:
    cells: dict[str, tuple[Cell, ...]] = {}
    for score in scores:
        if score.explainer == name:
            bar = dot_row(axes[score.scorer], [dot_of(score, series)])
            bare = dataclasses.replace(score, predictions=())
            cell = Cell(bare, q.get(_key(score)), bar)
            cells[score.scorer] = (*cells.get(score.scorer, ()), cell)
    own = tuple(f for f in failures if _concerns(f, name))
    return Row(name, series, explanation, cells, own)


def _concerns(failure: Failure, explainer: str) -> bool:
    """Whether `failure` is of what `explainer` says, as `store.part_of` names the parts."""
    return failure.part.split("/")[0] == explainer


def dot_of(score: Score, series: int) -> Dot:
    """`score` as a dot of a chart."""
    return Dot(score.explainer, score.value, score.low, score.high, score.null, series)


def _page(
    number: int,
    feature: FeatureId,
    record: FeatureRecord | None,
    rows: tuple[Row, ...],
    scores: Sequence[Score],
    failures: tuple[Failure, ...],
    series: Mapping[str, int],
    room: Room,
) -> Page:
    peak = record.peak if record else 0.0
    if peak <= 0:
        peak = max((v for s in scores for p in s.predictions for v in p.actual), default=0.0)
    by_token = [(s, series[s.explainer]) for s in scores if token_wise(s)]
    by_window = [(s, misjudged(s, room.judged)) for s in scores if not token_wise(s)]
    replies = [
        (s.scorer, p.failure, p.raw) for s in scores for p in s.predictions if p.failure and p.raw
    ]
    return Page(
        feature=feature,
        name=local_name(feature),
        anchor=f"f{number}",
        record=record,
        rows=rows,
        failures=failures,
        histogram=(
            histogram(record.histogram_edges, record.histogram, record.threshold)
            if record and record.histogram
            else Markup("")
        ),
        train=excerpts(record.train, peak, room) if record else (),
        n_train=len(record.train.examples) if record else 0,
        held_out=held_out(by_token[:4], peak, room.predicted),
        judged=tuple((s, judged) for s, judged in by_window if judged),
        replies=tuple(replies[:2]),
        peak=peak,
    )


def excerpts(split: Split, peak: float, room: Room) -> tuple[Shown, ...]:
    """As many windows of each stratum as there is `room` for, shaded up to `peak`."""
    groups: dict[str, list[Example]] = {}
    for example in split.examples:
        groups.setdefault(example.stratum, []).append(example)
    population = {s.name: s.population for s in split.strata}
    names = sorted(groups, key=lambda n: (n == SILENT, n != TOP, [-ord(c) for c in n]))
    shown = []
    for name in names:
        most = {TOP: room.top, SILENT: room.silent}.get(name, room.quantile)
        texts = tuple((shaded(e, peak, split.threshold), e) for e in groups[name][:most])
        shown.append(Shown(name, texts, len(groups[name]), population.get(name)))
    return tuple(shown)


def _gaps(
    feature: FeatureId, scores: Sequence[Score], paired: Paired, compared: str, seed: int
) -> Iterable[tuple[tuple[str, str, str], Gap]]:
    """Every explanation's score beside the baseline's, where both have a value."""
    own = [s for s in scores if s.scorer == compared and s.value is not None]
    baselines = [s for s in own if s.explainer == BASELINE]
    # The baseline at its best: its pattern run as a program, where that was done.
    baselines.sort(key=lambda s: s.simulator != "symbolic")
    for score in own:
        if score.explainer != BASELINE and baselines:
            value, low, high, n = paired(score, baselines[0], seed)
            if value is not None:
                key = (score.explainer, score.simulator, baselines[0].simulator)
                yield key, Gap(feature, value, low, high, n)


def _against(
    explanations: Mapping[tuple[FeatureId, str], Explanation],
    gaps: Mapping[tuple[str, str, str], Sequence[Gap]],
    explainers: Sequence[str],
) -> Iterable[Against]:
    for name in explainers:
        if name == BASELINE:
            continue
        said = [e for (_, who), e in explanations.items() if who == name and not e.abstained]
        found = {key: value for key, value in gaps.items() if key[0] == name}
        for (_, simulator, base), own in sorted(found.items()) or [((name, "", ""), ())]:
            yield Against(name, simulator, base, len(said), tuple(own))


def _standings(
    scores: Sequence[Score],
    explanations: Mapping[tuple[FeatureId, str], Explanation],
    q: Mapping[_Key, float],
    scorers: Sequence[str],
    explainers: Sequence[str],
) -> Iterable[Standing]:
    """What the scores amount to, those of abstentions left out: there was nothing to score."""
    groups: dict[tuple[int, int, str], list[Score]] = {}
    for score in scores:
        said = explanations.get((score.feature, score.explainer))
        if said and said.abstained:
            continue
        place = (scorers.index(score.scorer), explainers.index(score.explainer), score.simulator)
        groups.setdefault(place, []).append(score)
    for place in sorted(groups):
        yield standing(groups[place], [q.get(_key(s)) for s in groups[place]])


def _strip(
    scorer: str,
    axis: Axis,
    scores: Sequence[Score],
    pages: Sequence[Page],
    series: Mapping[str, int],
) -> Strip:
    rows = []
    pitch = 11 if len(pages) <= 60 else 7
    for page in pages:
        cells = [(row.series, c) for row in page.rows for c in row.cells.get(scorer, ())]
        dots = [dot_of(cell.score, number) for number, cell in cells]
        rows.append((page, dot_row(axis, dots, pitch)))
    metric = next((s.metric for s in scores if s.scorer == scorer and s.metric), "")
    return Strip(scorer, metric, axis, tuple(rows))


def _writers(explanations: Iterable[Explanation]) -> dict[str, str]:
    asked: dict[str, list[str]] = {}
    for explanation in explanations:
        if explanation.model:
            asked.setdefault(explanation.explainer, []).append(explanation.model)
    return {name: ", ".join(dict.fromkeys(models)) for name, models in asked.items()}


def _llms(explanations: Iterable[Explanation], scores: Iterable[Score]) -> dict[str, str]:
    work: dict[str, list[str]] = {}
    for explanation in explanations:
        work.setdefault(explanation.model, []).append(f"wrote {explanation.explainer}")
    for score in scores:
        by = f"{score.scorer} ({score.simulator})" if score.simulator else score.scorer
        work.setdefault(score.model, []).append(f"judged in {by}")
    return {model: ", ".join(dict.fromkeys(did)) for model, did in work.items() if model}
