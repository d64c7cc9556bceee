"""What bfloat16 changes against float32: activations, firing decisions, chosen windows, speed.

Both models read the same windows. For every layer: the error of a token's vector relative to its
length (median over tokens) at the residual stream and at the neurons; of the tokens on which a
neuron fires in either format, the share on which it fires in both; of its 20 strongest windows, the
share chosen in both. A neuron fires above its own 99th percentile, measured in each format on the
first tokens, as collection measures it. Latents fire above 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from collecting.coders import site_of
from collecting.speed import alternating, cut_after, forward, row_of, said, timed
from collecting.windows import Windows
from torch import Tensor

from glossator.sae import SparseCoder
from glossator.subject import Subject

FORMATS = ("float32", "bfloat16")
WINDOW = 32
N_TOP = 20
PERCENTILE = 0.99
CALIBRATION = 8192
"""Tokens that thresholds are measured on."""
_BATCH = 8
_COLUMNS = 1024
"""Whose percentile is taken at once; there is a limit to how many numbers torch sorts."""
_SPEED_TOKENS = 16_384


@dataclass(slots=True)
class Agreement:
    """Of the features of one site, in two formats: running counts and all window peaks."""

    thresholds: tuple[Tensor, Tensor]
    """Each of shape (n_features,)."""
    both: Tensor
    """Shape (n_features,): tokens that fire in both formats."""
    either: Tensor
    """Shape (n_features,)."""
    errors: list[Tensor] = field(default_factory=list)
    """Of each token, relative to the length of its vector, shape (n_tokens,) each."""
    peaks: tuple[list[Tensor], list[Tensor]] = field(default_factory=lambda: ([], []))
    """Of each window, shape (n_windows, n_features) each."""

    @classmethod
    def of(cls, thresholds: tuple[Tensor, Tensor]) -> Agreement:
        """Nothing counted yet."""
        zero = torch.zeros_like(thresholds[0], dtype=torch.long)
        return cls(thresholds, zero, zero.clone())

    def add(self, pair: tuple[Tensor, Tensor]) -> None:
        """Counts a batch, each of shape (batch, ctx, n_features), float32."""
        fires = [acts > limit for acts, limit in zip(pair, self.thresholds, strict=True)]
        self.both += (fires[0] & fires[1]).sum(dim=(0, 1))
        self.either += (fires[0] | fires[1]).sum(dim=(0, 1))
        self.errors.append(relative_errors(pair))
        for kept, acts in zip(self.peaks, pair, strict=True):
            ctx, n_features = acts.shape[1:]
            cut = acts[:, : ctx // WINDOW * WINDOW].reshape(-1, WINDOW, n_features)
            kept.append(cut.amax(dim=1).cpu())  # (n_windows, n_features)

    def figures(self) -> dict[str, float | None]:
        """Means over features of the shares, and the median error over tokens."""
        fired = self.either > 0
        share = self.both[fired] / self.either[fired]
        return {
            "error": float(torch.cat(self.errors).median()),
            "firing": float(share.mean()) if len(share) else None,
            "top": top_overlap(torch.cat(self.peaks[0]), torch.cat(self.peaks[1])),
        }


def relative_errors(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Length of the difference over the length of the first, shape (n_tokens,)."""
    exact, rounded = (acts.flatten(0, 1) for acts in pair)  # (n_tokens, n_features)
    length = exact.norm(dim=1)
    errors: Tensor = (exact - rounded).norm(dim=1) / length
    return errors[length > 0].cpu()


def top_overlap(exact: Tensor, rounded: Tensor) -> float | None:
    """Mean over features of the share of strongest windows that are the same.

    Ties go to the earlier window. Features with fewer windows above 0 than are kept are left out.

    Args:
        exact: shape (n_windows, n_features), peaks.
        rounded: the same in the other format.
    """
    alive = (exact > 0).sum(dim=0) >= N_TOP
    if not bool(alive.any()):
        return None
    best = [
        peaks[:, alive].sort(dim=0, descending=True, stable=True).indices[:N_TOP]
        for peaks in (exact, rounded)
    ]  # each (N_TOP, n_features)
    same = (best[0][:, None] == best[1][None]).any(dim=1)  # (N_TOP, n_features)
    return float(same.float().mean())


