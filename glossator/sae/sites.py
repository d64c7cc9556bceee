"""Names that coders' files give to sites, in our names and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_PARTS: Mapping[str, str] = MappingProxyType(
    {
        "hook_resid_pre": "resid_pre",
        "hook_resid_post": "resid_post",
        "hook_mlp_out": "mlp.out",
        "hook_attn_out": "attn.out",
        "mlp.hook_post": "mlp.neurons",
        "attn.hook_z": "attn.z",
    }
)
"""TransformerLens' name of a part of a layer, to ours."""


def site_of(hook: str | None) -> str | None:
    """Our name of a TransformerLens hook, such as `blocks.14.hook_resid_post`; None if it has none.

    A name that is ours already is given back.
    """
    match = re.fullmatch(r"(blocks|layers)\.(\d+)\.(.+)", hook or "")
    if not match:
        return None
    known = _PARTS if match[1] == "blocks" else {part: part for part in _PARTS.values()}
    part = known.get(match[3])
    return f"layers.{match[2]}.{part}" if part else None


def hook_name(site: str) -> str | None:
    """TransformerLens' name of one of our sites; None if it has none."""
    match = re.fullmatch(r"layers\.(\d+)\.(.+)", site)
    hooks = {part: hook for hook, part in _PARTS.items()}
    return f"blocks.{match[1]}.{hooks[match[2]]}" if match and match[2] in hooks else None
