"""Shares and means over features, with their 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glossator.scorers.sample import chance_for
from glossator.scorers.wilson import wilson
from glossator.types import Measure

N_DRAWS = 10_000
TIED = 1e-9
"""What rounding leaves between two equal scores."""


def share_of(shares: Sequence[float]) -> Measure:
    """The mean of one share from each feature, with Wilson's interval for as many trials (1927).

    Several comparisons of one feature count as one trial, for they come and go together.
    """
    if not shares:
        return Measure(None)
    mean = float(np.mean(shares))
    return Measure(mean, *wilson(mean, len(shares)))


def mean_of(values: Sequence[float]) -> Measure:
    """The mean of one value from each feature, with its interval by bootstrap over features."""
    if not values:
        return Measure(None)
    array = np.asarray(values, float)
    chance = chance_for(0, "bench", len(values))
    rows = chance.integers(0, len(array), (N_DRAWS, len(array)))  # (n_draws, n_values)
    low, high = np.quantile(array[rows].mean(axis=1), [0.025, 0.975])
    return Measure(float(array.mean()), float(low), float(high))


def gap_of_first(rows: Sequence[Sequence[float]], level: float = 0.95) -> Measure:
    """How much the first value of each row is above the mean of the others, on average.

    Where all values of a row are alike but for chance, 0 is in the interval with probability
    `level`: its width is that of the same figure with another value of each row taken for the
    first, drawn by chance (a permutation test, turned into an interval).
    """
    table = np.array([row for row in rows if len(row) > 1], float)  # (n_rows, n_values)
    if not len(table):
        return Measure(None)
    n = table.shape[1]
    gaps = table - (table.sum(axis=1, keepdims=True) - table) / (n - 1)
    gap = float(gaps[:, 0].mean())
    chance = chance_for(0, "gap", len(table))
    drawn = chance.integers(0, n, (N_DRAWS, len(table)))  # (n_draws, n_rows)
    means = gaps[np.arange(len(table)), drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Measure(gap, min(gap, gap - float(high)), max(gap, gap - float(low)))


def above(value: float | None, other: float | None) -> float:
    """1 where `value` is greater, 0 for a tie; an undefined score is under every other."""
    if value is None or other is None:
        return float(value is not None)
    return float(value - other > TIED)
