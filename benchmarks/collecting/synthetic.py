"""A model whose layers draw their activations instead of computing them, at next to no cost.

The modules that sites are read at stay in place, so whatever reads a subject reads it too, with the
true numbers of layers and features. Values are drawn from a fixed bank of heavy-tailed numbers,
scaled anew for each layer and pass, so that top windows keep being replaced. It serves to see
whether memory grows over a million tokens without waiting for a model to read them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from glossator.subject import Subject

_BANK_ROWS = 8192


def make_synthetic(subject: Subject, seed: int = 0) -> None:
    """Puts drawing in place of computing in every layer of the subject's model, for good."""
    generator = torch.Generator().manual_seed(seed)
    width = subject.d_mlp + subject.d_model
    # a normal number times the size of another: tails heavier than a normal's
    bank = torch.randn(_BANK_ROWS, width, generator=generator)
    bank *= torch.randn(_BANK_ROWS, width, generator=generator).abs()
    bank = bank.to(subject.device, getattr(torch, subject.dtype))

    def draw(like: Tensor) -> Tensor:
        start, scale = torch.rand(2, generator=generator).tolist()
        rows = torch.arange(like.shape[0] * like.shape[1]) + int(start * _BANK_ROWS)
        drawn = bank[rows.to(bank.device) % _BANK_ROWS] * (0.5 + scale)
        result: Tensor = drawn.view(*like.shape[:2], width)
        return result  # (batch, 1 + ctx, d_mlp + d_model)

    for layer in range(subject.n_layers):
        last = subject.resolve(f"layers.{layer}.mlp.neurons").module
        block = subject.resolve(f"layers.{layer}.resid_post").module
        last.forward = _nothing
        block.forward = _drawing(last, subject.d_mlp, draw)


def _nothing(neurons: Tensor) -> Tensor:
    return neurons[..., :0]


def _drawing(
    last: torch.nn.Module, d_mlp: int, draw: Callable[[Tensor], Tensor]
) -> Callable[..., Tensor]:
    def forward(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        drawn = draw(hidden)
        last(drawn[..., :d_mlp].contiguous())
        return drawn[..., d_mlp:].contiguous()  # (batch, 1 + ctx, d_model)

    return forward
