"""What the scores of a run amount to: counts against the null and against the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from glossator.types import FeatureId, Score

BASELINE = "unigram"
"""The explainer that every other one must beat."""
COMPARED = "simulation"
"""The scorer on which they are compared, where it ran; else the first that reads explanations."""
READS_NONE = frozenset({"intruder"})
"""Scorers whose value is the same for every explanation of a feature."""
_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Gap:
    """How much better one explanation predicts than the baseline, on the same windows."""

    feature: FeatureId
    value: float
    low: float | None
    high: float | None
    n: int
    """Windows that both predicted."""


@dataclass(frozen=True, slots=True)
class Against:
    """An explainer beside the baseline, feature by feature."""

    explainer: str
    simulator: str
    baseline_simulator: str
    n_explained: int
    """Features that it explained; abstentions left out."""
    gaps: tuple[Gap, ...]
    """Of the features where both have a score."""

    @property
    def better(self) -> int:
        """Features on which its value is above the baseline's."""
        return sum(gap.value > 0 for gap in self.gaps)

    @property
    def clearly_better(self) -> int:
        """Those whose whole interval is above."""
        return sum(gap.low is not None and gap.low > 0 for gap in self.gaps)

    @property
    def worse(self) -> int:
        """Features on which its value is below the baseline's."""
        return sum(gap.value < 0 for gap in self.gaps)

    @property
    def clearly_worse(self) -> int:
        """Those whose whole interval is below."""
        return sum(gap.high is not None and gap.high < 0 for gap in self.gaps)

    @property
    def mean(self) -> float | None:
        """Mean difference over features."""
        return sum(gap.value for gap in self.gaps) / len(self.gaps) if self.gaps else None


@dataclass(frozen=True, slots=True)
class Standing:
    """The scores of one explainer by one scorer, beside their nulls."""

    scorer: str
    simulator: str
    explainer: str
    model: str
    metric: str
    n: int
    """Scores, with a value or without."""
    valued: int
    with_null: int
    """Scores that have a value and a null."""
    above: int
    """Of these, above the mean of wrong explanations."""
    clear: int
    """Of these, with the whole interval above it."""
    beats_all: int
    """Of these, above every single wrong explanation."""
    significant: int
    """Of these, with q at most 0.05."""
    least_p: float | None
    """The smallest p that so few wrong explanations allow."""
    median: float | None
    median_null: float | None
    n_failed: int
    """Windows that could not be judged."""
    failures: dict[str, int]
    """The same by kind."""
    without: dict[str, int]
    """Reasons for no value, each with its count."""
    notes: dict[str, int]
    """What the scores say about themselves, each part of it with its count."""

    @property
    def common_notes(self) -> dict[str, int]:
        """Those notes that are not of one feature alone."""
        return {note: n for note, n in self.notes.items() if n > 1 or self.n == 1}


def standing(scores: Sequence[Score], q: Sequence[float | None]) -> Standing:
    """What the `scores` of one scorer, simulator and explainer amount to; `q` in their order."""
    first = scores[0]
    valued = [s for s in scores if s.value is not None]
    compared = [s for s in valued if s.null is not None]
    most = max((len(n.values) for s in compared for n in s.nulls if _is_wrong(n.kind)), default=0)
    failures: Counter[str] = Counter()
    for score in scores:
        failures.update(score.failures)
    return Standing(
        *(first.scorer, first.simulator, first.explainer, first.model, first.metric),
        n=len(scores),
        valued=len(valued),
        with_null=len(compared),
        above=sum(_above(s.value, s.null) for s in compared),
        clear=sum(_above(s.low, s.null) for s in compared),
        beats_all=sum(_beats_all(s) for s in compared),
        significant=sum(value is not None and value <= _LEVEL for value in q),
        least_p=1 / (1 + most) if most else None,
        median=_median([s.value for s in valued if s.value is not None]),
        median_null=_median([s.null for s in compared if s.null is not None]),
        n_failed=sum(s.n_failed for s in scores),
        failures=dict(failures.most_common()),
        without=dict(Counter(s.note for s in scores if s.value is None).most_common()),
        notes=dict(Counter(n for s in valued for n in s.note.split("; ") if n).most_common()),
    )


def _is_wrong(kind: str) -> bool:
    return kind in ("shuffled", "decoys")


def _above(value: float | None, null: float | None) -> bool:
    return value is not None and null is not None and value > null


def _beats_all(score: Score) -> bool:
    values = [v for null in score.nulls if _is_wrong(null.kind) for v in null.values]
    return score.value is not None and bool(values) and score.value > max(values)


def _median(values: Sequence[float]) -> float | None:
    ordered, half = sorted(values), len(values) // 2
    if not ordered:
        return None
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def compared_by(scorers: Sequence[str]) -> str:
    """Which of `scorers` says whether an explanation beats the baseline; empty if none can."""
    if COMPARED in scorers:
        return COMPARED
    return next((name for name in scorers if name not in READS_NONE), "")


def series_of(explainers: Sequence[str]) -> dict[str, int]:
    """The number that gives each explainer its colour and sign; -1 is the baseline's."""
    others = [name for name in explainers if name != BASELINE]
    return {name: others.index(name) if name in others else -1 for name in explainers}
