"""How far people agree with one another, and scorers with the people.

Krippendorff's alpha for ordinal ratings, after Krippendorff, "Computing Krippendorff's
Alpha-Reliability" (2011), section on any number of observers, any metric, missing data: from the
coincidences o of values within units, with n_c their sums and n the sum of all,

    alpha = 1 - (n - 1) sum_ck o_ck d_ck / sum_ck n_c n_k d_ck,
    d_ck = (sum of n_g for g from c to k, less (n_c + n_k) / 2) ** 2.

Intervals are percentiles over features drawn with replacement: explanations of one feature are
rated by what its excerpts show, and stand or fall together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glossator.scorers.bootstrap import N_DRAWS, percentiles

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95% interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Units that entered it: explanations."""
    n_clusters: int
    """Features that these are of."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What was rated, by whom how."""

    cluster: Hashable
    """What is drawn as a whole: the feature."""
    ratings: Mapping[str, int]
    """By reviewer."""


def alpha(units: Sequence[Unit], seed: int = 0) -> Estimate:
    """Krippendorff's ordinal alpha; of the units that two or more people rated.

    None where nobody rated what another did, or where all ratings are the same.
    """
    paired = [unit for unit in units if len(unit.ratings) > 1]
    values = sorted({rating for unit in paired for rating in unit.ratings.values()})
    tables = np.array([_coincidences(unit, values) for unit in paired], float)
    return _estimate([unit.cluster for unit in paired], lambda w: _alpha(w, tables), seed)


def spearman(
    pairs: Sequence[tuple[float, float]], clusters: Sequence[Hashable], seed: int = 0
) -> Estimate:
    """Spearman's rank correlation of `pairs`, ties by their mean rank.

    Each pair is of the cluster beside it. None where either side is constant.
    """

    def figure(weights: Floats) -> Floats:
        return np.array([_spearman(np.repeat(given, w.astype(int), axis=0)) for w in weights])

    given = np.array(pairs, float).reshape(-1, 2)
    return _estimate(clusters, figure, seed)


def _coincidences(unit: Unit, values: Sequence[int]) -> Floats:
    """Shape (n_values, n_values): pairs of values within the unit, each unit's sum its ratings."""
    counts = Counter(unit.ratings.values())
    n = np.array([counts[value] for value in values], float)
    pairs: Floats = np.outer(n, n) - np.diag(n)
    return pairs / float(n.sum() - 1)


def _alpha(weights: Floats, tables: Floats) -> Floats:
    """Alpha by each row of `weights`, shape (n_draws, n_units); NaN where it is undefined."""
    observed = np.tensordot(weights, tables, axes=1)  # (n_draws, n_values, n_values)
    sums = observed.sum(axis=2)  # (n_draws, n_values)
    upto = np.cumsum(sums, axis=1)
    # From the middle of one value's ratings to the middle of the other's.
    middle = upto - sums / 2
    apart = (middle[:, :, None] - middle[:, None, :]) ** 2
    seen = (observed * apart).sum(axis=(1, 2)) * (sums.sum(axis=1) - 1)
    by_chance = (sums[:, :, None] * sums[:, None, :] * apart).sum(axis=(1, 2))
    ratio = np.divide(seen, by_chance, out=np.full_like(seen, np.nan), where=by_chance > 0)
    return np.asarray(1 - ratio, float)


def _spearman(pairs: Floats) -> float:
    if len(pairs) < 2 or np.ptp(pairs[:, 0]) == 0 or np.ptp(pairs[:, 1]) == 0:
        return float("nan")
    return float(np.corrcoef(_ranks(pairs[:, 0]), _ranks(pairs[:, 1]))[0, 1])


def _ranks(values: Floats) -> Floats:
    """Ranks from 1 on; equal values have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(means[place], float)


def _estimate(
    clusters: Sequence[Hashable], figure: Callable[[Floats], Floats], seed: int
) -> Estimate:
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    if not number:
        return Estimate(None, None, None, 0, 0)
    own = np.array([number[cluster] for cluster in clusters])
    value = float(figure(np.ones((1, len(own))))[0])
    if not np.isfinite(value):
        return Estimate(None, None, None, len(own), len(number))
    share = np.full(len(number), 1 / len(number))
    draws = np.random.default_rng(seed).multinomial(len(number), share, size=N_DRAWS)
    # One feature drawn over and over says nothing of others.
    low, high = percentiles(figure(draws[:, own].astype(float))) if len(number) > 1 else (None,) * 2
    return Estimate(value, low, high, len(own), len(number))
