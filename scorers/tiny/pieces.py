"""A text as the encoder reads it: word pieces, where each lies in the text, and what it looks like.

The encoder's vocabulary has no capitals and no white space, and it cuts words where it likes. So
each piece is given the looks of its whole word beside its number: case, length, first and last
letters, and where it stands. Runs of white space that mean something are pieces of their own.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

CLS, SEP, LINE_BREAK, GAP = 101, 102, 2, 3
"""Numbers of pieces; the last two are unused ones of the vocabulary: a break, a run of spaces."""
N_LOOKS = (12, 5, 17, 30, 5, 16)
"""How many values each column of `Pieces.looks` has, see `_looks`."""
N_HASHED = 4096
"""Rows of the table that first and last letters are hashed into."""
N_ENDS = 7
"""Columns of `Pieces.ends`: the last 1 to 4 letters of the word and its first 1 to 3."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]|\s+")
_OPENING = {"(": 1, "[": 3, "{": 3, "<": 3}
_CLOSING = frozenset(")]}>")
_STOPS = frozenset(".!?")


@dataclass(frozen=True)
class Pieces:
    """The pieces of one text, in order."""

    ids: Ints
    """Shape (n_pieces,): numbers in the encoder's vocabulary."""
    spans: Ints
    """Shape (n_pieces, 2): where each begins and ends in the text, in characters."""
    word: Ints
    """Shape (n_pieces,): number in `words` of the word that each is part of."""
    words: tuple[str, ...]
    """The words, marks and runs of white space that hold a piece, as they stand in the text."""
    looks: Ints
    """Shape (n_pieces, 6): see `N_LOOKS`."""
    ends: Ints
    """Shape (n_pieces, `N_ENDS`): rows of the hashed letters."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lower(self) -> tuple[str, ...]:
        """`words` in small letters."""
        return tuple(word.lower() for word in self.words)

    def cut(self, start: int, stop: int) -> Pieces:
        """The pieces from number `start` to before `stop`; spans stay those of the whole text."""
        part = slice(start, stop)
        return Pieces(
            self.ids[part],
            self.spans[part],
            self.word[part],
            self.words,
            self.looks[part],
            self.ends[part],
        )


def pieces_of(tokenizer: Any, text: str) -> Pieces:
    """The pieces of `text`; `tokenizer` is the encoder's own, of the library `tokenizers`."""
    found = tokenizer.encode(text, add_special_tokens=False)
    rows = list(zip(found.offsets, found.ids, strict=True))
    words = [(m.start(), m.end(), m.group()) for m in _WORD.finditer(text)]
    for start, end, word in words:
        if word.isspace() and ("\n" in word or "\r" in word or len(word) > 1):
            rows.append(
                ((start, end), GAP if "\n" not in word and "\r" not in word else LINE_BREAK)
            )
    rows.sort(key=lambda row: row[0])
    looks = _looks([word for *_, word in words])
    of_piece = np.zeros(len(rows), np.int64)
    at = 0
    for i, ((start, _), _) in enumerate(rows):
        while at < len(words) - 1 and words[at][1] <= start:
            at += 1
        of_piece[i] = at
    texts = tuple(word for *_, word in words)
    ends = np.array([letters(word) for word in texts], np.int64).reshape(-1, N_ENDS)
    return Pieces(
        np.array([number for _, number in rows], np.int64),
        np.array([span for span, _ in rows], np.int64).reshape(-1, 2),
        of_piece,
        texts,
        looks[of_piece] if len(rows) else np.zeros((0, len(N_LOOKS)), np.int64),
        ends[of_piece] if len(rows) else np.zeros((0, N_ENDS), np.int64),
    )


