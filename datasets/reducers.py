"""Streaming reducers: what is kept of the activations, whatever the number of tokens.

A `PoolReducer` sees the windows of one pool in any order, in batches of any size, and two of them
can be merged: the result is the same to the bit. That holds because windows are chosen by (value,
window id), samples by the least hashes of (seed, feature, window id), and sums are added as whole
numbers. Its size depends on the number of features and of kept windows, never on that of tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossator.errors import ConfigError
from glossator.types import FeatureId

NO_WINDOW = torch.iinfo(torch.int64).max
"""Window id of a slot that holds none."""

_START_BITS = 32
_LOWEST, _HIGHEST = -12, 16
"""Powers of two between which the histogram resolves magnitudes, two bins to each."""
_MAGNITUDES = 2 * (_HIGHEST - _LOWEST) + 1
N_BINS = 2 * _MAGNITUDES - 1
"""Bins of the histogram: magnitudes below zero, one around zero, magnitudes above zero."""
_FRACTION = 2.0**40
"""Parts of a whole that sums are kept in."""


def window_id(number: int, start: int) -> int:
    """A document's place in the corpus and a window's first token, as one number.

    Raises:
        ConfigError: if either is too large for it.
    """
    if not (0 <= number < 1 << 31 and 0 <= start < 1 << _START_BITS):
        raise ConfigError(f"window {start} of document {number} is beyond what can be numbered")
    return number << _START_BITS | start


def histogram_edges() -> list[float]:
    """Edges between the `N_BINS` bins, shape (N_BINS - 1,), raw units, ascending.

    The outermost bins are open. Magnitudes run in steps of 1 and 1.5 times a power of two.
    """
    steps = [2.0**power * part for power in range(_LOWEST, _HIGHEST) for part in (1.0, 1.5)]
    return [-step for step in reversed(steps)] + steps


def feature_keys(features: Sequence[FeatureId], seed: int) -> Tensor:
    """A random-looking number for each feature, shape (n_features,), from its name and `seed`."""
    numbers = [
        int.from_bytes(hashlib.sha256(f"{seed} {feature}".encode()).digest()[:8], signed=True)
        for feature in features
    ]
    return torch.tensor(numbers, dtype=torch.int64)


def priorities(keys: Tensor, ids: Tensor) -> Tensor:
    """Numbers from 0 to 2^62 that look random, shape (n_features, n_windows).

    The same feature key and window id always give the same, so the windows with the least are a
    uniform sample whatever the order they came in.
    """
    return _mixed(keys[:, None] ^ _mixed(ids)[None, :]) & ((1 << 62) - 1)


def _mixed(values: Tensor) -> Tensor:
    """Each 64-bit value scrambled one to one (the finish of splitmix64)."""
    values = values + -0x61C8864680B583EB
    values = (values ^ (values >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    values = (values ^ (values >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return values ^ (values >> 31 & (1 << 33) - 1)


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Some windows of one pool with the activations of all features."""

    ids: Tensor
    """Shape (n_windows,), int64: `window_id` of each, all different."""
    lengths: Tensor
    """Shape (n_windows,), int64: how many tokens each has."""
    acts: Tensor
    """Shape (n_windows, window, n_features), float32, sign turned for negative tails, 0 behind
    the end of a short window."""


class KeptWindows:
    """For each feature the `k` windows with the least (key, id), with their activations."""

    def __init__(self, n_features: int, k: int, window: int, key: torch.dtype, device: str) -> None:
        self.keys = torch.full((n_features, k), _worst(key), dtype=key, device=device)
        self.ids = torch.full((n_features, k), NO_WINDOW, dtype=torch.int64, device=device)
        self.acts = torch.zeros((n_features, k, window), dtype=torch.float32, device=device)

    def offer(self, keys: Tensor, ids: Tensor, acts: Tensor) -> None:
        """Takes in windows; those with the worst possible key are no candidates.

        Args:
            keys: shape (n_features, n_windows).
            ids: shape (n_windows,).
            acts: shape (n_windows, window, n_features).
        """
        if not self.ids.shape[1]:
            return
        rows = (keys <= self.keys[:, -1:]).logical_and(keys < _worst(keys.dtype)).any(dim=1)
        changed = rows.nonzero()[:, 0]  # (n_changed,)
        if not len(changed):
            return
        keys = keys[changed]
        new_ids = ids.expand(len(changed), -1).masked_fill(keys == _worst(keys.dtype), NO_WINDOW)
        chosen, k = self._choose(changed, keys, new_ids), self.ids.shape[1]  # (n_changed, k)
        held = self.acts[changed].gather(
            1, chosen.clamp(max=k - 1)[:, :, None].expand(-1, -1, self.acts.shape[2])
        )  # (n_changed, k, window)
        row, slot = (chosen >= k).nonzero(as_tuple=True)
        held[row, slot] = acts[chosen[row, slot] - k, :, changed[row]]  # (n_new, window)
        self.acts[changed] = held

    def merge(self, other: KeptWindows) -> None:
        """Takes in all that `other` holds."""
        k = self.ids.shape[1]
        everything = torch.arange(len(self.ids), device=self.ids.device)
        chosen = self._choose(everything, other.keys, other.ids)  # (n_features, k)
        both = torch.cat([self.acts, other.acts], dim=1)  # (n_features, 2 k, window)
        self.acts = both.gather(1, chosen[:, :, None].expand(-1, k, both.shape[2]))

    def _choose(self, rows: Tensor, keys: Tensor, ids: Tensor) -> Tensor:
        """Sets keys and ids of `rows` to the best of old and new; which those are, old first."""
        all_keys = torch.cat([self.keys[rows], keys], dim=1)  # (n_rows, k + n_windows)
        all_ids = torch.cat([self.ids[rows], ids], dim=1)  # (n_rows, k + n_windows)
        # first by id, then stably by key: ties of the key keep the order of the ids
        by_id = all_ids.argsort(dim=1, stable=True)
        by_key = all_keys.gather(1, by_id).argsort(dim=1, stable=True)
        chosen = by_id.gather(1, by_key)[:, : self.ids.shape[1]]  # (n_rows, k)
        self.keys[rows] = all_keys.gather(1, chosen)
        self.ids[rows] = all_ids.gather(1, chosen)
        return chosen


