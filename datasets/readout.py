"""What a feature's output does to the logits of a few tokens, against the whole vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 8192
"""Rows of the unembedding in float32 at a time."""

_DIRECTIONS = 256
"""Directions whose tokens' rows are gathered at a time."""


@dataclass(frozen=True, slots=True)
class Readout:
    """What directions of the residual stream add to logits, against the whole vocabulary.

    To the logit of token t a direction d adds u_t . (w * d), times a factor that all tokens share:
    the final norm divides by the length of the whole stream. Over the vocabulary this has the mean
    m . (w * d) and the variance (w * d)' C (w * d), where m is the mean and C the covariance of
    the u_t. So the effect on a few tokens has its z value without the effects on all others.
    """

    unembedding: Tensor
    """Shape (vocab, d_model)."""
    norm: Tensor | None
    """Shape (d_model,): weight of the final norm, or None where it has none."""
    centred: bool
    """Whether the final norm takes off the mean over d_model, as LayerNorm does."""
    mean: Tensor
    """Shape (d_model,), float32."""
    covariance: Tensor
    """Shape (d_model, d_model), float32."""

    @classmethod
    def of(
        cls, unembedding: Tensor, norm: Tensor | None = None, *, centred: bool = False
    ) -> Readout:
        """Measures the vocabulary once: about vocab * d_model^2 multiplications.

        Args:
            unembedding: shape (vocab, d_model), of any float type.
            norm: shape (d_model,), what the final norm multiplies with: for Gemma, 1 + its weight.
            centred: whether it takes off the mean first, as LayerNorm does.
        """
        with torch.no_grad():
            vocab, d_model = unembedding.shape
            parts = torch.split(unembedding, _ROWS)
            mean = torch.zeros(d_model, dtype=torch.float32, device=unembedding.device)
            for rows in parts:
                mean += rows.to(torch.float32).sum(dim=0) / vocab  # (d_model,)
            covariance = torch.zeros(d_model, d_model, dtype=torch.float32, device=mean.device)
            for rows in parts:
                apart = rows.to(torch.float32) - mean  # (n_rows, d_model)
                covariance += apart.T @ apart / vocab  # (d_model, d_model)
        return cls(unembedding, norm, centred, mean, covariance)

    def effects(self, directions: Tensor, tokens: Tensor) -> Tensor:
        """The z values of what each direction adds to the logits of its own tokens.

        Args:
            directions: shape (n, d_model): what the features write for more activation, so turned
                round for a negative tail. Their lengths do not matter.
            tokens: shape (n, k), ids.

        Returns:
            Shape (n, k), float32; 0 where a direction adds the same to all logits.
        """
        with torch.no_grad():
            several = zip(
                torch.split(directions, _DIRECTIONS), torch.split(tokens, _DIRECTIONS), strict=True
            )
            return torch.cat([self._effects(*some) for some in several])  # (n, k)

    def on_all(self, direction: Tensor) -> Tensor:
        """The z values, shape (vocab,), of what `direction` of shape (d_model,) adds to logits."""
        with torch.no_grad():
            way = self._ways(direction[None])  # (1, d_model)
            parts = torch.split(self.unembedding, _ROWS)
            rows = (((part.to(torch.float32) - self.mean) @ way.T).T for part in parts)
            return self._scaled(torch.cat(list(rows), dim=1), way)[0]  # (vocab,)

    def way(self, direction: Tensor) -> Tensor:
        """A direction, shape (d_model,), as it leaves the final norm, but for its length."""
        return self._ways(direction[None])[0]

    def added(self, direction: Tensor) -> Tensor:
        """What it adds to each logit, shape (vocab,), where the final norm divides by 1."""
        way = self.way(direction)
        return torch.cat([part.float() @ way for part in torch.split(self.unembedding, _ROWS)])

    def _effects(self, directions: Tensor, tokens: Tensor) -> Tensor:
        ways = self._ways(directions)  # (n, d_model)
        rows = self.unembedding[tokens].to(torch.float32) - self.mean  # (n, k, d_model)
        return self._scaled(torch.einsum("nkd,nd->nk", rows, ways), ways)

    def _ways(self, directions: Tensor) -> Tensor:
        """The directions as they come out of the final norm, but for their length."""
        ways = directions.to(torch.float32)  # (n, d_model)
        if self.centred:
            ways = ways - ways.mean(dim=-1, keepdim=True)
        return ways if self.norm is None else ways * self.norm.to(torch.float32)

    def _scaled(self, effects: Tensor, ways: Tensor) -> Tensor:
        """Effects, shape (n, k), over their spread in the vocabulary."""
        spread = ((ways @ self.covariance) * ways).sum(dim=-1, keepdim=True).clamp(min=0).sqrt()
        return torch.where(spread > 0, effects / spread, torch.zeros_like(effects))


def direct_effects(
    direction: Tensor, unembedding: Tensor, norm: Tensor | None, tokens: Tensor
) -> Tensor:
    """`Readout.effects` of one direction (d_model,) on `tokens` (k,): shape (k,).

    Measures the vocabulary each time; keep a `Readout` for more than one feature.
    """
    return Readout.of(unembedding, norm).effects(direction[None], tokens[None])[0]
