"""What a description and a text share by the letter, word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from glossator.scorers.lexical import stem, targets

N_FLAGS = 8
"""Columns of `flags`."""
_SUFFIX = re.compile(r"(?<!\w)[-\u2010\u2011~](\w{1,8})")
_PREFIX = re.compile(r"(?<!\w)(\w{1,8})[-\u2010\u2011](?!\w)")
_QUOTED = re.compile(r"[\"\u201c\u2018`']([^\"\u201d\u2019`']{1,40})[\"\u201d\u2019`']")
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


@dataclass(frozen=True)
class Spelling:
    """What a description has that can be looked for by the letter."""

    words: frozenset[str]
    stems: frozenset[str]
    quoted: frozenset[str]
    """In small letters, without spaces around."""
    cased: frozenset[str]
    """The same as they stand."""
    suffixes: tuple[str, ...]
    prefixes: tuple[str, ...]


@lru_cache(maxsize=4096)
def spelling(description: str) -> Spelling:
    """The words, quotations and affixes of `description`."""
    stems, _ = targets(description)
    quoted = [q.strip() for q in _QUOTED.findall(description) if q.strip()]
    return Spelling(
        frozenset(word.lower() for word in _WORD.findall(description)),
        stems,
        frozenset(q.lower() for q in quoted),
        frozenset(quoted),
        tuple({s.lower() for s in _SUFFIX.findall(description)}),
        tuple({p.lower() for p in _PREFIX.findall(description)}),
    )


def flags(description: str, words: Sequence[str]) -> npt.NDArray[np.float32]:
    """Shape (n_words, `N_FLAGS`), 0 or 1: does a word of the text stand in the description?

    In order: as any word, as a content word's stem, in quotes, in quotes with the same case, as a
    part of something in quotes or the other way round, with a suffix or a prefix that is named,
    and whether the word before it stands in quotes or is a content word.
    """
    known = spelling(description)
    found = np.zeros((len(words), N_FLAGS), np.float32)
    before = False
    for i, word in enumerate(words):
        low = word.lower()
        if low.isspace():
            found[i, 2] = word in known.cased
            continue
        quoted = low in known.quoted
        content = low.isalnum() and bool(known.stems) and stem(low) in known.stems
        found[i] = (
            low in known.words,
            content,
            quoted,
            word in known.cased,
            not quoted and len(low) > 1 and any(low in q or q in low for q in known.quoted),
            any(low.endswith(s) and low != s for s in known.suffixes),
            any(low.startswith(p) and low != p for p in known.prefixes),
            before,
        )
        before = quoted or content
    return found
