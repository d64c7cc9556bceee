"""Replies of numbered lines, each a number and one of some words: where the words are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_LINE = re.compile(r"(?<!\w)(\d+)[ \t:.)\]\-=\"'*`]*([^\W\d_]+)")


def words_by_number(text: str, n: int, among: Collection[str]) -> Mapping[int, tuple[int, str]]:
    """The word behind each number from 1 to `n` in `text`, and where it begins there.

    Words that are not `among` those asked for are passed over, whatever their case, and so are
    other numbers. A number behind which different ones stand says nothing.
    """
    found: dict[int, tuple[int, str]] = {}
    unclear: set[int] = set()
    for match in _LINE.finditer(text):
        # A number of many digits is none that was asked for, and slow to read.
        number = int(match[1]) if len(match[1]) <= len(str(n)) else 0
        word = match[2].lower()
        if not 1 <= number <= n or word not in among:
            continue
        if found.setdefault(number, (match.start(2), word))[1] != word:
            unclear.add(number)
    return {number: place for number, place in found.items() if number not in unclear}
