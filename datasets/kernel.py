"""What is done to each activation on a CPU: one compiled pass over a batch, in threads.

Plain tensor statistics read the activations once for each of them, which costs as much as the
model. Here every block of columns is brought into the cache once and everything is taken from it:
sums, extremes, histogram, firing counts, and the offers to the kept windows. What it computes is
what `reducers` computes with tensors on other devices, to the bit; a test compares them.

A *column* is a scalar of a site, a *row* one of its tails: each column has up to two.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]

_BLOCK = 64
"""Columns a block: a window of them fits the first-level cache."""
_FRACTION = 2.0**40
_LOW_30, _LOW_27, _LOW_31 = (1 << 34) - 1, (1 << 37) - 1, (1 << 33) - 1
_GOLDEN, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_PRIORITY = (1 << 31) - 1
_NO_WINDOW = (1 << 63) - 1
_LARGEST = 4e18
"""A window's sum of squares beyond this cannot be added up exactly."""


@njit(cache=True, nogil=True)
def _mixed(value):  # type: ignore[no-untyped-def]
    value = value + _GOLDEN
    value = (value ^ ((value >> 30) & _LOW_30)) * _FIRST
    value = (value ^ ((value >> 27) & _LOW_27)) * _SECOND
    return value ^ ((value >> 31) & _LOW_31)


@njit(cache=True, nogil=True)
def _offer(keys, ids, worst, bounds, row, key, name):  # type: ignore[no-untyped-def]
    """Puts a window in place of the worst one kept, if it is better; its slot, or -1."""
    k = keys.shape[1]
    if k == 0 or key > bounds[row]:
        return -1
    slot = worst[row]
    mine, own_ids = keys[row], ids[row]
    if key == mine[slot] and name >= own_ids[slot]:
        return -1
    mine[slot] = key
    own_ids[slot] = name
    if slot + 1 < k and own_ids[slot + 1] == _NO_WINDOW:
        # an empty slot is the worst there is
        worst[row] = slot + 1
        return slot
    largest = mine[0]
    for s in range(k):
        largest = mine[s] if mine[s] > largest else largest
    last, last_id = 0, np.int64(-1)
    for s in range(k):
        if mine[s] == largest and own_ids[s] > last_id:
            last, last_id = s, own_ids[s]
    worst[row] = last
    bounds[row] = largest
    return slot


@njit(cache=True, nogil=True)
def _keep(acts, row, slot, strip, n, column, sign):  # type: ignore[no-untyped-def]
    """Copies a window's activations behind its slot, if activations are kept at all."""
    if acts.shape[0] == 0:
        return
    for t in range(n):
        acts[row, slot, t] = sign * strip[t, column]
    for t in range(n, acts.shape[2]):
        acts[row, slot, t] = 0.0


@njit(cache=True, nogil=True)
def _where(strip, n, column, sign, peak):  # type: ignore[no-untyped-def]
    """The first token of the window that has the peak."""
    for t in range(n):
        if sign * strip[t, column] == peak:
            return np.int16(t)
    return np.int16(-1)


