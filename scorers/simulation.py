"""The `simulation` scorer: predict every token's activation from the explanation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from glossator.errors import ReplyError
from glossator.scorers.bootstrap import Resampling
from glossator.scorers.estimates import ExplainedVariance, Pearson, Spearman, fit_line
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
from glossator.scorers.table import Simulator
from glossator.types import Example, Explanation, Measure, Prediction, Score, Split, Usage

METRIC = "Pearson over tokens, weighted to the pool"


@dataclass(frozen=True)
class SimulationScorer:
    """Pearson r of predicted and real activations over all tokens of held-out windows.

    The headline is weighted to the pool's true composition; the unweighted r, as other systems
    report it, stands beside it. The R² is of a line fitted on dev, never on what is scored.
    """

    simulator: Simulator
    wrong: Wrong
    simulator_name: str = ""
    n_scored: int = 40
    n_calibration: int = 10
    """Windows of dev for the line, asked of the simulator once more; 0 leaves R² out."""
    seed: int = 0

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`."""
        frame = Frame(explanation, "simulation", self.simulator_name, self.simulator.model, METRIC)
        if why := frame.reason_against(split):
            return frame.nothing(why)
        examples = draw(split, self.n_scored, explanation.feature, self.seed)
        try:
            own, others, usage = await with_nulls(self._predict, explanation, self.wrong, examples)
            line, more = await self._line(explanation, dev)
        except ExplanationUnusableError as error:
            return frame.nothing(str(error))
        usage += more
        resampling = resample(own, self.seed)
        if resampling is None:
            return frame.nothing("no example could be simulated", own, usage)
        if not both_kinds(own):
            return frame.nothing(
                "needs a usable reply on both kinds of window, firing and silent", own, usage
            )
        wrong, wrong_predictions = judged(self.wrong, others)
        findings = Findings(
            resampling.measure(Pearson.over(resampling.actual, resampling.predicted), (-1, 1)),
            measures_of(own, resampling, line),
            [pearson_of(p) for p in wrong_predictions],
            None,
        )
        undefined = "the prediction is the same at every token, so no correlation is defined"
        return score_of(frame, findings, wrong, own, usage, undefined)

    async def _predict(
        self, explanation: Explanation, example: Example
    ) -> tuple[Prediction, Usage]:
        try:
            simulation = await self.simulator.simulate(explanation, example.tokens)
        except ReplyError as error:
            if self.simulator.model:
                return failed(example, error, self.simulator.scale.value, False), (
                    error.usage or Usage()
                )
            raise ExplanationUnusableError(str(error)) from error
        prediction = Prediction(
            example.key,
            example.stratum,
            example.weight,
            example.document,
            example.activations,
            simulation.predicted,
            simulation.scale.value,
            example.tokens,
        )
        return prediction, simulation.usage

    async def _line(
        self, explanation: Explanation, dev: Split | None
    ) -> tuple[tuple[float, float] | None, Usage]:
        """Slope and intercept from predicted to real activations on dev, if there is any."""
        if dev is None or not dev.firing or self.n_calibration < 2:
            return None, Usage()
        examples = draw(dev, self.n_calibration, explanation.feature, self.seed)
        found, usage = await all_predictions(self._predict, explanation, examples)
        usable = working(found)
        if not usable:
            return None, usage
        line = fit_line(
            [p.actual for p in usable], [p.predicted for p in usable], [p.weight for p in usable]
        )
        return line, usage


class ExplanationUnusableError(Exception):
    """A simulator that asks nobody cannot run this explanation, so no example can be simulated."""


def pearson_of(predictions: Sequence[Prediction]) -> float | None:
    """Weighted Pearson r over the tokens of the predictions that worked; None if undefined."""
    usable = working(predictions)
    if not usable:
        return None
    metric = Pearson.over([p.actual for p in usable], [p.predicted for p in usable])
    value = float(metric(np.array([[p.weight for p in usable]]))[0])
    return value if np.isfinite(value) else None


def measures_of(
    predictions: Sequence[Prediction],
    resampling: Resampling,
    line: tuple[float, float] | None,
) -> Mapping[str, Measure]:
    """The figures beside the headline."""
    usable = [p for p in predictions if not p.failure]
    actual, predicted = resampling.actual, resampling.predicted
    flat = Resampling(
        actual,
        predicted,
        (resampling.weights > 0).astype(float),
        *(unweighted(d, resampling.weights) for d in (resampling.plain, resampling.wide)),
    )
    found = {
        "Pearson, unweighted": flat.measure(Pearson.over(actual, predicted), (-1, 1)),
        "Spearman": resampling.measure(
            Spearman.over(actual, predicted, list(resampling.weights)), (-1, 1)
        ),
    }
    if line is not None:
        fitted = ExplainedVariance.over(actual, predicted, *line)
        found["R2, line fitted on dev"] = resampling.measure(fitted, None)
    for stratum in sorted({p.stratum for p in usable}):
        group = [p for p in usable if p.stratum == stratum]
        found[f"mean predicted peak in {stratum}"] = Measure(
            float(np.mean([max(p.predicted) for p in group]))
        )
        found[f"mean real peak in {stratum}"] = Measure(
            float(np.mean([max(p.actual) for p in group]))
        )
    return found


def unweighted(draws: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Bootstrap weights with the sampling weights taken out again; shape (n_draws, 2 n_windows)."""
    real = weights > 0
    scale = np.where(real, np.divide(1.0, weights, where=real, out=np.zeros_like(weights)), 0.0)
    plain = draws * scale
    imagined = (draws > 0) & ~real
    return plain + imagined
