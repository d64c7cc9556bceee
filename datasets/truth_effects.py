"""What planted features do to the output, and what may be said of it, rightly and wrongly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from glossator.datasets.truth_claims import Claim, Planted
from glossator.datasets.truth_rules import Page, Rule, filled

NONE = "none"
"""What a description says of the output where it says that there is no effect."""
FEWER = "anything but "
"""Stands before words that a description says become less probable."""


@dataclass(frozen=True)
class Scattered:
    """Tokens that a hash of all text up to them picks: there is nothing to say of them."""

    salt: int
    density: float = 0.01
    """The share of tokens that it fires on."""

    def values(self, page: Page) -> list[float]:
        """See `Rule`. From 0.3 to 1 where it fires, evenly."""
        state = self.salt.to_bytes(8, "big")
        found = []
        for token in page.tokens:
            state = hashlib.blake2b(state + token.encode(), digest_size=8).digest()
            drawn = int.from_bytes(state[:4], "big") / 2**32
            strength = 0.3 + 0.7 * int.from_bytes(state[4:], "big") / 2**32
            found.append(strength if drawn < self.density else 0.0)
        return found

    def scrap(self, chance: Random) -> str:
        """Words about nothing: nobody can write a text on which it fires."""
        return filled(chance, 3)


@dataclass(frozen=True)
class Effect:
    """Words whose probability of being next changes while a feature is strong."""

    text: str
    """What they are, in words."""
    words: tuple[str, ...]
    """The one that changes most first."""
    falls: bool = False
    """Whether they become less probable."""

    @property
    def said(self) -> str:
        """What a description says becomes more probable."""
        return FEWER + self.text if self.falls else self.text


class Astray(StrEnum):
    """In which way a description of a trigger and an effect is wrong."""

    WRONG_EFFECT = "wrong effect"
    """The right trigger, and words that do not change."""
    REVERSED = "effect reversed"
    """The right trigger and words, and the other direction."""
    NOT_THERE = "effect that is not there"
    """The right trigger of a feature that does nothing, and an effect."""
    OVERLOOKED = "effect overlooked"
    """The right trigger of a feature that acts, and no effect."""
    WRONG_TRIGGER = "wrong trigger"
    """The right effect, and a trigger that is nearly right, or one where there is none."""
    UNRELATED = "unrelated"
    """What is true of another feature."""


@dataclass(frozen=True)
class Supposed:
    """A wrong description."""

    trigger: str
    """Empty where it says nothing of it."""
    effect: str
    """`NONE` where it says that there is none."""
    astray: Astray


@dataclass(frozen=True)
class Causal:
    """A planted feature of which it is known when it fires, and what it does to the output."""

    name: str
    """Its own; it says what is true of the feature, and no prompt holds it."""
    group: str
    rule: Rule
    """When it fires."""
    trigger: Claim | None
    """The same as a description; None where there is nothing to say."""
    effect: Effect | None
    """None if it does nothing."""
    seems: Effect | None = None
    """What its output direction shows and later layers undo; None where it shows what it does."""
    wrong: tuple[Supposed, ...] = ()
    twin: str = ""
    """The name of the feature that fires alike, and of which only one acts; empty if none."""

    @property
    def describable(self) -> bool:
        """Whether anything can be said of it."""
        return self.trigger is not None or self.effect is not None

    @property
    def said(self) -> tuple[str, str]:
        """The true trigger and effect, as a description gives them."""
        return (
            "" if self.trigger is None else self.trigger.text,
            NONE if self.effect is None else self.effect.said,
        )

    @property
    def planted(self) -> Planted:
        """The same for whoever asks for its activations alone."""
        return Planted(self.group, Claim(self.name, self.rule), ())