@njit(cache=True, nogil=True)
def reduce_windows(  # type: ignore[no-untyped-def]  # noqa: D417
    begin,
    end,
    finite,
    values,
    first,
    lengths,
    names,
    mixed_names,
    bins,
    rows,
    thresholds,
    seeds,
    lowest,
    highest,
    sums,
    histogram,
    lowest_power,
    magnitudes,
    firing_windows,
    firing_tokens,
    positions,
    top,
    firing,
    silent,
):
    """Takes in windows of one pool for the columns from `begin` to `end`.

    Args:
        begin: first column.
        end: the column behind the last.
        finite: (n_columns,) bool, set False where something was not finite.
        values: (n_lines, n_columns) float32, or the bits of bfloat16 as int16: the tokens of the
            batch line by line.
        first: (n_windows,) line of each window's first token.
        lengths: (n_windows,) tokens of each.
        names: (n_windows,) its id.
        mixed_names: (n_windows,) its id scrambled.
        bins: (n_windows, window) position bin of each token, where positions are counted.
        rows: (n_columns, 2) row of the positive and of the negative tail, or -1.

    The others are the reducer's own and are changed in place; `top`, `firing` and `silent` are what
    `KeptWindows.arrays` gives.
    """
    top_keys, top_ids, top_ats, _, top_worst, top_bounds, top_acts = top
    firing_keys, firing_ids, firing_ats, firing_peaks, firing_worst, firing_bounds, firing_acts = (
        firing
    )
    silent_keys, silent_ids, _, _, silent_worst, silent_bounds, silent_acts = silent
    n_bins = histogram.shape[1]
    halved = values.itemsize == 2
    zero = np.int32(((lowest_power + 127) << 1) - 1)
    outermost = np.int32(magnitudes - 1)
    longest = max(1, lengths.max())
    for start in range(begin, end, _BLOCK):
        width = min(_BLOCK, end - start)
        high, low = np.empty(_BLOCK, dtype=np.float32), np.empty(_BLOCK, dtype=np.float32)
        total, square = np.empty(_BLOCK, dtype=np.float64), np.empty(_BLOCK, dtype=np.float64)
        above, below = np.empty(_BLOCK, dtype=np.int32), np.empty(_BLOCK, dtype=np.int32)
        upper = np.full(_BLOCK, np.inf, dtype=np.float32)
        lower = np.full(_BLOCK, -np.inf, dtype=np.float32)
        own_seeds = np.zeros((2, _BLOCK), dtype=np.int64)
        chances = np.empty((2, _BLOCK), dtype=np.int32)
        for j in range(width):
            if rows[start + j, 0] >= 0:
                upper[j] = thresholds[rows[start + j, 0]]
                own_seeds[0, j] = seeds[rows[start + j, 0]]
            if rows[start + j, 1] >= 0:
                lower[j] = -thresholds[rows[start + j, 1]]
                own_seeds[1, j] = seeds[rows[start + j, 1]]
        wholes = np.zeros((2, _BLOCK), dtype=np.int64)
        parts = np.zeros((2, _BLOCK), dtype=np.int64)
        sound = np.ones(_BLOCK, dtype=np.bool_)
        counts = np.zeros(_BLOCK * n_bins, dtype=np.int32)
        place = np.empty(_BLOCK, dtype=np.int32)
        middle = (np.arange(_BLOCK) * n_bins + magnitudes - 1).astype(np.int32)
        # a window of the block, side by side: lines of the batch fall into few sets of the cache
        strip = np.zeros((longest, _BLOCK), dtype=np.float32)
        bits = strip.view(np.int32)
        for w in range(len(first)):
            line, n = first[w], lengths[w]
            high[:] = -np.inf
            low[:] = np.inf
            total[:] = 0.0
            square[:] = 0.0
            above[:] = 0
            below[:] = 0
            # one short loop for each thing: the compiler turns these into vector instructions
            for t in range(n):
                given = values[line + t, start : start + width]
                if halved:
                    # bfloat16 is the upper half of a float32
                    mine_bits = bits[t]
                    for j in range(width):
                        mine_bits[j] = np.int32(given[j]) << np.int32(16)
                else:
                    mine = strip[t]
                    for j in range(width):
                        mine[j] = given[j]
            for t in range(n):
                mine = strip[t]
                for j in range(_BLOCK):
                    high[j] = mine[j] if mine[j] > high[j] else high[j]
                    low[j] = mine[j] if mine[j] < low[j] else low[j]
            for t in range(n):
                mine = strip[t]
                for j in range(_BLOCK):
                    total[j] += np.float64(mine[j])
                    square[j] += np.float64(mine[j]) * np.float64(mine[j])
            for t in range(n):
                mine = strip[t]
                for j in range(_BLOCK):
                    above[j] += np.int32(1) if mine[j] > upper[j] else np.int32(0)
                    below[j] += np.int32(1) if mine[j] < lower[j] else np.int32(0)
            for t in range(n):
                mine_bits = bits[t]
                for j in range(width):
                    b = mine_bits[j]
                    m = ((b & np.int32(0x7FFFFFFF)) >> np.int32(22)) - zero
                    m = min(max(m, np.int32(0)), outermost)
                    place[j] = middle[j] + (-m if b < 0 else m)
                for j in range(width):
                    counts[place[j]] += 1
            for j in range(_BLOCK):
                sound[j] &= square[j] < _LARGEST
            for part in range(2):
                amount = square if part else total
                whole, rest = wholes[part], parts[part]
                for j in range(_BLOCK):
                    floor = np.floor(amount[j])
                    whole[j] += np.int64(floor)
                    rest[j] += np.int64(np.rint((amount[j] - floor) * _FRACTION))
            name, mixed_name = names[w], mixed_names[w]
            for tail in range(2):
                chance_of, seed_of = chances[tail], own_seeds[tail]
                for j in range(_BLOCK):
                    chance_of[j] = np.int32(_mixed(seed_of[j] ^ mixed_name) & _PRIORITY)
            for tail in range(2):
                sign = np.float32(-1.0 if tail else 1.0)
                fired = below if tail else above
                for j in range(width):
                    row = rows[start + j, tail]
                    if row < 0 or not sound[j]:
                        continue
                    chance, peak = chances[tail, j], -low[j] if tail else high[j]
                    if not fired[j]:
                        slot = _offer(
                            silent_keys, silent_ids, silent_worst, silent_bounds, row, chance, name
                        )
                        if slot >= 0:
                            _keep(silent_acts, row, slot, strip, n, j, sign)
                        continue
                    firing_windows[row] += 1
                    firing_tokens[row] += fired[j]
                    if positions.shape[0]:
                        left = fired[j]
                        for t in range(n):
                            if sign * strip[t, j] > thresholds[row]:
                                positions[row, bins[w, t]] += 1
                                left -= 1
                                if left == 0:
                                    break
                    slot = _offer(top_keys, top_ids, top_worst, top_bounds, row, -peak, name)
                    if slot >= 0:
                        top_ats[row, slot] = _where(strip, n, j, sign, peak)
                        _keep(top_acts, row, slot, strip, n, j, sign)
                    slot = _offer(
                        firing_keys, firing_ids, firing_worst, firing_bounds, row, chance, name
                    )
                    if slot >= 0:
                        firing_ats[row, slot] = _where(strip, n, j, sign, peak)
                        firing_peaks[row, slot] = peak
                        _keep(firing_acts, row, slot, strip, n, j, sign)
            for j in range(width):
                highest[start + j] = max(highest[start + j], high[j])
                lowest[start + j] = min(lowest[start + j], low[j])
        for j in range(width):
            finite[start + j] &= sound[j]
            for part in range(2):
                sums[start + j, part, 0] += wholes[part, j]
                sums[start + j, part, 1] += parts[part, j]
            for b in range(n_bins):
                histogram[start + j, b] += counts[j * n_bins + b]


