"""Figures of a few independent trials, such as written texts, with intervals that stay honest.

The Bayesian bootstrap (Rubin 1981) draws the weights of n trials from a Dirichlet distribution.
Where all trials are alike it would say that nothing else can happen; so every draw holds one
imagined trial more, whose outcome may be anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import linregress

from glossator.scorers.bootstrap import N_DRAWS, percentiles
from glossator.scorers.estimates import Floats
from glossator.types import Measure


def mean_of(
    values: Sequence[float], chance: np.random.Generator, group: Sequence[object] | None = None
) -> Measure:
    """The mean of numbers from 0 to 1, with its 95% interval.

    Args:
        values: one for each trial.
        chance: of the draws.
        group: what a trial belongs to; trials of one group come and go together. By default each
            stands alone.
    """
    if not values:
        return Measure(None)
    groups = list(range(len(values))) if group is None else list(group)
    of_group: dict[object, list[float]] = {}
    for name, value in zip(groups, values, strict=True):
        of_group.setdefault(name, []).append(value)
    totals = np.array([sum(some) for some in of_group.values()])
    sizes = np.array([len(some) for some in of_group.values()], float)
    weights = _weights(len(totals), chance)  # (n_draws, n_groups + 1)
    usual = sizes.mean()
    imagined = chance.random(N_DRAWS) * usual  # (n_draws,)
    top = weights[:, :-1] @ totals + weights[:, -1] * imagined
    bottom = weights[:, :-1] @ sizes + weights[:, -1] * usual
    return _measure(float(totals.sum() / sizes.sum()), top / bottom)


def slope_of(
    x: Sequence[float], y: Sequence[float], chance: np.random.Generator, group: Sequence[object]
) -> Measure:
    """By how much `y`, from 0 to 1, rises with `x`: the least-squares slope, with its interval.

    None where `x` is the same in all trials. Trials of one group come and go together.
    """
    if len(set(x)) < 2:
        return Measure(None)
    places = {name: i for i, name in enumerate(dict.fromkeys(group))}
    member = np.array([places[name] for name in group])  # (n,)
    doses = np.array(sorted(set(x)))
    weights = _weights(len(places), chance)  # (n_draws, n_groups + 1)
    # the imagined group has one trial at each dose
    w = np.hstack([weights[:, member], np.repeat(weights[:, -1:], len(doses), axis=1)])
    all_x = np.concatenate([np.asarray(x, float), doses])
    real = np.broadcast_to(np.asarray(y, float), (N_DRAWS, len(y)))
    all_y = np.hstack([real, chance.random((N_DRAWS, len(doses)))])
    w /= w.sum(axis=1, keepdims=True)
    off_x = all_x - (w @ all_x)[:, None]  # (n_draws, n)
    off_y = all_y - (w * all_y).sum(axis=1, keepdims=True)
    drawn = (w * off_x * off_y).sum(axis=1) / (w * off_x**2).sum(axis=1)
    return _measure(float(linregress(x, y).slope), drawn)


def auc_of(upper: Sequence[float], lower: Sequence[float], chance: np.random.Generator) -> Measure:
    """The share of pairs in which the one of `upper` is larger, ties half, with its interval."""
    if not upper or not lower:
        return Measure(None)
    gaps = np.subtract.outer(np.asarray(upper, float), np.asarray(lower, float))
    wins = (gaps > 0) + (gaps == 0) / 2  # (n_upper, n_lower)
    rows = _weights(len(upper), chance)  # (n_draws, n_upper + 1)
    columns = _weights(len(lower), chance)
    inside = np.einsum("du,ul,dl->d", rows[:, :-1], wins, columns[:, :-1])
    share = rows[:, :-1].sum(axis=1) * columns[:, :-1].sum(axis=1)
    # pairs with an imagined text are won as often as chance has it in that draw
    drawn = inside + (1 - share) * chance.random(N_DRAWS)
    return _measure(float(wins.mean()), drawn)


def _weights(n: int, chance: np.random.Generator) -> Floats:
    """Shape (n_draws, n + 1), each row summing to 1; the last is the imagined trial's."""
    return chance.dirichlet(np.ones(n + 1), size=N_DRAWS)


def _measure(value: float, drawn: Floats) -> Measure:
    low, high = percentiles(drawn)
    if low is None or high is None:
        return Measure(value)
    return Measure(value, min(low, value), max(high, value))
