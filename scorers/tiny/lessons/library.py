"""All training concepts in one place, found again by the words that fire them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from random import Random

from glossator.datasets.planted import word_pieces
from glossator.datasets.truth_rules import Page
from glossator.embedder import Embedder
from glossator.scorers.tiny.lessons.classes import (
    class_concepts,
    inflected,
    members_of,
    pos_concepts,
    pos_sets,
    topic_concepts,
)
from glossator.scorers.tiny.lessons.closed import closed_concepts
from glossator.scorers.tiny.lessons.concept import Concept
from glossator.scorers.tiny.lessons.context import phrase_concepts, syntax_concepts
from glossator.scorers.tiny.lessons.forms import form_concepts
from glossator.scorers.tiny.lessons.held_out import parted, without_planted
from glossator.scorers.tiny.lessons.rules import Both, Either, Except, Follows, Later, Listed, Rule
from glossator.scorers.tiny.lessons.single import (
    exception_concepts,
    list_concepts,
    neighbour_concepts,
    word_concepts,
)
from glossator.scorers.tiny.lessons.vocabulary import Vocabulary
from glossator.scorers.tiny.lessons.wordnet import WordNet

PAGES = 250
"""Texts on which concepts are compared with planted features."""
OPEN_RULES = 24
"""Concepts that no word points to and that are tried on each text."""


@dataclass(frozen=True)
class Shelf:
    """Concepts, and which of them may fire where."""

    concepts: tuple[Concept, ...]

    @cached_property
    def families(self) -> dict[str, list[int]]:
        """Numbers of the concepts of each family; see `drawn_as`."""
        found: dict[str, list[int]] = defaultdict(list)
        for i, concept in enumerate(self.concepts):
            found[drawn_as(concept)].append(i)
        return found

    @cached_property
    def kin(self) -> dict[str, list[int]]:
        """Numbers of the concepts of each kin."""
        found: dict[str, list[int]] = defaultdict(list)
        for i, concept in enumerate(self.concepts):
            found[concept.kin].append(i)
        return found

    @cached_property
    def _pointed(self) -> tuple[dict[str, list[int]], list[int]]:
        by_word: dict[str, list[int]] = defaultdict(list)
        rest = []
        for i, concept in enumerate(self.concepts):
            some = fired_by(concept.rule)
            if some is None:
                rest.append(i)
            for word in some or ():
                by_word[word].append(i)
        return by_word, rest

    def firing(self, page: Page, chance: Random) -> list[int]:
        """Numbers of concepts that fire on `page`; of those that no word points to, some."""
        by_word, rest = self._pointed
        found = {i for word in set(page.lower) for i in by_word.get(word, ())}
        found |= set(chance.sample(rest, min(OPEN_RULES, len(rest))))
        grouped: dict[str, list[int]] = defaultdict(list)
        for i in sorted(found):
            grouped[drawn_as(self.concepts[i])].append(i)
        # a few of each family are enough, and trying them costs time
        tried = [i for some in grouped.values() for i in chance.sample(some, min(3, len(some)))]
        return [i for i in tried if any(v > 0 for v in self.concepts[i].rule.values(page))]


def drawn_as(concept: Concept) -> str:
    """The family that a concept is drawn with; exceptions of all families are one, and so on."""
    first, _, rest = concept.family.partition(" ")
    return first if rest and first in ("except", "behind") else concept.family


_LIGHT = ("noun.", "verb.", "adj.", "adv.")
_HEAVY = frozenset(
    {
        *("suffixes", "prefixes", "substrings", "letters", "case", "numbers", "formats", "code"),
        *("syntax", "positions", "marks around", "in the sentence", "phrases", "closings"),
    }
)


def weight_of(family: str) -> float:
    """How often concepts of a family are drawn: WordNet has many families, and form is hard."""
    return 0.6 if family.startswith(_LIGHT) else 2.0 if family in _HEAVY else 1.0


def fired_by(rule: Rule) -> set[str] | None:
    """The words, in small letters, of which one must be there; None if that cannot be said."""
    if isinstance(rule, Listed):
        return {word.lower() for word, _ in rule.pairs}
    if isinstance(rule, Follows | Later | Except):
        return fired_by(rule.what)
    if isinstance(rule, Both):
        some = fired_by(rule.what)
        return fired_by(rule.also) if some is None else some
    if isinstance(rule, Either):
        parts = [fired_by(part) for part in rule.rules]
        if all(part is not None for part in parts):
            return {word for part in parts for word in part or ()}
    return None


def shelves(
    texts: Sequence[str], net: WordNet, embedder: Embedder, seed: int = 0
) -> tuple[Shelf, Shelf]:
    """The concepts to train on and those to validate on, with the vocabulary of `texts`."""
    chance = Random(seed)
    vocabulary = Vocabulary.of(texts)
    members = members_of(net, vocabulary)
    sets = pos_sets(members, vocabulary)
    classes = list(class_concepts(net, vocabulary, members))
    lists = list(closed_concepts())
    every = [
        *classes,
        *lists,
        *topic_concepts(net, vocabulary, members),
        *pos_concepts(sets),
        *word_concepts(vocabulary, inflected(net, vocabulary), chance),
        *list_concepts(vocabulary, chance),
        *neighbour_concepts(vocabulary, embedder, chance),
        *form_concepts(),
        *syntax_concepts(sets),
        *phrase_concepts(frequent_runs(texts, chance), vocabulary, chance),
        *exception_concepts([*classes, *lists], chance),
    ]
    page = Page([piece for text in texts[:PAGES] for piece in word_pieces(text)])
    train, held = parted(without_planted(every, page))
    return Shelf(tuple(train)), Shelf(tuple(held))


def frequent_runs(texts: Iterable[str], chance: Random, n: int = 500) -> list[tuple[str, ...]]:
    """`n` of the most frequent runs of two and three words."""
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        low = [piece.strip().lower() for piece in word_pieces(text)]
        for run in (*pairwise(low), *zip(low, low[1:], low[2:], strict=False)):
            if all(word.isalpha() for word in run):
                counts[run] += 1
    top = [run for run, _ in counts.most_common(6 * n)]
    return chance.sample(top, min(n, len(top)))
