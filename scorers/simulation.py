"""The `simulation` scorer: predict every token's activation from the explanation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from glossator.errors import ReplyError
from glossator.scorers.asking import one_by_one
from glossator.scorers.bootstrap import Values
from glossator.scorers.estimates import (
    ExplainedVariance,
    Pearson,
    Spearman,
    Unweighted,
    fit_line,
)
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import Frame, failed
from glossator.scorers.rated import Figure, Reading, pearson, rated, unusable
from glossator.scorers.sample import draw, draw_dev, working
from glossator.scorers.table import Simulator
from glossator.types import Example, Explanation, Prediction, Score, Split, Usage

METRIC = "Pearson over tokens, weighted to the pool"
BOUNDS = (-1.0, 1.0)


@dataclass(frozen=True)
class SimulationScorer:
    """Pearson r of predicted and real activations over all tokens of held-out windows.

    The headline is weighted to the pool's true composition; the unweighted r, as other systems
    report it, stands beside it. The R² is of a line fitted on dev, never on what is scored.
    """

    headline: ClassVar[Figure] = staticmethod(pearson)

    simulator: Simulator
    wrong: Wrong
    simulator_name: str = ""
    n_scored: int = 40
    n_calibration: int = 10
    """Windows of dev for the line, asked of the simulator once more; 0 leaves R² out."""
    seed: int = 0
    precision: float = 0.0
    """Half of the interval's width at which no more windows are asked about; 0 asks about all."""

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`."""
        frame = Frame(explanation, "simulation", self.simulator_name, self.simulator.model, METRIC)
        if why := frame.reason_against(split):
            return frame.nothing(why)
        return await rated(
            frame,
            self.wrong,
            draw(split, self.n_scored, explanation.feature, self.seed),
            one_by_one(self._rate),
            read,
            self.seed,
            dev_units=draw_dev(dev, self.n_calibration, explanation.feature, self.seed),
            precision=self.precision,
        )

    async def _rate(self, explanation: Explanation, example: Example) -> tuple[Prediction, Usage]:
        try:
            simulation = await self.simulator.simulate(explanation, example.tokens)
        except ReplyError as error:
            error = unusable(self.simulator.model, error)
            scale = self.simulator.scale.value
            return failed(example, error, scale, False), error.usage or Usage()
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


def read(own: Sequence[Prediction], on_dev: Sequence[Prediction]) -> Reading:
    """The figures of simulated windows; those of dev are for the line alone."""
    usable = working(own)
    weights = [p.weight for p in usable]

    def as_others_report(strata: Sequence[str], actual: Values, predicted: Values) -> Unweighted:
        return Unweighted.over(Pearson.over(actual, predicted), weights, len(actual))

    def spearman(strata: Sequence[str], actual: Values, predicted: Values) -> Spearman:
        imagined = [0.0] * (len(actual) - len(weights))
        return Spearman.over(actual, predicted, weights + imagined)

    beside: dict[str, tuple[Figure, tuple[float, float] | None]] = {
        "Pearson, unweighted": (as_others_report, BOUNDS),
        "Spearman": (spearman, BOUNDS),
    }
    if on_dev:
        line = fit_line(
            [p.actual for p in on_dev], [p.predicted for p in on_dev], [p.weight for p in on_dev]
        )

        def fitted(strata: Sequence[str], actual: Values, predicted: Values) -> ExplainedVariance:
            return ExplainedVariance.over(actual, predicted, *line)

        beside["R2, line fitted on dev"] = (fitted, None)
    return Reading(
        pearson,
        empty=lambda _: None,
        undefined="the prediction is the same at every token, so no correlation is defined",
        bounds=BOUNDS,
        beside=beside,
        plain=peaks(usable),
    )


def peaks(usable: Sequence[Prediction]) -> Mapping[str, float]:
    """Mean of the strongest predicted and real activations of each stratum's windows."""
    found = {}
    for stratum in sorted({p.stratum for p in usable}):
        group = [p for p in usable if p.stratum == stratum]
        predicted, real = (
            [max(v) for v in side]
            for side in zip(*((p.predicted, p.actual) for p in group), strict=True)
        )
        found[f"mean predicted peak in {stratum}"] = float(np.mean(predicted))
        found[f"mean real peak in {stratum}"] = float(np.mean(real))
    return found
