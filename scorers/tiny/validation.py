"""How well predictions of single tokens are, over examples of which the truth is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Judged:
    """One example with what was predicted of it."""

    family: str
    actual: tuple[float, ...]
    """Shape (n_tokens,)."""
    predicted: tuple[float, ...]
    """Shape (n_tokens,)."""
    firing: tuple[float, ...] = ()
    """Shape (n_tokens,): logits of firing."""


@dataclass(frozen=True)
class Quality:
    """Figures over all tokens of some examples; None where one is undefined."""

    n: int
    """Examples."""
    firing: float
    """Share of tokens that fire: what chance would reach in `auprc`."""
    auprc: float | None
    """Area under precision and recall of firing tokens."""
    pearson: float | None


def quality(examples: Sequence[Judged]) -> Quality:
    """The figures of some examples together."""
    from sklearn.metrics import average_precision_score

    actual = np.concatenate([np.asarray(e.actual) for e in examples])
    predicted = np.concatenate([np.asarray(e.predicted) for e in examples])
    fires = actual > 0
    area = float(average_precision_score(fires, predicted)) if fires.any() else None
    return Quality(len(examples), float(fires.mean()), area, correlation(actual, predicted))


def by_family(examples: Sequence[Judged]) -> dict[str, Quality]:
    """The figures of each family."""
    grouped: dict[str, list[Judged]] = defaultdict(list)
    for example in examples:
        grouped[example.family].append(example)
    return {family: quality(some) for family, some in sorted(grouped.items())}


def calibration(examples: Sequence[Judged]) -> dict[str, float]:
    """Slope and shift that make logits of firing into calibrated ones (Platt 1999).

    Empty where all or none of the tokens fire.
    """
    from sklearn.linear_model import LogisticRegression

    logits = np.concatenate([np.asarray(e.firing) for e in examples])
    fires = np.concatenate([np.asarray(e.actual) for e in examples]) > 0
    if fires.all() or not fires.any():
        return {}
    fitted = LogisticRegression(C=1e6).fit(logits[:, None], fires)
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return {"slope": round(slope, 4), "shift": round(shift, 4)}


def correlation(
    actual: npt.NDArray[np.float64], predicted: npt.NDArray[np.float64]
) -> float | None:
    """Pearson's r, or None where either side is constant."""
    if actual.std() == 0 or predicted.std() == 0:
        return None
    return float(np.corrcoef(actual, predicted)[0, 1])