def study(
    subjects: Sequence[Subject], coder: SparseCoder, windows: Windows, batch: int, reps: int
) -> dict[str, list[dict[str, Any]]]:
    """The tables: by layer, for the coder, and the speed of each format.

    Args:
        subjects: the same model in `FORMATS`.
        coder: read in float32 from both.
        windows: what both read.
        batch: windows at once, for the speed.
        reps: for the speed.
    """
    neurons = [f"layers.{layer}.mlp.neurons" for layer in range(subjects[0].n_layers)]
    residual = [f"layers.{layer}.resid_post" for layer in range(subjects[0].n_layers)]
    limits = _thresholds(subjects, windows, neurons)
    layers = [Agreement.of(limit) for limit in limits]
    zeros = torch.zeros(coder.d_sae, device=coder.device)
    latents = Agreement.of((zeros, zeros))
    errors: list[list[Tensor]] = [[] for _ in residual]
    active = [0, 0]
    for pair in _read(subjects, windows, [*neurons, *residual]):
        for agreement, site in zip(layers, neurons, strict=True):
            agreement.add(_at(pair, site))
        for kept, site in zip(errors, residual, strict=True):
            kept.append(relative_errors(_at(pair, site)))
        exact, rounded = _at(pair, site_of(coder))
        encoded = coder.encode(exact), coder.encode(rounded)
        latents.add(encoded)
        active = [n + int((z > 0).sum()) for n, z in zip(active, encoded, strict=True)]
    return {
        "layers": [
            {
                "layer": layer,
                "residual error": float(torch.cat(kept).median()),
                **agreement.figures(),
            }
            for layer, (kept, agreement) in enumerate(zip(errors, layers, strict=True))
        ],
        "coder": [
            {"name": coder.name, **latents.figures()}
            | {
                f"active {name}": n / windows.n_tokens
                for name, n in zip(FORMATS, active, strict=True)
            }
        ],
        "speed": _speeds(subjects, windows, batch, reps),
    }


def _at(pair: tuple[dict[str, Tensor], dict[str, Tensor]], site: str) -> tuple[Tensor, Tensor]:
    return pair[0][site].float(), pair[1][site].float()


def _read(
    subjects: Sequence[Subject], windows: Windows, sites: list[str]
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """What both formats give for the same windows, batch by batch."""
    for first in range(0, len(windows.token_ids), _BATCH):
        some = windows.token_ids[first : first + _BATCH]
        if first % (32 * _BATCH) == 0:
            said(f"{first}/{len(windows.token_ids)} windows compared")
        yield subjects[0].read(some, sites), subjects[1].read(some, sites)


def _thresholds(
    subjects: Sequence[Subject], windows: Windows, sites: list[str]
) -> list[tuple[Tensor, Tensor]]:
    """For each site the features' percentiles in each format, not below 0."""
    some = windows.first(max(1, CALIBRATION // windows.ctx))
    kept: dict[str, tuple[list[Tensor], list[Tensor]]] = {site: ([], []) for site in sites}
    for pair in _read(subjects, some, sites):
        for site in sites:
            for values, acts in zip(kept[site], pair, strict=True):
                values.append(acts[site].flatten(0, 1).cpu())
    device = subjects[0].device
    return [
        (
            _percentile(torch.cat(kept[site][0])).to(device),
            _percentile(torch.cat(kept.pop(site)[1])).to(device),
        )
        for site in sites
    ]


def _percentile(values: Tensor) -> Tensor:
    """Of each column of (n_tokens, n_features), not below 0."""
    parts = torch.split(values.float(), _COLUMNS, dim=1)
    return torch.cat([torch.quantile(part, PERCENTILE, dim=0) for part in parts]).clamp(min=0)


def _speeds(
    subjects: Sequence[Subject], windows: Windows, batch: int, reps: int
) -> list[dict[str, Any]]:
    windows = windows.first(max(1, _SPEED_TOKENS // (windows.ctx * batch)) * batch)
    rows = torch.split(windows.rows(subjects[0].start_token_id), batch)

    def task(subject: Subject) -> Any:
        with cut_after(subject, None):
            return timed(subject, windows.n_tokens, lambda: forward(subject, rows))

    for subject in subjects:
        forward(subject, rows[:1])
    tasks = {
        f"forward {name}": (lambda subject=subject: task(subject))
        for name, subject in zip(FORMATS, subjects, strict=True)
    }
    runs = alternating(tasks, reps)
    base = runs[f"forward {FORMATS[0]}"]
    return [row_of(name, timed, base) for name, timed in runs.items()]
