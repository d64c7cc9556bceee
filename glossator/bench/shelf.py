"""Documents in which a piece of text is found again, however a prompt wrote it down."""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from glossator.datasets.planted import word_pieces

_LOST = re.compile("[\\s\u23ce\u21e5\u240d\u2423\ufffd]+")
"""What layouts of prompts change: white space, and the signs that stand for what is not seen."""
_SAME = str.maketrans({'"': "'", "\u2039": "<", "\u203a": ">"})
_BORDER = "\0"
_MARK = re.compile(r"<<(.*?)>>", re.DOTALL)


def skeleton(text: str) -> str:
    """`text` less what layouts change, so that equal texts are equal in all of them."""
    left = _LOST.sub("", text).translate(_SAME)
    return left if left.isprintable() else "".join(filter(str.isprintable, left))


@dataclass(frozen=True, slots=True)
class Place:
    """A run of tokens of a document, and which of them the prompt marked <<like this>>."""

    tokens: tuple[str, ...]
    """Those of the whole document, or where it is of none, of the text itself."""
    first: int
    n: int
    marks: tuple[bool, ...] = ()
    """Shape (n,); empty where nothing is marked."""


@dataclass(frozen=True)
class Shelf:
    """The documents by id, each a list of tokens."""

    documents: Mapping[str, tuple[str, ...]]
    _found: dict[str, Place | None] = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def _ids(self) -> tuple[str, ...]:
        return tuple(self.documents)

    @functools.cached_property
    def _ends(self) -> dict[str, list[int]]:
        """By document, where in its skeleton each token ends."""
        return {name: _ends(tokens) for name, tokens in self.documents.items()}

    @functools.cached_property
    def _text(self) -> str:
        """The skeletons of all documents, one behind the other."""
        return _BORDER.join(skeleton("".join(self.documents[name])) for name in self._ids)

    @functools.cached_property
    def _begins(self) -> list[int]:
        """Where in `_text` each document begins."""
        sizes = [len(skeleton("".join(self.documents[name]))) + 1 for name in self._ids]
        return [0, *itertools.accumulate(sizes)][:-1]

    def place(self, text: str) -> Place | None:
        """Where `text`, which may hold marks, is from; None for a text without a letter or sign.

        One that is in no document is a document of its own.
        """
        if text not in self._found:
            self._found[text] = self._place(text)
        return self._found[text]

    def _place(self, text: str) -> Place | None:
        marked, plain = _unmarked(text)
        if not plain:
            return None
        at = self._text.find(plain)
        if at < 0:
            bare = _MARK.sub(r"\1", text)
            tokens = tuple(word_pieces(bare))
            ends = _ends(tokens)
            return Place(tokens, 0, len(tokens), _marks(ends, 0, 0, len(tokens), marked))
        number = bisect.bisect_right(self._begins, at) - 1
        name = self._ids[number]
        begin = at - self._begins[number]
        ends = self._ends[name]
        first = bisect.bisect_right(ends, begin)
        last = bisect.bisect_left(ends, begin + len(plain))
        n = min(last, len(ends) - 1) - first + 1
        return Place(self.documents[name], first, n, _marks(ends, begin, first, n, marked))


def _ends(tokens: Sequence[str]) -> list[int]:
    return list(itertools.accumulate(len(skeleton(token)) for token in tokens))


def _unmarked(text: str) -> tuple[list[tuple[int, int]], str]:
    """Where in the skeleton of `text` its marks begin and end, and that skeleton without them."""
    spans, plain, at = [], "", 0
    for match in _MARK.finditer(text):
        plain += skeleton(text[at : match.start()])
        begin = len(plain)
        plain += skeleton(match[1])
        spans.append((begin, len(plain)))
        at = match.end()
    return spans, plain + skeleton(text[at:])


def _marks(
    ends: Sequence[int], begin: int, first: int, n: int, spans: Sequence[tuple[int, int]]
) -> tuple[bool, ...]:
    """Which of the `n` tokens from number `first` are in one of `spans`, counted from `begin`."""
    if not spans:
        return ()
    found = []
    for i in range(first, first + n):
        low = (ends[i - 1] if i else 0) - begin
        high = ends[i] - begin
        found.append(any(a < high and low < b for a, b in spans))
    return tuple(found)
