"""Descriptions and windows on their way through the network, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glossator.scorers.tiny.network import Lower, Pairs
from glossator.scorers.tiny.overlap import N_FLAGS, flags
from glossator.scorers.tiny.pieces import CLS, N_ENDS, N_LOOKS, SEP, Pieces, parts, ranges


@dataclass(frozen=True)
class Read:
    """A text with what the lower half makes of it."""

    pieces: Pieces
    hidden: Tensor
    """Shape (n_pieces + 2, dim): with the marks before and behind the text."""


def lower_all(lower: Lower, texts: Sequence[Pieces]) -> list[Read]:
    """What the lower half makes of each text, the shorter ones first so that little is padded."""
    found: list[Read | None] = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    dtype = lower.norm.weight.dtype
    for begin in range(0, len(order), 64):
        some = order[begin : begin + 64]
        longest = max(len(texts[i]) for i in some) + 2
        ids = torch.zeros(len(some), longest, dtype=torch.int64)
        lengths = torch.tensor([len(texts[i]) + 2 for i in some])
        for row, i in enumerate(some):
            ids[row, : lengths[row]] = torch.from_numpy(
                np.concatenate([[CLS], texts[i].ids, [SEP]])
            )
        device = lower.norm.weight.device
        with torch.no_grad():
            hidden = lower(ids.to(device), lengths.to(device)).to(dtype)
        for row, i in enumerate(some):
            found[i] = Read(texts[i], hidden[row, : lengths[row]].clone())
    return [read for read in found if read is not None]


@dataclass(frozen=True)
class Window:
    """A window of the subject's tokens, read."""

    tokens: tuple[str, ...]
    read: Read
    ranges: Any = field(repr=False)
    parts: Any = field(repr=False)


def window_of(tokens: Sequence[str], read: Read) -> Window:
    """The window of `tokens`, whose text was read."""
    found = ranges(read.pieces, tokens)
    return Window(tuple(tokens), read, found, parts(read.pieces, tokens, found))


def side_by_side(pairs: Sequence[tuple[str, Read, Window]]) -> Pairs:
    """Descriptions (text and reading) with windows, padded to the longest.

    The description keeps its marks; of the window the one before it is left out.
    """
    batch = len(pairs)
    sizes = [(len(d.hidden), len(w.read.hidden) - 1) for _, d, w in pairs]
    ctx = max(map(sum, sizes))
    n_tokens = max(len(w.tokens) for *_, w in pairs)
    first = pairs[0][1].hidden
    hidden = first.new_zeros(batch, ctx, first.shape[1])
    segment = np.zeros((batch, ctx), np.int64)
    looks = np.zeros((batch, ctx, len(N_LOOKS)), np.int64)
    ends = np.zeros((batch, ctx, N_ENDS), np.int64)
    shared = np.zeros((batch, ctx, N_FLAGS), np.float32)
    spans = np.zeros((batch, n_tokens, 2), np.int64)
    part = np.zeros((batch, n_tokens), np.int64)
    for row, ((text, described, window), (a, b)) in enumerate(zip(pairs, sizes, strict=True)):
        hidden[row, :a] = described.hidden
        hidden[row, a : a + b] = window.read.hidden[1:]
        segment[row, a : a + b] = 1
        for at, pieces in ((1, described.pieces), (a, window.read.pieces)):
            looks[row, at : at + len(pieces)] = pieces.looks
            ends[row, at : at + len(pieces)] = pieces.ends
        pieces = window.read.pieces
        if len(pieces):
            shared[row, a : a + b - 1] = flags(text, pieces.words)[pieces.word]
        spans[row, : len(window.tokens)] = window.ranges + a
        part[row, : len(window.tokens)] = window.parts
    device, dtype = first.device, first.dtype
    return Pairs(
        hidden,
        torch.tensor([a + b for a, b in sizes], device=device),
        torch.from_numpy(segment).to(device),
        torch.from_numpy(looks).to(device),
        torch.from_numpy(ends).to(device),
        torch.from_numpy(shared).to(device, dtype),
        torch.from_numpy(spans).to(device),
        torch.from_numpy(part).to(device),
    )
