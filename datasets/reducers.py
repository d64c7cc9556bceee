"""What is kept of all activations, whatever the number of tokens.

A `PoolReducer` sees the windows of one pool in any order, in batches of any size, and two of them
can be merged: the result is the same to the bit. That holds because windows are chosen by (value,
window id), samples by the least hashes of (seed, feature, window id), and sums are added as whole
numbers. Its size depends on the number of features and of kept windows, never on that of tokens.

Scalars of a site are *columns*; a feature is a *row*: a column's positive or its negative tail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glossator.errors import ConfigError, NotFinite
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
_LARGEST = 4e18
"""Sums of squares of a window beyond this cannot be kept so."""
_PRIORITIES = (1 << 31) - 1


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
    """Numbers from 0 to 2^31 that look random, int32, shape (n_features, n_windows).

    The same feature key and window id always give the same, so the windows with the least are a
    uniform sample whatever the order they came in.
    """
    return (_mixed(keys[:, None] ^ _mixed(ids)[None, :]) & _PRIORITIES).int()


def _mixed(values: Tensor) -> Tensor:
    """Each 64-bit value scrambled one to one (the finish of splitmix64)."""
    values = values + -0x61C8864680B583EB
    values = (values ^ (values >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    values = (values ^ (values >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return values ^ (values >> 31 & (1 << 33) - 1)


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Some windows of one pool with the activations of all columns."""

    lines: Tensor
    """Shape (n_lines, n_columns), float32 or bfloat16, contiguous: one line for each token of the
    batch."""
    first: Tensor
    """Shape (n_windows,), int64: line of each window's first token."""
    lengths: Tensor
    """Shape (n_windows,), int64: how many tokens each has."""
    ids: Tensor
    """Shape (n_windows,), int64: `window_id` of each, all different."""
    bins: Tensor
    """Shape (n_windows, window), int16: position bin of each token."""


