"""The difference of two scores of one feature on the same windows, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glossator.scorers.bootstrap import percentiles, replicates
from glossator.scorers.estimates import AveragePrecision, Metric, Pearson
from glossator.scorers.sample import both_kinds, chance_for, working
from glossator.types import SILENT, Prediction, Score


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher the first score is, on the windows that both could judge."""

    value: float | None
    """None where one of the two is undefined there, or the windows are all of one kind."""
    low: float | None
    high: float | None
    n: int
    """Windows that both judged."""


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
    mine, theirs = ({p.example: p for p in s.predictions if not p.failure} for s in (a, b))
    common = sorted(mine.keys() & theirs.keys())
    if not both_kinds([mine[key] for key in common]):
        return Difference(None, None, None, len(common))
    first = working(a.predictions, [mine[key] for key in common])
    second = [theirs[key] for key in common]
    weights = np.array([[p.weight for p in first]])
    metrics = [metric_of(a.scorer, side) for side in (first, second)]
    value = float(metrics[0](weights)[0] - metrics[1](weights)[0])
    if not np.isfinite(value):
        return Difference(None, None, None, len(common))
    draws = replicates(
        [p.weight for p in first],
        [p.stratum for p in first],
        [p.document for p in first],
        chance_for(seed, "paired", a.feature, a.scorer),
    )
    low, high = percentiles(metrics[0](draws) - metrics[1](draws))
    return Difference(value, low, high, len(common))


def metric_of(scorer: str, predictions: list[Prediction]) -> Metric:
    """The headline metric of `scorer` over `predictions` that worked."""
    if scorer == "simulation":
        return Pearson.over([p.actual for p in predictions], [p.predicted for p in predictions])
    fired = [p.stratum != SILENT for p in predictions]
    return AveragePrecision.of(fired, [max(p.predicted) for p in predictions])
