"""`minimal_pairs`: texts with one thing changed, beside the texts as they are."""

from __future__ import annotations

import hashlib
import random
import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from glossator.agent.lab import Lab
from glossator.agent.tools.intervals import mean_of
from glossator.agent.tools.lists import MOST, together
from glossator.agent.tools.shown import marked, plain
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import About, Finding, Question

Kind = Literal[
    "drop", "replace", "lower", "upper", "capitalise", "shuffle", "cut_left", "prefix", "suffix"
]
MOST_VARIANTS = 32
MOST_CHARACTERS = 4000
"""Of a text that was changed."""
_OF_A_WORD = ("drop", "replace", "cut_left")
_WITH = ("replace", "prefix", "suffix")
_FIRST_LETTER = re.compile(r"(?<![\w'’])\w")


class Change(Arguments):
    """One thing that is changed in a text."""

    kind: Kind
    """`drop` leaves `word` out, `replace` puts `by` in its place, `lower`, `upper` and `capitalise`
    write it (or all of the text) so, `shuffle` mixes the words of the text, `cut_left` leaves out
    all that stands before `word`, `prefix` and `suffix` put `by` at the beginning or the end."""
    word: Annotated[str, Field(max_length=100)] = ""
    by: Annotated[str, Field(max_length=300)] = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.kind in _OF_A_WORD and not self.word.strip():
            raise ValueError(f"{self.kind} needs a `word` of the text")
        if self.kind in _WITH and not self.by.strip():
            raise ValueError(f"{self.kind} needs `by`, the words to put there")
        return self

    @property
    def said(self) -> str:
        """`replace 'bank' by 'shore'`."""
        by = f" by {plain(self.by)[:40]!r}" if self.kind == "replace" else ""
        added = f" {plain(self.by)[:40]!r}" if self.kind in ("prefix", "suffix") else ""
        word = f" {plain(self.word)[:40]!r}" if self.word.strip() else ""
        return f"{self.kind}{added or word + by}"

    def of(self, text: str) -> str | None:
        """`text` so changed; None if it stays the same or nothing is left of it."""
        changed = self._changed(text)
        return changed if changed != text and changed.strip() else None

    def _changed(self, text: str) -> str:
        if self.kind == "prefix":
            return f"{self.by} {text}"
        if self.kind == "suffix":
            return f"{text} {self.by}"
        if self.kind == "shuffle":
            return shuffled(text)
        places = list(whole(self.word).finditer(text)) if self.word.strip() else []
        if self.kind == "drop":
            kept = whole(self.word, r"\s?").sub("", text)
            return kept if text[:1].isspace() else kept.lstrip()
        if self.kind == "cut_left":
            return text[places[-1].start() :] if places else text
        if not self.word.strip():
            return _cased(self.kind, text)
        for place in reversed(places):
            new = self.by if self.kind == "replace" else _cased(self.kind, place[0])
            text = text[: place.start()] + new + text[place.end() :]
        return text


class Pairs(Arguments):
    """Texts, and what to change in each."""

    texts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=2000)]],
        Field(min_length=1, max_length=8),
    ]
    """Texts as they are: several with the word in question tell more than one."""
    changes: Annotated[list[Change], Field(min_length=1, max_length=8)]
    """Each is made by itself, in every text that it changes."""

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        for change in self.changes:
            if not any(change.of(text) for text in self.texts):
                raise ValueError(f"{change.said} changes none of the texts")
        if len(self.variants) > MOST_VARIANTS:
            raise ValueError(f"that makes {len(self.variants)} texts; at most {MOST_VARIANTS}")
        longest = max(len(text) for _, _, text in self.variants)
        if longest > MOST_CHARACTERS:
            raise ValueError(
                f"that makes a text of {longest} characters; at most {MOST_CHARACTERS}"
            )
        return self

    @property
    def variants(self) -> tuple[tuple[int, int, str], ...]:
        """Number of the change, number of the text, and the text so changed."""
        return tuple(
            (c, t, changed)
            for c, change in enumerate(self.changes)
            for t, text in enumerate(self.texts)
            if (changed := change.of(text)) is not None
        )


class MinimalPairs:
    """Changes one thing at a time and compares peaks with those of the texts as they are."""

    name: ClassVar[str] = "minimal_pairs"
    about: ClassVar[str] = (
        "Change one thing in texts on which the feature fires (drop or replace a word, its casing, "
        "the order of words, what stands before it) and see how far its peak falls. Use it to tell "
        "apart hypotheses about the word itself, its form and its context."
    )
    arguments: ClassVar[type[Arguments]] = Pairs

    def cost(self, arguments: Pairs) -> Cost:
        """A pass for each text, and for each of its variants."""
        return Cost(len(arguments.texts) + len(arguments.variants))

    def questions(self, arguments: Pairs) -> tuple[Question, ...]:
        """Does it still fire, in each variant?"""
        return tuple(Question(About.FIRES, text) for _, _, text in arguments.variants)

    async def run(self, arguments: Pairs, lab: Lab) -> Finding:
        """Effects: for each change, peak with it less peak without, over texts, by train's peak."""
        n, variants = len(arguments.texts), arguments.variants
        read = await lab.live.activations([*arguments.texts, *(text for _, _, text in variants)])
        threshold, peak = lab.seen.threshold, lab.seen.peak
        scale, unit = (peak, "share of train peak") if peak > 0 else (1.0, "raw units")
        effects = []
        for c, change in enumerate(arguments.changes):
            falls = [
                (read[n + i].peak - read[t].peak) / scale
                for i, (own, t, _) in enumerate(variants)
                if own == c
            ]
            effects.append(mean_of(f"peak with {change.said} less without ({unit})", falls))
        room = max(60, (MOST - 90 * len(effects)) // len(read) - 40)
        n_firing = sum(a.peak > threshold for a in read[:n])
        lines = [f"as they are, it fires in {n_firing} of {n} texts"]
        lines += [effect.said for effect in effects]
        lines += [
            f"as it is: {marked(a.tokens, a.values, threshold, peak, room)}" for a in read[:n]
        ]
        lines += [
            f"{arguments.changes[c].said}: {marked(a.tokens, a.values, threshold, peak, room)}"
            for (c, _, _), a in zip(variants, read[n:], strict=True)
        ]
        return Finding(
            together(lines),
            tuple(a.peak > threshold for a in read[n:]),
            tuple(a.peak for a in read[n:]),
            tuple(effects),
            payload={
                "texts": list(arguments.texts),
                "peaks": [a.peak for a in read[:n]],
                "variants": [
                    {"change": arguments.changes[c].said, "of": t, "text": text, "peak": a.peak}
                    for (c, t, text), a in zip(variants, read[n:], strict=True)
                ],
            },
        )


def whole(word: str, before: str = "") -> re.Pattern[str]:
    """Matches `word` where it is no part of a longer one, whatever its case."""
    word = word.strip()
    left = r"(?<!\w)" if word[0].isalnum() else ""
    right = r"(?!\w)" if word[-1].isalnum() else ""
    return re.compile(f"{before}{left}{re.escape(word)}{right}", re.IGNORECASE)


def shuffled(text: str) -> str:
    """The words of `text` in another order, the same each time."""
    words = text.split()
    seed = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    random.Random(int.from_bytes(seed[:8], "big")).shuffle(words)
    return " ".join(words)


def _cased(kind: Kind, text: str) -> str:
    if kind == "lower":
        return text.lower()
    return text.upper() if kind == "upper" else _FIRST_LETTER.sub(lambda m: m[0].upper(), text)
