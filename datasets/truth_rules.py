"""What planted features and their descriptions mean, as data: rules that give tokens values.

A rule is a frozen value made of other rules. It is exact, it looks at the text alone, and at a
token it knows what stood before and nothing that comes after, as a feature of a model does. Values
are from 0 (does not fire) to 1; `Signed` alone goes below 0. A rule can also write a scrap of text
on which it fires, so that texts can be made in which all of them do (`truth_text`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

FILLERS = (  # noqa: SIM905
    "the a of and in to was with it for on that as at by this from lamp grey slow door stone "
    "wind road bread turn keep give find carry open hold part place way thing table garden"
).split()
"""Words about nothing in particular, of which scraps and texts are filled up."""
_MARKS = frozenset(".!?")


class Page:
    """A document's tokens, and what rules ask about them; computed once."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self.bare = [token.strip() for token in self.tokens]
        self.lower = [token.lower() for token in self.bare]

    def __len__(self) -> int:
        return len(self.tokens)

    @functools.cached_property
    def words(self) -> list[bool]:
        """Whether a token is a word or number, and no mark or white space."""
        return [bool(bare) and (bare[0].isalnum() or bare[0] == "_") for bare in self.bare]

    @functools.cached_property
    def lines(self) -> list[int]:
        """The number of each token's line, from 0."""
        found, line = [], 0
        for token, bare in zip(self.tokens, self.bare, strict=True):
            before = token[: len(token) - len(token.lstrip())] if bare else ""
            line += "\n" in before
            found.append(line)
        return found

    @functools.cached_property
    def sentences(self) -> list[int]:
        """The number of each token's sentence, from 0; one ends at . ! ? and with its line."""
        found, sentence, ended = [], 0, False
        before = 0
        for bare, line in zip(self.bare, self.lines, strict=True):
            if ended or line != before:
                sentence += 1
            found.append(sentence)
            ended, before = bare in _MARKS, line
        return found


class Rule(Protocol):
    """A meaning that can be run."""

    def values(self, page: Page) -> list[float]:
        """Shape (n_tokens,): how strongly it holds at each token."""
        ...

    def scrap(self, chance: Random) -> str:
        """A few words on which it fires, behind a full stop and a space."""
        ...


def filled(chance: Random, n: int) -> str:
    """`n` words about nothing."""
    return " ".join(chance.choice(FILLERS) for _ in range(n))


@dataclass(frozen=True)
class Words:
    """One of some words or marks."""

    words: tuple[str, ...]
    cased: bool = False
    """Whether case matters."""
    fall: float = 0.0
    """How much weaker the last word is than the first; those between lie on a line."""

    @functools.cached_property
    def _strengths(self) -> dict[str, float]:
        steps = max(1, len(self.words) - 1)
        found: dict[str, float] = {}
        for i, word in enumerate(self.words):
            found.setdefault(word if self.cased else word.lower(), 1 - self.fall * i / steps)
        return found

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        strengths = self._strengths
        return [strengths.get(token, 0.0) for token in (page.bare if self.cased else page.lower)]

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        return chance.choice(self.words)


@dataclass(frozen=True)
class Shape:
    """A token of which the letters match a pattern from first to last."""

    pattern: str
    examples: tuple[str, ...]
    full: int = 0
    """The letters from which on it is 1, and of which a token has its share; 0 for always 1."""

    @functools.cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        fits = self._compiled.fullmatch
        if not self.full:
            return [float(fits(bare) is not None) for bare in page.bare]
        return [
            min(1.0, len(bare) / self.full) if fits(bare) is not None else 0.0 for bare in page.bare
        ]

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        return chance.choice(self.examples)


@dataclass(frozen=True)
class Glued:
    """A token that the rule fits and that has no white space before it."""

    what: Rule

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        found = self.what.values(page)
        return [
            value if token[:1] == token[:1].strip() else 0.0
            for value, token in zip(found, page.tokens, strict=True)
        ]

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        return self.what.scrap(chance)


@dataclass(frozen=True)
class Run:
    """The last of several tokens that stand one behind the other, each as its rule says."""

    steps: tuple[Rule, ...]

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        rows = [step.values(page) for step in self.steps]
        last = len(rows) - 1
        found = [0.0] * len(page)
        for i in range(last, len(page)):
            if rows[last][i] > 0 and all(rows[k][i - last + k] > 0 for k in range(last)):
                found[i] = rows[last][i]
        return found

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        text = ""
        for step in self.steps:
            piece = step.scrap(chance)
            space = "" if not text or isinstance(step, Glued) else " "
            text += space + piece
        return text


