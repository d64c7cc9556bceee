"""Means over texts or prompts, with Student's and Welch's 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from glossator.evidence import Effect


def mean_of(name: str, values: Sequence[float]) -> Effect:
    """The mean of `values`, each of another text, with Student's interval."""
    n = len(values)
    if n == 0:
        return Effect(name, None, note="there is no text of that kind")
    value = float(np.mean(values))
    if n < 2:
        return Effect(name, value, n=n, note="one text has no interval")
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Effect(name, value, value - half, value + half, n)


def difference_of(name: str, first: Sequence[float], second: Sequence[float]) -> Effect:
    """How much higher the mean of `first` is than that of `second`, with Welch's interval."""
    n = len(first) + len(second)
    if not first or not second:
        return Effect(name, None, n=n, note="there are no texts to compare with")
    value = float(np.mean(first) - np.mean(second))
    if len(first) < 2 or len(second) < 2:
        return Effect(name, value, n=n, note="too few texts for an interval")
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return Effect(name, value, value, value, n)
    ends = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return Effect(name, value, float(ends.low), float(ends.high), n)
