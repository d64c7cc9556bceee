"""Rules that give words values from 0 to 1; what training descriptions mean, as data.

They read the pages of `datasets.truth_rules`: a text in words, numbers and single marks.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Protocol

from glossator.datasets.truth_rules import Page

_STOPS = frozenset(".!?")


class Rule(Protocol):
    """A meaning that can be run."""

    def values(self, page: Page) -> list[float]:
        """Shape (n_pieces,): how strongly it holds at each piece of the page."""
        ...


@dataclass(frozen=True)
class Listed:
    """Some words, each with a strength of its own."""

    pairs: tuple[tuple[str, float], ...]
    cased: bool = False

    @functools.cached_property
    def strengths(self) -> dict[str, float]:
        """By word, in small letters unless case matters."""
        return dict(self.pairs)

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        get = self.strengths.get
        return [get(piece, 0.0) for piece in (page.bare if self.cased else page.lower)]


def words(text: str, cased: bool = False) -> Listed:
    """The words of `text`, all of strength 1."""
    return Listed(tuple((w if cased else w.lower(), 1.0) for w in text.split()), cased)


@dataclass(frozen=True)
class Like:
    """A word that a pattern fits from its first letter to its last."""

    pattern: str

    @functools.cached_property
    def _fits(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        fits = self._fits.fullmatch
        return [float(fits(piece) is not None) for piece in page.bare]


@dataclass(frozen=True)
class Spanned:
    """What a pattern finds in the text, over words and spaces."""

    pattern: str
    which: Literal["all", "first", "last"] = "all"

    @functools.cached_property
    def _finds(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        ends = list(accumulate(map(len, page.tokens)))
        found = [0.0] * len(page)
        at = 0
        for match in self._finds.finditer("".join(page.tokens)):
            while at < len(ends) and ends[at] <= match.start():
                at += 1
            last = at
            while last < len(ends) - 1 and ends[last] < match.end():
                last += 1
            inside = {"all": range(at, last + 1), "first": (at,), "last": (last,)}[self.which]
            for i in inside:
                if i < len(found):
                    found[i] = 1.0
        return found


@dataclass(frozen=True)
class Follows:
    """What the rule fits, right behind what the steps fit one after the other."""

    what: Rule
    steps: tuple[Rule, ...]

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        found = self.what.values(page)
        rows = [step.values(page) for step in self.steps]
        n = len(rows)
        return [
            value if i >= n and value and all(rows[k][i - n + k] > 0 for k in range(n)) else 0.0
            for i, value in enumerate(found)
        ]


@dataclass(frozen=True)
class Later:
    """What the rule fits, where the cue stood before it in its sentence, or anywhere before it."""

    what: Rule
    cue: Rule
    sentence: bool = True

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        found, where = [], -1
        seen = False
        cues = self.cue.values(page)
        for value, cue, sentence in zip(self.what.values(page), cues, page.sentences, strict=True):
            near = where == sentence if self.sentence else seen
            found.append(value if near else 0.0)
            if cue > 0:
                where, seen = sentence, True
        return found


@dataclass(frozen=True)
class Either:
    """What one of the rules fits."""

    rules: tuple[Rule, ...]

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        return [max(row) for row in zip(*(rule.values(page) for rule in self.rules), strict=True)]


@dataclass(frozen=True)
class Both:
    """What both rules fit, as strong as the first says."""

    what: Rule
    also: Rule

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        pairs = zip(self.what.values(page), self.also.values(page), strict=True)
        return [a if b > 0 else 0.0 for a, b in pairs]


@dataclass(frozen=True)
class Except:
    """What the first rule fits and the second does not."""

    what: Rule
    bar: Rule

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        pairs = zip(self.what.values(page), self.bar.values(page), strict=True)
        return [0.0 if b > 0 else a for a, b in pairs]


@dataclass(frozen=True)
class Sentence:
    """All words of sentences in which the cue stands, weaker than the cue itself."""

    cue: Rule
    rest: float = 0.35

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        cues = self.cue.values(page)
        told = {s for s, cue in zip(page.sentences, cues, strict=True) if cue > 0}
        return [
            cue if cue > 0 else self.rest if word and sentence in told else 0.0
            for cue, word, sentence in zip(cues, page.words, page.sentences, strict=True)
        ]


@dataclass(frozen=True)
class Closing:
    """The last words of sentences, or the marks that end them."""

    mark: bool = False

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        found = [0.0] * len(page)
        behind = [*page.tokens[1:], " "]
        for i, (bare, token) in enumerate(zip(page.bare, behind, strict=True)):
            ends = bare in _STOPS and token[:1].strip() == ""
            if ends and i and page.words[i - 1]:
                found[i if self.mark else i - 1] = 1.0
        return found


@dataclass(frozen=True)
class Numbered:
    """The words of some numbers, from 1, in each sentence but the first, which may be cut."""

    first: int
    last: int

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        found, number, before = [], 0, -1
        for sentence, word in zip(page.sentences, page.words, strict=True):
            if sentence != before:
                number, before = 0, sentence
            number += word
            found.append(float(word and sentence > 0 and self.first <= number <= self.last))
        return found


@dataclass(frozen=True)
class Again:
    """Words of some letters that stood in the text before."""

    letters: int = 4

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        seen: set[str] = set()
        found = []
        for low, word in zip(page.lower, page.words, strict=True):
            long = word and len(low) >= self.letters
            found.append(float(long and low in seen))
            if long:
                seen.add(low)
        return found
