"""Intervals: how far an estimate could be off because other documents could have been drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glossator.scorers.estimates import Floats, Metric
from glossator.types import Measure

N_DRAWS = 1000
LEVEL = 0.95


def replicates(
    weights: Sequence[float],
    strata: Sequence[str],
    documents: Sequence[str],
    chance: np.random.Generator,
    n_draws: int = N_DRAWS,
) -> Floats:
    """Bootstrap weights, shape (n_draws, n_windows), from documents drawn within strata.

    A document counts to the stratum of its heaviest-peaked window, the first it has here; all its
    windows come and go together. From a stratum of n documents n - 1 are drawn with replacement and
    weighted by n / (n - 1), so that the spread of few documents is not understated (Rao and Wu
    1988). The known number of windows of each stratum is then restored.
    """
    w = np.asarray(weights, float)
    home: dict[str, str] = {}
    for document, stratum in zip(documents, strata, strict=True):
        home.setdefault(document, stratum)
    names = list(home)
    position = {document: i for i, document in enumerate(names)}
    column = np.array([position[d] for d in documents])  # (n_windows,)
    factor = np.ones((n_draws, len(names)))
    for stratum in dict.fromkeys(home.values()):
        members = np.array([i for i, d in enumerate(names) if home[d] == stratum])
        n = len(members)
        if n > 1:
            times = chance.multinomial(n - 1, np.full(n, 1 / n), size=n_draws)
            factor[:, members] = times * (n / (n - 1))
    drawn = w * factor[:, column]  # (n_draws, n_windows)
    labels = np.asarray(strata)
    for stratum in dict.fromkeys(strata):
        members = np.flatnonzero(labels == stratum)
        total = drawn[:, members].sum(axis=1, keepdims=True)
        drawn[:, members] *= np.divide(
            w[members].sum(), total, out=np.zeros_like(total), where=total > 0
        )
    return drawn


def measure(metric: Metric, weights: Sequence[float], draws: Floats) -> Measure:
    """The estimate and its 95% percentile interval; no interval from under half of the draws."""
    value = float(metric(np.asarray(weights, float)[None])[0])
    if not np.isfinite(value):
        return Measure(None)
    low, high = interval(metric(draws))
    return Measure(value, low, high)


def interval(values: npt.NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The middle 95% of the finite `values`, or None twice if under half of them are."""
    finite = values[np.isfinite(values)]
    if len(finite) < max(2, len(values) // 2):
        return None, None
    edge = (1 - LEVEL) / 2
    low, high = np.quantile(finite, [edge, 1 - edge])
    return float(low), float(high)
