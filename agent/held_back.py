"""Train text that patterns found by programs were not made from, on which they can be tried.

A pattern that was fitted to a text foretells that text well whether it holds or not. So the dull
hypotheses are made from one half of the train documents, and experiments take the other.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

from glossator.types import Example, Split


def fitted(train: Split) -> Split:
    """The half that patterns are made from."""
    return _half(train, 0)


def held_back(train: Split) -> Split:
    """The half that experiments take their windows from; all where it holds no firing window."""
    half = _half(train, 1)
    return half if half.firing and half.silent else train


def _half(train: Split, which: int) -> Split:
    def kept(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        return tuple(e for e in examples if zlib.crc32(e.document.encode()) % 2 == which)

    return replace(train, firing=kept(train.firing), silent=kept(train.silent), strata=())
