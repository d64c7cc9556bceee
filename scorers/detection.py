"""The `detection` scorer: does the feature fire somewhere in this window?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glossator.errors import ReplyError
from glossator.scorers.bootstrap import Resampling
from glossator.scorers.estimates import AveragePrecision, Calls
from glossator.scorers.judge import Judge
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import (
    Findings,
    Frame,
    all_predictions,
    failed,
    judged,
    resample,
    score_of,
    with_nulls,
)
from glossator.scorers.sample import both_kinds, draw, working
from glossator.scorers.simulation import ExplanationUnusableError
from glossator.types import SILENT, Example, Explanation, Measure, Prediction, Score, Split, Usage

METRIC = "AUPRC over windows, weighted to the pool"
FIGURES = ("F1", "precision", "recall", "IoU", "balanced accuracy")


@dataclass(frozen=True)
class DetectionScorer:
    """Average precision of the judge's ratings of held-out windows, at the true base rate.

    The figures of yes-or-no calls use the threshold that is best on dev; without dev, the judge's.
    """

    judge: Judge
    wrong: Wrong
    n_scored: int = 40
    n_calibration: int = 20
    """Windows of dev for the threshold; 0 keeps the judge's own."""
    seed: int = 0

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`."""
        frame = Frame(explanation, "detection", self.judge.name, self.judge.model, METRIC)
        if why := frame.reason_against(split):
            return frame.nothing(why)
        examples = draw(split, self.n_scored, explanation.feature, self.seed)
        try:
            own, others, usage = await with_nulls(self._predict, explanation, self.wrong, examples)
            threshold, more, how = await self._threshold(explanation, dev)
        except ExplanationUnusableError as error:
            return frame.nothing(str(error))
        usage += more
        resampling = resample(own, self.seed)
        if resampling is None:
            return frame.nothing("no window could be judged", own, usage)
        if not both_kinds(own):
            return frame.nothing(
                "needs a usable reply on both kinds of window, firing and silent", own, usage
            )
        wrong, wrong_predictions = judged(self.wrong, others)
        metric = average_precision(own, resampling)
        findings = Findings(
            resampling.measure(metric, (0, 1)),
            measures_of(own, resampling, threshold),
            [precision_of(p) for p in wrong_predictions],
            base_rate(own),
            (how,),
        )
        return score_of(frame, findings, wrong, own, usage, "no average precision is defined")

    async def _predict(
        self, explanation: Explanation, example: Example
    ) -> tuple[Prediction, Usage]:
        try:
            verdict = await self.judge.judge(explanation, example.tokens)
        except ReplyError as error:
            if self.judge.model:
                return failed(example, error, self.judge.scale, True), error.usage or Usage()
            raise ExplanationUnusableError(str(error)) from error
        prediction = Prediction(
            example.key,
            example.stratum,
            example.weight,
            example.document,
            (example.peak,),
            (verdict.value,),
            self.judge.scale,
            example.tokens,
        )
        return prediction, verdict.usage

    async def _threshold(
        self, explanation: Explanation, dev: Split | None
    ) -> tuple[float, Usage, str]:
        """The threshold with the largest weighted F1 on dev, and how it was found."""
        own = self.judge.threshold
        if dev is None or not dev.firing or not dev.silent or self.n_calibration < 2:
            return own, Usage(), f"called firing above {own:g}"
        examples = draw(dev, self.n_calibration, explanation.feature, self.seed)
        found, usage = await all_predictions(self._predict, explanation, examples)
        usable = working(found)
        if not usable:
            return own, usage, f"called firing above {own:g}"
        best = best_threshold(usable, own)
        return best, usage, f"called firing above {best:.3g}, the best on dev"


def best_threshold(predictions: Sequence[Prediction], default: float) -> float:
    """The midpoint between ratings at which weighted F1 is largest; `default` if none beats it."""
    ratings = np.array([p.predicted[0] for p in predictions])
    fired = [p.stratum != SILENT for p in predictions]
    weights = np.array([[p.weight for p in predictions]])
    steps = np.unique(ratings)
    middles = [float(m) for m in (steps[1:] + steps[:-1]) / 2]

    def f1(threshold: float) -> float:
        value = float(Calls.of(fired, list(ratings > threshold), "F1")(weights)[0])
        return value if np.isfinite(value) else 0.0

    return max([default, *middles], key=f1)


def average_precision(
    predictions: Sequence[Prediction], resampling: Resampling
) -> AveragePrecision:
    """The metric over real and imagined windows; imagined ones are silent."""
    fired = [p.stratum != SILENT for p in predictions if not p.failure]
    imagined = [False] * (len(resampling.predicted) - len(fired))
    return AveragePrecision.of(fired + imagined, [p[0] for p in resampling.predicted])


def precision_of(predictions: Sequence[Prediction]) -> float | None:
    """Weighted average precision of the predictions that worked; None if undefined."""
    usable = working(predictions)
    if not usable:
        return None
    metric = AveragePrecision.of(
        [p.stratum != SILENT for p in usable], [p.predicted[0] for p in usable]
    )
    value = float(metric(np.array([[p.weight for p in usable]]))[0])
    return value if np.isfinite(value) else None


def base_rate(predictions: Sequence[Prediction]) -> float | None:
    """Share of the pool's windows in which the feature fires: what a constant rating scores."""
    usable = working(predictions)
    total = sum(p.weight for p in usable)
    return sum(p.weight for p in usable if p.stratum != SILENT) / total if total else None


def measures_of(
    predictions: Sequence[Prediction], resampling: Resampling, threshold: float
) -> dict[str, Measure]:
    """The figures of yes-or-no calls at `threshold`, and the base rate."""
    fired = [p.stratum != SILENT for p in predictions if not p.failure]
    silent = [False] * (len(resampling.predicted) - len(fired))
    called = [p[0] > threshold for p in resampling.predicted]
    found = {
        name: resampling.measure(Calls.of(fired + silent, called, name), (0, 1)) for name in FIGURES
    }
    found["base rate"] = Measure(base_rate(predictions))
    found["threshold"] = Measure(threshold)
    return found
