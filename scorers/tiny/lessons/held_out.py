"""What training never sees: whole families of concepts, and all that `bench truth` plants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from glossator.datasets.truth import LIBRARY, claims
from glossator.datasets.truth_rules import Page
from glossator.scorers.tiny.lessons.concept import Concept
from glossator.scorers.tiny.lessons.rules import Listed, Rule

Places = npt.NDArray[np.int64]

FAMILIES = frozenset(
    {
        *("noun.food", "noun.body", "noun.plant", "verb.motion", "verb.emotion", "arts", "places"),
        *("science", "cooking", "infinitives", "closings", "openers", "substrings", "code"),
        *("except noun.food", "except noun.body", "except noun.plant", "except verb.motion"),
        *("behind noun.food", "behind noun.body", "behind noun.plant", "behind verb.motion"),
        *("except places", "except arts", "except science", "except cooking"),
        *("behind places", "behind arts", "behind science", "behind cooking"),
    }
)
"""Held out whole, for validation."""
SHARES = {"single words": 8, "phrases": 8, "neighbours": 8, "word lists": 8, "topics": 6,
          "suffixes": 7, "prefixes": 7, "inflections": 8, "formats": 6, "grammar": 6}  # fmt: skip
"""Of other families, one concept in so many is held out; its words are, too."""
ALIKE = 0.5
"""Training concepts that share so much of their words with a held-out class are left out."""
PLANTED_ALIKE = 0.85
"""Concepts that fire on so nearly the same words as a planted rule are left out everywhere."""


def is_held_out(concept: Concept) -> bool:
    """Whether the concept is for validation."""
    if concept.family in FAMILIES:
        return True
    share = SHARES.get(concept.family)
    return share is not None and crc32(concept.name.encode()) % share == 0


def parted(concepts: Iterable[Concept]) -> tuple[list[Concept], list[Concept]]:
    """Those to train on and those to validate on; what is too much like the latter is dropped."""
    train: list[Concept] = []
    held: list[Concept] = []
    for concept in concepts:
        (held if is_held_out(concept) else train).append(concept)
    sets = [s for c in held if (s := _words(c)) and c.family not in ("neighbours", "word lists")]
    by_word: dict[str, list[frozenset[str]]] = {}
    for some in sets:
        for word in some:
            by_word.setdefault(word, []).append(some)
    said = {phrase.lower() for c in held for phrase in c.phrases}

    def alike(concept: Concept) -> bool:
        own = _words(concept)
        if any(phrase.lower() in said for phrase in concept.phrases):
            return True
        others = {id(s): s for word in own for s in by_word.get(word, ())}.values()
        return any(len(own & s) > ALIKE * len(own | s) for s in others)

    return [c for c in train if not alike(c)], held


def _words(concept: Concept) -> frozenset[str]:
    rule = concept.rule
    return frozenset(w.lower() for w, _ in rule.pairs) if isinstance(rule, Listed) else frozenset()


def without_planted(concepts: Sequence[Concept], page: Page) -> list[Concept]:
    """The concepts that neither say nor do what a planted feature or a near miss of one does.

    What they do is seen on `page`: the words on which each fires.
    """
    known = claims(LIBRARY)
    said = {said_plainly(text) for text in known}
    planted = [_fires(claim.rule.values(page)) for claim in known.values()]
    by_place: dict[int, list[int]] = {}
    for number, fires in enumerate(planted):
        for place in fires[:: max(1, len(fires) // 50)]:
            by_place.setdefault(int(place), []).append(number)
    at: dict[str, list[int]] = {}
    for i, word in enumerate(page.lower):
        at.setdefault(word, []).append(i)

    def fires_of(rule: Rule) -> Places:
        if isinstance(rule, Listed) and not rule.cased:
            return np.array(
                sorted(i for word in rule.strengths for i in at.get(word, ())), np.int64
            )
        return _fires(rule.values(page))

    kept = []
    for concept in concepts:
        if any(said_plainly(phrase) in said for phrase in concept.phrases):
            continue
        fires = fires_of(concept.rule)
        near = {n for place in fires.tolist() for n in by_place.get(place, ())}
        if len(fires) < 3 or not any(_jaccard(fires, planted[n]) > PLANTED_ALIKE for n in near):
            kept.append(concept)
    return kept


def said_plainly(text: str) -> str:
    """A description in small letters without marks, so that mere spelling makes no difference."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _fires(values: Sequence[float]) -> Places:
    return np.flatnonzero(np.asarray(values) > 0)


def _jaccard(a: Places, b: Places) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / max(1, len(a) + len(b) - both)