def _worst(key: torch.dtype) -> float | int:
    return torch.inf if key.is_floating_point else torch.iinfo(key).max


class PoolReducer:
    """All that is kept of one pool's windows, for all features at once.

    Args:
        thresholds: shape (n_features,), float32: a token fires above it; at least 0.
        keys: shape (n_features,), from `feature_keys`.
        window: longest window, in tokens.
        n_top: strongest windows kept.
        n_firing: other firing windows that shall be left when the strongest are taken out.
        n_silent: silent windows kept.
        device: where the state lives and the work is done.
    """

    def __init__(
        self,
        thresholds: Tensor,
        keys: Tensor,
        *,
        window: int,
        n_top: int,
        n_firing: int,
        n_silent: int,
        device: str = "cpu",
    ) -> None:
        n = len(thresholds)
        self.thresholds = thresholds.to(device=device, dtype=torch.float32)
        self._keys = keys.to(device)
        self.top = KeptWindows(n, n_top, window, torch.float32, device)
        # the strongest may all be in the sample too, and are taken out of it at the end
        self.firing = KeptWindows(n, n_firing + n_top, window, torch.int64, device)
        self.silent = KeptWindows(n, n_silent, window, torch.int64, device)
        self.n_windows = 0
        self.n_tokens = 0
        self.firing_windows = torch.zeros(n, dtype=torch.int64, device=device)
        self.firing_tokens = torch.zeros(n, dtype=torch.int64, device=device)
        self.lowest = torch.full((n,), torch.inf, device=device)
        self.highest = torch.full((n,), -torch.inf, device=device)
        self.histogram = torch.zeros((n, N_BINS), dtype=torch.int64, device=device)
        self._sums = torch.zeros((n, 2, 2), dtype=torch.int64, device=device)
        """Sum and sum of squares, each as wholes and 2^-40ths."""

    def update(self, batch: WindowBatch) -> None:
        """Takes in some windows, none of which it has seen.

        Raises:
            ConfigError: if an activation is NaN or infinite.
        """
        acts = batch.acts  # (n_windows, window, n_features)
        window = acts.shape[1]
        there = torch.arange(window, device=acts.device) < batch.lengths[:, None]
        outside = ~there[:, :, None]  # (n_windows, window, 1)
        short = bool(outside.any())
        high = acts.masked_fill(outside, -torch.inf) if short else acts
        low = acts.masked_fill(outside, torch.inf) if short else acts
        peaks = high.amax(dim=1)  # (n_windows, n_features)
        self._add_moments(acts)
        self.highest = torch.maximum(self.highest, peaks.amax(dim=0))
        self.lowest = torch.minimum(self.lowest, low.amin(dim=(0, 1)))
        n_tokens = int(batch.lengths.sum())
        self.n_windows += len(batch.ids)
        self.n_tokens += n_tokens
        # behind the end of a window stands 0, which is above no threshold
        self.firing_tokens += (acts > self.thresholds).sum(dim=(0, 1))
        self._add_histogram(acts, padding=acts.shape[0] * window - n_tokens)

        peaks = peaks.T.contiguous()  # (n_features, n_windows)
        fires = peaks > self.thresholds[:, None]  # (n_features, n_windows)
        self.firing_windows += fires.sum(dim=1)
        self.top.offer(torch.where(fires, -peaks, torch.inf), batch.ids, acts)
        chance = priorities(self._keys, batch.ids)  # (n_features, n_windows)
        never = torch.iinfo(torch.int64).max
        self.firing.offer(chance.masked_fill(~fires, never), batch.ids, acts)
        self.silent.offer(chance.masked_fill(fires, never), batch.ids, acts)

    def merge(self, other: PoolReducer) -> None:
        """Takes in all that `other`, which saw other windows of the same features, has kept."""
        self.n_windows += other.n_windows
        self.n_tokens += other.n_tokens
        self.firing_windows += other.firing_windows
        self.firing_tokens += other.firing_tokens
        self.lowest = torch.minimum(self.lowest, other.lowest)
        self.highest = torch.maximum(self.highest, other.highest)
        self.histogram += other.histogram
        self._sums = _carried(self._sums + other._sums)
        for mine, theirs in zip(self._windows(), other._windows(), strict=True):
            mine.merge(theirs)

    def moments(self, row: int) -> tuple[float, float]:
        """Sum and sum of squares of all activations of the feature that is number `row`."""
        first, second = self._sums[row].tolist()
        return first[0] + first[1] / _FRACTION, second[0] + second[1] / _FRACTION

    def state(self) -> dict[str, Tensor]:
        """Everything that is kept, by name."""
        kept = {
            f"{name}.{field}": getattr(windows, field)
            for name, windows in zip(("top", "firing", "silent"), self._windows(), strict=True)
            for field in ("keys", "ids", "acts")
        }
        return kept | {
            "counts": torch.tensor([self.n_windows, self.n_tokens]),
            "firing_windows": self.firing_windows,
            "firing_tokens": self.firing_tokens,
            "lowest": self.lowest,
            "highest": self.highest,
            "histogram": self.histogram,
            "sums": self._sums,
        }

    def _windows(self) -> tuple[KeptWindows, KeptWindows, KeptWindows]:
        return self.top, self.firing, self.silent

    def _add_moments(self, acts: Tensor) -> None:
        sums = torch.stack([_summed(acts), _summed(acts * acts)], dim=-1).double()
        if not bool(torch.isfinite(sums).all()):  # (n_windows, n_features, 2)
            raise ConfigError("an activation is NaN or infinite; read the subject in float32")
        wholes = sums.floor()
        parts = ((sums - wholes) * _FRACTION).round()
        split = torch.stack([wholes, parts], dim=-1).long()  # (n_windows, n_features, 2, 2)
        self._sums = _carried(self._sums + split.sum(dim=0))

    def _add_histogram(self, acts: Tensor, padding: int) -> None:
        # a float's exponent and first bit of its fraction number the half octaves
        half_octaves = (acts.contiguous().view(torch.int32) & 0x7FFFFFFF) >> 22
        zero = ((_LOWEST + 127) << 1) - 1
        magnitude = (half_octaves - zero).clamp_(0, _MAGNITUDES - 1)
        bins = torch.where(acts < 0, -magnitude, magnitude).add_(_MAGNITUDES - 1)
        n = acts.shape[2]
        bins = bins.long().add_(torch.arange(n, device=acts.device) * N_BINS)
        self.histogram += torch.bincount(bins.flatten(), minlength=n * N_BINS).view(n, N_BINS)
        self.histogram[:, _MAGNITUDES - 1] -= padding


