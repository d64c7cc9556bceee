"""Activation patching: parts of one run put into another (Meng et al. 2022; Zhang and Nanda 2024).

Only positions from the first token that differs up to the one where the feature is read are
patched by themselves: before, both runs are alike, and what is behind cannot reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glossator.errors import ConfigError
from glossator.experiments.attribution import differences, sites_below
from glossator.experiments.probing import EMBEDDING, Probe, Text
from glossator.hooks import Edit, recording
from glossator.inside import Patched

PARTS = ("attn.out", "mlp.out", "resid_post")
MOST_TOKENS = 2048
"""Tokens that are read for single positions, at most; which positions, attribution patching says.
All positions at once are always patched, but those of the stream, which brings all along."""
_TOKENS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class _Patch:
    site: str
    position: int | None
    """Start token counted; None for all."""


def patched_of(
    probe: Probe, clean: Text, corrupt: Text, direction: Literal["denoise", "noise"], n: int
) -> tuple[Patched, ...]:
    """The feature at `Text.strongest` of `clean` under each patch, most recovered first.

    Raises:
        ConfigError: if it is the same there on both texts.
    """
    both = probe.read(torch.cat([clean.ids, corrupt.ids]))  # (2, 1 + ctx)
    at = 1 + clean.strongest(both[0], corrupt)
    one, other = both[:, at].tolist()
    if abs(one - other) <= 1e-6 * max(abs(one), abs(other)):
        raise ConfigError(
            f"{probe.feature} is {one:.3g} at {clean.tokens[at - 1]!r} on both texts, so there is "
            "no difference to bring along; take a pair of which only the first makes it fire"
        )
    into, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    sites = [EMBEDDING, *sites_below(probe, PARTS)]
    first = 1 + clean.first_unlike(corrupt)
    single = [_Patch(site, position) for site in sites for position in range(first, at + 1)]
    room = MOST_TOKENS // clean.ids.shape[1]
    if len(single) > room:
        single = _foremost(probe, clean, corrupt, sites, single)[:room]
    whole = [EMBEDDING] if first == at else [s for s in sites if not s.endswith("resid_post")]
    patches = [*(_Patch(site, None) for site in whole), *single]
    given = _passing(probe, source, sites)
    # the two runs themselves are read in a batch with patched ones, so that all round alike
    rows = [(source.ids, None), (into.ids, None), *((into.ids, patch) for patch in patches)]
    end, start, *values = _read(probe, rows, given, at)
    span = end - start
    found = [
        Patched(
            patch.site,
            None if patch.position is None else patch.position - 1,
            value,
            (value - start) / span,
        )
        for patch, value in zip(patches, values, strict=True)
    ]
    return tuple(sorted(found, key=lambda found: -abs(found.recovered))[:n])


def _foremost(
    probe: Probe, clean: Text, corrupt: Text, sites: list[str], patches: Sequence[_Patch]
) -> list[_Patch]:
    """`patches`, those first that attribution patching expects most of."""
    slopes, now, then = differences(probe, clean, corrupt, sites)
    expected = {s: (g * (now[s] - then[s])).sum(dim=-1)[0].abs() for s, g in slopes.items()}

    def effect(patch: _Patch) -> float:
        assert patch.position is not None
        return float(expected[patch.site][patch.position]) if patch.site in expected else 0.0

    return sorted(patches, key=lambda patch: -effect(patch))


def _passing(probe: Probe, text: Text, sites: Sequence[str]) -> Mapping[str, Tensor]:
    """What passes each site, shape (1, 1 + ctx, width)."""
    with recording(probe.subject, sites) as kept, torch.inference_mode():
        probe.subject.body(input_ids=text.ids, use_cache=False)
    return kept


def _read(
    probe: Probe,
    rows: Sequence[tuple[Tensor, _Patch | None]],
    given: Mapping[str, Tensor],
    at: int,
) -> list[float]:
    """The feature at one token of texts of one length, each with one patch or none."""
    size = max(4, _TOKENS_AT_ONCE // rows[0][0].shape[1])
    found: list[float] = []
    for begin in range(0, len(rows), size):
        some = rows[begin : begin + size]
        of_site: dict[str, list[tuple[int, int | None]]] = {}
        for row, (_, patch) in enumerate(some):
            if patch is not None:
                of_site.setdefault(patch.site, []).append((row, patch.position))
        edits = [(site, _put(given[site], where)) for site, where in of_site.items()]
        acts = probe.read(torch.cat([ids for ids, _ in some]), edits)  # (batch, 1 + ctx)
        found += acts[:, at].tolist()
    return found


def _put(given: Tensor, where: Sequence[tuple[int, int | None]]) -> Edit:
    """Puts `given`, shape (1, 1 + ctx, width), into rows of a batch, at a position or at all."""

    def change(acts: Tensor) -> Tensor:
        changed = acts.clone()
        for row, position in where:
            if position is None:
                changed[row] = given[0]
            else:
                changed[row, position] = given[0, position]
        return changed

    return change
