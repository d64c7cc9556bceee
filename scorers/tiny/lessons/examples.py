"""Training examples: a description, a window and what a feature so described might do there.

Each window comes with several descriptions: some that fire on it, near misses of those and others,
so that nothing can be learned from the window alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any
from zlib import crc32

from glossator.datasets.planted import word_pieces
from glossator.datasets.pools import Document
from glossator.datasets.truth_rules import Page
from glossator.datasets.windows import token_texts
from glossator.scorers.tiny.lessons.concept import Concept
from glossator.scorers.tiny.lessons.library import Shelf, drawn_as, weight_of
from glossator.scorers.tiny.lessons.made_up import made_up
from glossator.scorers.tiny.lessons.real import RealFeature, real_windows
from glossator.scorers.tiny.lessons.rules import Either, Except, Listed, Rule, Sentence
from glossator.types import Pool

SHORTEST, LONGEST, LONGEST_OF_ALL = 12, 56, 128
LONG = 0.06
"""Share of windows that are longer than `LONGEST`."""
REAL = 0.15
"""Share of windows that are a real feature's, where there are any."""
MADE_UP, BY_WORDS = 0.07, 0.25
"""Share of windows that are made up, and of those cut in words instead of the subject's tokens."""
MISSED, STRAY = 0.03, 0.002
"""How often a word that fits stays silent, and a token that does not fires."""
FOR_VALIDATION = 16
"""One document in so many is kept for validation."""

_WRAPPED = (
    *(["{}"] * 10),
    *("{}.", "The neuron fires on {}.", "This neuron activates on {}.", "Activates on {}"),
    *("fires for {}", "This feature detects {}.", "The feature responds to {}", "responds to {}"),
    *("looks for {}", "detects {}", "mentions of {}", "references to {}", "the presence of {}"),
    *("{}, especially in news and stories", "{} in various contexts", "Fires strongly on {}."),
    *("{}, often in informal text", "the model attends to {}", "This is a neuron for {}."),
    *("{} and similar", "{}, in any position", "mainly {}"),
)
_JOINED = ("{} or {}", "{}, and also {}", "{} and {}", "either {} or {}", "{}; also {}", "{}, {}")
_WITHOUT = ("{}, but not {}", "{} except {}", "{}, excluding {}", "{} other than {}")
_STRONGEST = (
    '{}, most strongly "{}"',
    '{}, especially "{}"',
    '{}; strongest on "{}"',
    "{}, above all {}",
)
_ABOUT = ("text about {}", "sentences about {}", "passages on {}", "sentences with {}")


@dataclass(frozen=True)
class Example:
    """One description on one window."""

    description: str
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """Shape (n_tokens,), from 0 to 10."""
    concept: str
    family: str
    clean: tuple[float, ...]
    """Shape (n_tokens,): what the rule says, from 0 to 1, without noise."""
    role: str
    """`true`, `near` or `other`: how the description was chosen for the window."""


def for_validation(document: Document) -> bool:
    """Whether windows of this document are never trained on."""
    return int(document.id[:8], 16) % FOR_VALIDATION == 0


def documents_of(corpus: Any, *, validation: bool) -> list[Document]:
    """Documents of the train pool, those kept for validation or the others."""
    return [d for d in corpus if d.pool is Pool.TRAIN and for_validation(d) == validation]


