"""Which windows of a split are scored, with weights that still speak for the whole pool."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from glossator.types import SILENT, TOP, Example, FeatureId, Prediction, Split


def chance_for(seed: int, *names: object) -> np.random.Generator:
    """A generator that depends on `seed` and `names` alone, the same on every machine."""
    digest = hashlib.sha256("\0".join([str(seed), *map(str, names)]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def draw(split: Split, n: int, feature: FeatureId, seed: int = 0) -> tuple[Example, ...]:
    """About `n` windows of `split`, uniform within strata, reweighted to the pool.

    Half of them are silent; of the firing half a third is from `top` and the rest spread evenly
    over the quantiles. Where a stratum has too few, the others are not stretched to make up for it.
    A sampled window's weight is N_stratum / n_drawn (Horvitz and Thompson 1952).

    Raises:
        ValueError: if `n` is below 2.
    """
    if n < 2:
        raise ValueError(f"at least two windows are needed to score anything, not {n}")
    names = sorted({e.stratum for e in split.examples})
    quantiles = [s for s in names if s not in (SILENT, TOP)]
    chance = chance_for(seed, "draw", feature, split.pool)
    half = n // 2
    quota = {SILENT: n - half, TOP: half if not quantiles else max(1, half // 3)}
    for i, name in enumerate(quantiles):
        left = half - quota[TOP]
        quota[name] = left // len(quantiles) + (i >= len(quantiles) - left % len(quantiles))
    drawn: list[Example] = []
    for name in names:
        # By key, so that the order in which they were stored decides nothing.
        members = sorted((e for e in split.examples if e.stratum == name), key=lambda e: e.key)
        population = sum(e.weight for e in members)
        wanted = min(max(1, quota[name]), len(members))
        picked = sorted(chance.permutation(len(members))[:wanted])
        drawn += [dataclasses.replace(members[i], weight=population / wanted) for i in picked]
    return tuple(drawn)


def draw_dev(dev: Split | None, n: int, feature: FeatureId, seed: int = 0) -> tuple[Example, ...]:
    """About `n` windows of dev for what has to be fitted; none where it cannot be fitted on dev."""
    if dev is None or not dev.firing or not dev.silent or n < 2:
        return ()
    return draw(dev, n, feature, seed)


def working(
    predictions: Sequence[Prediction], kept: Sequence[Prediction] | None = None
) -> list[Prediction]:
    """Those of `predictions` that worked, standing for those of their stratum that did not, too.

    So a stratum in which half of the replies failed keeps its share of the pool. `kept` names the
    ones to keep in place of those that worked.
    """
    chosen = [p for p in predictions if not p.failure] if kept is None else kept
    totals = _totals(predictions)
    mine = _totals(chosen)
    return [
        dataclasses.replace(p, weight=p.weight * totals[p.stratum] / mine[p.stratum])
        for p in chosen
    ]


def _totals(predictions: Sequence[Prediction]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for p in predictions:
        totals[p.stratum] = totals.get(p.stratum, 0.0) + p.weight
    return totals
