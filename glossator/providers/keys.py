"""Keys in what servers say: what looks like one is hidden, words and names of models are not.

A key is drawn by chance: some piece of it, between dashes, underscores and dots, is a long mixture
of letters and digits. Behind what announces a key, such as "Bearer" or `sk-`, a short one will do.
Words, versions, dates and names of models have short pieces, or pieces of one kind.
"""

from __future__ import annotations

import re

HIDDEN = "[key]"

_ANNOUNCED = re.compile(
    r"(?P<by>\b(?:bearer|basic|token|secret|password|authorization|api|(?:\w*[-_])?key)"
    r"(?: provided)?[\"']?\s*[ :=]\s*[\"']?)(?P<word>[\w.~+/=*\-]{8,})",
    re.IGNORECASE | re.ASCII,
)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.*\-]{6,}[A-Za-z0-9*_\-]")
_MARKED = re.compile(r"(?:sk|pk|rk|api|key|token|secret)[-_]", re.IGNORECASE)
"""How keys begin, and a few other words."""
_SURELY = re.compile(
    r"(?:^|[-_.])(?:sk-(?:proj|svcacct|admin)-.{8,}|[spr]k_(?:live|test)_.{8,}"
    r"|sk-ant-[a-z]+\d+-.{8,}|sk-[A-Za-z]{12,}$|AIza[\w\-]{30,}"
    r"|(?:hf|gsk|xai|pplx|nvapi|csk|r8|ghp|glpat)[-_][A-Za-z0-9]{16,})"
)
_MASKED = re.compile(r"\*{3}|\.{3}")
_NAMED = re.compile(r"(?:req|request|msg|resp|chatcmpl|gen|batch|msgbatch|file|org)[-_]")
"""How the ids begin that a provider wants to be told."""
_PIECES = re.compile(r"[^A-Za-z0-9]+")
_VERSIONED = re.compile(r"[A-Za-z]+\d{1,4}[A-Za-z]?|\d{1,4}[A-Za-z]+")
_IN_WORDS = re.compile(r"(?:[A-Z]*[a-z]{2,})*[A-Z]*")
_ENCODED = re.compile(r"[+~]|=$")
_SHORT, _LONG, _WORDS = 8, 20, 21
"""Characters of a piece: mixed, where a key is announced; mixed, elsewhere; letters alone."""
_NAME = 16
"""Characters that a name with its version has at most."""


def without_keys(text: str) -> str:
    """`text` with `HIDDEN` in place of all that looks like a key."""
    return _WORD.sub(_hide, _ANNOUNCED.sub(_hide_announced, text))


def _hide_announced(found: re.Match[str]) -> str:
    word = found["word"]
    return found["by"] + HIDDEN if _is_key(word, announced=True) else found[0]


def _hide(found: re.Match[str]) -> str:
    word = found[0]
    if _NAMED.match(word):
        return word
    return HIDDEN if _is_key(word, announced=_MARKED.match(word) is not None) else word


def _is_key(word: str, *, announced: bool) -> bool:
    if _SURELY.search(word) or (announced and _MASKED.search(word)):
        return True
    if announced and len(word) >= _LONG and _ENCODED.search(word):
        return True
    return any(_is_drawn(piece, announced=announced) for piece in _PIECES.split(word))


def _is_drawn(piece: str, *, announced: bool) -> bool:
    """Whether nobody would have made up `piece`, which is letters and digits."""
    if piece.isdigit():
        return announced and len(piece) > _SHORT  # A date has no more.
    if piece.isalpha():
        long = _WORDS if announced else _LONG
        in_words = _IN_WORDS.fullmatch(piece) is not None
        return len(piece) >= long and (announced or not in_words)
    least = _SHORT if announced else _LONG
    return len(piece) >= least and not (len(piece) <= _NAME and _VERSIONED.fullmatch(piece))
