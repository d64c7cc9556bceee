"""Scorers that rate each window by itself: from the ratings to a score.

Such a scorer says how one window is rated under one explanation, and which figures follow from the
ratings; what the wrong explanations get, intervals, failures and reasons are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from glossator.errors import ReplyError
from glossator.scorers.asking import Rate, Rated, asked, looks_over
from glossator.scorers.bootstrap import Resampling, Values
from glossator.scorers.estimates import AveragePrecision, Calls, Floats, Metric, Pearson
from glossator.scorers.judge import Judge, Window
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import Findings, Frame, failed, resample, score_of
from glossator.scorers.sample import working
from glossator.types import (
    MISMARKED,
    SILENT,
    Example,
    Explanation,
    Measure,
    Prediction,
    Score,
    Usage,
)

_Unit = TypeVar("_Unit")
Figure = Callable[[Sequence[str], Values, Values], Metric]
"""From the strata of windows, what they did and how they were rated to a figure of them."""

NEGATIVE = frozenset({SILENT, MISMARKED})
"""Strata of windows that the explanation should not fit."""
CALLS = ("F1", "precision", "recall", "IoU", "balanced accuracy")


class ExplanationUnusableError(Exception):
    """A rater that asks nobody cannot run this explanation, so no window can be rated."""


@dataclass(frozen=True)
class Reading:
    """What a scorer makes of its ratings."""

    headline: Figure
    empty: Callable[[Sequence[Prediction]], float | None]
    """What a constant rating would score; None where it has no value."""
    undefined: str
    """Why there is no value, where the figure is undefined."""
    bounds: tuple[float, float] = (0, 1)
    """The least and the greatest value the headline can have."""
    beside: Mapping[str, tuple[Figure, tuple[float, float] | None]] = field(default_factory=dict)
    """Other figures by name, with their bounds; None where a figure has none."""
    plain: Mapping[str, float | None] = field(default_factory=dict)
    """Figures without an interval."""
    notes: Sequence[str] = field(default=())


Read = Callable[[Sequence[Prediction], Sequence[Prediction]], Reading]
"""From the ratings of held-out windows, failed ones among them, and those of dev that worked."""


async def rated(
    frame: Frame,
    wrong: Wrong,
    units: Sequence[_Unit],
    rate: Rate[_Unit],
    read: Read,
    seed: int,
    used: Usage | None = None,
    *,
    dev_units: Sequence[_Unit] = (),
    precision: float = 0.0,
) -> Score:
    """The score of the frame's explanation on `units`, against `wrong` ones on the same.

    `read` is given the ratings of the explanation that is scored, and those of `dev_units` that
    worked, on which alone anything may be fitted. `used` is what was used before. With a
    `precision`, units are asked about until the headline's interval is as narrow (see `looks.py`);
    a unit is an `Example` or holds one as `example`, and its rating is of the same stratum.

    Raises:
        ProviderError, BudgetSpent, Unsupported: as the language model does.
    """
    feature = frame.explanation.feature
    looks = looks_over(units, precision, seed, feature)

    def enough(own: Sequence[Prediction]) -> bool:
        found = resample(own, seed)
        if found is None or not of_both_kinds(own):
            return False
        return looks.enough(headline_of(own, read(own, ()), found, looks.level))

    try:
        said = await asked(
            rate,
            frame.explanation,
            wrong.explanations,
            units,
            dev_units,
            looks,
            looks_over(dev_units, precision, seed, feature).order,
            enough,
        )
    except ExplanationUnusableError as error:
        return frame.nothing(str(error), usage=used)
    own, usage = said.own, said.usage + (used or Usage())
    resampling = resample(own, seed)
    if resampling is None:
        return frame.nothing("no window could be judged", own, usage)
    if not of_both_kinds(own):
        return frame.nothing(
            "needs a usable reply on both kinds of window, those it fits and those it does not",
            own,
            usage,
        )
    reading = read(own, working(said.on_dev))
    usable = [
        (e, p) for e, p in zip(wrong.explanations, said.others, strict=True) if of_both_kinds(p)
    ]
    measures = {
        name: resampling.measure(over(resampling, own, figure), bounds, looks.level)
        for name, (figure, bounds) in reading.beside.items()
    }
    headline = headline_of(own, reading, resampling, looks.level)
    findings = Findings(
        headline,
        measures | {name: Measure(value) for name, value in reading.plain.items()},
        [value_of(p, reading.headline) for _, p in usable],
        reading.empty(own),
        [*reading.notes, *filter(None, [looks.note(headline, len(own)), of_one_document(own)])],
    )
    judged = Wrong(wrong.kind, tuple(e for e, _ in usable))
    return score_of(frame, findings, judged, own, usage, reading.undefined)


async def judged(
    judge: Judge,
    explanation: Explanation,
    examples: Sequence[Example],
    marks: Sequence[tuple[bool, ...]] = (),
) -> list[Rated]:
    """The judge's ratings of `examples`, or of their `marks` where there are any.

    Raises:
        ExplanationUnusableError: if the judge asks nobody and cannot use the explanation.
    """
    windows = [Window(e.tokens) for e in examples]
    if marks:
        windows = [Window(e.tokens, m) for e, m in zip(examples, marks, strict=True)]
    found: list[Rated] = []
    for example, said in zip(examples, await judge.judge(explanation, windows), strict=True):
        if isinstance(said, ReplyError):
            error = unusable(judge.model, said)
            found.append((failed(example, error, judge.scale, True), error.usage or Usage()))
        else:
            found.append((rating(example, said.value, judge.scale), said.usage))
    return found


def headline_of(
    own: Sequence[Prediction], reading: Reading, resampling: Resampling, level: float
) -> Measure:
    """The reading's headline with its interval."""
    metric = over(resampling, own, reading.headline)
    return resampling.measure(metric, reading.bounds, level)


