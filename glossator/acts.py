"""What people do when they review, and what holds of it: acts are added, and never changed.

An undo is an act too, and can be undone. What holds is folded from all acts of a feature, so that
nothing is lost by whoever comes later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from glossator.types import FeatureId

HUMAN = "human"
"""Who wrote an explanation, where a person did; the second of a feature is by `human-2`."""
RATINGS = ("1", "2", "3", "4", "5")
"""What a rating can be, the best last."""
LONGEST = 20_000
"""Characters of a comment or an explanation."""
LONGEST_NAME = 80
"""Characters of a reviewer's name."""


class ActKind(StrEnum):
    """What somebody did."""

    RATING = "rating"
    ACCEPT = "accept"
    REJECT = "reject"
    EDIT = "edit"
    COMMENT = "comment"
    UNDO = "undo"


VERDICTS = (ActKind.ACCEPT, ActKind.REJECT)


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a reviewer did."""

    id: int
    """Counts up over the whole store."""
    run: str
    feature: FeatureId
    explainer: str
    """Whose explanation it is about; empty for the feature itself, as for a new explanation."""
    reviewer: str
    kind: ActKind
    value: str
    """The rating, the comment or the new text; empty for the other kinds."""
    base: tuple[int, ...]
    """The edits whose outcome an edit began from, in order; empty for the explanation itself."""
    became: str
    """Under which explainer's name an edit is an explanation of the run."""
    undoes: int | None
    """The act that an undo takes back."""
    made: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one reviewer holds of one explanation."""

    rating: int | None = None
    verdict: ActKind | None = None


def in_force(pairs: Iterable[tuple[int, int | None]]) -> frozenset[int]:
    """The acts that nobody has taken back, of pairs (act, the act it undoes or None)."""
    gone: set[int] = set()
    held: set[int] = set()
    # The last first: an undo that was undone itself takes nothing back.
    for act, undoes in sorted(pairs, reverse=True):
        if act in gone:
            continue
        held.add(act)
        if undoes is not None:
            gone.add(undoes)
    return frozenset(held)


@dataclass(frozen=True)
class Standing:
    """What holds of one feature in one run."""

    acts: tuple[Act, ...]
    """All of them, the oldest first."""
    held: frozenset[int]
    """Those that nobody has taken back."""

    @classmethod
    def of(cls, acts: Sequence[Act]) -> Standing:
        """What holds after `acts`."""
        ordered = tuple(sorted(acts, key=lambda act: act.id))
        return cls(ordered, in_force((act.id, act.undoes) for act in ordered))

    @property
    def holding(self) -> tuple[Act, ...]:
        """The acts that hold, without undos."""
        return tuple(a for a in self.acts if a.id in self.held and a.kind is not ActKind.UNDO)

    def opinions(self, explainer: str) -> dict[str, Opinion]:
        """What each reviewer holds of the explanation by `explainer`; a later act counts."""
        found: dict[str, Opinion] = {}
        for act in self.holding:
            if act.explainer != explainer:
                continue
            before = found.get(act.reviewer, Opinion())
            if act.kind is ActKind.RATING:
                found[act.reviewer] = Opinion(int(act.value), before.verdict)
            elif act.kind in VERDICTS:
                found[act.reviewer] = Opinion(before.rating, act.kind)
        return found

    def has_rated(self, reviewer: str, explainer: str) -> bool:
        """Whether `reviewer` has a rating of the explanation by `explainer`."""
        opinion = self.opinions(explainer).get(reviewer)
        return opinion is not None and opinion.rating is not None

    def comments(self, explainer: str = "") -> tuple[Act, ...]:
        """The comments on the explanation by `explainer`, on the feature itself if empty."""
        return tuple(
            a for a in self.holding if a.kind is ActKind.COMMENT and a.explainer == explainer
        )

    def heads(self, explainer: str) -> tuple[Act, ...]:
        """The texts that the explanation by `explainer` has now, by edits; none if nobody edited.

        More than one where two people, or two tabs, began from the same text: neither has seen
        the other's. An edit that begins from all of them puts one in their place.
        """
        edits = [a for a in self.holding if a.kind is ActKind.EDIT and a.explainer == explainer]
        followed = {base for edit in edits for base in edit.base}
        return tuple(edit for edit in edits if explainer and edit.id not in followed)

    @property
    def withdrawn(self) -> frozenset[str]:
        """Names of explanations by people that were taken back; what was scored of them stays."""
        edits = [act for act in self.acts if act.kind is ActKind.EDIT]
        return frozenset(act.became for act in edits if act.id not in self.held)

    def last_of(self, reviewer: str) -> Act | None:
        """What `reviewer` did last that holds: what the key u takes back."""
        own = [act for act in self.holding if act.reviewer == reviewer]
        return own[-1] if own else None


def human(number: int) -> str:
    """The name of the explanation that is the `number`th by a person, from 1 on."""
    return HUMAN if number == 1 else f"{HUMAN}-{number}"


def is_human(explainer: str) -> bool:
    """Whether that names an explanation by a person."""
    return re.fullmatch(r"human(-[0-9]+)?", explainer) is not None


def reviewer_name(text: str) -> str:
    """`text` as the name of a reviewer, on one line.

    Raises:
        ValueError: if it is empty or too long.
    """
    name = " ".join(text.split())
    if not name or len(name) > LONGEST_NAME:
        raise ValueError(f"a reviewer's name has 1 to {LONGEST_NAME} characters")
    return name
