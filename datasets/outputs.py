"""What features write to the residual stream, and what that does to the logits of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glossator.datasets.readings import Group
from glossator.datasets.readout import Readout
from glossator.subject import Subject

_FINAL_NORM = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
_RESIDUAL = ("mlp.out", "attn.out", "resid_pre", "resid_post")
"""Sites whose vectors are added to, or are, the residual stream."""


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """Of one subject: directions of features, read out at the end as if nothing came between."""

    subject: Subject
    readout: Readout

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
        return cls(subject, Readout.of(head.weight.detach(), weight, centred=centred))

    def direction(self, group: Group, row: int) -> Tensor | None:
        """Shape (d_model,): what more of a feature adds to the residual stream, if it does."""
        feature = group.features[row]
        part = feature.site.split(".", 2)[-1]
        found: Tensor | None = None
        if group.coder is not None:
            decoder = getattr(group.coder, "W_dec", None)
            if part in _RESIDUAL and decoder is not None:
                found = decoder[feature.index]
        elif part == "mlp.neurons":
            found = _column(self.subject.resolve(feature.site).module, feature.index)
        elif part in _RESIDUAL:
            found = torch.zeros(self.subject.d_model)
            found[feature.index] = 1.0
        if found is None or found.shape != (self.subject.d_model,):
            return None
        found = found.detach().to(self.subject.device, torch.float32)
        return -found if feature.negative else found

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


def _column(linear: nn.Module, index: int) -> Tensor:
    """The weights behind one input of a linear layer; GPT-2 keeps them the other way round."""
    weight: Any = linear.weight
    column: Tensor = weight[:, index] if isinstance(linear, nn.Linear) else weight[index]
    return column
