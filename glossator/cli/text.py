"""Text that others wrote, made safe to print on a terminal."""

from __future__ import annotations

import unicodedata

_PICTURES = {"\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d", "\x1b": "\u241b"}
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str, lines: bool = False) -> str:
    r"""`text` with nothing in it that moves the cursor, changes colours, hides or turns text round.

    Control characters, escape sequences, zero-width and direction marks and half characters are
    replaced by signs or by their `\u` escapes. Nothing is left out.

    Args:
        text: from a corpus, a model or a person.
        lines: leave line breaks as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if lines and c == "\n" else _shown(c) for c in text)


def shortened(text: str, width: int) -> str:
    """`text` on one line, cut at `width` characters."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= width else line[: max(0, width - 1)].rstrip() + "\u2026"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    if character in _PICTURES:
        return _PICTURES[character]
    number = ord(character)
    return f"\\U{number:08x}" if number > 0xFFFF else f"\\u{number:04x}"
