"""Figures estimated from a weighted sample of windows, each as a function of the weights.

A metric is built once from what was predicted and what happened; calling it with a matrix of
weights, shape (n_draws, n_windows), gives one figure a row, NaN where it is undefined. The rows are
the sample's own weights or bootstrap replicates of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Metric(Protocol):
    """From weights, shape (n_draws, n_windows), to figures, shape (n_draws,)."""

    def __call__(self, weights: Floats) -> Floats:
        """One figure for each row of `weights`, NaN where it is undefined."""
        ...


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


@dataclass(frozen=True)
class Pearson:
    """Weighted Pearson r over all tokens of all windows: pooled, not averaged over windows."""

    sums: Floats
    """Shape (n_windows, 6): tokens, sum x, sum y, sum xx, sum yy, sum xy of each window."""

    @classmethod
    def over(
        cls, actual: Sequence[Sequence[float]], predicted: Sequence[Sequence[float]]
    ) -> Pearson:
        """Of windows, each a sequence of tokens; `actual[i]` as long as `predicted[i]`."""
        pairs = [
            (np.asarray(a, float), np.asarray(p, float))
            for a, p in zip(actual, predicted, strict=True)
        ]
        # Shifting by the mean keeps the sums of squares from cancelling.
        mid_a = float(np.mean(np.concatenate([a for a, _ in pairs]))) if pairs else 0.0
        mid_p = float(np.mean(np.concatenate([p for _, p in pairs]))) if pairs else 0.0
        rows = []
        for raw_a, raw_p in pairs:
            a, p = raw_a - mid_a, raw_p - mid_p
            rows.append([len(a), a.sum(), p.sum(), a @ a, p @ p, a @ p])
        return cls(np.array(rows, float).reshape(-1, 6))

    def __call__(self, weights: Floats) -> Floats:
        """Pearson r in [-1, 1]; NaN where either side is constant."""
        n, x, y, xx, yy, xy = (weights @ self.sums).T  # each (n_draws,)
        with np.errstate(divide="ignore", invalid="ignore"):
            var_x, var_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
            cov = xy / n - x * y / n**2
            # What cancellation leaves of a constant is not a variance.
            flat = (var_x <= 1e-12 * np.abs(xx / n)) | (var_y <= 1e-12 * np.abs(yy / n))
        r = np.full(len(weights), np.nan)
        fine = ~flat & (var_x > 0) & (var_y > 0) & (n > 0)
        r[fine] = np.clip(cov[fine] / np.sqrt(var_x[fine] * var_y[fine]), -1.0, 1.0)
        return r


@dataclass(frozen=True)
class Unweighted:
    """A metric in which every window of the sample counts the same, as other systems report it."""

    metric: Metric
    scale: Floats
    """Shape (n_windows,): 1 over the weight of a real window, 0 for an imagined one."""

    @classmethod
    def over(cls, metric: Metric, weights: Sequence[float], n_windows: int) -> Unweighted:
        """`metric` of `n_windows`, the first of which are real and were drawn with `weights`."""
        scale = np.zeros(n_windows)
        scale[: len(weights)] = 1 / np.asarray(weights, float)
        return cls(metric, scale)

    def __call__(self, weights: Floats) -> Floats:
        """One figure for each row; an imagined window counts as much as a real one."""
        imagined = (weights > 0) & (self.scale == 0)
        return self.metric(weights * self.scale + imagined)


@dataclass(frozen=True)
class AveragePrecision:
    """Weighted area under the precision-recall curve (average precision), at the true base rate."""

    order: npt.NDArray[np.int64]
    """Shape (n_windows,): strongest prediction first."""
    group_end: npt.NDArray[np.int64]
    """Shape (n_groups,): last place of each run of equal predictions, which count as one step."""
    hits: npt.NDArray[np.bool_]
    """Shape (n_windows,), in `order`: whether the feature fired."""

    @classmethod
    def of(cls, fired: Sequence[bool], predicted: Sequence[float]) -> AveragePrecision:
        """Of windows that `fired` or did not, ranked by `predicted`."""
        scores = np.asarray(predicted, float)
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        group_end = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        return cls(order, group_end, np.asarray(fired, bool)[order])

    def __call__(self, weights: Floats) -> Floats:
        """In [0, 1]; NaN where nothing fired or everything did."""
        ranked = weights[:, self.order]  # (n_draws, n_windows)
        true = np.cumsum(ranked * self.hits, axis=1)[:, self.group_end]  # (n_draws, n_groups)
        called = np.cumsum(ranked, axis=1)[:, self.group_end]
        gained = np.diff(true, axis=1, prepend=0.0)
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        total, everything = true[:, -1], called[:, -1]
        value = _ratio((gained * precision).sum(axis=1), total)
        value[total >= everything] = np.nan
        return value


@dataclass(frozen=True)
class Calls:
    """Figures of yes-or-no calls: F1, balanced accuracy, precision, recall, IoU."""

    fired: npt.NDArray[np.bool_]
    called: npt.NDArray[np.bool_]
    figure: str

    @classmethod
    def of(cls, fired: Sequence[bool], called: Sequence[bool], figure: str) -> Calls:
        """`figure` of windows that `fired` or did not and were `called` or not.

        Raises:
            ValueError: if there is no such figure.
        """
        if figure not in _FIGURES:
            raise ValueError(f"no figure is called {figure!r}; there are: {', '.join(_FIGURES)}")
        return cls(np.asarray(fired, bool), np.asarray(called, bool), figure)

    def __call__(self, weights: Floats) -> Floats:
        """In [0, 1]; NaN where undefined."""
        yes, no = self.fired, ~self.fired
        tp, fn = weights @ (yes & self.called), weights @ (yes & ~self.called)
        fp, tn = weights @ (no & self.called), weights @ (no & ~self.called)
        return _FIGURES[self.figure](tp, fn, fp, tn)


_FIGURES: dict[str, Callable[[Floats, Floats, Floats, Floats], Floats]] = {
    "F1": lambda tp, fn, fp, tn: np.where(tp + fn > 0, _ratio(2 * tp, 2 * tp + fp + fn), np.nan),
    "precision": lambda tp, fn, fp, tn: _ratio(tp, tp + fp),
    "recall": lambda tp, fn, fp, tn: _ratio(tp, tp + fn),
    "IoU": lambda tp, fn, fp, tn: np.where(tp + fn > 0, _ratio(tp, tp + fp + fn), np.nan),
    "balanced accuracy": lambda tp, fn, fp, tn: (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2,
}


@dataclass(frozen=True)
class Spearman:
    """Weighted Spearman rho over all tokens: Pearson r of the ranks, ties averaged.

    The ranks are of the sample and stay fixed over bootstrap draws.
    """

    pearson: Pearson

    @classmethod
    def over(
        cls,
        actual: Sequence[Sequence[float]],
        predicted: Sequence[Sequence[float]],
        weights: Sequence[float],
    ) -> Spearman:
        """Of windows; `weights`, shape (n_windows,), make the ranks those of the pool."""
        lengths = [len(a) for a in actual]
        token_weights = np.repeat(np.asarray(weights, float), lengths)
        cuts = np.cumsum(lengths)[:-1]
        ranked = [
            np.split(
                weighted_ranks(np.concatenate([np.asarray(v, float) for v in side]), token_weights),
                cuts,
            )
            for side in (actual, predicted)
        ]
        return cls(Pearson.over(*[[list(part) for part in side] for side in ranked]))

    def __call__(self, weights: Floats) -> Floats:
        """Spearman rho in [-1, 1]; NaN where either side is constant."""
        return self.pearson(weights)


def weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """Mid-rank of each value in the weighted sample: weight below it plus half of its ties'."""
    order = np.argsort(values, kind="stable")
    _, inverse, counts = np.unique(values[order], return_inverse=True, return_counts=True)
    tied = np.bincount(inverse, weights=weights[order], minlength=len(counts))
    middle = np.cumsum(tied) - tied / 2
    ranks = np.empty_like(values)
    ranks[order] = middle[inverse]
    return ranks


