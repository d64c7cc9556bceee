"""Real features as lessons: those that some description of ours, or a list of words, tells well.

Only their train windows are read. They show what rules cannot: how strongly features really fire,
on which token of a word, and how they waver.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from glossator.datasets.collect import collect
from glossator.datasets.corpora import Corpus
from glossator.datasets.planted import word_pieces
from glossator.datasets.truth import LIBRARY, claims
from glossator.datasets.truth_rules import Words
from glossator.sae.coder import SparseCoder
from glossator.scorers.tiny.lessons.concept import Concept
from glossator.scorers.tiny.lessons.held_out import said_plainly
from glossator.scorers.tiny.lessons.library import Shelf
from glossator.scorers.tiny.lessons.rules import Listed
from glossator.subject import Subject
from glossator.types import Split

LEAST = 0.45
"""Correlation over words that a description must reach on a feature's train windows."""
LEAST_OF_LISTS = 0.6
"""The same for a list of the feature's own words, which is made from these windows."""
NEARLY = 0.8
"""Share of the best description's correlation that others must reach to be used, too."""
N_LATENTS, N_NEURONS, N_TOKENS = 900, 160, 230_000
"""Features that are looked at, and tokens that are read for them."""


@dataclass(frozen=True)
class RealFeature:
    """A feature's train windows with descriptions that fit them."""

    name: str
    windows: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...]
    """Tokens, and activations from 0 to 10 where 10 is the strongest of all of them."""
    phrases: tuple[str, ...]
    correlation: float
    """Of the best description, over words."""


@dataclass(frozen=True)
class Tally:
    """A feature's activations, word by word."""

    n: dict[str, int]
    total: dict[str, float]
    squares: float

    @classmethod
    def of(cls, split: Split) -> Tally:
        """Of all windows of a split; of a word's tokens the strongest counts."""
        n: dict[str, int] = defaultdict(int)
        total: dict[str, float] = defaultdict(float)
        squares = 0.0
        for example in split.examples:
            pieces = word_pieces(example.text)
            ends = list(accumulate(map(len, pieces)))
            best = [0.0] * len(pieces)
            at = place = 0
            for token, value in zip(example.tokens, example.activations, strict=True):
                place += len(token)
                while at < len(ends) - 1 and ends[at] < place:
                    at += 1
                if token and value > split.threshold:
                    best[at] = max(best[at], value)
            for piece, value in zip(pieces, best, strict=True):
                word = piece.strip().lower()
                n[word] += 1
                total[word] += value
                squares += value * value
        return cls(n, total, squares)

    def correlation(self, strengths: dict[str, float]) -> float:
        """Pearson's r of the activations and of what a list of words gives each."""
        n = sum(self.n.values())
        mean = sum(self.total.values()) / n
        first = second = cross = 0.0
        for word, strength in strengths.items():
            count = self.n.get(word, 0)
            if count:
                first += count * strength
                second += count * strength * strength
                cross += strength * self.total[word]
        over = cross / n - mean * first / n
        under = (self.squares / n - mean**2) * (second / n - (first / n) ** 2)
        return over / under**0.5 if under > 0 else 0.0


def real_features(splits: Sequence[tuple[str, Split]], shelf: Shelf) -> list[RealFeature]:
    """Those of named train splits for which a description is found among the concepts."""
    listed = [
        (c, c.rule.strengths)
        for c in shelf.concepts
        if isinstance(c.rule, Listed) and not c.rule.cased and c.family != "word lists"
    ]
    by_word: dict[str, list[int]] = defaultdict(list)
    for i, (_, strengths) in enumerate(listed):
        for word in strengths:
            by_word[word].append(i)
    found = []
    for name, split in splits:
        if not split.firing or split.peak <= 0:
            continue
        tally = Tally.of(split)
        top = sorted(tally.total, key=lambda w: -tally.total[w])[:12]
        near = sorted({i for word in top if tally.total[word] > 0 for i in by_word.get(word, ())})
        told = [(tally.correlation(listed[i][1]), listed[i][0]) for i in near]
        own = _own_words(name, tally)
        if own is not None and isinstance(own.rule, Listed):
            r = tally.correlation(own.rule.strengths)
            told.append((r if r >= LEAST_OF_LISTS else 0.0, own))
        best = max((r for r, _ in told), default=0.0)
        if best < LEAST:
            continue
        phrases = [p for r, c in told if r >= max(LEAST, NEARLY * best) for p in c.phrases]
        scale = 10 / split.peak
        windows = tuple(
            (e.tokens, tuple(_tenths(a, split.threshold, scale) for a in e.activations))
            for e in split.examples
        )
        found.append(RealFeature(name, windows, tuple(phrases), best))
    return found


def _tenths(activation: float, threshold: float, scale: float) -> float:
    return round(min(10.0, activation * scale), 2) if activation > threshold else 0.0


def _own_words(name: str, tally: Tally) -> Concept | None:
    """The words that it fires on most, as a list; None if a planted feature has the same."""
    means = {w: tally.total[w] / tally.n[w] for w in tally.total if tally.n[w] > 2 and w}
    if not means:
        return None
    most = max(means.values())
    some = sorted((w for w in means if means[w] > 0.3 * most), key=lambda w: -tally.total[w])[:6]
    planted = [
        frozenset(w.lower() for w in claim.rule.words)
        for claim in claims(LIBRARY).values()
        if isinstance(claim.rule, Words)
    ]
    if not some or frozenset(some) in planted:
        return None
    quoted = [f'"{w}"' for w in some]
    if len(some) == 1:
        phrases = (f"the word {quoted[0]}", f"the token {quoted[0]}", quoted[0], some[0])
    else:
        phrases = (
            f"the words {', '.join(quoted[:-1])} and {quoted[-1]}",
            f"the tokens {', '.join(quoted)}",
            f"words such as {', '.join(some)}",
            f"{', '.join(quoted[:-1])} or {quoted[-1]}",
        )
    said = {said_plainly(text) for text in claims(LIBRARY)}
    kept = tuple(p for p in phrases if said_plainly(p) not in said)
    rule = Listed(tuple((w, means[w] / most) for w in some))
    return Concept("real", name, kept, rule) if kept else None


def real_windows(
    features: Sequence[RealFeature], chance: Random
) -> Iterator[tuple[RealFeature, tuple[str, ...], tuple[float, ...]]]:
    """Windows of features drawn at random, without end, most of them firing ones."""
    while True:
        feature = chance.choice(features)
        tokens, activations = chance.choice(feature.windows)
        yield feature, tokens, activations


def train_splits(
    subject: Subject, coder: SparseCoder, texts: Sequence[str], seed: int
) -> list[tuple[str, Split]]:
    """Train splits of some latents of the coder and of some neurons of an early layer."""
    chance = Random(seed)
    corpus = Corpus.of(texts, "train documents")
    neurons = f"layers.{subject.n_layers // 5}.mlp.neurons"
    asked: list[tuple[str, list[int], SparseCoder | None]] = [
        (coder.site or "", chance.sample(range(coder.d_sae), N_LATENTS), coder),
        (neurons, chance.sample(range(subject.d_mlp), N_NEURONS), None),
    ]
    return [
        (str(record.feature), record.train)
        for site, indexes, by in asked
        for record in collect(
            *(subject, site, indexes),
            coder=by,
            tokens=N_TOKENS,
            corpus=corpus,
            n_top=25,
            n_firing=40,
            n_silent=25,
            calibration_tokens=40_000,
        )
    ]
