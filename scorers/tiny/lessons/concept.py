"""What a training description is about: a rule that says what it means, and ways to put it."""

from __future__ import annotations

from dataclasses import dataclass

from glossator.scorers.tiny.lessons.rules import Rule


@dataclass(frozen=True)
class Concept:
    """A meaning, with phrases that people or language models would put it in."""

    family: str
    """What it is held out with, such as `noun.food` or `formats`."""
    name: str
    """What it is called in tables; one of a kind."""
    phrases: tuple[str, ...]
    """Noun phrases such as `words for fruit`; every one means the same."""
    rule: Rule
    kin: str = ""
    """Concepts of equal kin are near misses of each other."""


def concept(family: str, phrases: str, rule: Rule, kin: str = "") -> Concept:
    """The concept of phrases that are parted by ` | `."""
    parted = tuple(phrase.strip() for phrase in phrases.split(" | "))
    return Concept(family, f"{family}: {parted[0]}", parted, rule, kin or family)