@dataclass(frozen=True)
class ExplainedVariance:
    """Weighted R² of `slope * predicted + intercept`, whose two numbers were fitted elsewhere.

    1 minus the squared error over the variance; below 0 where the mean would do better.
    """

    sums: Floats
    """Shape (n_windows, 4): tokens, sum x, sum xx, sum of squared errors of each window."""

    @classmethod
    def over(
        cls,
        actual: Sequence[Sequence[float]],
        predicted: Sequence[Sequence[float]],
        slope: float,
        intercept: float,
    ) -> ExplainedVariance:
        """Of windows, with a calibration that saw none of them."""
        everything = np.concatenate([np.asarray(a, float) for a in actual])
        mid = float(everything.mean())
        rows = []
        for a, p in zip(actual, predicted, strict=True):
            x = np.asarray(a, float) - mid
            error = np.asarray(a, float) - (slope * np.asarray(p, float) + intercept)
            rows.append([len(x), x.sum(), x @ x, error @ error])
        return cls(np.array(rows, float))

    def __call__(self, weights: Floats) -> Floats:
        """At most 1; NaN where the activations are constant."""
        n, x, xx, error = (weights @ self.sums).T
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = xx / n - (x / n) ** 2
            return np.where(variance > 1e-12 * np.abs(xx / n), 1 - error / n / variance, np.nan)


def fit_line(
    actual: Sequence[Sequence[float]],
    predicted: Sequence[Sequence[float]],
    weights: Sequence[float],
) -> tuple[float, float]:
    """Slope and intercept of the weighted least-squares line from `predicted` to `actual`.

    The slope is at least 0: a line may change the unit of a prediction, and not turn a wrong one
    into its opposite. A constant prediction gets slope 0 and the mean.
    """
    lengths = [len(a) for a in actual]
    w = np.repeat(np.asarray(weights, float), lengths)
    x = np.concatenate([np.asarray(p, float) for p in predicted])
    y = np.concatenate([np.asarray(a, float) for a in actual])
    mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
    spread = float(w @ (x - mean_x) ** 2)
    # The mean of equal numbers can be off by rounding, which is no spread.
    varies = spread > 1e-24 * float(w @ x**2)
    slope = float(w @ ((x - mean_x) * (y - mean_y))) / spread if varies else 0.0
    slope = max(0.0, slope)
    return slope, float(mean_y - slope * mean_x)
