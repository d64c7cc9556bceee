"""The one phrase that a language model was asked for."""

from __future__ import annotations

import re

from glossator.errors import ReplyError
from glossator.explainers.max_act import without_repeats
from glossator.explainers.refusal import check_not_declined

LONGEST = 400
"""Characters that are kept."""


def phrase_of(reply: str, begun: str) -> str:
    """The phrase on the first line of `reply`, without the words it was `begun` with.

    Of a list, which small models go round in, each item is kept once.

    Raises:
        ReplyError: if nothing is left.
        Refused: if it declines.
    """
    check_not_declined(reply)
    first = reply.strip().split("\n")[0].strip()
    text = re.sub(rf"^\W*{re.escape(begun)}(?!\w)[\s:]*", "", first, flags=re.IGNORECASE)
    text = text.strip().rstrip(".").strip()
    if not re.search(r"\w", text):
        raise ReplyError(f"it holds no explanation: {reply[:80]!r}", reply)
    return without_repeats(text, cut_off=False)[:LONGEST]
