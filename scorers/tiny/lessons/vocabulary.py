"""The words of the text that windows are cut from, how often each stands there, and their forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from glossator.datasets.planted import word_pieces

LEAST_USES = 4


@dataclass(frozen=True)
class Vocabulary:
    """Counts of words in small letters."""

    counts: Counter[str] = field(repr=False)
    total: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        """The words of `texts`."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(piece.strip().lower() for piece in word_pieces(text))
        return cls(counts, counts.total())

    @cached_property
    def content(self) -> tuple[str, ...]:
        """Words that say something: of letters, no function words, and not rare."""
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return tuple(
            word
            for word, n in sorted(self.counts.items())
            if n >= LEAST_USES
            and word.isalpha()
            and len(word) > 2
            and word not in ENGLISH_STOP_WORDS
            and word not in {"don", "didn", "isn", "won", "does", "did", "got", "let", "yes"}
        )

    def knows(self, name: str) -> bool:
        """Whether each word of `name` is one that readers know."""
        return all(self.counts[w] >= 8 for w in name.lower().replace("-", " ").split())

    def most_used(self, words: Sequence[str], n: int) -> list[str]:
        """The `n` of `words` that stand in the text most often."""
        return sorted(words, key=lambda w: (-self.counts[w], w))[:n]


def plural(name: str) -> str:
    """The plural of an English noun, by rule; of several words the last one's."""
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return name + ("es" if not name.endswith("s") else "")
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def present(verb: str) -> str:
    """The -ing form of an English verb, by rule; of several words the first one's."""
    head, _, rest = verb.partition(" ")
    if head.endswith("ie"):
        head = head[:-2] + "y"
    elif head.endswith("e") and not head.endswith(("ee", "oe", "ye")) and head != "be":
        head = head[:-1]
    elif (
        len(head) > 2
        and head[-1] not in "aeiouwxy"
        and head[-2] in "aeiou"
        and head[-3] not in "aeiou"
        and len(head) <= 4
    ):
        head += head[-1]
    return f"{head}ing {rest}".strip()
