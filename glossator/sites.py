"""Names of the places in a model that are read: ours, TransformerLens's, and module paths.

One place can be called by several names; where we have a name for it, that one is canonical.

| ours, after `layers.L.` | width | what it is |
|---|---|---|
| `resid_pre`, `resid_post` | d_model | the residual stream before and after the layer |
| `attn.out`, `mlp.out` | d_model | what attention and MLP add to it (after a norm behind them) |
| `mlp.neurons` | d_mlp | what enters the MLP's down projection |
| `attn.z` | n_heads * d_head | what enters attention's output projection: all heads |
| `attn.heads` | n_heads | the norm of what each head adds (no bias, before a norm behind) |

A module path such as `model.layers.3.mlp.gate_proj` is what leaves that module, `PATH:in` what
enters it. `layers.*.`, `blocks.*.` and `.*.` inside a path mean every layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Side = Literal["input", "output"]

PARTS = (
    "mlp.neurons",
    "mlp.out",
    "attn.out",
    "attn.z",
    "attn.heads",
    "resid_pre",
    "resid_post",
)
"""What of a layer can be read, by our names."""

TRANSFORMER_LENS: Mapping[str, str] = MappingProxyType(
    {
        "hook_resid_pre": "resid_pre",
        "hook_resid_post": "resid_post",
        "hook_attn_out": "attn.out",
        "hook_mlp_out": "mlp.out",
        "mlp.hook_post": "mlp.neurons",
        "attn.hook_z": "attn.z",
    }
)
"""TransformerLens's names after `blocks.L.`, and ours. Its `hook_z` has an axis for the heads, and
ours has none; it folds norms into weights unless told not to, and then its values are others."""

_OURS = re.compile(r"layers\.(\d+)\.(.+)")
_LENS = re.compile(r"blocks\.(\d+)\.(.+)")
_STAR = re.compile(r"(?<![^.])\*(?=[.:]|$)")


@dataclass(frozen=True, slots=True)
class LayerSite:
    """A part of a layer, by our name."""

    layer: int
    part: str
    """One of `PARTS`."""

    def __str__(self) -> str:
        return f"layers.{self.layer}.{self.part}"


@dataclass(frozen=True, slots=True)
class ModuleSite:
    """A side of a module, by its path in the model."""

    path: str
    side: Side

    def __str__(self) -> str:
        return self.path if self.side == "output" else f"{self.path}:in"


def parse_site(name: str) -> LayerSite | ModuleSite:
    """What `name` means if it is a site; whether the model has it, only the model can tell."""
    if (ours := _OURS.fullmatch(name)) and ours[2] in PARTS:
        return LayerSite(int(ours[1]), ours[2])
    if (lens := _LENS.fullmatch(name)) and lens[2] in TRANSFORMER_LENS:
        return LayerSite(int(lens[1]), TRANSFORMER_LENS[lens[2]])
    path, _, side = name.rpartition(":")
    if side in ("in", "out") and path:
        return ModuleSite(path, "input" if side == "in" else "output")
    return ModuleSite(name, "output")


def in_every_layer(name: str, n_layers: int) -> list[str]:
    """`name` with its star replaced by each layer's number; `name` alone if it has no star."""
    if not _STAR.search(name):
        return [name]
    return [_STAR.sub(str(layer), name, count=1) for layer in range(n_layers)]