@lru_cache(maxsize=65_536)
def letters(word: str) -> tuple[int, ...]:
    """Shape (`N_ENDS`,): rows of the last 1 to 4 letters of `word` and its first 1 to 3; 0 none."""
    low = word.lower().strip()
    parts = [f"-{low[-n:]}" if len(low) >= n else "" for n in (1, 2, 3, 4)]
    parts += [f"{low[:n]}-" if len(low) >= n else "" for n in (1, 2, 3)]
    return tuple(zlib.crc32(part.encode()) % (N_HASHED - 1) + 1 if part else 0 for part in parts)


@lru_cache(maxsize=65_536)
def shape(word: str) -> int:
    """What the letters of `word` look like, from 1 to 11."""
    if word.isspace():
        return 9 if "\n" in word or "\r" in word else 10
    if not word[0].isalnum() and word[0] != "_":
        return 8
    if word.isdigit():
        return 6
    if any(letter.isdigit() for letter in word):
        return 7
    if word.islower():
        return 1
    if word.isupper():
        return 3 if len(word) > 1 else 4
    if word[:1].isupper() and word[1:].islower():
        return 2
    return 5 if word.lower() != word else 11


def _looks(words: Sequence[str]) -> Ints:
    """Shape (n_words, 6): shape, what is before it, length, places in sentence and text, enclosure.

    The first sentence of a text may have begun before it, so its places have values of their own.
    """
    found = np.zeros((len(words), len(N_LOOKS)), np.int64)
    sentence, number, ended, inside, quoted = 0, 0, False, 0, False
    before, count = "", 0
    for i, word in enumerate(words):
        space = word.isspace()
        if ended and not space and (word[0].isalnum() or "\n" in before):
            sentence, number, ended = sentence + 1, 0, False
        if not space:
            if word[0].isalnum():
                number += 1
                count += 1
            if word in _CLOSING:
                inside = 0
            elif word in '"\u201c\u201d':
                quoted = word == "\u201c" or (word == '"' and not quoted)
        spacing = 4 if not i else 3 if "\n" in before else 2 if before.isspace() else 1
        place = _steps(number, 13) + (15 if sentence else 1)
        enclosure = inside or (2 if quoted else 0)
        found[i] = (shape(word), spacing, min(16, len(word)), place, enclosure, _steps(count, 15))
        if word in _OPENING:
            inside = _OPENING[word]
        if space and "\n" in word:
            ended = True
        elif not space:
            ended = word in _STOPS or (ended and not word[0].isalnum())
        before = word
    return found


def _steps(number: int, most: int) -> int:
    """Numbers to 5 as they are, above that in ever wider steps, at most `most`."""
    if number <= 5:
        return number
    return min(most, 5 + int(2 * np.log2(number / 5)) + 1)


def ranges(pieces: Pieces, tokens: Sequence[str]) -> Ints:
    """Shape (n_tokens, 2): first piece that each token overlaps, and the one behind the last.

    Equal where a token overlaps none. A token without characters, which stands for a later byte of
    a character, overlaps what the token before it does.
    """
    starts, ends = pieces.spans[:, 0], pieces.spans[:, 1]
    cuts = np.cumsum([0, *map(len, tokens)])
    begin, stop = cuts[:-1], cuts[1:]
    first = np.searchsorted(ends, begin, side="right")
    last = np.searchsorted(starts, stop, side="left")
    found = np.stack([first, np.maximum(first, last)], axis=1).astype(np.int64)
    for i, token in enumerate(tokens):
        if not token and i:
            found[i] = found[i - 1]
    return found


def parts(pieces: Pieces, tokens: Sequence[str], found: Ints) -> Ints:
    """Shape (n_tokens,): which part of its word a token is: 0 all, 1 first, 2 middle, 3 last."""
    last_word = np.full(len(tokens), -1, np.int64)
    some = found[:, 1] > found[:, 0]
    if len(pieces):
        last_word[some] = pieces.word[found[some, 1] - 1]
    before = np.concatenate([[-2], last_word[:-1]]) == last_word
    after = np.concatenate([last_word[1:], [-2]]) == last_word
    known = last_word >= 0
    return np.where(known, np.select([before & after, after, before], [2, 1, 3], 0), 0)
