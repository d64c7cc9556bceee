"""Concepts out of WordNet: classes of nouns and verbs, kin adjectives, topics, parts of speech."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glossator.scorers.tiny.lessons.concept import Concept
from glossator.scorers.tiny.lessons.rules import Listed
from glossator.scorers.tiny.lessons.vocabulary import Vocabulary, plural, present
from glossator.scorers.tiny.lessons.wordnet import Key, Synset, WordNet

LEAST, MOST = 0.4, 0.06
"""Share of a word's uses that must be in a class; share of all words that a class may be."""
FEWEST_WORDS, FEWEST_USES = 4, 40
_VAGUE = frozenset(
    "entity whole unit abstraction attribute matter object thing group relation act event state "  # noqa: SIM905
    "measure instrumentality artifact psychological feature physical causal agent part".split()
)


@dataclass(frozen=True)
class Members:
    """Which words belong to which senses and topics, and how much."""

    classes: Mapping[Key, Mapping[str, float]]
    topics: Mapping[Key, Mapping[str, float]]
    pos: Mapping[str, Mapping[str, float]]
    """By part of speech."""


def members_of(net: WordNet, vocabulary: Vocabulary) -> Members:
    """The words of the vocabulary, sorted into classes and topics."""
    classes: dict[Key, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    topics: dict[Key, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    pos: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    above: dict[Key, set[Key]] = {}
    for word in vocabulary.content:
        for key, share in net.shares(word).items():
            if key not in above:
                near = net.synsets[key].near if key[0] == "a" else ()
                above[key] = net.ancestors(key) | set(near)
            for ancestor in above[key]:
                classes[ancestor][word] += share
            for topic in {
                t for k in above[key] if k in net.synsets for t in net.synsets[k].domains
            }:
                topics[topic][word] += share
            pos[key[0]][word] += share
    return Members(classes, topics, pos)


def class_concepts(net: WordNet, vocabulary: Vocabulary, members: Members) -> Iterator[Concept]:
    """Classes that are neither tiny nor nearly everything, by their lexicographer's file."""
    seen: set[frozenset[str]] = set()
    for key, shares in sorted(members.classes.items()):
        synset = net.synsets[key]
        kept = _kept(shares, vocabulary, LEAST)
        name = next(
            (x for x in synset.lemmas if vocabulary.knows(x) and x.lower() not in _VAGUE), ""
        )
        same = frozenset(w for w, _ in kept)
        if not kept or not name or same in seen:
            continue
        seen.add(same)
        top = vocabulary.most_used([w for w, s in kept if s > 0.6], 12)
        parent = synset.above[0] if synset.above else key
        yield Concept(
            synset.lexname,
            f"{synset.lexname}: {name} {key[1]}",
            tuple(_phrases(synset, name, top)),
            Listed(kept),
            kin=f"{key[0]}{parent[1]}",
        )


def _kept(
    shares: Mapping[str, float], vocabulary: Vocabulary, least: float
) -> tuple[tuple[str, float], ...]:
    """Words that belong to a class by at least `least`; none if they are too few or too many."""
    kept = tuple((w, min(1.0, 0.35 + 0.65 * s)) for w, s in shares.items() if s >= least)
    uses = sum(vocabulary.counts[w] for w, _ in kept)
    if len(kept) < FEWEST_WORDS or not FEWEST_USES <= uses <= MOST * vocabulary.total:
        return ()
    return kept


def _phrases(synset: Synset, name: str, top: list[str]) -> Iterator[str]:
    others = [x for x in synset.lemmas if x != name][:2]
    gloss = synset.gloss
    few = f"{', '.join(top[:2])} and {top[2]}" if len(top) > 2 else " and ".join(top)
    if synset.key[0] == "n":
        many = plural(name)
        yield from (f"words for {many}", f"names of {many}", many, f"mentions of {many}")
        yield from (f"{name}-related nouns", f"terms for {many}", f"references to {name}")
        yield f"nouns that denote {many}"
        yield from (f"{plural(x)}" for x in others)
        if top:
            yield from (f"{many} such as {few}", f"{many} (e.g. {', '.join(top[:4])})")
            yield f"words for {many}, including {', '.join(top[1:6])}"
            yield f"words like {few}"
        if gloss and len(gloss) < 90:
            yield from (f"words for {gloss}", f"{gloss}", f"nouns meaning {gloss}")
    elif synset.key[0] == "v":
        doing = present(name)
        yield from (f"verbs of {doing}", f"words for {doing}", f"verbs meaning to {name}")
        yield from (f"actions of {doing}", f"verbs that describe {doing}", f"{doing}")
        yield from (f"verbs meaning to {name} or {x}" for x in others)
        if top:
            yield from (f"verbs of {doing} such as {few}", f"verbs like {few}")
            yield f"action words such as {', '.join(top[:5])}"
        if gloss and len(gloss) < 90:
            yield f"verbs meaning to {gloss}"
    else:
        yield from (f"adjectives meaning {name}", f"words that mean {name}", f"{name} qualities")
        yield from (f"words like {name}", f"descriptions of something as {name}")
        yield from (f"adjectives meaning {name} or {x}" for x in others)
        if top:
            yield from (f"adjectives such as {few}", f"words for being {name}, such as {few}")
        if gloss and len(gloss) < 90:
            yield f"adjectives that say something is {gloss}"


def topic_concepts(net: WordNet, vocabulary: Vocabulary, members: Members) -> Iterator[Concept]:
    """Topics such as medicine, of the words that WordNet marks with them."""
    for key, shares in sorted(members.topics.items()):
        name = net.synsets[key].lemmas[0].lower()
        kept = _kept(shares, vocabulary, 0.3)
        if not kept or not vocabulary.knows(name):
            continue
        top = vocabulary.most_used([w for w, _ in kept], 8)
        few = f"{top[0]}, {top[1]} and {top[2]}"
        phrases = (
            *(f"words about {name}", f"terms of {name}", f"{name} terms", f"the topic of {name}"),
            *(f"words that have to do with {name}, such as {few}", f"{name} vocabulary"),
            *(f"text about {name}", f"words related to {name}", f"{name} ({', '.join(top[:4])})"),
        )
        yield Concept("topics", f"topics: {name} {key[1]}", phrases, Listed(kept))


_POS_PHRASES = {
    "n": ("nouns", "words that are nouns", "common nouns", "names of things"),
    "v": ("verbs", "words that are verbs", "action words", "verb forms"),
    "a": ("adjectives", "words that describe nouns", "descriptive words", "words for qualities"),
    "r": ("adverbs", "words that modify verbs", "adverbs of all kinds"),
}


def pos_sets(members: Members, vocabulary: Vocabulary) -> dict[str, frozenset[str]]:
    """The words that are mostly of one part of speech."""
    best = {
        pos: frozenset(w for w, s in shares.items() if s >= 0.7)
        for pos, shares in members.pos.items()
    }
    best["plural"] = frozenset(
        w for w in best["n"] if w.endswith("s") and w[:-1] in vocabulary.counts and w[-2:] != "ss"
    )
    verbs = members.pos["v"]
    best["past"] = frozenset(
        w
        for w, s in verbs.items()
        if s >= 0.5 and (w.endswith("ed") or w in _STRONG) and w not in ("need", "feed", "speed")
    )
    best["ing"] = frozenset(w for w, s in verbs.items() if s >= 0.4 and w.endswith("ing"))
    best["comparative"] = frozenset(
        w for w, s in members.pos["a"].items() if s >= 0.6 and w.endswith("er") and len(w) > 4
    )
    best["superlative"] = frozenset(
        w for w, s in members.pos["a"].items() if s >= 0.6 and w.endswith("est") and len(w) > 4
    )
    return best


_STRONG = frozenset(
    "went came took made said saw gave found told got knew thought left felt kept began held "  # noqa: SIM905
    "brought wrote stood ran met sat lost paid sent built spent fell led grew won drew broke "
    "spoke rose drove ate taught sold caught fought chose threw flew slept woke wore sang rode "
    "shook sank swam tore bought heard meant became understood".split()
)


def pos_concepts(sets: Mapping[str, frozenset[str]]) -> Iterator[Concept]:
    """Parts of speech and forms of them."""
    more = {
        "plural": ("plural nouns", "nouns in the plural", "words for several things"),
        "past": ("verbs in the past tense", "past-tense verbs", "past forms of verbs"),
        "ing": ("present participles", "gerunds and present participles", "verbs in progress"),
        "comparative": ("comparative adjectives", "comparatives such as larger and older"),
        "superlative": ("superlative adjectives", "superlatives such as largest and best"),
    }
    for name, phrases in {**_POS_PHRASES, **more}.items():
        rule = Listed(tuple((w, 1.0) for w in sorted(sets[name])))
        yield Concept("parts of speech", f"parts of speech: {name}", phrases, rule)


def inflected(net: WordNet, vocabulary: Vocabulary) -> dict[tuple[str, str], list[str]]:
    """By lemma and part of speech, the forms of it that are in the vocabulary, most used first."""
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for word in vocabulary.content:
        lemmas = Counter({lemma: len(net.senses[lemma, pos]) for lemma, pos in net.lemmas(word)})
        if lemmas:
            share = net.shares(word)
            for lemma, pos in net.lemmas(word):
                weight = sum(share.get(key, 0.0) for key, _ in net.senses[lemma, pos])
                if weight >= 0.5:
                    found[lemma, pos][word] += vocabulary.counts[word]
    return {key: [w for w, _ in forms.most_common()] for key, forms in found.items()}
