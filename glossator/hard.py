"""Hard negatives: text that looks as if the feature fired there, and where it does not.

They are for contrast, and for figures that say so. An estimate for the pool stays on random silent
windows: hard ones are none of its sample.

What no record knows to be silent is read by the live subject first, as a text of its own: so it is
shown to whoever judges it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from glossator.embedder import Embedder
from glossator.errors import Unsupported
from glossator.live import Live
from glossator.types import SILENT, Example, FeatureRecord, Split

NEAREST = "silent windows nearest in meaning"
NEIGHBOUR = "silent windows where a neighbour fires"
REPLACED = "firing windows with the trigger replaced"
KINDS = (NEAREST, NEIGHBOUR, REPLACED)
TRIES = 4
"""Texts that the live subject reads, at most, for each that is wanted."""


@dataclass(frozen=True)
class Hard:
    """Hard silent windows of one kind."""

    kind: str
    windows: tuple[Example, ...]
    missing: str
    """Why there is none, where there is none."""


@dataclass(frozen=True)
class HardText:
    """What hard windows of one feature are taken from."""

    n: int
    """Of each kind, at most."""
    embedder: Embedder
    live: Live | None = None
    """Tells what is silent of that which no record knows; without it, it is left out."""
    neighbours: tuple[FeatureRecord, ...] = ()
    """Of other features of the site, the nearest first."""

    async def of(
        self, split: Split, seen: Collection[str], chance: np.random.Generator
    ) -> tuple[Hard, ...]:
        """The hard windows of `split` of each kind, none of them among the windows `seen`.

        Raises:
            AssetError: if the embedder could not be had.
        """
        left = [e for e in split.silent if e.key not in seen]
        nearest = await asyncio.to_thread(nearest_silent, split.firing, left, self.embedder, self.n)
        return (
            Hard(NEAREST, nearest, "all silent windows there are were scored"),
            Hard(NEIGHBOUR, *await self._near_by(split, left, seen)),
            Hard(REPLACED, *await self._replaced(split, chance)),
        )

    async def _near_by(
        self, split: Split, left: Sequence[Example], seen: Collection[str]
    ) -> tuple[tuple[Example, ...], str]:
        if not self.neighbours:
            return (), "no other feature of the site is at hand"
        silent = {e.key: e for e in left}
        taken = {*seen, *(e.key for e in split.firing)}
        theirs = {e.key: e for r in self.neighbours for e in r.split(split.pool).firing}
        known = [silent[key] for key in theirs if key in silent][: self.n]
        if self.live is None and not known:
            return (), "there is no live subject that could read them"
        rest = [e for e in theirs.values() if e.key not in silent and e.key not in taken]
        read, why = await self._silent(split, [(e.text, e) for e in rest], self.n - len(known))
        return (*known, *read), why

    async def _replaced(
        self, split: Split, chance: np.random.Generator
    ) -> tuple[tuple[Example, ...], str]:
        if self.live is None:
            return (), "there is no live subject that could read them"
        mixed = [split.firing[i] for i in chance.permutation(len(split.firing))]
        made = [(replaced_trigger(e, split.threshold, chance), e) for e in mixed]
        return await self._silent(split, [("".join(t), e) for t, e in made if t], self.n)

    async def _silent(
        self, split: Split, texts: Sequence[tuple[str, Example]], n: int
    ) -> tuple[tuple[Example, ...], str]:
        """Up to `n` of `texts`, each with where it is from, in which nothing fires; or why none."""
        wanted = [(text, e) for text, e in texts if text.strip()][: TRIES * n]
        if self.live is None or not wanted:
            return (), "there is no such text"
        try:
            acts = await self.live.activations([text for text, _ in wanted])
        except Unsupported as error:
            return (), str(error)
        found = [
            Example(a.tokens, a.values, e.document, e.start, SILENT, 1.0)
            for a, (_, e) in zip(acts, wanted, strict=True)
            if a.peak <= split.threshold
        ]
        return tuple(found[:n]), f"the feature fires in all {len(wanted)} that were read"


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
