"""How tokens stand in a prompt: one a line, or a window with marks; no text can leave its line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_BRACKETS = re.compile("<{2,}|>{2,}")
_VISIBLE = {"\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}


def line_of(token: str) -> str:
    """`token` on one line: line breaks and tabs as symbols, other control characters as '\ufffd'.

    Corpus text is data: nothing in it can end a line of the prompt.
    """
    shown = "".join(
        _VISIBLE.get(c, c if c.isprintable() or c == " " else "\ufffd") for c in token
    ).strip(" ")
    return shown or "\u2423"


def unbroken(text: str) -> str:
    """An explanation on one line, so that none of it can pass for a token's line."""
    return " ".join(text.split())


def tab_lines(tokens: Sequence[str], value: str = "unknown") -> str:
    """`token<tab>value` for each token, a line each."""
    return "".join(f"{line_of(t)}\t{value}\n" for t in tokens)


def slots(tokens: Sequence[str]) -> tuple[str, ...]:
    """For each token, the text behind which its value stands in `tab_lines`."""
    return tuple(f"\n{line_of(t)}\t" for t in tokens)


def one_line(text: str) -> str:
    """A window's text on one line, quotes kept from closing the quotation around it."""
    return " ".join("".join(_VISIBLE.get(c, c) for c in text).replace('"', "'").split())


def marked_line(tokens: Sequence[str], marks: Sequence[bool]) -> str:
    """The window's text as in `one_line`, with the marked runs of tokens <<like this>>.

    What looks like a mark in the text itself, perhaps spread over tokens, is changed.
    """
    text = _BRACKETS.sub(
        lambda m: ("\u2039" if "<" in m[0] else "\u203a") * len(m[0]), "".join(tokens)
    )
    ends = list(itertools.accumulate(map(len, tokens)))
    parts: list[str] = []
    inside = False
    for token, end, mark in zip(tokens, ends, marks, strict=True):
        said = text[end - len(token) : end]
        if mark and not said.strip():
            said = line_of(said)  # white space could not be seen
        if mark and not inside:
            body = said.lstrip()
            said = said[: len(said) - len(body)] + "<<" + body
        elif inside and not mark:
            said = ">>" + said
        parts.append(said)
        inside = mark
    return one_line("".join([*parts, ">>" * inside]))
