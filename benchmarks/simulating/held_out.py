"""Cases out of the families of concepts that training never saw, on texts of the test pool."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from simulating.cases import HELD_OUT, WINDOWS, WRONG, Case, stratified

from glossator.datasets.corpora import Corpus
from glossator.datasets.planted import word_pieces
from glossator.datasets.truth_rules import Page
from glossator.scorers.tiny.lessons.concept import Concept
from glossator.scorers.tiny.lessons.examples import on_tokens, tokens_of
from glossator.types import SILENT, Example, Pool

SCANNED = 5000
"""Windows that are looked at for firing ones."""
LENGTH = 32
LEAST_FIRING = 6
EACH = 6
"""Concepts of a family, at most."""
ALIKE, FAR = 0.5, 0.05
"""Overlap of firing tokens up to which a description is a near miss, or an unrelated one."""
PEAK = 10.0


@dataclass(frozen=True)
class Scanned:
    """Windows with their words."""

    windows: tuple[Example, ...]
    pages: tuple[Page, ...]

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: Any, n: int, chance: Random) -> Scanned:
        """`n` windows of the test pool, none of them overlapping another."""
        documents = [d for d in corpus if d.pool is Pool.TEST]
        windows: list[Example] = []
        for document in chance.sample(documents, len(documents)):
            if len(windows) >= n:
                break
            tokens = tokens_of(tokenizer, document.text[:4000])
            for start in range(0, len(tokens) - LENGTH + 1, LENGTH):
                cut = tuple(tokens[start : start + LENGTH])
                windows.append(Example(cut, (0.0,) * LENGTH, document.id, start, SILENT, 1.0))
        pages = [Page(word_pieces(e.text)) for e in windows[:n]]
        return cls(tuple(windows[:n]), tuple(pages))

    def activations(self, concept: Concept) -> dict[int, tuple[float, ...]]:
        """What a concept does in the windows where it fires, by their numbers; from 0 to 10."""
        found = {}
        for i, (window, page) in enumerate(zip(self.windows, self.pages, strict=True)):
            values = concept.rule.values(page)
            if any(v > 0 for v in values):
                clean, _ = on_tokens(values, page, window.tokens)
                if max(clean) > 0:
                    found[i] = tuple(round(PEAK * max(0.0, v), 3) for v in clean)
        return found


Fired = dict[int, tuple[float, ...]]


def held_out_cases(concepts: Sequence[Concept], scanned: Scanned, n: int, seed: int) -> list[Case]:
    """Up to `n` cases of `concepts`, as many of each family as can be."""
    chance = Random(seed)
    families: dict[str, list[Concept]] = defaultdict(list)
    for concept in chance.sample(list(concepts), len(concepts)):
        families[concept.family].append(concept)
    acts: dict[str, Fired] = {}
    chosen: list[Concept] = []
    for place in range(EACH * 3):
        for some in families.values():
            taken = sum(c.family == some[0].family for c in chosen)
            if place >= len(some) or taken >= EACH or len(chosen) >= n:
                continue
            fired = scanned.activations(some[place])
            if len(fired) >= LEAST_FIRING and len(fired) < len(scanned.windows) / 2:
                acts[some[place].name] = fired
                chosen.append(some[place])
    return [
        _case(concept, chosen, acts, scanned, Random(f"{seed} {concept.name}"))
        for concept in chosen
    ]


def _case(
    concept: Concept,
    chosen: Sequence[Concept],
    acts: dict[str, Fired],
    scanned: Scanned,
    chance: Random,
) -> Case:
    own = acts[concept.name]
    peaks = {i: max(values) for i, values in own.items()}
    drawn = stratified(peaks, scanned.windows, chance, WINDOWS)
    place = {e.key: i for i, e in enumerate(scanned.windows)}
    windows = tuple(replace(e, activations=own.get(place[e.key], e.activations)) for e in drawn)
    overlaps = {
        other.name: overlap(own, acts[other.name]) for other in chosen if other.name != concept.name
    }
    near = [c for c in chosen if c.kin == concept.kin and overlaps.get(c.name, 1) <= ALIKE]
    far = [
        c
        for c in chosen
        if c.family != concept.family and c.kin != concept.kin and overlaps.get(c.name, 1) <= FAR
    ]
    near, far = (chance.sample(some, min(k, len(some))) for some, k in ((near, 2), (far, WRONG)))
    return Case(
        HELD_OUT,
        concept.name,
        concept.family,
        chance.choice(concept.phrases),
        tuple(chance.choice(c.phrases) for c in far),
        tuple(chance.choice(c.phrases) for c in near),
        0.0,
        windows,
    )


def overlap(own: Fired, other: Fired) -> float:
    """Of the tokens on which one of two fires, the share on which both do."""
    both = either = 0
    for i in own.keys() | other.keys():
        a = own.get(i, (0.0,) * LENGTH)
        b = other.get(i, (0.0,) * LENGTH)
        both += sum(x > 0 and y > 0 for x, y in zip(a, b, strict=True))
        either += sum(x > 0 or y > 0 for x, y in zip(a, b, strict=True))
    return both / either if either else 1.0
