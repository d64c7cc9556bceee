"""The `fuzzing` scorer: are the marked tokens of this window the ones that the feature fires on?

After Paulo et al. 2024, with negatives that nothing but the explanation tells from positives; see
`marking.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from glossator.scorers.asking import Rated
from glossator.scorers.detection import best_threshold
from glossator.scorers.judge import Judge
from glossator.scorers.marking import Marked, marked_windows
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import Frame
from glossator.scorers.rated import (
    CALLS,
    Figure,
    Reading,
    base_rate,
    calls_above,
    judged,
    precision_of_ratings,
    rated,
    without,
)
from glossator.scorers.sample import chance_for, draw, draw_dev
from glossator.types import (
    MISMARKED,
    SILENT,
    Explanation,
    Prediction,
    Score,
    Split,
)

METRIC = "AUPRC over marked windows, weighted to the pool"
AGAINST_SILENT = "AUPRC against silent windows"
AGAINST_MISMARKED = "AUPRC against wrong marks"


@dataclass(frozen=True)
class FuzzingScorer:
    """Average precision of the judge's ratings of marked windows, right marks against wrong ones.

    Wrong are marks on silent windows, and those on the silent tokens of firing ones; a reader who
    finds the window and not the token is stopped by the second. Both are reported apart, too.
    """

    headline: ClassVar[Figure] = staticmethod(precision_of_ratings)

    judge: Judge
    wrong: Wrong
    n_scored: int = 40
    """Marked windows, about: a firing window is asked about twice."""
    n_calibration: int = 20
    """The same on dev, for the threshold of yes-or-no calls; 0 keeps the judge's own."""
    seed: int = 0
    precision: float = 0.0
    """Half of the interval's width at which no more windows are asked about; 0 asks about all."""

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`."""
        frame = Frame(explanation, "fuzzing", self.judge.name, self.judge.model, METRIC)
        if why := frame.reason_against(split):
            return frame.nothing(why)
        feature, seed = explanation.feature, self.seed
        examples = draw(split, windows_for(self.n_scored), feature, seed)
        on_dev = draw_dev(dev, windows_for(self.n_calibration), feature, seed)
        chance = chance_for(seed, "marks", feature)
        return await rated(
            frame,
            self.wrong,
            marked_windows(examples, split.threshold, chance),
            self._rate,
            self._read,
            seed,
            dev_units=marked_windows(on_dev, split.threshold, chance),
            precision=self.precision,
        )

    def _read(self, own: Sequence[Prediction], on_dev: Sequence[Prediction]) -> Reading:
        threshold = self.judge.threshold
        if on_dev:
            threshold = best_threshold(on_dev, threshold)
        beside = {name: (calls_above(threshold, name), (0.0, 1.0)) for name in CALLS}
        beside[AGAINST_SILENT] = (without(MISMARKED, precision_of_ratings), (0.0, 1.0))
        beside[AGAINST_MISMARKED] = (without(SILENT, precision_of_ratings), (0.0, 1.0))
        return Reading(
            headline=precision_of_ratings,
            empty=base_rate,
            undefined="needs usable replies on right marks and on wrong ones",
            beside=beside,
            plain={
                "base rate": base_rate(own),
                "base rate against silent windows": base_rate_without(MISMARKED, own),
                "base rate against wrong marks": base_rate_without(SILENT, own),
                "threshold": threshold,
            },
            notes=(f"called right above {threshold:.3g}{', the best on dev' * bool(on_dev)}",),
        )

    async def _rate(self, explanation: Explanation, units: Sequence[Marked]) -> list[Rated]:
        """Ratings of marked windows; the actual value is the strongest under a mark."""
        examples, marks = [u.example for u in units], [u.marks for u in units]
        found: list[Rated] = []
        rows = await judged(self.judge, explanation, examples, marks)
        for unit, (made, usage) in zip(units, rows, strict=True):
            # A firing window is asked about twice, and the two must not pass for one.
            key = f"{made.example} {MISMARKED}" if made.stratum == MISMARKED else made.example
            found.append((replace(made, example=key, actual=(unit.strongest,)), usage))
        return found


def windows_for(n: int) -> int:
    """How many windows, half of them firing, make about `n` marked ones; none for under two."""
    return max(2, round(n * 2 / 3)) if n >= 2 else 0


def base_rate_without(stratum: str, predictions: Sequence[Prediction]) -> float | None:
    """What a constant rating scores where the windows of one stratum are left out."""
    return base_rate([p for p in predictions if p.stratum != stratum])
