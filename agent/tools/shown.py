"""How tools write texts and activations on one line, for people and language models alike."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 400
"""Characters of a text that are written."""


def marked(tokens: Sequence[str], values: Sequence[float], threshold: float, peak: float) -> str:
    """`0.83 of peak: the <<bank>> of the river`: tokens above `threshold` are marked.

    Angle brackets and line breaks of the text itself are written otherwise, so that no text can
    look like marks or like a line of ours.
    """
    strongest = max(values) / peak if peak > 0 else max(values)
    unit = "of peak" if peak > 0 else "raw"
    parts: list[str] = []
    inside = False
    for token, value in zip(tokens, values, strict=True):
        fires = value > threshold
        body = plain(token)
        space = " " * (len(body) - len(body.lstrip(" "))) if fires and not inside else ""
        parts.append(">>" if inside and not fires else "")
        parts.append(f"{space}<<{body[len(space) :]}" if fires and not inside else body)
        inside = fires
    parts.append(">>" if inside else "")
    return f"{strongest:.2f} {unit}: {''.join(parts)[:MOST]}"


def plain(text: str) -> str:
    """`text` on one line, without marks of its own and without what cannot be seen."""
    swapped = text.replace("<<", "‹‹").replace(">>", "››")
    return "".join(c if c.isprintable() else " " for c in swapped)
