"""What the same scorer gives to explanations that should not fit, and what follows for a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from glossator.scorers.sample import chance_for
from glossator.types import Explanation, FeatureId, Null

DECOYS = (
    "names of chemical elements and compounds",
    "verbs of motion such as run, walk and climb",
    "the opening bracket of a citation",
    "words for family members",
    "dates and the names of months",
    "legal terms in court decisions",
    "numbers written with a decimal point",
    "adverbs that end in -ly",
    "parts of the human body",
    "French and Spanish loan words",
    "the second half of a hyphenated word",
    "words for weather, such as rain and snow",
    "names of football clubs and their players",
    "pronouns that refer to a woman",
    "musical instruments and musicians",
    "prices and currency symbols",
    "words that express doubt, such as perhaps",
    "names of rivers, lakes and mountains",
    "software, files and programming languages",
    "food, cooking and restaurants",
)
"""Explanations of nothing in particular, where a run has too few features to shuffle."""


@dataclass(frozen=True)
class Wrong:
    """Explanations that were made for other features."""

    kind: Literal["shuffled", "decoys"]
    explanations: tuple[Explanation, ...]


def choose_wrong(
    explanation: Explanation, others: Sequence[Explanation], n: int, seed: int
) -> Wrong:
    """`n` explanations of other features by the same explainer, those of the same site first.

    Abstentions, the feature itself in either tail, and texts equal to `explanation` are left out.
    If fewer than two remain, decoys stand in for explanations in words, and the kind says so; a
    pattern has none.
    """
    own = explanation.feature
    chance = chance_for(seed, "wrong", own, explanation.explainer)
    unique: dict[str, Explanation] = {}
    for other in sorted(others, key=lambda e: (str(e.feature), e.text)):
        same = (other.feature.source, other.feature.index) == (own.source, own.index)
        if other.abstained or same or other.text.strip() == explanation.text.strip():
            continue
        if other.explainer == explanation.explainer:
            unique.setdefault(other.text.strip(), other)
    found = list(unique.values())
    near = [e for e in found if e.feature.source == own.source]
    far = [e for e in found if e.feature.source != own.source]
    ordered = [group[i] for group in (near, far) for i in chance.permutation(len(group))]
    if len(ordered) >= 2 or explanation.runs:
        return Wrong("shuffled", tuple(ordered[:n]))
    fitting = [d for d in DECOYS if d != explanation.text.strip()]
    picked = chance.permutation(len(fitting))[:n]
    return Wrong(
        "decoys",
        tuple(Explanation(_nobody(own), fitting[i], explainer="decoy") for i in picked),
    )


def _nobody(feature: FeatureId) -> FeatureId:
    return FeatureId(feature.model, "decoy", 0)


def null_of(wrong: Wrong, values: Sequence[float | None]) -> Null:
    """What `wrong` scored. A constant prediction has no value and counts as chance, 0."""
    numbers = tuple(0.0 if v is None else v for v in values)
    return Null(
        wrong.kind,
        float(np.mean(numbers)) if numbers else None,
        numbers,
        tuple(e.text for e in wrong.explanations),
    )


def permutation_p(value: float, null: Null) -> float | None:
    """Share of all explanations, this one included, that score at least `value`.

    (1 + count) / (1 + n) is the exact p of a permutation test (Phipson and Smyth 2010), so with n
    wrong explanations it is never below 1 / (1 + n). None without wrong ones.
    """
    if not null.values:
        return None
    return (1 + sum(v >= value for v in null.values)) / (1 + len(null.values))


def lift(value: float, null: float | None) -> float | None:
    """Chance-corrected value, (value - null) / (1 - null); None where the null is 1 or unknown."""
    if null is None or null >= 1:
        return None
    return (value - null) / (1 - null)
