"""Words that explanations are searched for: how they are asked of an index, and of one text.

A text holds a word, whatever its case and its accents; a word of three letters or more stands for
all that begin with it. Signs are in no word. SQLite's FTS5 answers by an index; `holds` says the
same of one text.
"""

from __future__ import annotations

import functools
import re
import unicodedata

MOST = 16
"""Words of a search; those behind do not count."""
BEGINS = 3
"""Letters from which on a word stands for what it begins."""
TOKENIZER = "unicode61 remove_diacritics 2"
"""Of FTS5, which `words_of` does likewise."""

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words that `text` asks for."""
    return _WORD.findall(_plain(text))[:MOST]


def match_query(text: str) -> str:
    """`text` as a query of FTS5; empty if there is no word in it.

    Each word is quoted, so that nothing in it is an operator.
    """
    return " ".join(f'"{w}"*' if len(w) >= BEGINS else f'"{w}"' for w in words_of(text))


def holds(text: str, wanted: str) -> bool:
    """Whether `text` holds every word of `wanted`, of which there is one at least."""
    plain = _plain(text)
    patterns = _patterns(wanted)
    return bool(patterns) and all(pattern.search(plain) for pattern in patterns)


@functools.lru_cache(64)
def _patterns(wanted: str) -> tuple[re.Pattern[str], ...]:
    return tuple(
        re.compile(rf"(?<![^\W_]){w}" + ("" if len(w) >= BEGINS else r"(?![^\W_])"))
        for w in words_of(wanted)
    )


def _plain(text: str) -> str:
    """`text` in small letters without accents."""
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFD", text.casefold())
    return "".join(c for c in parts if not unicodedata.combining(c))
