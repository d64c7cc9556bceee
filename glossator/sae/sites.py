"""Names that coders' files give to sites, in our names and back."""

from __future__ import annotations

import re

from glossator.sites import TRANSFORMER_LENS


def site_of(hook: str | None) -> str | None:
    """Our name of a TransformerLens hook, such as `blocks.14.hook_resid_post`; None if it has none.

    A name that is ours already is given back.
    """
    match = re.fullmatch(r"(blocks|layers)\.(\d+)\.(.+)", hook or "")
    if not match:
        return None
    known = (
        TRANSFORMER_LENS
        if match[1] == "blocks"
        else {part: part for part in TRANSFORMER_LENS.values()}
    )
    part = known.get(match[3])
    return f"layers.{match[2]}.{part}" if part else None


def hook_name(site: str) -> str | None:
    """TransformerLens' name of one of our sites; None if it has none."""
    match = re.fullmatch(r"layers\.(\d+)\.(.+)", site)
    hooks = {part: hook for hook, part in TRANSFORMER_LENS.items()}
    return f"blocks.{match[1]}.{hooks[match[2]]}" if match and match[2] in hooks else None
