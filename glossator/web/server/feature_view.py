"""What the page of one feature shows, read from the store and ready for the template."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from glossator.dossier import Dossier
from glossator.listing import FIRST
from glossator.store import Store
from glossator.types import Explanation, Score
from glossator.web.contents import dot_of, excerpts
from glossator.web.figures import Axis, dot_row, histogram
from glossator.web.heldout import HeldOut, Judged, held_out, misjudged, token_wise
from glossator.web.server.scatter import scatter
from glossator.web.verdicts import BASELINE, series_of
from glossator.web.views import Room, Shown

BRIEF = Room(top=6, quantile=2, silent=2, predicted=8, judged=5)
WHOLE = Room(top=1000, quantile=1000, silent=1000, predicted=1000, judged=1000)


@dataclass(frozen=True, slots=True)
class Said:
    """One explanation and how it scored."""

    explanation: Explanation | None
    """None where there are only scores or failures of it."""
    explainer: str
    series: int
    scores: tuple[tuple[Score, Markup], ...]
    """Each with its chart."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An explanation that can be held beside another: who wrote it, and who predicted from it."""

    explainer: str
    simulator: str

    def __str__(self) -> str:
        return f"{self.explainer}/{self.simulator}" if self.simulator else self.explainer

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.explainer}, by {self.simulator}" if self.simulator else self.explainer


@dataclass(frozen=True, slots=True)
class Compared:
    """Two explanations side by side on what no explainer saw."""

    choices: tuple[Choice, ...]
    first: Choice
    second: Choice | None
    held_out: HeldOut | None
    scatters: tuple[tuple[Score, Markup], ...]
    judged: tuple[tuple[Score, tuple[Judged, ...]], ...]


@dataclass(frozen=True, slots=True)
class FeatureView:
    """The whole page."""

    dossier: Dossier
    said: tuple[Said, ...]
    """The best first, the baseline last."""
    series: Mapping[str, int]
    histogram: Markup
    train: tuple[Shown, ...]
    test: tuple[Shown, ...]
    peak: float
    compared: Compared | None
    whole: bool
    """Whether every window is shown."""


def view_of(
    store: Store | None, dossier: Dossier, first: str = "", second: str = "", *, whole: bool = False
) -> FeatureView:
    """The page of the feature in `dossier`.

    Args:
        store: where predictions are read from; None where the scores carry them.
        dossier: what is known of the feature.
        first: the explanation to hold beside `second`, as `Choice` prints; the best if empty.
        second: another one; the next if empty.
        whole: show every window, and not a few of each stratum.
    """
    record, room = dossier.record, WHOLE if whole else BRIEF
    names = explainers_of(dossier)
    series = series_of(names)
    peak = record.peak if record else 0.0
    return FeatureView(
        dossier=dossier,
        said=tuple(said_of(dossier, name, series[name]) for name in names),
        series=series,
        histogram=(
            histogram(record.histogram_edges, record.histogram, record.threshold)
            if record and record.histogram
            else Markup("")
        ),
        train=excerpts(record.train, peak, room) if record else (),
        test=excerpts(record.test, peak, room) if record else (),
        peak=peak,
        compared=_compared(store, dossier, names, series, (first, second), room),
        whole=whole,
    )


def explainers_of(dossier: Dossier) -> tuple[str, ...]:
    """Whose explanations there are, or were: the best first, the baseline last."""
    named = [e.explainer for e in dossier.explanations]
    named += [s.explainer for s in dossier.scores.values()]
    order = dict.fromkeys(named)
    return tuple(sorted(order, key=lambda n: (n == BASELINE, n != dossier.best)))


def said_of(dossier: Dossier, name: str, series: int) -> Said:
    """The explanation by `name` with its scores, drawn in the colour of that series."""
    scores = [s for s in dossier.scores.values() if s.explainer == name]
    scores.sort(key=lambda s: (s.scorer != FIRST, s.scorer))
    charted = []
    for score in scores:
        same = [s for s in dossier.scores.values() if s.scorer == score.scorer]
        axis = Axis.over(v for s in same for v in (s.value, s.low, s.high, s.null))
        charted.append((score, dot_row(axis, [dot_of(score, series)])))
    found = (e for e in dossier.explanations if e.explainer == name)
    return Said(next(found, None), name, series, tuple(charted))


def _compared(
    store: Store | None,
    dossier: Dossier,
    names: Sequence[str],
    series: Mapping[str, int],
    asked: tuple[str, str],
    room: Room,
) -> Compared | None:
    choices = _choices(dossier, names)
    if not choices:
        return None
    by_name = {str(choice): choice for choice in choices}
    first = by_name.get(asked[0], choices[0])
    others = [choice for choice in choices if choice != first]
    second = by_name.get(asked[1], others[0] if others else None)
    if second == first:
        second = others[0] if others else None
    pair = [first] if second is None else [first, second]
    kept: list[tuple[Score, int]] = []
    for choice in pair:
        for row, score in dossier.scores.items():
            if _is_of(score, choice):
                found = score.predictions if store is None else store.dossiers.predictions(row)
                full = dataclasses.replace(score, predictions=found)
                kept.append((full, series[score.explainer]))
    by_token = [(score, number) for score, number in kept if token_wise(score)]
    # One lane for each of the two; further scorers by token have no room beside them.
    lanes = list({(s.explainer, s.simulator): (s, n) for s, n in reversed(by_token)}.values())[::-1]
    peak = dossier.record.peak if dossier.record else 0.0
    if peak <= 0:
        peak = max((v for s, _ in lanes for p in s.predictions for v in p.actual), default=0.0)
    by_window = [(s, misjudged(s, room.judged)) for s, _ in kept if not token_wise(s)]
    return Compared(
        choices=choices,
        first=first,
        second=second,
        held_out=held_out(lanes, peak, room.predicted),
        scatters=tuple((s, chart) for s, _ in lanes if (chart := scatter(s, peak))),
        judged=tuple((score, found) for score, found in by_window if found),
    )


def _choices(dossier: Dossier, names: Sequence[str]) -> tuple[Choice, ...]:
    """Each explanation with a score, once for each simulator that predicted from it."""
    found = []
    for name in names:
        own = [s for s in dossier.scores.values() if s.explainer == name]
        simulators = dict.fromkeys(s.simulator for s in own if s.scorer == FIRST)
        found += [Choice(name, simulator) for simulator in simulators]
        found += [Choice(name, "")] if own and not simulators else []
    return tuple(found)


def _is_of(score: Score, choice: Choice) -> bool:
    if score.explainer != choice.explainer:
        return False
    return score.scorer != FIRST or score.simulator == choice.simulator
