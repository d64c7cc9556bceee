"""How likely each word is to come next in a text: word pairs counted, and nothing learned.

    p(w | v) = (n(v, w) + M p(w)) / (n(v) + M)

where v is the last word of the text, n counts neighbours in the documents, p(w) is the share of a
word in them with one added to each, and M is how many pairs the shares weigh as (a Dirichlet
prior; MacKay and Peto 1995). Exact, fast, and of real text, so it can stand for a model's output.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glossator.datasets.planted import word_pieces

Logs = NDArray[np.float64]
PIECES = tuple(
    a + b + c for a in "bcdfghjklmnprstvwz" for b in "aeiou" for c in "bcdfghjklmnprstvwz"
)
"""Pieces of words, which no text of whole words holds: a vocabulary has many that are rare."""
MEAN_PAIRS = 50.0
"""M."""


@dataclass(frozen=True, eq=False)
class NextWords:
    """Probabilities over a fixed vocabulary."""

    vocabulary: tuple[str, ...]
    """Tokens with the white space before them."""
    shares: Logs
    """Shape (n_vocabulary,): p(w); they sum to 1."""
    pairs: Mapping[str, Mapping[int, int]]
    """By last word, small and without space: how often each number of the vocabulary followed."""

    @classmethod
    def of(
        cls, documents: Iterable[Sequence[str]], extra: Iterable[str] = (), size: int = 2000
    ) -> NextWords:
        """Counted in the tokens of `documents`: the `size` most frequent, and `extra` tokens."""
        read = [tuple(tokens) for tokens in documents]
        counts = Counter(token for tokens in read for token in tokens if token.strip(" "))
        common = sorted(counts, key=lambda token: (-counts[token], token))[:size]
        vocabulary = tuple(dict.fromkeys([*common, *extra]))
        numbers = {token: i for i, token in enumerate(vocabulary)}
        pairs: dict[str, Counter[int]] = defaultdict(Counter)
        for tokens in read:
            for last, token in itertools.pairwise(tokens):
                if token in numbers:
                    pairs[_key(last)][numbers[token]] += 1
        seen = np.array([counts[token] + 1.0 for token in vocabulary])
        return cls(vocabulary, seen / seen.sum(), pairs)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.vocabulary)}

    def number_of(self, word: str) -> int | None:
        """Where in the vocabulary `word` is; behind a space, if it is there so. None if not."""
        return self._numbers.get(f" {word}", self._numbers.get(word))

    def places_of(self, words: Sequence[str]) -> list[int]:
        """The same for `words`; one that is not there has the place of the last of the rarest."""
        rarest = len(self.shares) - 1 - int(self.shares[::-1].argmin())
        found = map(self.number_of, words)
        return [rarest if number is None else number for number in found]

    def after(self, text: str) -> Logs:
        """Shape (n_vocabulary,): natural-log probabilities of what comes next after `text`."""
        pieces = word_pieces(text)
        following = self.pairs.get(_key(pieces[-1]) if pieces else "", {})
        found = MEAN_PAIRS * self.shares
        for number, n in following.items():
            found[number] += n
        return np.log(found / (MEAN_PAIRS + sum(following.values())))


def _key(token: str) -> str:
    return token.strip().lower()
