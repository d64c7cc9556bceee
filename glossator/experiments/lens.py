"""What the residual stream says, read out as if nothing came after."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from glossator.datasets.outputs import Outputs
from glossator.errors import Unsupported
from glossator.experiments.probing import Probe, Text
from glossator.hooks import intervening, recording
from glossator.inside import Attributed, Lens
from glossator.subject import Subject

Named = Callable[[Tensor], Sequence[str]]
"""From token ids to their texts."""


def lens_of(subject: Subject, text: Text, at: int | None, n: int, named: Named) -> tuple[Lens, ...]:
    """The logit lens behind each layer.

    What follows the last layer in the model itself is run on each layer's vector: a text of one
    token for each layer, whose vector behind the last layer is replaced.
    """
    last = f"layers.{subject.n_layers - 1}.resid_post"
    place = len(text.tokens) - 1 if at is None else text.place(at, torch.empty(0))
    with recording(subject, "layers.*.resid_post") as kept, torch.inference_mode():
        subject.body(input_ids=text.ids, use_cache=False)
    layers = [int(site.split(".")[1]) for site in kept]
    stream = torch.cat([acts[:, 1 + place] for acts in kept.values()])  # (n_layers, d_model)
    stand_in = torch.full((len(layers), 1), subject.start_token_id, device=subject.device)
    with intervening(subject, last, lambda _: stream[:, None]), torch.inference_mode():
        logits = subject.model(input_ids=stand_in, use_cache=False).logits[:, 0]
    best = logits.float().softmax(dim=-1).topk(min(n, logits.shape[-1]))  # (n_layers, n)
    found = zip(layers, best.indices, best.values, strict=True)
    return tuple(
        Lens(layer, tuple(zip(named(ids), shares.tolist(), strict=True)))
        for layer, ids, shares in sorted(found, key=lambda one: one[0])
    )


def attributed_of(
    probe: Probe, outputs: Outputs, text: Text, n: int, known: int, named: Named
) -> Attributed:
    """What the feature adds to logits at its strongest token, the final norm as it is there.

    Args:
        probe: reads the feature.
        outputs: what directions do to logits.
        text: is read whole.
        n: tokens raised, and lowered.
        known: rows of the unembedding that are tokens.
        named: from token ids to their texts.

    Raises:
        Unsupported: if the feature does not write one direction to the residual stream.
    """
    direction = outputs.of_feature(probe.feature, probe.coder)
    if direction is None:
        raise Unsupported(
            f"{probe.feature} does not write one direction to the residual stream; take its next "
            "tokens while it is held at 0 instead"
        )
    subject = probe.subject
    site, end = probe.tensor_site, f"layers.{subject.n_layers - 1}.resid_post"
    with recording(subject, [site, end]) as kept, torch.inference_mode():
        subject.body(input_ids=text.ids, use_cache=False)
        acts = probe.of(kept[site])[0]  # (1 + ctx,)
        at = text.place(None, acts)
        size = acts[1 + at]
        scale = getattr(probe.coder, "scale", None)
        if scale is not None:
            size = size * scale(kept[site][:, 1 + at])[0, 0]
        added = size * outputs.frozen(direction, kept[end][0, 1 + at])[:known]  # (vocab,)
    top = min(n, known)
    up, down = added.topk(top), (-added).topk(top)
    return Attributed(
        text.tokens,
        at,
        float(acts[1 + at]),
        tuple(zip(named(up.indices), up.values.tolist(), strict=True)),
        tuple(zip(named(down.indices), (-down.values).tolist(), strict=True)),
    )
