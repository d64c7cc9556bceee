"""Of how many texts the feature fires in, with Wilson's interval."""

from __future__ import annotations

from collections.abc import Sequence

from glossator.evidence import Effect
from glossator.scorers.wilson import wilson
from glossator.types import SILENT, Split


def share_of(name: str, hits: Sequence[bool]) -> Effect:
    """The share of `hits`, with its 95% interval."""
    if not hits:
        return Effect(name, None, note="there is no text of that kind")
    share = sum(hits) / len(hits)
    return Effect(name, share, *wilson(share, len(hits)), len(hits))


def times(name: str, share: Effect, base: float | None) -> Effect:
    """How many times `base` a share is; the interval is that of the share alone."""
    if share.value is None or share.low is None or share.high is None:
        return Effect(name, None, n=share.n, note=share.note)
    if base is None:
        return Effect(name, None, n=share.n, note="the windows of train and dev were not counted")
    if base == 0:
        return Effect(name, None, n=share.n, note="it fires in no window of train and dev")
    return Effect(name, share.value / base, share.low / base, share.high / base, share.n)


def base_rate(splits: Sequence[Split]) -> float | None:
    """The share of all windows of these pools in which the feature fires; None if not counted."""
    total = sum(s.population for split in splits for s in split.strata)
    if not total:
        return None
    return sum(s.population for split in splits for s in split.strata if s.name != SILENT) / total
