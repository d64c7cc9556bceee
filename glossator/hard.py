"""Hard negatives: text that looks as if the feature fired there, and where it does not.

They are for contrast, and for figures that say so. An estimate for the pool stays on random silent
windows: hard ones are none of its sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glossator.embedder import Embedder
from glossator.types import Example


def nearest_silent(
    firing: Sequence[Example], silent: Sequence[Example], embedder: Embedder, n: int
) -> tuple[Example, ...]:
    """The `n` of `silent` that are nearest in meaning to any of `firing`, the nearest first.

    Their weights are those they came with, and say nothing of this choice.
    """
    if not firing or not silent:
        return ()
    silent = sorted(silent, key=lambda e: (e.text, e.key))  # so that their order decides nothing
    theirs = embedder.embed([e.text for e in silent])  # (n_silent, dim)
    ours = embedder.embed([e.text for e in firing])  # (n_firing, dim)
    nearest = (theirs @ ours.T).max(axis=1)  # (n_silent,)
    return tuple(silent[i] for i in np.argsort(-nearest, kind="stable")[:n])


def replaced_trigger(
    example: Example, threshold: float, chance: np.random.Generator
) -> tuple[str, ...] | None:
    """The tokens of a firing window with each that fires replaced by a silent one of the window.

    White space in front stays. What the feature does on the new text is not known before it is run
    on it. None if nothing fires, or no word of the window is fit to stand in.
    """
    fires = [a > threshold for a in example.activations]
    said = {_word(t) for t, f in zip(example.tokens, fires, strict=True) if f}
    others = sorted(
        {
            token.strip()
            for token, fired in zip(example.tokens, fires, strict=True)
            if not fired and any(map(str.isalnum, token)) and _word(token) not in said
        }
    )
    if not said or not others:
        return None
    return tuple(
        _before(token) + others[chance.integers(len(others))] if fired else token
        for token, fired in zip(example.tokens, fires, strict=True)
    )


def _word(token: str) -> str:
    return token.strip().lower()


def _before(token: str) -> str:
    return token[: len(token) - len(token.lstrip())]
