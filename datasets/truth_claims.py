"""Planted features and their descriptions, each of which has a meaning of its own, as a rule."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from glossator.datasets.truth_rules import Rule, Words


class Miss(StrEnum):
    """In which way a description is nearly right."""

    BROAD = "broad"
    """It fits all that fires the feature, and much else."""
    NARROW = "narrow"
    """It fits a part of what fires the feature, and nothing else."""
    SENSE = "one sense"
    """It names one sense of two."""
    DISTRACTOR = "distractor"
    """It names what often stands beside it."""
    TAIL = "other tail"
    """It names what drives the other tail."""


@dataclass(frozen=True)
class Claim:
    """A description, and what it says."""

    text: str
    rule: Rule


@dataclass(frozen=True)
class NearMiss(Claim):
    """A description that is nearly right."""

    miss: Miss


@dataclass(frozen=True)
class Planted:
    """A feature whose meaning is known."""

    group: str
    """The class of features that it belongs to, such as `affixes`."""
    true: Claim
    near: tuple[NearMiss, ...]
    rule: Rule | None = None
    """What it does, where that is more than the description says: its other tail. Else None."""

    @property
    def name(self) -> str:
        """The true description."""
        return self.true.text

    @property
    def function(self) -> Rule:
        """What it does."""
        return self.rule or self.true.rule

    @property
    def negative(self) -> bool:
        """Whether it is the negative tail of a signed feature."""
        return self.rule is not None


def listed(text: str) -> Words:
    """The words of `text`."""
    return Words(tuple(text.split()))


def planted(
    group: str,
    text: str,
    rule: Rule,
    *,
    broad: tuple[str, Rule] | None = None,
    narrow: tuple[str, Rule] | None = None,
    distractor: tuple[str, Rule] | None = None,
) -> Planted:
    """A feature that does what its description says."""
    given = ((Miss.BROAD, broad), (Miss.NARROW, narrow), (Miss.DISTRACTOR, distractor))
    near = tuple(NearMiss(*claim, miss) for miss, claim in given if claim is not None)
    return Planted(group, Claim(text, rule), near)