@dataclass(frozen=True)
class After:
    """A token that the rule fits, where another rule has fired earlier in its sentence."""

    what: Rule
    cue: Rule
    within: int = 1 << 20
    """Tokens back to the other, at most."""

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        cues = self.cue.values(page)
        found = []
        last, where = -1, -1
        for i, (value, sentence) in enumerate(
            zip(self.what.values(page), page.sentences, strict=True)
        ):
            near = last >= 0 and where == sentence and i - last <= self.within
            found.append(value if near else 0.0)
            if cues[i] > 0:
                last, where = i, sentence
        return found

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        between = filled(chance, min(2, self.within - 1))
        return " ".join(filter(None, [self.cue.scrap(chance), between, self.what.scrap(chance)]))


@dataclass(frozen=True)
class Both:
    """A token that two rules fit; as strong as the first says."""

    what: Rule
    also: Rule
    examples: tuple[str, ...]

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        pairs = zip(self.what.values(page), self.also.values(page), strict=True)
        return [a if b > 0 else 0.0 for a, b in pairs]

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        return chance.choice(self.examples)


@dataclass(frozen=True)
class Without:
    """A token that the first rule fits, and the second does not."""

    what: Rule
    bar: Rule
    examples: tuple[str, ...]

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        pairs = zip(self.what.values(page), self.bar.values(page), strict=True)
        return [0.0 if b > 0 else a for a, b in pairs]

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        return chance.choice(self.examples)


@dataclass(frozen=True)
class Either:
    """A token that one of several rules fits; as strong as the strongest says."""

    rules: tuple[Rule, ...]

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        return [max(row) for row in zip(*(rule.values(page) for rule in self.rules), strict=True)]

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        return chance.choice(self.rules).scrap(chance)


@dataclass(frozen=True)
class Place:
    """The words of some numbers, counted from 1, in each sentence, line or text."""

    unit: Literal["text", "line", "sentence"]
    first: int
    last: int
    fall: float = 0.0
    """How much weaker the last of them is than the first."""

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        units = {"text": [0] * len(page), "line": page.lines, "sentence": page.sentences}[self.unit]
        steps = max(1, self.last - self.first)
        found, number, before = [], 0, -1
        for unit, word in zip(units, page.words, strict=True):
            if unit != before:
                number, before = 0, unit
            number += word
            inside = word and self.first <= number <= self.last
            found.append(1 - self.fall * (number - self.first) / steps if inside else 0.0)
        return found

    def scrap(self, chance: Random) -> str:
        """See `Rule`; the first words of a text are there anyhow."""
        start = "\n\n" if self.unit == "line" else ". "
        return start + filled(chance, min(self.first, 40) + 1)


@dataclass(frozen=True)
class Inside:
    """The words between two marks."""

    opening: tuple[str, ...]
    closing: tuple[str, ...]
    most: int = 40
    """Tokens after which nobody waits for the closing mark any more."""

    def values(self, page: Page) -> list[float]:
        """See `Rule`."""
        found, since = [], -1
        for i, (bare, word) in enumerate(zip(page.bare, page.words, strict=True)):
            if since >= 0 and (bare in self.closing or i - since > self.most):
                since = -1
                closed = bare in self.closing
            else:
                closed = False
            if since < 0 and bare in self.opening and not closed:
                since = i
            found.append(float(word and since >= 0))
        return found

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        i = chance.randrange(len(self.opening))
        return f"{self.opening[i]}{filled(chance, 4)}{self.closing[i]}"


@dataclass(frozen=True)
class Signed:
    """A rule less another one: what fires it, and what pushes it the other way."""

    up: Rule
    down: Rule

    def values(self, page: Page) -> list[float]:
        """Shape (n_tokens,), from -1 to 1."""
        pairs = zip(self.up.values(page), self.down.values(page), strict=True)
        return [a - b for a, b in pairs]

    def scrap(self, chance: Random) -> str:
        """See `Rule`."""
        return chance.choice([self.up, self.down]).scrap(chance)
