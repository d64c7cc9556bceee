"""The `purity` scorer: of the windows that the explanation fits, does the feature rank them first?

`detection` the other way round (after Puri et al. 2025, FADE): there the explanation predicts the
feature, here the feature predicts where the explanation applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glossator.scorers.asking import Rated
from glossator.scorers.bootstrap import Values
from glossator.scorers.estimates import AveragePrecision
from glossator.scorers.judge import Judge
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import Frame
from glossator.scorers.rated import Figure, Reading, judged, rated
from glossator.scorers.sample import draw, working
from glossator.types import Example, Explanation, Prediction, Score, Split

METRIC = "average precision of the activation for the judge's labels, weighted to the pool"


@dataclass(frozen=True)
class PurityScorer:
    """Average precision of windows' peaks as a ranking of those that the judge says it fits.

    It asks the same questions as `detection`, so after it they cost nothing. An explanation that is
    too broad fits windows that do not fire, and one too narrow leaves some out that fire as much;
    both are low here.
    """

    judge: Judge
    wrong: Wrong
    n_scored: int = 40
    seed: int = 0
    precision: float = 0.0
    """Half of the interval's width that is narrow enough; 0 asks about all windows."""

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`; nothing is fitted, so `dev` is not read."""
        frame = Frame(explanation, "purity", self.judge.name, self.judge.model, METRIC)
        if why := frame.reason_against(split):
            return frame.nothing(why)
        examples = draw(split, self.n_scored, explanation.feature, self.seed)
        return await rated(
            frame, self.wrong, examples, self._rate, self._read, self.seed, precision=self.precision
        )

    def _read(self, own: Sequence[Prediction], on_dev: Sequence[Prediction]) -> Reading:
        return Reading(
            headline=precision_of_activations(self.judge.threshold),
            empty=self._share,
            undefined="the judge says the same of every window, so there is nothing to rank",
            plain={"share of windows that it fits": self._share(own)},
        )

    async def _rate(self, explanation: Explanation, examples: Sequence[Example]) -> list[Rated]:
        return await judged(self.judge, explanation, examples)

    def _share(self, predictions: Sequence[Prediction]) -> float | None:
        """Weighted share of the windows that it fits: the precision of a constant activation."""
        usable = working(predictions)
        if not usable:
            return None
        fits = [p.predicted[0] > self.judge.threshold for p in usable]
        return float(np.average(fits, weights=[p.weight for p in usable]))


def precision_of_activations(threshold: float) -> Figure:
    """Average precision of activations as a ranking of windows that are rated above `threshold`."""

    def built(strata: Sequence[str], actual: Values, predicted: Values) -> AveragePrecision:
        return AveragePrecision.of([p[0] > threshold for p in predicted], [max(a) for a in actual])

    return built