def _summed(acts: Tensor) -> Tensor:
    """Sum over dimension 1, in an order of additions that depends on nothing but its length."""
    while acts.shape[1] > 1:
        half = acts.shape[1] // 2
        paired = acts[:, :half] + acts[:, half : 2 * half]
        odd = acts[:, 2 * half :]
        acts = torch.cat([paired, odd], dim=1) if odd.shape[1] else paired
    return acts[:, 0]


def _carried(sums: Tensor) -> Tensor:
    """The same sums with less than a whole in the parts, so that neither overflows."""
    return torch.stack(
        [sums[..., 0] + (sums[..., 1] >> 40), sums[..., 1] & ((1 << 40) - 1)], dim=-1
    )


class LargestValues:
    """The `m` largest activations of each feature, for a percentile that is exact."""

    def __init__(self, n_features: int, m: int, device: str = "cpu") -> None:
        self._values = torch.full((n_features, m), -torch.inf, device=device)
        self.n_tokens = 0

    def update(self, batch: WindowBatch) -> None:
        """Takes in some windows."""
        acts = batch.acts
        there = torch.arange(acts.shape[1], device=acts.device) < batch.lengths[:, None]
        new = acts[there].T  # (n_features, n_tokens)
        self.n_tokens += new.shape[1]
        both = torch.cat([self._values, new], dim=1)  # (n_features, m + n_tokens)
        self._values = both.topk(self._values.shape[1], dim=1).values

    def percentile(self, q: float) -> Tensor:
        """Shape (n_features,): the `q`-th percentile, in (0, 100), linear between two values.

        Raises:
            ValueError: if too few values were kept to know it.
        """
        place = (self.n_tokens - 1) * q / 100
        below = int(place)
        from_top = self.n_tokens - 1 - below
        if not 0 <= from_top < self._values.shape[1]:
            raise ValueError(f"{self._values.shape[1]} values kept of {self.n_tokens}: too few")
        lower = self._values[:, from_top].double()
        upper = self._values[:, max(from_top - 1, 0)].double()
        return (lower + (upper - lower) * (place - below)).float()