def rating(example: Example, value: float, scale: str, actual: float | None = None) -> Prediction:
    """The prediction that says `example` was rated `value`."""
    return Prediction(
        example.key,
        example.stratum,
        example.weight,
        example.document,
        (example.peak if actual is None else actual,),
        (value,),
        scale,
        example.tokens,
    )


def of_both_kinds(predictions: Sequence[Prediction]) -> bool:
    """Whether windows that it should fit and others are among those that worked."""
    return len({p.stratum in NEGATIVE for p in predictions if not p.failure}) == 2


def of_one_document(predictions: Sequence[Prediction]) -> str:
    """What to say where all windows that it should fit are of one document; else empty."""
    fitting = {p.document for p in predictions if not p.failure and p.stratum not in NEGATIVE}
    if len(fitting) != 1:
        return ""
    return "all firing windows that were scored are of one document, and others may differ"


def over(resampling: Resampling, predictions: Sequence[Prediction], figure: Figure) -> Metric:
    """`figure` over real and imagined windows; imagined ones are silent."""
    strata = [p.stratum for p in predictions if not p.failure]
    imagined = [SILENT] * (len(resampling.predicted) - len(strata))
    return figure(strata + imagined, resampling.actual, resampling.predicted)


def value_of(predictions: Sequence[Prediction], figure: Figure) -> float | None:
    """`figure` of the predictions that worked; None if it is undefined."""
    usable = working(predictions)
    if not usable:
        return None
    metric = figure(
        [p.stratum for p in usable], [p.actual for p in usable], [p.predicted for p in usable]
    )
    value = float(metric(np.array([[p.weight for p in usable]]))[0])
    return value if np.isfinite(value) else None


def base_rate(predictions: Sequence[Prediction]) -> float | None:
    """Weighted share of the windows that it should fit: the precision of a constant rating."""
    usable = working(predictions)
    total = sum(p.weight for p in usable)
    return sum(p.weight for p in usable if p.stratum not in NEGATIVE) / total if total else None


# -- figures ---------------------------------------------------------------------------------------


def pearson(strata: Sequence[str], actual: Values, predicted: Values) -> Pearson:
    """Pearson r over the tokens of all windows."""
    return Pearson.over(actual, predicted)


def precision_of_ratings(
    strata: Sequence[str], actual: Values, predicted: Values
) -> AveragePrecision:
    """Average precision of the ratings as a ranking of the windows that it should fit."""
    return AveragePrecision.of([s not in NEGATIVE for s in strata], [p[0] for p in predicted])


def calls_above(threshold: float, figure: str) -> Figure:
    """`figure` of calling those windows fitting that are rated above `threshold`."""

    def built(strata: Sequence[str], actual: Values, predicted: Values) -> Calls:
        fits = [s not in NEGATIVE for s in strata]
        return Calls.of(fits, [p[0] > threshold for p in predicted], figure)

    return built


@dataclass(frozen=True)
class Among:
    """A figure of some of the windows; the others weigh nothing."""

    metric: Metric
    member: npt.NDArray[np.bool_]
    """Shape (n_windows,)."""

    def __call__(self, weights: Floats) -> Floats:
        """One figure for each row of `weights`, NaN where it is undefined."""
        return self.metric(weights * self.member)


def without(stratum: str, figure: Figure) -> Figure:
    """`figure` of the windows of all strata but one."""

    def built(strata: Sequence[str], actual: Values, predicted: Values) -> Among:
        return Among(figure(strata, actual, predicted), np.array([s != stratum for s in strata]))

    return built


def unusable(model: str, error: ReplyError) -> ReplyError:
    """`error`, a failure of one window; or, where no language model was asked, of them all.

    Raises:
        ExplanationUnusableError: if `model` is empty: whoever asks nobody cannot do any window.
    """
    if not model:
        raise ExplanationUnusableError(str(error)) from error
    return error
