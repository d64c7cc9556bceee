"""A simulator without a language model: does a token's word occur in the explanation?

The baseline that every other simulator has to beat. It knows nothing of meaning: an explanation by
kind ("names of cities") predicts nothing under it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from glossator.types import Explanation, Scale, Simulation

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_QUOTED = re.compile(r"[\"\u201c\u2018`]([^\"\u201d\u2019`]{1,40})[\"\u201d\u2019`]")
_SPEECH = frozenset(
    re.findall(
        r"\w+",
        """word words token tokens phrase phrases part parts name names form forms kind kinds text
        texts letter letters term terms such like other others especially related meaning mean
        common first second last half end begin beginning start neuron react reacts fire fires""",
    )
)
"""Words in which explanations talk about words, and which say nothing of the text."""


@dataclass(frozen=True)
class LexicalSimulator:
    """10 where the token's word shares a stem with a content word of the explanation, else 0.

    A text in quotes counts as it stands, function words and parts of words included.
    """

    scale: ClassVar[Scale] = Scale.TENTHS
    """0 to 10."""

    @property
    def model(self) -> str:
        """None: it asks nobody."""
        return ""

    async def simulate(self, explanation: Explanation, tokens: tuple[str, ...]) -> Simulation:
        """10 or 0 for each token."""
        stems, quoted = targets(explanation.text)
        words = words_of(tokens)
        predicted = tuple(
            10.0
            if stem(word) in stems or token.strip().lower() in quoted or word in quoted
            else 0.0
            for token, word in zip(tokens, words, strict=True)
        )
        return Simulation(tokens, predicted, Scale.TENTHS)


def targets(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The stems of the content words of `text`, and what stands in quotes there, in lower case."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    quoted = frozenset(q.strip().lower() for q in _QUOTED.findall(text) if q.strip())
    words = [w.lower() for w in _WORD.findall(text)]
    content = [w for w in words if w not in ENGLISH_STOP_WORDS and w not in _SPEECH]
    return frozenset(map(stem, [w for w in content if len(w) > 1])), quoted


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The stem of an English word (Porter 1980, as in Snowball)."""
    import snowballstemmer

    found: str = snowballstemmer.stemmer("english").stemWord(word.lower())
    return found


def words_of(tokens: tuple[str, ...]) -> list[str]:
    """For each token the word it is part of, in lower case; empty for spaces and punctuation.

    A token that holds several words gets the first of them.
    """
    text = "".join(tokens)
    spans = [(m.start(), m.end(), m.group().lower()) for m in _WORD.finditer(text)]
    return list(_overlapping(tokens, spans))


def _overlapping(tokens: tuple[str, ...], spans: list[tuple[int, int, str]]) -> Iterator[str]:
    start = at = 0
    for token in tokens:
        end = start + len(token)
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        yield spans[at][2] if at < len(spans) and spans[at][0] < end and token.strip() else ""
        start = end