@njit(cache=True, nogil=True)
def largest_values(  # type: ignore[no-untyped-def]  # noqa: D417
    begin, end, values, first, lengths, rows, buffers, filled, bounds
):
    """Keeps each row's `m` largest values, and some more.

    Args:
        buffers: (n_rows, 2 m): what may be among them; when one is full, its lesser half goes.
        filled: (n_rows,) how many values it holds.
        bounds: (n_rows,) what a value must be above to be among them.

    The other arguments are those of `reduce_windows`.
    """
    halved = values.itemsize == 2
    m = buffers.shape[1] // 2
    line = np.zeros(_BLOCK, dtype=np.float32)
    bits = line.view(np.int32)
    least = np.empty((2, _BLOCK), dtype=np.float32)
    for start in range(begin, end, _BLOCK):
        width = min(_BLOCK, end - start)
        least[:] = np.inf
        for tail in range(2):
            for j in range(width):
                if rows[start + j, tail] >= 0:
                    least[tail, j] = bounds[rows[start + j, tail]]
        for w in range(len(first)):
            for t in range(first[w], first[w] + lengths[w]):
                given = values[t, start : start + width]
                if halved:
                    for j in range(width):
                        bits[j] = np.int32(given[j]) << np.int32(16)
                else:
                    for j in range(width):
                        line[j] = given[j]
                for tail in range(2):
                    for j in range(width):
                        x = -line[j] if tail else line[j]
                        if not x > least[tail, j]:
                            continue
                        row = rows[start + j, tail]
                        mine = buffers[row]
                        mine[filled[row]] = x
                        filled[row] += 1
                        if filled[row] == 2 * m:
                            mine[:] = np.partition(mine, m)
                            mine[:m] = mine[m:]
                            mine[m:] = -np.inf
                            filled[row] = m
                            least[tail, j] = mine[0]
                            bounds[row] = mine[0]


@njit(cache=True, nogil=True)
def count_above_zero(begin, end, values, first, lengths, counts):  # type: ignore[no-untyped-def]
    """Adds to `counts` (n_columns,) on how many tokens each column is above 0."""
    for start in range(begin, end, _BLOCK):
        stop = min(start + _BLOCK, end)
        for w in range(len(first)):
            for t in range(first[w], first[w] + lengths[w]):
                for c in range(start, stop):
                    counts[c] += values[t, c] > 0


def in_threads(work: Callable[..., None], n_columns: int, n_threads: int, *arguments: Any) -> None:
    """Calls a function above for all columns, in as many threads.

    The functions let go of the interpreter, and no two threads touch the same columns.
    """
    blocks = (n_columns + _BLOCK - 1) // _BLOCK
    n_threads = max(1, min(n_threads, blocks))
    cuts = [blocks * part // n_threads * _BLOCK for part in range(n_threads + 1)]
    cuts[-1] = n_columns
    if n_threads == 1:
        work(0, n_columns, *arguments)
        return
    with ThreadPoolExecutor(n_threads - 1) as pool:
        others = [
            pool.submit(work, cuts[part], cuts[part + 1], *arguments)
            for part in range(1, n_threads)
        ]
        work(0, cuts[1], *arguments)
        for other in others:
            other.result()
