"""Windows with marked tokens, of which some marks are right: what `fuzzing` asks about.

Right and wrong marks must be alike in all but being right, or a reader could tell them apart
without the explanation: a known pipeline marks its negatives at one position always. Here every
wrong marking is the marking of another firing window, put onto this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from glossator.types import MISMARKED, Example

FORBIDDEN = 1e6
"""Cost of a marking that does not fit; above what all others cost together."""
OF_ANOTHER_STRATUM = 10.0


@dataclass(frozen=True)
class Marked:
    """A window with marks; `example.stratum` says whether the marks are right."""

    example: Example
    """Its stratum is `silent`, `mismarked`, or that of a firing window whose marks are right."""
    marks: tuple[bool, ...]
    """Shape (n_tokens,)."""

    @property
    def strongest(self) -> float:
        """The strongest activation under a mark, raw units."""
        pairs = zip(self.example.activations, self.marks, strict=True)
        return max(a for a, marked in pairs if marked)


def fires_at(example: Example, threshold: float) -> tuple[bool, ...]:
    """Which tokens fire."""
    return tuple(a > threshold for a in example.activations)


def marked_windows(
    examples: Sequence[Example], threshold: float, chance: np.random.Generator
) -> tuple[Marked, ...]:
    """Firing windows with their firing tokens marked, then again mismarked, then silent ones.

    A silent window gets the marks of a firing one, drawn by weight. A mismarked one gets those of
    another window, of its own stratum where one fits, each used once and none on a token that
    fires; where none fits, a window is not mismarked. Windows that do not fit are left out.
    """
    # Neither their order nor their names decide anything.
    examples = sorted(examples, key=lambda e: (e.text, e.key))
    firing = [e for e in examples if e.peak > threshold]
    silent = [e for e in examples if e.peak <= threshold]
    right = [Marked(e, fires_at(e, threshold)) for e in firing]
    return (*right, *_mismarked(right, chance), *_marked_silent(right, silent, chance))


def _mismarked(right: Sequence[Marked], chance: np.random.Generator) -> list[Marked]:
    n = len(right)
    cost = np.full((n, n), FORBIDDEN)  # (window, whose marks)
    for i, window in enumerate(right):
        for j, other in enumerate(right):
            on_its_own = any(a and b for a, b in zip(window.marks, other.marks, strict=False))
            if i != j and fits(other.marks, window.example) and not on_its_own:
                same = window.example.stratum == other.example.stratum
                cost[i, j] = chance.random() + (0 if same else OF_ANOTHER_STRATUM)
    found = []
    for row, column in np.stack(linear_sum_assignment(cost), axis=1).tolist():
        if cost[row, column] < FORBIDDEN:
            example = replace(right[row].example, stratum=MISMARKED)
            found.append(Marked(example, onto(right[column].marks, example)))
    return found


def _marked_silent(
    right: Sequence[Marked], silent: Sequence[Example], chance: np.random.Generator
) -> list[Marked]:
    """Each with the marks of a firing one; a marking comes up by its weight (systematic draws)."""
    if not right:
        return []
    ends = np.cumsum([m.example.weight for m in right])
    places = (np.arange(len(silent)) + chance.random()) / max(1, len(silent)) * ends[-1]
    drawn = chance.permutation(np.minimum(np.searchsorted(ends, places), len(right) - 1))
    return [
        Marked(example, onto(right[i].marks, example))
        for example, i in zip(silent, drawn, strict=True)
        if fits(right[i].marks, example)
    ]


def fits(marks: Sequence[bool], example: Example) -> bool:
    """Whether `example` is long enough for `marks`."""
    return not any(marks[len(example.tokens) :])


def onto(marks: Sequence[bool], example: Example) -> tuple[bool, ...]:
    """`marks` on the tokens of `example`."""
    n = len(example.tokens)
    return tuple(marks[:n]) + (False,) * (n - len(marks))
