"""What features write to the residual stream, and what that does to the logits of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glossator.architectures import linear_weight
from glossator.datasets.readings import Coder, Group
from glossator.datasets.readout import Readout
from glossator.errors import ConfigError
from glossator.subject import Subject
from glossator.types import FeatureId

_FINAL_NORM = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
_RESIDUAL = ("mlp.out", "attn.out", "resid_pre", "resid_post")
"""Sites whose vectors are added to, or are, the residual stream."""
_PROJECTED = ("mlp.neurons", "attn.z")
"""Sites whose vectors go through a linear layer to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """Of one subject: directions of features, read out at the end as if nothing came between."""

    subject: Subject
    readout: Readout
    norm: Any = None
    """The final norm, if there is one."""

    @classmethod
    def of(cls, subject: Subject) -> Outputs | None:
        """Those of `subject`; None where its unembedding does not fit its residual stream."""
        head = subject.model.get_output_embeddings()
        if head is None or head.weight.shape[1] != subject.d_model:
            return None
        norm: Any = next(
            (found for name in _FINAL_NORM if (found := getattr(subject.body, name, None))), None
        )
        weight = getattr(norm, "weight", None)
        if weight is not None and "Gemma" in type(norm).__name__:
            weight = 1 + weight.detach().float()
        centred = isinstance(norm, nn.LayerNorm)
        return cls(subject, Readout.of(head.weight.detach(), weight, centred=centred), norm)

    def direction(self, group: Group, row: int) -> Tensor | None:
        """Shape (d_model,): what more of a feature adds to the residual stream, if it does."""
        return self.of_feature(group.features[row], group.coder)

    def of_feature(self, feature: FeatureId, coder: Coder | None = None) -> Tensor | None:
        """Shape (d_model,): what more of a feature adds to the residual stream, if it does.

        Neurons, and what attention mixed, write through the projection behind them, and so does a
        coder of such a site; a transcoder writes where it predicts.
        """
        site = feature.site
        found: Tensor | None = None
        if coder is not None:
            decoder = getattr(coder, "W_dec", None)
            if getattr(coder, "transcodes", False):
                site = getattr(coder, "site_out", None) or ""
            if decoder is not None and _part(site) in _RESIDUAL:
                found = decoder[feature.index]
            elif decoder is not None and (weight := projection(self.subject, site)) is not None:
                found = weight.float() @ decoder[feature.index].to(weight.device).float()
        elif (weight := projection(self.subject, site)) is not None:
            found = weight[:, feature.index]
        elif _part(site) in _RESIDUAL:
            found = torch.zeros(self.subject.d_model)
            found[feature.index] = 1.0
        if found is None or found.shape != (self.subject.d_model,):
            return None
        found = found.detach().to(self.subject.device, torch.float32)
        return -found if feature.negative else found

    def frozen(self, direction: Tensor, stream: Tensor) -> Tensor:
        """What `direction` adds to the logit of each token, shape (vocab,), float32.

        The final norm multiplies with what it multiplies `stream` with: the direct effect of
        Elhage et al. 2021, before whatever caps or scales logits.

        Args:
            direction: shape (d_model,).
            stream: shape (d_model,), the residual stream that enters the final norm.
        """
        with torch.no_grad():
            size = 1.0
            if self.norm is not None:
                bias = getattr(self.norm, "bias", None)
                normed = self.norm(stream[None])[0].float()
                normed = normed if bias is None else normed - bias.float()
                size = float(normed.norm() / self.readout.way(stream).norm().clamp(min=1e-30))
            return self.readout.added(size * direction)

    def effects(self, group: Group, row: int, token_ids: Sequence[int]) -> list[float]:
        """Direct effect of the feature on the logit of each token, as z over the vocabulary.

        Empty where the feature does not write to the residual stream.
        """
        direction = self.direction(group, row)
        if direction is None or not token_ids:
            return []
        ids = torch.tensor([list(token_ids)], device=direction.device)
        found: list[float] = self.readout.effects(direction[None], ids)[0].tolist()
        return found


def projection(subject: Subject, site: str) -> Tensor | None:
    """Shape (d_model, width): what is behind neurons and `attn.z`, if it is kept as a plain matrix.

    None for all other sites.
    """
    if _part(site) not in _PROJECTED:
        return None
    try:
        return linear_weight(subject.resolve(site).module)
    except ConfigError:
        return None


def _part(site: str) -> str:
    """What of a layer `site` is, by our names, if it is one."""
    return site.split(".", 2)[-1] if site.startswith("layers.") else ""
