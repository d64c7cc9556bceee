"""How tools write texts and activations on one line, for people and language models alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST = 400
"""Characters of a text that are written."""
_MARKS = re.compile("<{2,}|>{2,}")
_ANGLES = str.maketrans("<>", "‹›")
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that count as printable and show nothing; variation selectors come on top."""


def marked(
    tokens: Sequence[str],
    values: Sequence[float],
    threshold: float,
    peak: float,
    most: int = MOST,
) -> str:
    """`0.83 of peak: the <<bank>> of the river`: tokens above `threshold` are marked.

    Of a long text, about `most` characters around its strongest token are written. Angle brackets
    and line breaks of the text itself are written otherwise, so that no text can look like marks or
    like a line of ours.
    """
    strongest = max(range(len(values)), key=lambda i: values[i])
    scale = peak if peak > 0 else 1.0
    unit = "of peak" if peak > 0 else "raw"
    bodies = [plain(token).translate(_ANGLES)[:most] for token in tokens]
    first, stop = _around(bodies, strongest, most)
    parts = ["…" if first else ""]
    inside = False
    for body, value in zip(bodies[first:stop], values[first:stop], strict=True):
        fires = value > threshold
        space = " " * (len(body) - len(body.lstrip(" "))) if fires and not inside else ""
        parts.append(">>" if inside and not fires else "")
        parts.append(f"{space}<<{body[len(space) :]}" if fires and not inside else body)
        inside = fires
    parts.append(">>" if inside else "")
    parts.append("…" if stop < len(bodies) else "")
    return f"{values[strongest] / scale:.2f} {unit}: {''.join(parts)}"


def plain(text: str) -> str:
    """`text` on one line, without marks of its own.

    White space is written as spaces. What cannot be seen, or turns the direction of writing, is
    written as its number: `⟨U+200B⟩`.
    """
    swapped = _MARKS.sub(lambda run: run[0].translate(_ANGLES), text)
    return "".join(map(_visible, swapped))


def _visible(c: str) -> str:
    if c.isspace():
        return " "
    if c.isprintable() and c not in _BLANK and not "\ufe00" <= c <= "\ufe0f":
        return c
    return f"⟨U+{ord(c):04X}⟩"


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
