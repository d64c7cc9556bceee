"""The difference of two scores on the same windows, and of many such pairs, with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from glossator.errors import NotRegistered
from glossator.scorers.bootstrap import LEVEL, percentiles, replicates
from glossator.scorers.estimates import Floats, Metric
from glossator.scorers.rated import Figure, of_both_kinds
from glossator.scorers.sample import chance_for, working
from glossator.scorers.table import SCORERS
from glossator.types import Prediction, Score

N_PERMUTATIONS = 9999
TIED = 1e-9
"""Differences up to this are none: what rounding leaves of equal scores."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher the first score is, on the windows that both could judge."""

    value: float | None
    """None where one of the two is undefined there, or the windows are all of one kind."""
    low: float | None
    """None, as `high`, where the scorer's figure cannot be computed anew on common windows."""
    high: float | None
    n: int
    """Windows that both judged."""
    spread: float | None = None
    """Standard deviation of the difference over other documents, by bootstrap."""
    why: str = ""
    """Why there is no value."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of many pairs of scores by one scorer, each pair of one feature."""

    mean: float | None
    """Mean over features of the first score less the second; None if no pair has a difference."""
    low: float | None
    """Lower end of the 95% interval, over other features and other documents."""
    high: float | None
    p: float | None
    """Sign-flip permutation: how often the mean would be as far from 0 if neither were better."""
    n: int
    """Features with a difference."""
    better: int
    """Features on which the first scores higher."""
    worse: int
    tied: int
    undefined: Mapping[str, int] = field(default_factory=dict)
    """Pairs without a difference, by reason."""


def paired_difference(a: Score, b: Score, seed: int = 0) -> Difference:
    """`a` less `b`: both computed anew on their common windows, in the same bootstrap draws.

    Raises:
        ValueError: if they are of different features or by different scorers.
    """
    if a.feature != b.feature or a.scorer != b.scorer:
        raise ValueError(
            f"{a.scorer} of {a.feature} and {b.scorer} of {b.feature} cannot be paired: "
            "a pair is of one feature and one scorer"
        )
    figure = figure_of(a.scorer)
    if figure is None:
        return _of_values(a, b)
    mine, theirs = (
        {(p.example, p.stratum): p for p in s.predictions if not p.failure} for s in (a, b)
    )
    common = sorted(mine.keys() & theirs.keys())
    if not of_both_kinds([mine[key] for key in common]):
        why = "no windows of both kinds that both could judge"
        return Difference(None, None, None, len(common), why=_no_value(a, b) or why)
    first = working(a.predictions, [mine[key] for key in common])
    second = [theirs[key] for key in common]
    weights = np.array([[p.weight for p in first]])
    metrics = [_metric(figure, side) for side in (first, second)]
    value = float(metrics[0](weights)[0] - metrics[1](weights)[0])
    if not np.isfinite(value):
        why = _no_value(a, b) or "the figure is undefined on the windows that both could judge"
        return Difference(None, None, None, len(common), why=why)
    draws = replicates(
        [p.weight for p in first],
        [p.stratum for p in first],
        [p.document for p in first],
        chance_for(seed, "paired", a.feature, a.scorer),
    )
    drawn = metrics[0](draws) - metrics[1](draws)
    low, high = percentiles(drawn)
    finite = drawn[np.isfinite(drawn)]
    return Difference(value, low, high, len(common), float(finite.std()) if len(finite) else None)


def figure_of(scorer: str) -> Figure | None:
    """The figure that the scorer's class says it is headed by; None if it says none."""
    try:
        part = SCORERS.load(scorer)
    except NotRegistered:  # a part from outside, not installed here
        return None
    figure: Figure | None = getattr(part, "headline", None)
    return figure


def _metric(figure: Figure, predictions: Sequence[Prediction]) -> Metric:
    return figure(
        [p.stratum for p in predictions],
        [p.actual for p in predictions],
        [p.predicted for p in predictions],
    )


def _of_values(a: Score, b: Score) -> Difference:
    n = min(a.n, b.n)
    if a.value is None or b.value is None:
        return Difference(None, None, None, n, why=_no_value(a, b))
    return Difference(a.value - b.value, None, None, n)


def _no_value(a: Score, b: Score) -> str:
    """Which of the two scores has no value, and why, as far as its note's first clause says."""
    notes = {side: s.note.partition(";")[0] for side, s in (("a", a), ("b", b)) if s.value is None}
    if len(notes) == 2:
        return f"neither has a value: {notes['a']}"
    return "".join(f"{side} has no value: {note}" for side, note in notes.items())


def compared(differences: Sequence[Difference], seed: int = 0) -> Comparison:
    """The mean of `differences`, one of each feature, with its interval and p value."""
    known = [d for d in differences if d.value is not None]
    undefined = Counter(d.why for d in differences if d.value is None)
    values = np.array([d.value for d in known], float)
    low, high = mean_interval(known)
    return Comparison(
        mean=float(values.mean()) if len(values) else None,
        low=low,
        high=high,
        p=sign_flip_p(values, chance_for(seed, "sign flips", len(values))),
        n=len(values),
        better=int((values > TIED).sum()),
        worse=int((values < -TIED).sum()),
        tied=int((np.abs(values) <= TIED).sum()),
        undefined=dict(undefined.most_common()),
    )


def mean_interval(known: Sequence[Difference]) -> tuple[float | None, float | None]:
    """The 95% interval of the mean of differences that have a value, over other features.

    Student's t, for the features' differences hold the chance of documents already: drawing
    documents within drawn features too would count it twice (Davison and Hinkley 1997, 3.8), and
    with a bootstrap of the features themselves, five held the truth in 84% of samples. Where
    features differ less than their documents say (with few, by luck), the documents' spread stands
    in; a single pair has its own interval.
    """
    from scipy.stats import t

    n = len(known)
    if n == 0:
        return None, None
    if n == 1:
        return known[0].low, known[0].high
    values = np.array([d.value for d in known], float)
    tail = (1 + LEVEL) / 2
    between = float(t.ppf(tail, n - 1)) * float(values.std(ddof=1))
    within = float(np.sqrt(np.mean([(d.spread or 0.0) ** 2 for d in known])))
    half = max(between, NormalDist().inv_cdf(tail) * within) / float(np.sqrt(n))
    mean = float(values.mean())
    return mean - half, mean + half


def sign_flip_p(values: Floats, chance: np.random.Generator) -> float | None:
    """Share of all ways to turn the signs of `values` whose mean is as far from 0; None of none.

    All 2^n ways where they are few, else 9,999 random ones and this one (Fisher 1935; Phipson and
    Smyth 2010).
    """
    from scipy.stats import permutation_test

    if len(values) == 0:
        return None
    if len(values) == 1 or not np.any(values):
        return 1.0
    found = permutation_test(
        (values,),
        lambda v, axis: v.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=N_PERMUTATIONS,
        rng=chance,
    )
    return float(found.pvalue)
