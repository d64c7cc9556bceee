"""How tools write texts and activations on one line, for people and language models alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from glossator.explainers.excerpts import blank

MOST = 400
"""Characters of a text that are written."""
_OPEN, _CLOSE = "\x00", "\x01"
"""Stand for our marks until the text's own brackets are written otherwise; no text has them then,
for what cannot be seen has become its number."""
_LIKE_OPEN = re.compile(f"<(?=[<{_OPEN}])|(?<=[<{_OPEN}])<")
_LIKE_CLOSE = re.compile(f">(?=[>{_CLOSE}])|(?<=[>{_CLOSE}])>")
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
"""Characters that count as printable and show nothing: joiners, fillers, variation selectors."""


def marked(
    tokens: Sequence[str],
    values: Sequence[float],
    threshold: float,
    peak: float,
    most: int = MOST,
    at: int | None = None,
) -> str:
    """`0.83 of peak: the <<bank>> of the river`: tokens above `threshold` are marked.

    Of a long text, about `most` characters around its strongest token, or the one numbered `at`,
    are written. Brackets that
    could be taken for marks, and line breaks, are written otherwise, so that no text can look like
    our marks or like a line of ours. White space that fires is written so that it can be seen.
    """
    strongest = max(range(len(values)), key=lambda i: values[i])
    scale = peak if peak > 0 else 1.0
    unit = "of peak" if peak > 0 else "raw"
    bodies = [_seen(token)[:most] for token in tokens]
    first, stop = _around(bodies, strongest if at is None else at, most)
    parts = ["…" if first else ""]
    inside = False
    for i in range(first, stop):
        fires = values[i] > threshold
        body = bodies[i] if not fires or bodies[i].strip() else blank(tokens[i])
        if fires and not inside:
            word = body.lstrip(" ")
            parts.append(" " * (len(body) - len(word)) + _OPEN + word)
        else:
            parts += [_CLOSE if inside and not fires else "", body]
        inside = fires
    parts += [_CLOSE if inside else "", "…" if stop < len(bodies) else ""]
    text = _unlike("".join(parts)).replace(_OPEN, "<<").replace(_CLOSE, ">>")
    return f"{values[strongest] / scale:.2f} {unit}: {text}"


def plain(text: str) -> str:
    """`text` on one line, without marks of its own.

    White space is written as spaces. What cannot be seen, or turns the direction of writing, is
    written as its number: `⟨U+200B⟩`.
    """
    return _unlike(_seen(text))


def _seen(text: str) -> str:
    return "".join(map(_visible, text))


def _visible(c: str) -> str:
    if c.isspace():
        return " "
    if not c.isprintable() or _UNSEEN.match(c):
        return f"⟨U+{ord(c):04X}⟩"
    return c


def _unlike(text: str) -> str:
    """`text` with what looks like marks, alone or together with ours, in other brackets."""
    return _LIKE_CLOSE.sub("›", _LIKE_OPEN.sub("‹", text))


def _around(bodies: Sequence[str], at: int, most: int) -> tuple[int, int]:
    """The run of `bodies` about `at` that has at most `most` characters; two thirds before it."""
    first, stop = at, at + 1
    left = most - len(bodies[at])
    before = left * 2 // 3
    while first > 0 and len(bodies[first - 1]) <= min(before, left):
        first -= 1
        before -= len(bodies[first])
        left -= len(bodies[first])
    while stop < len(bodies) and len(bodies[stop]) <= left:
        left -= len(bodies[stop])
        stop += 1
    while first > 0 and len(bodies[first - 1]) <= left:
        first -= 1
        left -= len(bodies[first])
    return first, stop