class KeptWindows:
    """For each row the `k` windows with the least (key, id).

    Their order in memory means nothing until `sort` is called.
    """

    def __init__(self, n_rows: int, k: int, key: torch.dtype, device: str, window: int) -> None:
        self.keys = torch.full((n_rows, k), _worst(key), dtype=key, device=device)
        self.ids = torch.full((n_rows, k), NO_WINDOW, dtype=torch.int64, device=device)
        self.ats = torch.zeros((n_rows, k), dtype=torch.int16, device=device)
        """Place of the peak in the window."""
        self.peaks = torch.zeros((n_rows, k), dtype=torch.float32, device=device)
        self.acts = torch.zeros((n_rows if window else 0, k, window), device=device)
        """Shape (n_rows, k, window), or (0, k, 0) where activations are not kept."""
        self.worst = torch.zeros(n_rows, dtype=torch.int32, device=device)
        """Slot of the window that would go first."""
        self.bounds = torch.full((n_rows,), _worst(key), dtype=key, device=device)
        """Key of that window; only what is at most that can be better."""

    def offer(
        self, rows: Tensor, keys: Tensor, ids: Tensor, ats: Tensor, peaks: Tensor, acts: Tensor
    ) -> None:
        """Takes in windows; those with the worst possible key are no candidates.

        Args:
            rows: shape (n_rows,), which rows are meant.
            keys: shape (n_rows, n_windows).
            ids: shape (n_windows,).
            ats: shape (n_rows, n_windows), place of the peak in the window.
            peaks: shape (n_rows, n_windows).
            acts: shape (n_windows, window, n_rows).
        """
        k = self.ids.shape[1]
        if not k:
            return
        held = self.keys[rows].amax(dim=1, keepdim=True)  # (n_rows, 1)
        some = (keys <= held).logical_and(keys < _worst(keys.dtype)).any(dim=1)
        changed = some.nonzero()[:, 0]  # (n_changed,)
        if not len(changed):
            return
        rows, keys = rows[changed], keys[changed]
        new_ids = ids.expand(len(changed), -1).masked_fill(keys == _worst(keys.dtype), NO_WINDOW)
        chosen = self._choose(rows, keys, new_ids)  # (n_changed, k)
        for mine, new in ((self.ats, ats), (self.peaks, peaks)):
            mine[rows] = torch.cat([mine[rows], new[changed]], dim=1).gather(1, chosen)
        if len(self.acts):
            kept = self.acts[rows].gather(
                1, chosen.clamp(max=k - 1)[:, :, None].expand(-1, -1, self.acts.shape[2])
            )  # (n_changed, k, window)
            row, slot = (chosen >= k).nonzero(as_tuple=True)
            kept[row, slot] = acts[chosen[row, slot] - k, :, changed[row]]  # (n_new, window)
            self.acts[rows] = kept

    def merge(self, other: KeptWindows) -> None:
        """Takes in all that `other` holds."""
        k = self.ids.shape[1]
        everything = torch.arange(len(self.ids), device=self.ids.device)
        chosen = self._choose(everything, other.keys, other.ids)  # (n_rows, k)
        self.ats = torch.cat([self.ats, other.ats], dim=1).gather(1, chosen)
        self.peaks = torch.cat([self.peaks, other.peaks], dim=1).gather(1, chosen)
        if len(self.acts):
            both = torch.cat([self.acts, other.acts], dim=1)  # (n_rows, 2 k, window)
            self.acts = both.gather(1, chosen[:, :, None].expand(-1, k, both.shape[2]))

    def sort(self) -> None:
        """Puts each row's windows in order, the best first."""
        nothing = torch.zeros((len(self.ids), 0), dtype=torch.int64, device=self.ids.device)
        everything = torch.arange(len(self.ids), device=self.ids.device)
        chosen = self._choose(everything, nothing.to(self.keys.dtype), nothing)
        self.ats = self.ats.gather(1, chosen)
        self.peaks = self.peaks.gather(1, chosen)
        if len(self.acts):
            places = chosen[:, :, None].expand(-1, -1, self.acts.shape[2])
            self.acts = self.acts.gather(1, places)

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
        if self.ids.shape[1]:
            self.worst[rows] = self.ids.shape[1] - 1
            self.bounds[rows] = self.keys[rows, -1]
        return chosen

    def arrays(self) -> tuple[Any, ...]:
        """Views for the kernel: keys, ids, ats, peaks, worst, bounds, acts."""
        tensors = (self.keys, self.ids, self.ats, self.peaks, self.worst, self.bounds, self.acts)
        return tuple(tensor.numpy() for tensor in tensors)


def _worst(key: torch.dtype) -> float | int:
    return torch.inf if key.is_floating_point else torch.iinfo(key).max


@dataclass(frozen=True, slots=True)
class Kept:
    """How much a reducer keeps of each row."""

    window: int
    """Longest window, in tokens."""
    n_top: int
    """Strongest windows."""
    n_firing: int
    """Other firing windows that shall be left when the strongest are taken out."""
    n_silent: int
    """Silent windows."""
    n_positions: int = 0
    """Bins of the position in the context; 0 counts none."""
    acts: bool = True
    """Whether the activations of kept windows are kept, and not their peaks alone."""

    def bytes_a_row(self) -> int:
        """What one feature takes in one pool, about."""
        windows = self.n_top + self.n_firing + self.n_top + self.n_silent
        return windows * (18 + 4 * self.window * self.acts) + 4 * self.n_positions + 8 * N_BINS


