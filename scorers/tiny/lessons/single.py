"""Concepts that name their words: one word, its forms, a few, those near it in meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

import numpy as np

from glossator.embedder import Embedder
from glossator.scorers.tiny.lessons.concept import Concept, concept
from glossator.scorers.tiny.lessons.rules import Except, Follows, Like, Listed, words
from glossator.scorers.tiny.lessons.vocabulary import Vocabulary

LEAST_COSINE = 0.45


def word_concepts(
    vocabulary: Vocabulary, forms: Mapping[tuple[str, str], Sequence[str]], chance: Random
) -> Iterator[Concept]:
    """Single words, in each of the ways that people name them, and forms of words."""
    common = [w for w, n in vocabulary.counts.most_common(3000) if w.isalpha()]
    for word in [*common[:250], *chance.sample(common[250:], 650)]:
        phrases = (
            f'the word "{word}" | the token "{word}" | "{word}" | the word {word} | occurrences of '
            f'"{word}" | mentions of "{word}" | {word} | instances of the word "{word}" | the term '
            f"'{word}' | tokens equal to \"{word}\" | the word '{word}' in any context"
        )
        yield concept("single words", phrases, words(word), f"word {word[:2]}")
    for word in chance.sample(common[:600], 120):
        big = word.capitalize()
        phrases = (
            f'the capitalized word "{big}" | "{big}" with a capital letter | "{big}" at the start '
            f'of a sentence | the token "{big}", capitalized'
        )
        yield concept("cased words", phrases, words(big, True), f"word {word[:2]}")
        small = f'"{word}" in lowercase | the lowercase word "{word}" | "{word}" without a capital'
        yield concept("cased words", small, words(word, True), f"word {word[:2]}")
    some = [key for key, found in forms.items() if len(found) > 1]
    some = [k for k in some if sum(vocabulary.counts[w] for w in forms[k]) > 60]
    for lemma, pos in chance.sample(some, min(400, len(some))):
        found = forms[lemma, pos]
        kind = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}[pos]
        phrases = (
            f'forms of the {kind} "{lemma}" | the {kind} {lemma} in all its forms | "{lemma}" and '
            f'its inflections | {lemma} and related forms | the words "{found[0]}" and '
            f'"{found[1]}" | variants of "{lemma}" | the {kind} "{lemma}" ({", ".join(found[:3])})'
        )
        yield concept("inflections", phrases, words(" ".join(found)), f"word {lemma[:2]}")


def list_concepts(vocabulary: Vocabulary, chance: Random) -> Iterator[Concept]:
    """A few words that have nothing to do with each other, as token lists of explainers are."""
    common = [w for w, _ in vocabulary.counts.most_common(1500) if w.isalpha()]
    for _ in range(450):
        n = chance.choice((2, 2, 3, 3, 4, 5, 6))
        some = chance.sample(common[: chance.choice((150, 600, 1500))], n)
        fall = chance.random() < 0.5
        pairs = tuple((w, 1 - 0.6 * i / n if fall else 1.0) for i, w in enumerate(some))
        quoted = [f'"{w}"' for w in some]
        spaced = [f'" {w}"' for w in some]
        phrases = (
            f"the words {', '.join(quoted[:-1])} and {quoted[-1]} | the tokens {', '.join(spaced)} "
            f"| the tokens {', '.join(quoted)} | {', '.join(quoted[:-1])} or {quoted[-1]} | words "
            f"such as {', '.join(some)} | the words {', '.join(some[:-1])} and {some[-1]} | any of "
            f"these: {', '.join(some)}"
        )
        yield concept("word lists", phrases, Listed(pairs))


def neighbour_concepts(
    vocabulary: Vocabulary, embedder: Embedder, chance: Random
) -> Iterator[Concept]:
    """Words near one in meaning by the embedder, the nearer the stronger."""
    content = vocabulary.most_used(vocabulary.content, 6000)
    vectors = embedder.embed(content)
    seeds = chance.sample(content[:3000], 700)
    row = {word: i for i, word in enumerate(content)}
    for seed in seeds:
        cosines = vectors @ vectors[row[seed]]
        near = np.argsort(-cosines)[:60]
        pairs = [(content[i], float(cosines[i])) for i in near if cosines[i] >= LEAST_COSINE]
        if len(pairs) < 5:
            continue
        top = [w for w, _ in pairs[1:5]]
        strengths = tuple((w, min(1.0, 0.3 + (c - LEAST_COSINE) / 0.35)) for w, c in pairs)
        phrases = (
            f"words related to {seed} | {seed} and related words | {seed}-related terms | words "
            f"associated with {seed} | words like {seed}, {top[0]} and {top[1]} | the topic of "
            f"{seed} | terms to do with {seed} ({', '.join(top)}) | text about {seed} | concepts "
            f"related to {seed} and {top[0]} | words having to do with {seed}"
        )
        yield concept("neighbours", phrases, Listed(strengths), f"near {top[0]}")


def exception_concepts(classes: Sequence[Concept], chance: Random) -> Iterator[Concept]:
    """A class without one of its words, without its plurals, or only behind an article."""
    listed = [c for c in classes if isinstance(c.rule, Listed) and len(c.rule.pairs) > 4]
    for base in chance.sample(listed, min(240, len(listed))):
        assert isinstance(base.rule, Listed)
        said = base.phrases[0]
        some = [w for w, _ in base.rule.pairs]
        word = chance.choice(some)
        yield concept(
            f"except {base.family}",
            f'{said}, except "{word}" | {said}, but not {word} | {said} other than "{word}"',
            Except(base.rule, words(word)),
            base.kin,
        )
        yield concept(
            f"except {base.family}",
            f"{said} that do not end in s | {said}, in the singular only",
            Except(base.rule, Like(r"(?i)\w+s")),
            base.kin,
        )
        yield concept(
            f"behind {base.family}",
            f'{said} right after "the" | {said} that follow the word "the"',
            Follows(base.rule, (words("the"),)),
            base.kin,
        )
        yield concept(
            f"behind {base.family}",
            f"{said} with a capital letter | capitalized {said}",
            Except(base.rule, Like(r"[a-z].*")),
            base.kin,
        )
