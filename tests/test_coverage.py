"""Are weighted estimates right on average, and do their intervals hold the truth as often as said?

Populations whose truth is known are drawn again and again; of each, the product's own sample is
taken: 20 top, 50 other firing and 50 silent windows, of which `draw` takes 40 or all. Firing comes
in bursts by document, as topics do. How often the intervals held the truth is printed (`-rP`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from glossator.scorers.bootstrap import Resampling
from glossator.scorers.estimates import AveragePrecision, Calls, Metric, Pearson
from glossator.scorers.sample import draw
from glossator.types import SILENT, TOP, Example, FeatureId, Pool, Prediction, Split, Stratum

Floats = npt.NDArray[np.float64]
FEATURE = FeatureId("m", "s", 0)
T, PER_DOCUMENT, DOCUMENTS = 6, 4, 1000
THRESHOLD = 0.45
CALLED = 2.0
FIGURES = ("Pearson", "AUPRC", "F1")


@dataclass(frozen=True)
class Reader:
    """Predicts a feature: how often it sees a firing token, and how often it imagines one."""

    sees: float
    imagines: float


READERS = {
    "middling": Reader(0.6, 0.02),
    "near-perfect": Reader(0.95, 0.001),
    "poor": Reader(0.3, 0.15),
    "narrow": Reader(0.2, 0.005),
    "sharp": Reader(1.0, 0.02),
    "eager": Reader(1.0, 0.1),
}
SIZES = (40, 120)


def population(
    chance: np.random.Generator, reader: Reader, n_documents: int
) -> tuple[Floats, Floats]:
    """Real and predicted activations, shape (n_documents * PER_DOCUMENT, T)."""
    n = n_documents * PER_DOCUMENT
    topical = np.repeat(chance.random(n_documents) < 0.15, PER_DOCUMENT)
    fires = chance.random((n, T)) < np.where(topical, 0.15, 0.015)[:, None]
    noise = chance.normal(0, 0.15, (n, T)).clip(-0.4, 0.4)
    actual = np.where(fires, chance.gamma(1.5, 1.0, (n, T)) + 0.5, noise)
    said = (fires & (chance.random((n, T)) < reader.sees)) | (
        chance.random((n, T)) < reader.imagines / T
    )
    predicted = np.where(said, chance.uniform(2, 9, (n, T)), chance.uniform(0, 1, (n, T)))
    return actual, predicted


def truth(reader: Reader) -> dict[str, float]:
    """The figures over 100,000 documents, not sampled."""
    actual, predicted = population(np.random.default_rng(0), reader, 100_000)
    one = np.ones((1, len(actual)))
    fired, peaks = actual.max(1) > THRESHOLD, predicted.max(1)
    return {
        "Pearson": float(np.corrcoef(actual.ravel(), predicted.ravel())[0, 1]),
        "AUPRC": float(AveragePrecision.of(list(fired), list(peaks))(one)[0]),
        "F1": float(Calls.of(list(fired), list(peaks > CALLED), "F1")(one)[0]),
    }


def stored(chance: np.random.Generator, actual: Floats) -> tuple[Split, dict[str, int]]:
    """What collection keeps of a population, and which window each key names."""
    peaks = actual.max(1)
    firing = np.flatnonzero(peaks > THRESHOLD)
    firing = firing[np.argsort(-peaks[firing])]
    silent = np.flatnonzero(peaks <= THRESHOLD)
    rest = firing[20:]
    kept = chance.choice(rest, min(50, len(rest)), replace=False)
    kept = kept[np.argsort(-peaks[kept])]
    groups: list[tuple[str, npt.NDArray[np.intp], float]] = [(TOP, firing[:20], 20)]
    for i, part in enumerate(np.array_split(kept, 5)):
        groups.append((f"q{5 - i}", part, len(rest) * len(part) / len(kept)))
    groups.append((SILENT, chance.choice(silent, 50, replace=False), len(silent)))
    places: dict[str, int] = {}
    examples: list[Example] = []
    for name, members, stands_for in groups:
        for i in members:
            document, start = divmod(int(i), PER_DOCUMENT)
            example = Example(
                ("t",) * T,
                tuple(actual[i].tolist()),
                f"d{document}",
                start * T,
                name,
                stands_for / len(members),
            )
            places[example.key] = int(i)
            examples.append(example)
    strata = tuple(Stratum(g, round(n), len(m)) for g, m, n in groups)
    split = Split(
        Pool.TEST,
        THRESHOLD,
        tuple(e for e in examples if e.stratum != SILENT),
        tuple(e for e in examples if e.stratum == SILENT),
        strata,
    )
    return split, places


def predicted_of(
    examples: Sequence[Example], places: dict[str, int], predicted: Floats
) -> list[Prediction]:
    return [
        Prediction(
            e.key,
            e.stratum,
            e.weight,
            e.document,
            e.activations,
            tuple(predicted[places[e.key]].tolist()),
            "tenths",
        )
        for e in examples
    ]


def metrics(items: Sequence[Prediction], resampling: Resampling) -> dict[str, Metric]:
    imagined = [False] * (len(resampling.predicted) - len(items))
    fired = [p.stratum != SILENT for p in items] + imagined
    peaks = [max(p) for p in resampling.predicted]
    return {
        "Pearson": Pearson.over(resampling.actual, resampling.predicted),
        "AUPRC": AveragePrecision.of(fired, peaks),
        "F1": Calls.of(fired, [p > CALLED for p in peaks], "F1"),
    }


BOUNDS = {"Pearson": (-1.0, 1.0), "AUPRC": (0.0, 1.0), "F1": (0.0, 1.0)}


@dataclass(frozen=True)
class Trials:
    """What came of many draws, for each figure."""

    true: dict[str, float]
    estimates: dict[str, list[float]]
    widths: dict[str, list[float]]
    held: dict[str, list[bool]]

    def bias(self, figure: str) -> float:
        return float(np.mean(self.estimates[figure])) - self.true[figure]

    def error(self, figure: str) -> float:
        """Standard error of the bias."""
        found = self.estimates[figure]
        return float(np.std(found)) / float(np.sqrt(len(found)))

    def coverage(self, figure: str) -> float:
        return float(np.mean(self.held[figure]))

    def line(self, name: str) -> str:
        return name + "".join(
            f" | {f}: true {self.true[f]:.3f}, bias {self.bias(f):+.3f} ± {self.error(f):.3f}, "
            f"held {self.coverage(f):.3f}, width {np.mean(self.widths[f]):.2f}"
            for f in FIGURES
        )


def trials(reader: Reader, size: int, n: int, n_draws: int) -> Trials:
    found = Trials(truth(reader), *({f: [] for f in FIGURES} for _ in range(3)))  # type: ignore[arg-type]
    for trial in range(n):
        chance = np.random.default_rng(trial + 1)
        actual, predicted = population(chance, reader, DOCUMENTS)
        split, places = stored(chance, actual)
        items = predicted_of(draw(split, size, FEATURE, trial), places, predicted)
        resampling = Resampling.of(items, chance, n_draws)
        for figure, metric in metrics(items, resampling).items():
            measure = resampling.measure(metric, BOUNDS[figure])
            assert measure.value is not None
            assert measure.low is not None
            assert measure.high is not None
            found.estimates[figure].append(measure.value)
            found.widths[figure].append(measure.high - measure.low)
            found.held[figure].append(measure.low <= found.true[figure] <= measure.high)
    return found


SETTINGS = [(name, size) for name in READERS for size in SIZES]
NARROW = {
    ("narrow", 40, "Pearson"): 0.84,
    ("narrow", 120, "Pearson"): 0.89,
    ("poor", 40, "Pearson"): 0.87,
    ("poor", 40, "AUPRC"): 0.86,
    ("poor", 120, "AUPRC"): 0.86,
}
"""Where intervals are known to be too narrow: 0.86 to 0.92 of two times 500 samples held the truth,
and the floors lie two standard errors lower. Pearson: of 20 firing windows the reader sees a few,
and what it would have said of strong tokens that the sample lacks is in no draw. AUPRC: a reader
with many false alarms looks better in few windows (the bias that `check` allows), and the bootstrap
sees only a part of that."""

WIDE = {
    (name, size, figure)
    for name, sizes in {
        "near-perfect": SIZES,
        "sharp": SIZES,
        "eager": (40,),
        "middling": (40,),
        "poor": (40,),
        "narrow": (120,),
    }.items()
    for size in sizes
    for figure in ("AUPRC", "F1")
}
"""Where they hold the truth in more than 98%: few or none of the sampled silent windows are false
alarms, each stands for a hundred, and each draw imagines one that the sample lacks. Without it they
held in 64% (`centred`)."""


def check(found: Trials, name: str, size: int, least: float, most: float = 1.0) -> None:
    print(found.line(f"{name}, {size} windows"))
    for figure in ("Pearson", "F1"):
        # Ratios of sums are unbiased only in the limit: what is left over is a share of the
        # spread of one estimate, and far inside its interval.
        spread = found.error(figure) * np.sqrt(len(found.estimates[figure]))
        assert abs(found.bias(figure)) <= 4 * found.error(figure) + 0.25 * spread, figure
    # The best cut of few windows looks better than that of many, so AUPRC errs upward.
    assert -0.03 <= found.bias("AUPRC") <= (0.13 if size == 40 else 0.08)
    for figure in FIGURES:
        cell = (name, size, figure)
        assert found.coverage(figure) >= min(least, NARROW.get(cell, 1.0)), figure
        assert found.coverage(figure) <= (1.0 if cell in WIDE else most), figure
        assert np.mean(found.widths[figure]) < 0.9, figure
        assert min(found.widths[figure]) > 0.001, figure


@pytest.mark.parametrize(("name", "size"), SETTINGS)
def test_estimates_are_right_on_average_and_intervals_hold_the_truth(name: str, size: int) -> None:
    check(trials(READERS[name], size, n=200, n_draws=100), name, size, least=0.90)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), SETTINGS)
def test_intervals_hold_the_truth_over_500_draws(name: str, size: int) -> None:
    check(trials(READERS[name], size, n=500, n_draws=500), name, size, least=0.92, most=0.98)


@pytest.mark.parametrize("size", SIZES)
def test_a_sample_without_a_false_alarm_does_not_pass_for_certainty(size: int) -> None:
    # One silent window in 50 is called, so that many samples hold none.
    reader = READERS["sharp"]
    true = truth(reader)
    held: list[bool] = []
    for trial in range(40):
        chance = np.random.default_rng(trial)
        actual, predicted = population(chance, reader, DOCUMENTS)
        split, places = stored(chance, actual)
        items = predicted_of(draw(split, size, FEATURE, trial), places, predicted)
        if any(max(p.predicted) > CALLED for p in items if p.stratum == SILENT):
            continue
        resampling = Resampling.of(items, chance, 150)
        for figure in ("AUPRC", "F1"):
            measure = resampling.measure(metrics(items, resampling)[figure], (0, 1))
            assert measure.value == pytest.approx(1)
            assert measure.low is not None
            assert measure.low < 0.98
            held.append(measure.low < true[figure])
    assert len(held) >= 20
    assert np.mean(held) >= 0.9, f"{np.mean(held):.2f} of {len(held)}"
