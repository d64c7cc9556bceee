"""Figures of predictions, one case at a time, and of differences between two simulators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from simulating.cases import Case
from simulating.predictions import Kept

from glossator.bench.figures import above, mean_of, share_of
from glossator.scorers.estimates import AveragePrecision, Pearson
from glossator.types import SILENT, Example, Measure

Values = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Figures:
    """One simulator on one case."""

    pearson: float
    """Over tokens, weighted to the pool. 0 where the prediction is constant: it tells nothing."""
    plain: float
    """The same with each window counted once, as other systems report it."""
    firing: float
    """Pearson, weighted, where what is below the threshold counts as 0: of a neuron the rest is
    noise that no description is about."""
    precision: float
    """AUPRC over tokens, weighted; what a constant prediction gets is `base`."""
    base: float
    """Weighted share of tokens that fire."""
    windows: float
    """AUPRC over windows by the largest prediction in each, weighted."""
    windows_base: float
    constant: bool
    over_unrelated: float | None
    """Share of unrelated descriptions with a smaller `pearson`; None if none was asked about."""
    over_near: float | None


FIGURES: dict[str, Callable[[Figures], float | None]] = {
    "Pearson": lambda f: f.pearson,
    "Pearson, unweighted": lambda f: f.plain,
    "Pearson, firing": lambda f: f.firing,
    "AUPRC of tokens": lambda f: f.precision,
    "AUPRC of windows": lambda f: f.windows,
    "true > unrelated": lambda f: f.over_unrelated,
    "true > near miss": lambda f: f.over_near,
}
SHARES = ("true > unrelated", "true > near miss")


def figures_of(case: Case, kept: Kept) -> Figures | None:
    """The figures of a case; None where not all of its windows were predicted."""
    predicted = predictions_of(case, case.text, kept)
    if predicted is None:
        return None
    actual = [e.activations for e in case.windows]
    weights = np.array([[e.weight for e in case.windows]])
    pearson = correlation(actual, predicted, weights)
    loudly = [[max(0.0, a - case.threshold) for a in values] for values in actual]
    fires = [a > case.threshold for values in actual for a in values]
    flat = [p for values in predicted for p in values]
    of_tokens = np.repeat(weights[0], [len(v) for v in actual])
    loud = [e.stratum != SILENT for e in case.windows]
    ranked = [max(values) for values in predicted]
    return Figures(
        pearson or 0.0,
        correlation(actual, predicted, np.ones_like(weights)) or 0.0,
        correlation(loudly, predicted, weights) or 0.0,
        precision(fires, flat, of_tokens),
        float(np.average(fires, weights=of_tokens)),
        precision(loud, ranked, weights[0]),
        float(np.average(loud, weights=weights[0])),
        pearson is None,
        _share_above(case, pearson, case.unrelated, kept),
        _share_above(case, pearson, case.near, kept),
    )


def predictions_of(case: Case, text: str, kept: Kept) -> list[tuple[float, ...]] | None:
    """One row a window; what could not be said is 0. None where a window was not asked about."""
    known = kept.found.get((case.ground, case.name, text), {})
    if not all(e.key in known for e in case.windows):
        return None
    return [known[e.key] or _nothing(e) for e in case.windows]


def _nothing(window: Example) -> tuple[float, ...]:
    return (0.0,) * len(window.tokens)


def _share_above(case: Case, own: float | None, texts: Sequence[str], kept: Kept) -> float | None:
    actual = [e.activations for e in case.windows]
    weights = np.array([[e.weight for e in case.windows]])
    asked = [p for text in texts if (p := predictions_of(case, text, kept)) is not None]
    if not asked:
        return None
    return float(np.mean([above(own, correlation(actual, p, weights)) for p in asked]))


def correlation(actual: Values, predicted: Values, weights: np.ndarray) -> float | None:
    """Pearson over the tokens of all windows; None where one side is constant."""
    value = float(Pearson.over(actual, predicted)(weights)[0])
    return value if np.isfinite(value) else None


def precision(fires: Sequence[bool], predicted: Sequence[float], weights: np.ndarray) -> float:
    """Average precision, ties counted as one step; 0 where nothing fires."""
    value = float(AveragePrecision.of(fires, predicted)(weights[None])[0])
    return value if np.isfinite(value) else 0.0


@dataclass(frozen=True)
class Row:
    """One simulator over several cases."""

    who: str
    n: int
    constant: int
    """Cases of which it predicts the same everywhere."""
    measures: dict[str, Measure]
    base: float
    windows_base: float


@dataclass(frozen=True)
class Versus:
    """The first simulator less another one, on the same windows of the same cases."""

    who: str
    n: int
    measures: dict[str, Measure]


def row_of(who: str, found: Sequence[Figures]) -> Row:
    """Means over cases with bootstrap intervals, and shares with Wilson's."""
    measures = {}
    for name, figure in FIGURES.items():
        values = [v for f in found if (v := figure(f)) is not None]
        measures[name] = share_of(values) if name in SHARES else mean_of(values)
    return Row(
        who,
        len(found),
        sum(f.constant for f in found),
        measures,
        float(np.mean([f.base for f in found])) if found else 0.0,
        float(np.mean([f.windows_base for f in found])) if found else 0.0,
    )


def versus(who: str, pairs: Sequence[tuple[Figures, Figures]]) -> Versus:
    """Mean differences over cases, with intervals by bootstrap over cases: a paired comparison."""
    measures = {}
    for name, figure in FIGURES.items():
        both = [(figure(a), figure(b)) for a, b in pairs]
        measures[name] = mean_of([a - b for a, b in both if a is not None and b is not None])
    return Versus(who, len(pairs), measures)
