"""The network: a frozen lower half for each text alone, and a trained upper half for both together.

Both halves begin as the layers of all-MiniLM-L6-v2 (BERT, Devlin et al. 2019). The lower one reads
the description and the window apart from each other, so what it makes of a window can be kept for
the next description. Between the halves each piece is told what it looks like. Two numbers come out
for each token of the subject: the expected activation and whether it fires, both as logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from glossator.scorers.tiny.overlap import N_FLAGS
from glossator.scorers.tiny.pieces import N_ENDS, N_HASHED, N_LOOKS

DIM, HEADS, HIDDEN, LAYERS = 384, 12, 1536, 6
N_LOWER = 2
"""Layers of the lower half."""
_ENDS_DIM = 64
_EPS = 1e-12


class Layer(nn.Module):
    """One layer of BERT: attention, then two matrices, each followed by a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.out = nn.Linear(DIM, DIM)
        self.norm = nn.LayerNorm(DIM, eps=_EPS)
        self.up = nn.Linear(DIM, HIDDEN)
        self.down = nn.Linear(HIDDEN, DIM)
        self.last = nn.LayerNorm(DIM, eps=_EPS)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Shape (batch, ctx, dim), from the same; `mask` (batch, 1, 1, ctx), -inf at padding."""
        batch, ctx, _ = x.shape
        split = self.qkv(x).view(batch, ctx, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = split  # each (batch, heads, ctx, dim / heads)
        # by hand: for texts as short as these that is three times as fast on a CPU, there and back
        near = (q * (DIM // HEADS) ** -0.5) @ k.transpose(-1, -2) + mask  # (batch, heads, ctx, ctx)
        mixed = near.softmax(dim=-1) @ v
        x = self.norm(x + self.out(mixed.transpose(1, 2).reshape(batch, ctx, DIM)))
        grown = functional.gelu(self.up(x))
        found: Tensor = self.last(x + self.down(grown))
        return found


class Lower(nn.Module):
    """The embeddings and the first layers; nothing here is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = nn.Embedding(30522, DIM)
        self.places = nn.Embedding(512, DIM)
        self.kinds = nn.Embedding(2, DIM)
        self.norm = nn.LayerNorm(DIM, eps=_EPS)
        self.layers = nn.ModuleList(Layer() for _ in range(N_LOWER))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Shape (batch, ctx, dim), from the numbers of the pieces (batch, ctx), padded."""
        ctx = ids.shape[1]
        x = self.pieces(ids) + self.places.weight[:ctx] + self.kinds.weight[0]
        x = self.norm(x)
        mask = masked(lengths, ctx, x.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        found: Tensor = x
        return found


@dataclass(frozen=True)
class Pairs:
    """Descriptions and windows side by side, padded; what the upper half reads."""

    hidden: Tensor
    """Shape (batch, ctx, dim): the lower half's, description first and then window."""
    lengths: Tensor
    """Shape (batch,): pieces of both."""
    segment: Tensor
    """Shape (batch, ctx): 0 in the description, 1 in the window."""
    looks: Tensor
    """Shape (batch, ctx, 6)."""
    ends: Tensor
    """Shape (batch, ctx, 7)."""
    flags: Tensor
    """Shape (batch, ctx, 8)."""
    ranges: Tensor
    """Shape (batch, n_tokens, 2): the pieces that each token of the subject overlaps, in `ctx`."""
    parts: Tensor
    """Shape (batch, n_tokens): which part of its word it is."""


class Upper(nn.Module):
    """What was trained: looks, the last layers and the two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.segments = nn.Embedding(2, DIM)
        self.looks = nn.ModuleList(nn.Embedding(2 * n, DIM) for n in N_LOOKS)
        self.ends = nn.ModuleList(nn.Embedding(N_HASHED, _ENDS_DIM, 0) for _ in range(2))
        self.spelt = nn.Linear(N_ENDS * _ENDS_DIM, DIM, bias=False)
        self.flags = nn.Linear(N_FLAGS, DIM, bias=False)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS - N_LOWER))
        self.parts = nn.Embedding(4, DIM)
        self.mix = nn.Linear(DIM, DIM)
        self.out = nn.Linear(DIM, 2)

    def forward(self, pairs: Pairs) -> Tensor:
        """Shape (batch, n_tokens, 2): logits of the activation's tenth and of firing."""
        segment = pairs.segment
        x = pairs.hidden + self.segments(segment)
        for column, (table, n) in enumerate(zip(self.looks, N_LOOKS, strict=True)):
            x = x + table(pairs.looks[..., column] + n * segment)
        last, first = self.ends[0](pairs.ends[..., :4]), self.ends[1](pairs.ends[..., 4:])
        x = x + self.spelt(torch.cat([last, first], dim=-2).flatten(-2))  # (batch, ctx, dim)
        x = x + self.flags(pairs.flags)
        mask = masked(pairs.lengths, x.shape[1], x.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        h = pooled(x, pairs.ranges) + self.parts(pairs.parts)
        found: Tensor = self.out(functional.gelu(self.mix(h)))
        return found


def masked(lengths: Tensor, ctx: int, dtype: torch.dtype) -> Tensor:
    """Shape (batch, 1, 1, ctx): 0 where there is text, a very negative number behind it."""
    behind = torch.arange(ctx, device=lengths.device) >= lengths[:, None]
    return torch.zeros(behind.shape, dtype=dtype, device=lengths.device).masked_fill_(behind, -1e4)[
        :, None, None
    ]


def pooled(x: Tensor, ranges: Tensor) -> Tensor:
    """Shape (batch, n_tokens, dim): the mean of the pieces of each token, 0 where it has none."""
    n = (ranges[..., 1] - ranges[..., 0]).unsqueeze(-1)  # (batch, n_tokens, 1)
    place = torch.arange(x.shape[1], device=x.device)
    inside = (place >= ranges[..., :1]) & (place < ranges[..., 1:])  # (batch, n_tokens, ctx)
    return (inside.to(x.dtype) / n.clamp(min=1).to(x.dtype)) @ x


def halves(base: Mapping[str, Tensor], seed: int = 0) -> tuple[Lower, Upper]:
    """Both halves out of the encoder's weights; what it has no weights for is small and random."""
    lower, upper = Lower(), Upper()
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, table in (("word", "pieces"), ("position", "places"), ("token_type", "kinds")):
            weight = base[f"embeddings.{name}_embeddings.weight"]
            lower.get_parameter(f"{table}.weight").copy_(weight)
        lower.norm.weight.copy_(base["embeddings.LayerNorm.weight"])
        lower.norm.bias.copy_(base["embeddings.LayerNorm.bias"])
        every: Sequence[nn.Module] = [*lower.layers, *upper.layers]
        for number, layer in enumerate(every):
            _fill(layer, base, f"encoder.layer.{number}")
        for name, p in upper.named_parameters():
            if not name.startswith("layers."):
                p.copy_(torch.randn(p.shape, generator=chance) * 0.02)
        upper.mix.weight += torch.eye(DIM)
        upper.mix.bias.zero_()
        upper.out.bias.fill_(-3.0)
    return lower.eval().requires_grad_(False), upper


def _fill(layer: nn.Module, base: Mapping[str, Tensor], at: str) -> None:
    names = {
        "out": "attention.output.dense",
        "norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "last": "output.LayerNorm",
    }
    for kind in ("weight", "bias"):
        qkv = [base[f"{at}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        layer.get_parameter(f"qkv.{kind}").copy_(torch.cat(qkv))
        for ours, theirs in names.items():
            layer.get_parameter(f"{ours}.{kind}").copy_(base[f"{at}.{theirs}.{kind}"])