def windows(documents: Sequence[Document], tokenizer: Any, chance: Random) -> Iterator[list[str]]:
    """Windows of documents drawn at random, without end, as token texts."""
    while True:
        made = chance.random() < MADE_UP
        text = made_up(chance) if made else chance.choice(documents).text[:4000]
        tokens = word_pieces(text) if chance.random() < BY_WORDS else tokens_of(tokenizer, text)
        long = chance.random() < LONG
        n = chance.randint(LONGEST, LONGEST_OF_ALL) if long else chance.randint(SHORTEST, LONGEST)
        start = chance.randrange(max(1, len(tokens) - n // 2))
        cut = tokens[start : start + n]
        if len(cut) >= SHORTEST // 2 and any(token.strip() for token in cut):
            yield cut


def tokens_of(tokenizer: Any, text: str) -> list[str]:
    """The texts of the subject's tokens."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return token_texts(text, [end for _, end in found["offset_mapping"]])


def examples(
    shelf: Shelf,
    documents: Sequence[Document],
    tokenizer: Any,
    seed: int,
    each: int = 4,
    real: Sequence[RealFeature] = (),
) -> Iterator[list[Example]]:
    """Windows without end, each with `each` descriptions; equal for equal seeds."""
    chance = Random(seed)
    cut = windows(documents, tokenizer, chance)
    recorded = real_windows(real, chance)
    while True:
        first: list[Example] = []
        if real and chance.random() < REAL:
            feature, shown, activations = next(recorded)
            tokens = list(shown)
            said = wrapped(chance.choice(feature.phrases), chance)
            clean = tuple(a / 10 for a in activations)
            first = [Example(said, shown, activations, feature.name, "real", clean, "true")]
        else:
            tokens = next(cut)
        page = Page(word_pieces("".join(tokens)))
        others = _chosen(shelf, page, each, chance)
        yield [
            *first,
            *(
                example(said, concept, tokens, page, role, chance)
                for said, concept, role in list(others)[len(first) :]
            ),
        ]


def _chosen(
    shelf: Shelf, page: Page, each: int, chance: Random
) -> Iterator[tuple[str, Concept, str]]:
    firing: dict[str, list[int]] = {}
    for i in shelf.firing(page, chance):
        firing.setdefault(drawn_as(shelf.concepts[i]), []).append(i)

    def drawn(families: Mapping[str, list[int]]) -> Concept:
        names = sorted(families)
        (name,) = chance.choices(names, [weight_of(name) for name in names])
        return shelf.concepts[chance.choice(families[name])]

    for place in range(each):
        role = ("true", "near", "true", "other")[place % 4] if firing else "other"
        concept = drawn(shelf.families if role == "other" else firing)
        if role == "near":
            near = shelf.kin[concept.kin]
            near = near if len(near) > 2 else shelf.families[drawn_as(concept)]
            concept = shelf.concepts[chance.choice(near)]
        said = chance.choice(concept.phrases)
        other = drawn(firing if firing and chance.random() < 0.3 else shelf.families)
        said, concept = _combined(said, concept, other, chance)
        yield wrapped(said, chance), concept, role


def _combined(said: str, concept: Concept, other: Concept, chance: Random) -> tuple[str, Concept]:
    """Now and then a concept with another one, without it, or with more said of it."""
    draw, family, name = chance.random(), concept.family, concept.name
    more = chance.choice(other.phrases)
    if draw < 0.1:
        pair = [(said, concept.rule), (more, other.rule)]
        chance.shuffle(pair)
        joined = chance.choice(_JOINED).format(pair[0][0], pair[1][0])
        rule: Rule = Either((pair[0][1], pair[1][1]))
        return joined, Concept(f"or {family}", name, (joined,), rule)
    if draw < 0.13 and other.name != name:
        without = chance.choice(_WITHOUT).format(said, more)
        rule = Except(concept.rule, other.rule)
        return without, Concept(f"without {family}", name, (without,), rule)
    if draw < 0.17 and isinstance(concept.rule, Listed) and len(concept.rule.pairs) > 2:
        word, _ = chance.choice(concept.rule.pairs[:40])
        strongest = chance.choice(_STRONGEST).format(said, word)
        pairs = tuple((w, v if w == word else 0.5 * v) for w, v in concept.rule.pairs)
        rule = Listed(pairs, concept.rule.cased)
        return strongest, Concept(f"strongest {family}", name, (strongest,), rule)
    if draw < 0.23 and family in ("topics", "neighbours", "society", "sports"):
        about = chance.choice(_ABOUT).format(said)
        return about, Concept("sentences", name, (about,), Sentence(concept.rule))
    return said, concept


def wrapped(phrase: str, chance: Random) -> str:
    """A phrase as some explainer would put it."""
    said = chance.choice(_WRAPPED).format(phrase)
    return said[:1].upper() + said[1:] if chance.random() < 0.3 else said


def example(
    said: str, concept: Concept, tokens: Sequence[str], page: Page, role: str, chance: Random
) -> Example:
    """What a noisy feature that is so described does on the window."""
    clean, last = on_tokens(concept.rule.values(page), page, tokens)
    # the same for each window of a concept: how it treats the parts of a word, and each word
    own = Random(crc32(concept.name.encode()))
    early = own.choice((1.0, 0.6, 0.3, 0.0))
    activations = []
    for token, value, is_last in zip(tokens, clean, last, strict=True):
        if value <= 0:
            stray = chance.random() < STRAY
            activations.append(chance.uniform(0.5, 4) if stray else 0.0)
            continue
        taste = Random(crc32(f"{concept.name} {token.strip().lower()}".encode())).gauss(0, 0.25)
        strength = value * (1.0 if is_last else early) * math.exp(taste + chance.gauss(0, 0.15))
        missed = chance.random() < MISSED
        activations.append(0.0 if missed else min(10.0, 8 * strength))
    return Example(
        said,
        tuple(tokens),
        tuple(round(a, 2) for a in activations),
        concept.name,
        concept.family,
        tuple(clean),
        role,
    )


def on_tokens(
    values: Sequence[float], page: Page, tokens: Sequence[str]
) -> tuple[list[float], list[bool]]:
    """Values of the page's words at each token, and whether it is the last token of its word.

    A token has the greatest value of the words that it shares a visible character with.
    """
    ends = list(accumulate(map(len, page.tokens)))
    spans = [
        (end - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()) if bare else end)
        for piece, bare, end in zip(page.tokens, page.bare, ends, strict=True)
    ]
    found, last = [], []
    at = begin = 0
    for token in tokens:
        stop = begin + len(token)
        while at < len(spans) and spans[at][1] <= begin:
            at += 1
        value, closes, i = 0.0, True, at
        while i < len(spans) and spans[i][0] < stop:
            if spans[i][1] > begin and values[i] > value:
                value, closes = values[i], spans[i][1] <= stop
            i += 1
        found.append(value)
        last.append(closes)
        begin = stop
    return found, last
