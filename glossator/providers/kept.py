"""Keys and values of what prompts begin with, kept for the next ones that begin alike."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from glossator.providers.tree import common_prefix

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache


@dataclass(frozen=True, slots=True)
class Past:
    """What a model needs to know of the tokens before; nobody writes to its tensors."""

    ids: tuple[int, ...] = ()
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
    """Keys and values of each layer, shape (1, n_heads, n_tokens, d_head); none of no tokens."""

    @property
    def n_bytes(self) -> int:
        """What it takes."""
        return sum(t.numel() * t.element_size() for pair in self.layers for t in pair)

    def first(self, n: int) -> Past:
        """Of the first `n` tokens alone; shares the memory."""
        if n >= len(self.ids):
            return self
        if n == 0:
            return Past()
        return Past(self.ids[:n], tuple((k[:, :, :n], v[:, :, :n]) for k, v in self.layers))

    def cache(self, rows: int = 1) -> DynamicCache:
        """For `rows` sequences that all begin so. What comes behind it is put elsewhere.

        All layers keep all tokens: what a sliding window leaves out, the masks do.
        """
        from transformers import DynamicCache

        if not self.layers:
            return DynamicCache()
        return DynamicCache(
            [(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in self.layers]
        )


@dataclass
class Kept:
    """The pasts used last, as many as fit; none of them is the beginning of another."""

    most_bytes: int
    _pasts: OrderedDict[tuple[int, ...], Past] = field(default_factory=OrderedDict, repr=False)

    @property
    def n_bytes(self) -> int:
        """What they take together."""
        return sum(past.n_bytes for past in self._pasts.values())

    def longest(self, ids: tuple[int, ...]) -> Past:
        """Of as many of the first of `ids` as are here."""
        shared = {kept: common_prefix([kept, ids]) for kept in self._pasts}
        best = max(shared, key=lambda kept: shared[kept], default=())
        if not shared.get(best):
            return Past()
        self._pasts.move_to_end(best)
        return self._pasts[best].first(shared[best])

    def keep(self, past: Past) -> None:
        """Keeps `past`; those that were not used for longest make room for it."""
        if past.n_bytes > self.most_bytes or self.longest(past.ids).ids == past.ids:
            return
        for kept in [k for k in self._pasts if k == past.ids[: len(k)]]:
            del self._pasts[kept]
        self._pasts[past.ids] = past
        while self.n_bytes > self.most_bytes:
            self._pasts.popitem(last=False)
