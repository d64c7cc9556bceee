"""A language model that declines in plain words, where its provider does not say that it did."""

from __future__ import annotations

import re

from glossator.errors import Refused

_DECLINES = re.compile(
    r"\W*(?:"
    r"(?:i'm|i am) (?:\w+ )?(?:sorry|afraid|unable|not able|not comfortable)\b"
    r"|i (?:cannot|can not|can't|could not|couldn't|won't|will not|must decline|decline)\b"
    r"|(?:sorry|apologies|i apologi[sz]e)\b.{0,40}?\b(?:i|we)\b.{0,20}?(?:not|n't|unable)\b"
    r"|as an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r")",
    re.IGNORECASE | re.DOTALL,
)


def check_not_declined(reply: str) -> None:
    """Refuses a `reply` that begins by declining, which must not pass for a description.

    One that begins as it was told to does not begin so, whatever it describes.

    Raises:
        Refused: quoting it.
    """
    if _DECLINES.match(reply.replace("\u2019", "'")):
        raise Refused(f"it declined to answer: {' '.join(reply.split())[:80]!r}", reply)
