"""The `detection` scorer: does the feature fire somewhere in this window?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from glossator.hard import HardText
from glossator.scorers.against_hard import against_hard
from glossator.scorers.asking import Rated
from glossator.scorers.estimates import Calls
from glossator.scorers.judge import Judge
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import Frame
from glossator.scorers.rated import (
    CALLS,
    NEGATIVE,
    Figure,
    Reading,
    base_rate,
    calls_above,
    judged,
    precision_of_ratings,
    rated,
)
from glossator.scorers.sample import draw, draw_dev
from glossator.types import Example, Explanation, Prediction, Score, Split

METRIC = "AUPRC over windows, weighted to the pool"


@dataclass(frozen=True)
class DetectionScorer:
    """Average precision of the judge's ratings of held-out windows, at the true base rate.

    The figures of yes-or-no calls use the threshold that is best on dev; without dev, the judge's.
    """

    headline: ClassVar[Figure] = staticmethod(precision_of_ratings)

    judge: Judge
    wrong: Wrong
    n_scored: int = 40
    n_calibration: int = 20
    """Windows of dev for the threshold; 0 keeps the judge's own."""
    seed: int = 0
    precision: float = 0.0
    """Half of the interval's width at which no more windows are asked about; 0 asks about all."""
    hard: HardText | None = None
    """Silent windows that look like firing ones, asked about beside these; the figures on them are
    measures of their own, and they enter no other."""

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`."""
        frame = Frame(explanation, "detection", self.judge.name, self.judge.model, METRIC)
        if why := frame.reason_against(split):
            return frame.nothing(why)
        windows = draw(split, self.n_scored, explanation.feature, self.seed)
        score = await rated(
            frame,
            self.wrong,
            windows,
            self._rate,
            self._read,
            self.seed,
            dev_units=draw_dev(dev, self.n_calibration, explanation.feature, self.seed),
            precision=self.precision,
        )
        company = windows if self.judge.per_call > 1 else ()
        return await against_hard(
            score, explanation, split, self._rate, self.hard, self.seed, company
        )

    async def _rate(self, explanation: Explanation, examples: Sequence[Example]) -> list[Rated]:
        return await judged(self.judge, explanation, examples)

    def _read(self, own: Sequence[Prediction], on_dev: Sequence[Prediction]) -> Reading:
        threshold, how = self.judge.threshold, ""
        if on_dev:
            threshold, how = best_threshold(on_dev, threshold), ", the best on dev"
        return Reading(
            precision_of_ratings,
            empty=base_rate,
            undefined="no average precision is defined",
            beside={name: (calls_above(threshold, name), (0.0, 1.0)) for name in CALLS},
            plain={"base rate": base_rate(own), "threshold": threshold},
            notes=(f"called firing above {threshold:.3g}{how}",),
        )


def best_threshold(predictions: Sequence[Prediction], default: float) -> float:
    """The midpoint between ratings at which weighted F1 is largest; `default` if none beats it."""
    ratings = np.array([p.predicted[0] for p in predictions])
    fired = [p.stratum not in NEGATIVE for p in predictions]
    weights = np.array([[p.weight for p in predictions]])
    steps = np.unique(ratings)
    middles = [float(m) for m in (steps[1:] + steps[:-1]) / 2]

    def f1(threshold: float) -> float:
        value = float(Calls.of(fired, list(ratings > threshold), "F1")(weights)[0])
        return value if np.isfinite(value) else 0.0

    return max([default, *middles], key=f1)
