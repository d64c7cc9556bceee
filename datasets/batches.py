"""The corpus in batches: chunks of one pool and of about one length, cut into windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from glossator.datasets.readings import Reading
from glossator.datasets.reducers import WindowBatch, window_id
from glossator.datasets.settings import CollectSettings
from glossator.datasets.windows import Chunk, window_starts
from glossator.types import Pool

N_POSITIONS = 128
"""Bins of the position in what is read at once, at most."""
_LONGEST = 4096
"""Tokens read at once whose positions are told apart."""
_BATCHES_SORTED = 8
"""Batches of chunks that are sorted by length together, so that little is padded."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a batch of chunks."""

    chunk: Tensor
    """Shape (n_windows,): number of the chunk in the batch."""
    start: Tensor
    """Shape (n_windows,): first token in the chunk."""
    lengths: Tensor
    """Shape (n_windows,)."""
    ids: Tensor
    """Shape (n_windows,): `window_id` of each."""
    bins: Tensor
    """Shape (n_windows, window), int16: position bin of each token."""

    @classmethod
    def of(cls, batch: Sequence[Chunk], reading: Reading, settings: CollectSettings) -> Windows:
        """Those of `batch`."""
        found = [
            (row, start, stop - start, window_id(chunk.number, chunk.start + start))
            for row, chunk in enumerate(batch)
            for start, stop in windows_of(chunk, reading, settings)
        ]
        chunk, start, lengths, ids = torch.tensor(found, dtype=torch.int64).view(-1, 4).unbind(1)
        longest = min(settings.ctx, _LONGEST)
        places = start[:, None] + torch.arange(settings.window)  # (n_windows, window)
        bins = places.clamp(max=longest - 1) * n_positions(settings) // longest
        parts = (chunk, start, lengths, ids, bins.short())
        return cls(*(part.contiguous() for part in parts))

    def to(self, device: str) -> Windows:
        """The same on another device."""
        if device == "cpu":
            return self
        parts = (self.chunk, self.start, self.lengths, self.ids, self.bins)
        return Windows(*(part.to(device) for part in parts))

    def of_activations(self, acts: Tensor, device: str) -> WindowBatch:
        """The windows with the activations (batch, ctx, n_columns) of one group."""
        lines, length = _lines(acts, device)
        first = self.chunk * length + self.start
        return WindowBatch(lines, first, self.lengths, self.ids, self.bins)


def _lines(acts: Tensor, device: str) -> tuple[Tensor, int]:
    """Activations token by token, and how many lines lie between two texts.

    Where they are float32 or bfloat16 this is a view: a start token that was left out stays
    between the texts.
    """
    acts = acts.detach().to(device)
    if acts.dtype not in (torch.float32, torch.bfloat16):
        acts = acts.float()
    batch, ctx, n_columns = acts.shape
    text, token, column = acts.stride()
    if column != 1 or token != n_columns or text % token or text < ctx * token:
        acts = acts.contiguous()
        # not asked for: of an axis of length 1 the stride may be anything
        text, token = ctx * n_columns, n_columns
    length = text // token if batch > 1 else ctx
    shape = ((batch - 1) * length + ctx, n_columns)
    return acts.as_strided(shape, (n_columns, 1)), length


def n_positions(settings: CollectSettings) -> int:
    """Bins that positions are counted in."""
    return min(settings.ctx, N_POSITIONS)


def position_width(settings: CollectSettings) -> int:
    """Positions in such a bin, about."""
    return max(1, min(settings.ctx, _LONGEST) // n_positions(settings))


def windows_of(chunk: Chunk, reading: Reading, settings: CollectSettings) -> list[tuple[int, int]]:
    """The chunk's windows as (start, stop) inside it; none holds a token that is left out."""
    found: list[tuple[int, int]] = []
    at = 0
    for left_out, run in groupby(chunk.token_ids, reading.left_out_ids.__contains__):
        n = len(list(run))
        if not left_out:
            whole = chunk.whole_document and n == len(chunk.token_ids)
            cuts = window_starts(n, settings.window, whole)
            found += [(at + start, at + stop) for start, stop in cuts]
        at += n
    return found


def batches(
    stream: Iterable[Chunk], reading: Reading, settings: CollectSettings
) -> Iterator[list[Chunk]]:
    """Chunks with at least one window, in batches of one pool and of about the same length."""
    waiting: dict[Pool, list[Chunk]] = {pool: [] for pool in Pool}
    size = min(settings.batch, reading.max_batch)

    def sorted_out(pool: Pool) -> Iterator[list[Chunk]]:
        ready = sorted(waiting[pool], key=lambda chunk: len(chunk.token_ids), reverse=True)
        waiting[pool] = []
        for first in range(0, len(ready), size):
            yield ready[first : first + size]

    for chunk in stream:
        if windows_of(chunk, reading, settings):
            waiting[chunk.pool].append(chunk)
            if len(waiting[chunk.pool]) >= size * _BATCHES_SORTED:
                yield from sorted_out(chunk.pool)
    for pool in Pool:
        yield from sorted_out(pool)
