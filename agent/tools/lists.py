"""How tools write tokens, lists of them and several lines, short enough for a language model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from glossator.agent.tools.shown import plain
from glossator.types import JSON

MOST = 1500
"""Characters of a finding's text."""


def quoted(token: str) -> str:
    """`' river'`: a token, its spaces to be seen, on one line."""
    return f"'{visible(token)[:40]}'"


def visible(text: str) -> str:
    """`text` on one line, line breaks and tabs written out."""
    return plain(text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r"))


def ranked(pairs: Iterable[tuple[str, float]], form: str = "+.2f", most: int = 10) -> str:
    """`' river' +2.31, ' bank' +1.90`; at most `most` of them."""
    return ", ".join(f"{quoted(t)} {v:{form}}" for t, v in list(pairs)[:most]) or "none"


def together(lines: Sequence[str]) -> str:
    """As many of `lines` as there is room for."""
    kept: list[str] = []
    left = MOST - 40
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            return "\n".join([*kept, f"({len(lines) - len(kept)} lines more)"])
        kept.append(line)
    return "\n".join(kept)


def listed(pairs: Iterable[tuple[str, float]]) -> list[JSON]:
    """The same for a payload, numbers to six digits."""
    return [[token, float(f"{value:.6g}")] for token, value in pairs]
