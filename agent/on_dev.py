"""Hypotheses compared on dev windows that nobody was shown: which of them holds out of sample?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from glossator.scorers.bootstrap import percentiles, replicates
from glossator.scorers.estimates import AveragePrecision
from glossator.scorers.sample import chance_for, draw_dev
from glossator.types import SILENT, Example, FeatureId, Split


@dataclass(frozen=True)
class DevTest:
    """Windows of dev with what happened in them."""

    windows: tuple[Example, ...]
    feature: FeatureId
    seed: int = 0

    @classmethod
    def of(cls, dev: Split, n: int, feature: FeatureId, seed: int) -> DevTest:
        """About `n` windows, half of them silent; none where dev has not both kinds."""
        return cls(draw_dev(dev, n, feature, seed), feature, seed)

    @property
    def fired(self) -> tuple[bool, ...]:
        """Shape (n_windows,)."""
        return tuple(w.stratum != SILENT for w in self.windows)

    def p_of(self, foretold: Sequence[float | None]) -> float | None:
        """How often windows told apart so well by chance: Mann and Whitney's test, one-sided.

        None where nothing was foretold, or the same of all windows, which tells nothing.
        """
        pairs = [(p, f) for p, f in zip(foretold, self.fired, strict=True) if p is not None]
        yes = [p for p, f in pairs if f]
        no = [p for p, f in pairs if not f]
        if not yes or not no or len({p for p, _ in pairs}) < 2:
            return None
        return float(stats.mannwhitneyu(yes, no, alternative="greater").pvalue)

    def precision_of(self, foretold: Sequence[float | None]) -> float | None:
        """Average precision at the pool's base rate; None where it is undefined."""
        known = [i for i, p in enumerate(foretold) if p is not None]
        value = float(self._metric(foretold, known)(self._weights(known)[None])[0]) if known else 0
        return value if known and np.isfinite(value) else None

    def gap(
        self,
        first: Sequence[float | None],
        second: Sequence[float | None],
        level: float,
    ) -> tuple[float | None, float | None, float | None]:
        """By how much the first has the higher average precision, and its interval at `level`.

        Both are read on the same windows and in the same bootstrap draws of documents.
        """
        known = [
            i
            for i, (a, b) in enumerate(zip(first, second, strict=True))
            if a is not None and b is not None
        ]
        if not known:
            return None, None, None
        metrics = [self._metric(side, known) for side in (first, second)]
        plain = self._weights(known)[None]
        value = float(metrics[0](plain)[0] - metrics[1](plain)[0])
        if not np.isfinite(value):
            return None, None, None
        some = [self.windows[i] for i in known]
        draws = replicates(
            [w.weight for w in some],
            [w.stratum for w in some],
            [w.document for w in some],
            chance_for(self.seed, "dev", self.feature),
        )
        low, high = percentiles(metrics[0](draws) - metrics[1](draws), level)
        return value, low, high

    def _metric(self, foretold: Sequence[float | None], known: Sequence[int]) -> AveragePrecision:
        fired = self.fired
        said = [p for p in (foretold[i] for i in known) if p is not None]
        return AveragePrecision.of([fired[i] for i in known], said)

    def _weights(self, known: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([self.windows[i].weight for i in known], dtype=np.float64)
