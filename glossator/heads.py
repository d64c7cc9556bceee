"""How much each attention head adds to the residual stream."""

from __future__ import annotations

import torch
from torch import Tensor

from glossator.errors import ConfigError


class HeadNorms:
    """From the heads' mixed values to the norms of what they add to the residual stream.

    A head adds `W_h z_h`, its slice of the output projection times its own part of `z` (Elhage et
    al. 2021); the projection's bias belongs to none. With `W_h = Q R` for an orthogonal `Q`, the
    norm of `W_h z_h` is that of `R z_h`, and `R` has d_head rows where `W_h` has d_model, so no
    head's vector is ever built.

    Args:
        weight: shape (d_model, n_heads * d_head), the output projection.
        n_heads: how many heads there are.

    Raises:
        ConfigError: if the projection's inputs are not n_heads equal parts.
    """

    __slots__ = ("_factors", "_n_heads", "_weight")

    def __init__(self, weight: Tensor, n_heads: int) -> None:
        d_model, width = weight.shape
        if width % n_heads:
            raise ConfigError(
                f"the attention's output projection has {width} inputs, which is no multiple of "
                f"{n_heads} heads, so the heads cannot be told apart; read attn.z or attn.out"
            )
        slices = weight.detach().to("cpu", torch.float32).reshape(d_model, n_heads, -1)
        # on the CPU, since MPS has no such factorisation; it is done once for each layer
        factors = torch.linalg.qr(slices.permute(1, 0, 2), mode="r").R  # (n_heads, k, d_head)
        self._factors = factors.mT.contiguous().to(weight.device)  # (n_heads, d_head, k)
        self._n_heads = n_heads
        self._weight = _state(weight)

    def is_of(self, weight: Tensor) -> bool:
        """Whether these are of `weight` as it is now."""
        return self._weight == _state(weight)

    def __call__(self, z: Tensor) -> Tensor:
        """Norms, shape (batch, ctx, n_heads), computed in float32 and given in the dtype of `z`.

        Args:
            z: shape (batch, ctx, n_heads * d_head).
        """
        batch, ctx, width = z.shape
        shape = (batch * ctx, self._n_heads, width // self._n_heads)
        by_head = z.detach().float().reshape(shape).transpose(0, 1)  # (n_heads, n_tokens, d_head)
        vectors = torch.bmm(by_head, self._factors)  # (n_heads, n_tokens, k)
        norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1)  # (n_heads, n_tokens)
        return norms.T.reshape(batch, ctx, self._n_heads).to(z.dtype)


def _state(weight: Tensor) -> tuple[int, int]:
    """Where a weight is and how often it was changed."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version