class PoolReducer:
    """All that is kept of one pool's windows, for all rows at once.

    Args:
        thresholds: shape (n_rows,), float32: a token fires above it; at least 0.
        keys: shape (n_rows,), from `feature_keys`.
        rows: shape (n_columns, 2), int32: row of each column's positive and negative tail, or -1.
        kept: how much is kept.
        device: where the state lives and the work is done.
        compiled: whether to use the compiled pass, which only a CPU can; by default where it can.
    """

    def __init__(
        self,
        thresholds: Tensor,
        keys: Tensor,
        rows: Tensor,
        kept: Kept,
        device: str = "cpu",
        compiled: bool | None = None,
    ) -> None:
        n, n_columns = len(thresholds), len(rows)
        self.kept = kept
        self._compiled = device == "cpu" if compiled is None else compiled
        self.rows = rows.to(device)
        self.thresholds = thresholds.to(device=device, dtype=torch.float32)
        self._keys = keys.to(device)
        window = kept.window if kept.acts else 0
        self.top = KeptWindows(n, kept.n_top, torch.float32, device, window)
        # the strongest may all be in the sample too, and are taken out of it at the end
        n_firing = kept.n_firing + kept.n_top
        self.firing = KeptWindows(n, n_firing, torch.int32, device, window)
        self.silent = KeptWindows(n, kept.n_silent, torch.int32, device, window)
        self.counts = torch.zeros(2, dtype=torch.int64)
        """Windows, and tokens in them."""
        self.firing_windows = torch.zeros(n, dtype=torch.int64, device=device)
        self.firing_tokens = torch.zeros(n, dtype=torch.int64, device=device)
        self.firing_positions = torch.zeros(
            (n if kept.n_positions else 0, kept.n_positions), dtype=torch.int32, device=device
        )
        self.positions = torch.zeros(kept.n_positions, dtype=torch.int64, device=device)
        """Shape (n_positions,): tokens read at each."""
        self.lowest = torch.full((n_columns,), torch.inf, device=device)
        self.highest = torch.full((n_columns,), -torch.inf, device=device)
        self.histogram = torch.zeros((n_columns, N_BINS), dtype=torch.int64, device=device)
        self._sums = torch.zeros((n_columns, 2, 2), dtype=torch.int64, device=device)
        """Sum and sum of squares, each as wholes and 2^-40ths."""
        tails = self.rows.cpu()
        self._column = torch.zeros(n, dtype=torch.int64)
        self._negative = torch.zeros(n, dtype=torch.bool)
        for tail in range(2):
            (columns,) = (tails[:, tail] >= 0).nonzero(as_tuple=True)
            self._column[tails[columns, tail].long()] = columns
            self._negative[tails[columns, tail].long()] = bool(tail)

    @property
    def n_windows(self) -> int:
        """How many windows were taken in."""
        return int(self.counts[0])

    @property
    def n_tokens(self) -> int:
        """How many tokens these have."""
        return int(self.counts[1])

    def update(self, batch: WindowBatch) -> None:
        """Takes in some windows, none of which it has seen.

        Raises:
            NotFinite: if an activation is NaN or infinite; what is kept is of no use then. It
                names no feature; `not_finite` tells the rows.
        """
        if not len(batch.ids):
            return
        inside = _inside(batch, self.kept.window)  # (n_windows, window)
        if self.kept.n_positions:
            read = batch.bins[inside].long()  # (n_tokens,)
            self.positions += torch.bincount(read, minlength=self.kept.n_positions)
        here = self._compiled
        finite = self._reduce_here(batch) if here else self._reduce_there(batch, inside)
        if not finite:
            raise NotFinite("an activation is NaN or infinite; read the subject in float32")
        self._sums = _carried(self._sums)
        self.counts += torch.tensor([len(batch.ids), int(batch.lengths.sum())])

    def not_finite(self, batch: WindowBatch) -> list[int]:
        """The rows of features of which `batch` holds an activation that is NaN or infinite."""
        inside = _inside(batch, self.kept.window)  # (n_windows, window)
        squares = self._cut(batch, inside).double().square().sum(dim=1)  # (n_windows, n_columns)
        (columns,) = (~(squares < _LARGEST)).any(dim=0).nonzero(as_tuple=True)
        return [int(row) for row in self.rows[columns].flatten() if row >= 0]

    def merge(self, other: PoolReducer) -> None:
        """Takes in all that `other`, which saw other windows of the same features, has kept."""
        self.counts += other.counts
        self.firing_windows += other.firing_windows
        self.firing_tokens += other.firing_tokens
        self.firing_positions += other.firing_positions
        self.positions += other.positions
        self.lowest = torch.minimum(self.lowest, other.lowest)
        self.highest = torch.maximum(self.highest, other.highest)
        self.histogram += other.histogram
        self._sums = _carried(self._sums + other._sums)
        for mine, theirs in zip(self.windows(), other.windows(), strict=True):
            mine.merge(theirs)

    def moments(self, row: int) -> tuple[float, float]:
        """Sum and sum of squares of all activations of the feature that is number `row`."""
        first, second = self._sums[self._column[row]].tolist()
        total = first[0] + first[1] / _FRACTION
        return -total if self._negative[row] else total, second[0] + second[1] / _FRACTION

    def extremes(self, row: int) -> tuple[float, float]:
        """Lowest and highest activation of the feature that is number `row`."""
        column = self._column[row]
        low, high = float(self.lowest[column]), float(self.highest[column])
        return (-high, -low) if self._negative[row] else (low, high)

    def counts_by_bin(self, row: int) -> Tensor:
        """Shape (N_BINS,): tokens in each bin of the histogram of the feature number `row`."""
        counts = self.histogram[self._column[row]].cpu()
        return counts.flip(0) if self._negative[row] else counts

    def state(self) -> dict[str, Tensor]:
        """Everything that is kept, by name, in an order that the input's order does not change."""
        for windows in self.windows():
            windows.sort()
        fields = ("keys", "ids", "ats", "peaks", "acts")
        return {
            f"{name}.{field}": getattr(windows, field)
            for name, windows in zip(("top", "firing", "silent"), self.windows(), strict=True)
            for field in fields
        } | {name: getattr(self, name) for name in _COUNTED}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave, in place of all that is kept.

        Raises:
            ConfigError: if it is of other features or settings.
        """
        mine = self.state()
        if {n: (t.shape, t.dtype) for n, t in mine.items()} != {
            n: (t.shape, t.dtype) for n, t in state.items()
        }:
            raise ConfigError("what was kept is of other features or other settings")
        for name, tensor in state.items():
            mine[name].copy_(tensor)
        for windows in self.windows():
            windows.sort()  # which finds out anew what would go first

    def windows(self) -> tuple[KeptWindows, KeptWindows, KeptWindows]:
        """The strongest, the sampled firing and the sampled silent windows."""
        return self.top, self.firing, self.silent

    def _reduce_here(self, batch: WindowBatch) -> bool:
        """On a CPU: everything in one compiled pass."""
        from glossator.datasets.kernel import in_threads, reduce_windows

        n_columns = batch.lines.shape[1]
        finite = np.ones(n_columns, dtype=np.bool_)
        in_threads(
            reduce_windows,
            n_columns,
            torch.get_num_threads(),
            finite,
            _bits(batch.lines),
            batch.first.numpy(),
            batch.lengths.numpy(),
            batch.ids.numpy(),
            _mixed(batch.ids).numpy(),
            batch.bins.numpy(),
            self.rows.numpy(),
            self.thresholds.numpy(),
            self._keys.numpy(),
            self.lowest.numpy(),
            self.highest.numpy(),
            self._sums.numpy(),
            self.histogram.numpy(),
            _LOWEST,
            _MAGNITUDES,
            self.firing_windows.numpy(),
            self.firing_tokens.numpy(),
            self.firing_positions.numpy(),
            self.top.arrays(),
            self.firing.arrays(),
            self.silent.arrays(),
        )
        return bool(finite.all())

    def _reduce_there(self, batch: WindowBatch, inside: Tensor) -> bool:
        """On any device: the same with tensors."""
        cut = self._cut(batch, inside)
        finite = self._add_moments(cut)
        self._add_histogram(cut, padding=int((~inside).sum()))
        outside = ~inside[:, :, None]  # (n_windows, window, 1)
        low = cut.masked_fill(outside, torch.inf).amin(dim=(0, 1))
        high = cut.masked_fill(outside, -torch.inf).amax(dim=(0, 1))
        self.lowest = torch.minimum(self.lowest, low)
        self.highest = torch.maximum(self.highest, high)
        for tail in range(2):
            (columns,) = (self.rows[:, tail] >= 0).nonzero(as_tuple=True)
            if not len(columns):
                continue
            rows = self.rows[columns, tail].long()  # (n_rows,)
            acts = -cut[:, :, columns] if tail else cut[:, :, columns]
            self._reduce_tail(rows, acts, outside, batch)
        return finite

    def _cut(self, batch: WindowBatch, inside: Tensor) -> Tensor:
        """Shape (n_windows, window, n_columns): the activations, 0 behind the end of a window."""
        steps = torch.arange(self.kept.window, device=batch.first.device)
        places = batch.first[:, None] + steps
        cut = batch.lines[places.clamp(max=len(batch.lines) - 1)].float()
        return cut.masked_fill(~inside[:, :, None], 0.0)

    def _reduce_tail(self, rows: Tensor, acts: Tensor, outside: Tensor, batch: WindowBatch) -> None:
        limits = self.thresholds[rows]  # (n_rows,)
        peaks, ats = acts.masked_fill(outside, -torch.inf).max(dim=1)  # (n_windows, n_rows)
        # the first of equals: which one max gives is not said on every device
        ats = (acts == peaks[:, None]).int().argmax(dim=1)
        # behind the end of a window stands 0, which is above no threshold
        above = acts > limits  # (n_windows, window, n_rows)
        self.firing_tokens[rows] += above.sum(dim=(0, 1))
        if self.kept.n_positions:
            n = self.kept.n_positions
            found = above.nonzero()  # (n_firing, 3): window, token, row
            bins = batch.bins[found[:, 0], found[:, 1]].long()
            flat = torch.bincount(found[:, 2] * n + bins, minlength=len(rows) * n)
            self.firing_positions[rows] += flat.view(-1, n).int()
        peaks, ats = peaks.T.contiguous(), ats.T.to(torch.int16)  # (n_rows, n_windows)
        fires = peaks > limits[:, None]
        self.firing_windows[rows] += fires.sum(dim=1)
        never = torch.iinfo(torch.int32).max
        chance = priorities(self._keys[rows], batch.ids)  # (n_rows, n_windows)
        nothing, nowhere = torch.zeros_like(peaks), torch.zeros_like(ats)
        self.top.offer(rows, torch.where(fires, -peaks, torch.inf), batch.ids, ats, nothing, acts)
        self.firing.offer(rows, chance.masked_fill(~fires, never), batch.ids, ats, peaks, acts)
        self.silent.offer(rows, chance.masked_fill(fires, never), batch.ids, nowhere, nothing, acts)

    def _add_moments(self, acts: Tensor) -> bool:
        sums = torch.zeros((*acts.shape[::2], 2), dtype=torch.float64, device=acts.device)
        for step in acts.unbind(dim=1):  # (n_windows, n_columns); one by one, as the kernel adds
            wide = step.double()
            sums[:, :, 0] += wide
            sums[:, :, 1] += wide * wide
        if not bool((sums[:, :, 1] < _LARGEST).all()):
            return False
        wholes = sums.floor()
        parts = ((sums - wholes) * _FRACTION).round()
        split = torch.stack([wholes, parts], dim=-1).long()  # (n_windows, n_columns, 2, 2)
        self._sums = self._sums + split.sum(dim=0)
        return True

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


_COUNTED = (
    "counts",
    "firing_windows",
    "firing_tokens",
    "firing_positions",
    "positions",
    "lowest",
    "highest",
    "histogram",
    "_sums",
)


def _bits(lines: Tensor) -> Any:
    """What the kernel takes: bfloat16, which numpy lacks, as int16 of the same bits."""
    return (lines.view(torch.int16) if lines.dtype == torch.bfloat16 else lines).numpy()


def _inside(batch: WindowBatch, window: int) -> Tensor:
    """Shape (n_windows, window): whether there is a token."""
    return torch.arange(window, device=batch.lengths.device) < batch.lengths[:, None]


def _carried(sums: Tensor) -> Tensor:
    """The same sums with less than a whole in the parts, so that neither overflows."""
    return torch.stack(
        [sums[..., 0] + (sums[..., 1] >> 40), sums[..., 1] & ((1 << 40) - 1)], dim=-1
    )


class LargestValues:
    """The `m` largest activations of each row, for a percentile that is exact."""

    def __init__(self, rows: Tensor, m: int, device: str = "cpu") -> None:
        self.rows = rows.to(device)
        n = int(rows.max()) + 1
        self._m = m
        self._values = torch.full((n, 2 * m), -torch.inf, device=device)
        self._filled = torch.zeros(n, dtype=torch.int64, device=device)
        self._bounds = torch.full((n,), -torch.inf, device=device)
        self.n_tokens = 0

    def update(self, batch: WindowBatch) -> None:
        """Takes in some windows."""
        self.n_tokens += int(batch.lengths.sum())
        if self._values.device.type == "cpu":
            from glossator.datasets.kernel import in_threads, largest_values

            in_threads(
                largest_values,
                batch.lines.shape[1],
                torch.get_num_threads(),
                _bits(batch.lines),
                batch.first.numpy(),
                batch.lengths.numpy(),
                self.rows.numpy(),
                self._values.numpy(),
                self._filled.numpy(),
                self._bounds.numpy(),
            )
            return
        for lines, rows in _tails(batch, self.rows):
            both = torch.cat([self._values[rows, : self._m], lines.T], dim=1)
            self._values[rows, : self._m] = both.topk(self._m, dim=1).values  # (n_rows, m)

    def percentile(self, q: float) -> Tensor:
        """Shape (n_rows,): the `q`-th percentile, in (0, 100), linear between two values.

        Raises:
            ValueError: if too few values were kept to know it.
        """
        place = (self.n_tokens - 1) * q / 100
        below = int(place)
        from_top = self.n_tokens - 1 - below
        if not 0 <= from_top < self._m:
            raise ValueError(f"{self._m} values kept of {self.n_tokens}: too few")
        values = self._values.topk(from_top + 1, dim=1).values  # (n_rows, from_top + 1)
        lower = values[:, from_top].double()
        upper = values[:, max(from_top - 1, 0)].double()
        return (lower + (upper - lower) * (place - below)).float()


def _tails(batch: WindowBatch, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The tokens of the windows, shape (n_tokens, n_rows), and the rows, for each tail."""
    window = int(batch.lengths.max())
    places = batch.first[:, None] + torch.arange(window, device=batch.first.device)
    lines = batch.lines[places[_inside(batch, window)]].float()  # (n_tokens, n_columns)
    for tail in range(2):
        (columns,) = (rows[:, tail] >= 0).nonzero(as_tuple=True)
        if len(columns):
            picked = lines[:, columns]
            yield (-picked if tail else picked), rows[columns, tail].long()


def above_zero(batch: WindowBatch) -> Tensor:
    """Shape (n_columns,), int64: on how many tokens of the windows each column is above 0."""
    if batch.lines.device.type == "cpu":
        from glossator.datasets.kernel import count_above_zero, in_threads

        n_columns = batch.lines.shape[1]
        counts = torch.zeros(n_columns, dtype=torch.int64)
        in_threads(
            count_above_zero,
            n_columns,
            torch.get_num_threads(),
            batch.lines.float().numpy(),
            batch.first.numpy(),
            batch.lengths.numpy(),
            counts.numpy(),
        )
        return counts
    window = int(batch.lengths.max())
    places = batch.first[:, None] + torch.arange(window, device=batch.first.device)
    return (batch.lines[places[_inside(batch, window)]] > 0).sum(dim=0)
