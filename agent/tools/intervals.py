"""Means over texts or prompts, with Student's and Welch's 95% intervals."""

from __future__ import annotations

import math
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
    half = welch(first, second)
    return Effect(name, value, value - half, value + half, n)


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Half of the 95% interval of a difference of means (Welch 1947); 0 where nothing varies.

    Each side has two values at least. Values that are alike but for rounding are no trouble.
    """
    a, b = (float(np.var(side, ddof=1)) / len(side) for side in (first, second))
    if a + b == 0:
        return 0.0
    share = a / (a + b)
    freedom = 1 / (share**2 / (len(first) - 1) + (1 - share) ** 2 / (len(second) - 1))
    return float(stats.t.ppf(0.975, freedom)) * math.sqrt(a + b)
