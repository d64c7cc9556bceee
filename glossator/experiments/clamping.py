"""Holding a feature at a value while the subject runs.

A coordinate (a neuron, a place of the residual stream) is set to the value. A latent or a direction
has `(value - activation)` times its decoder row added to what is there, so that all else, the
coder's error among it, stays as it is (Templeton et al. 2024, "Scaling Monosemanticity"). An
attention head's part of `attn.z` is scaled until what the head adds has that norm.

The start token stays as it is: it is the attention sink, a hundred times as large as the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glossator.datasets.readings import Coder
from glossator.errors import Unsupported
from glossator.hooks import Edit, intervening
from glossator.subject import Subject
from glossator.types import FeatureId

HEADS = ".attn.heads"


@contextmanager
def clamped(
    subject: Subject, feature: FeatureId, coder: Coder | None, value: float | None
) -> Iterator[None]:
    """Holds `feature` at `value`, in its own sign, in the forward passes of the block.

    The first pass of the block reads texts from their start token on; a later one of a single
    token goes on with them.

    Args:
        subject: the model.
        feature: whose activation is held.
        coder: the one that `feature` names, if it names one.
        value: 0 ablates it; None leaves it as it is.

    Raises:
        Unsupported: if the feature cannot be held: a transcoder that does not say what it predicts.
    """
    if value is None:
        yield
        return
    wanted = -value if feature.negative else value
    if feature.site.endswith(HEADS) and coder is None:
        with intervening(subject, _z_of(feature.site), _of_head(subject, feature, wanted)):
            yield
    elif coder is None:
        with intervening(subject, feature.site, _of_coordinate(feature.index, wanted)):
            yield
    elif getattr(coder, "transcodes", False):
        site_out = getattr(coder, "site_out", None)
        if site_out is None:
            raise Unsupported(
                f"the transcoder {coder.name} does not say which site it predicts, so its latents "
                "cannot be clamped; their activations can be read"
            )
        latent = _Latent(coder, feature.index, wanted)
        with (
            intervening(subject, feature.site, latent.note),
            intervening(subject, site_out, latent.add),
        ):
            yield
    else:
        latent = _Latent(coder, feature.index, wanted)

        def change(acts: Tensor) -> Tensor:
            return latent.add(latent.note(acts))

        with intervening(subject, feature.site, change):
            yield


def text_only(acts: Tensor, changed: Tensor) -> Tensor:
    """`changed`, but for the start token where `acts`, shape (batch, ctx, width), begin with it."""
    if acts.shape[1] == 1:
        return changed  # a token behind a text that was read before
    return torch.cat([acts[:, :1], changed[:, 1:].to(acts.dtype)], dim=1)


def _z_of(site: str) -> str:
    return site.removesuffix("heads") + "z"


def _of_coordinate(index: int, value: float) -> Edit:
    def change(acts: Tensor) -> Tensor:
        changed = acts.clone()
        changed[:, :, index] = value
        return text_only(acts, changed)

    return change


def _of_head(subject: Subject, feature: FeatureId, value: float) -> Edit:
    norms = subject.resolve(feature.site)
    n_heads = norms.width

    def change(z: Tensor) -> Tensor:  # (batch, ctx, n_heads * d_head)
        norm = norms.activations(z)[:, :, feature.index].float()  # (batch, ctx)
        factor = torch.where(norm > 0, value / norm, torch.zeros_like(norm))
        heads = z.clone().view(*z.shape[:2], n_heads, -1)  # (batch, ctx, n_heads, d_head)
        heads[:, :, feature.index] *= factor[:, :, None].to(z.dtype)
        return text_only(z, heads.flatten(2))

    return change


@dataclass
class _Latent:
    """One latent of a coder, and how far it is from where it is to be."""

    coder: Coder
    index: int
    value: float
    _missing: Tensor | None = field(default=None, init=False)
    """Shape (batch, ctx, 1): what is to be added to the latent, on the scale of the site."""

    def note(self, acts: Tensor) -> Tensor:
        """Reads the latent from `acts`, shape (batch, ctx, d_in), and gives them as they are."""
        now = self.coder.encode(acts, torch.tensor([self.index], device=acts.device))
        scale = getattr(self.coder, "scale", None)
        self._missing = (self.value - now) * (1 if scale is None else scale(acts))
        return acts

    def add(self, acts: Tensor) -> Tensor:
        """`acts`, shape (batch, ctx, d_out), with as much of the latent as it was noted to lack."""
        row: Tensor = getattr(self.coder, "W_dec")[self.index]  # noqa: B009 - not of the protocol
        missing = self._missing
        assert missing is not None
        added = missing.to(acts.device) * row.to(acts.device, torch.float32)  # (batch, ctx, d_out)
        return text_only(acts, acts.float() + added)
