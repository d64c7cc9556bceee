"""From what the reducers kept to records: weighted examples in strata, histogram, kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glossator.datasets.kinds import Fired, OutputEffect, Positions, Quiet, classify
from glossator.datasets.reducers import (
    N_BINS,
    NO_WINDOW,
    KeptWindows,
    PoolReducer,
    histogram_edges,
)
from glossator.datasets.repeats import without_repeats
from glossator.types import (
    SILENT,
    TOP,
    Example,
    FeatureId,
    FeatureRecord,
    Kind,
    Pool,
    Split,
    Stratum,
)

N_QUANTILES = 5
"""Strata that the firing windows outside the top are cut into."""

REPEATS = "held-out windows left out as repeats"
"""Where a record's provenance says how many there were, if there were any."""

Effects = Callable[[Sequence[int]], Sequence[float]]
"""From token ids to a feature's direct effect on their logits, or nothing if it has none."""


TokenIds = Mapping[tuple[str, int], tuple[int, ...]]
"""The token ids of windows, by document and first position."""


@dataclass(frozen=True, slots=True)
class WindowText:
    """The text of a window, found again by its id."""

    document: str
    start: int
    """Position of the first token in its document."""
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Sampled:
    """One feature's kept windows of one sort, as plain arrays, empty slots left out."""

    ids: list[int]
    acts: npt.NDArray[np.float32]
    """Shape (n_kept, window)."""

    @classmethod
    def of(cls, kept: KeptWindows, row: int) -> _Sampled:
        ids = kept.ids[row].cpu()
        # the kept ones first, the best before the others
        places = np.lexsort((ids.numpy(), kept.keys[row].cpu().numpy()))
        n = int((ids != NO_WINDOW).sum())
        places = places[:n]
        return cls(ids[places].tolist(), kept.acts[row].cpu().numpy()[places])


def kept_ids(reducers: Iterable[PoolReducer]) -> set[int]:
    """Ids of all windows that a record may show."""
    found: set[int] = set()
    for reducer in reducers:
        for kept in (reducer.top, reducer.firing, reducer.silent):
            found.update(kept.ids.flatten().tolist())
    found.discard(NO_WINDOW)
    return found


def record_of(
    feature: FeatureId,
    row: int,
    reducers: Mapping[Pool, PoolReducer],
    texts: Mapping[int, WindowText],
    token_ids: TokenIds,
    *,
    threshold_rule: str,
    n_firing: int,
    position_width: int = 1,
    rates: Mapping[str, float] | None = None,
    effects: Effects | None = None,
    provenance: Mapping[str, str],
) -> FeatureRecord:
    """The record of the feature that is number `row` in `reducers`.

    Args:
        feature: its name.
        row: its place on the reducers' first axis.
        reducers: one for each pool.
        texts: at least the windows that the reducers keep for it.
        token_ids: of the same windows.
        threshold_rule: how its threshold was chosen, in words.
        n_firing: firing windows wanted in a split beside the top ones.
        position_width: positions in a bin of the counts by position.
        rates: share of the train tokens that each folded token is, if known.
        effects: what the feature does to logits, if it is known.
        provenance: what was read and how.
    """
    whole = {pool: split_of(pool, reducers[pool], row, texts, n_firing) for pool in Pool}
    splits, n_repeats = without_repeats(whole)
    all_pools = list(reducers.values())
    n_tokens = sum(r.n_tokens for r in all_pools)
    firing_tokens = sum(int(r.firing_tokens[row]) for r in all_pools)
    total = sum(r.moments(row)[0] for r in all_pools)
    squares = sum(r.moments(row)[1] for r in all_pools)
    mean = total / max(n_tokens, 1)
    read = [r for r in all_pools if r.n_tokens]
    lowest = min((r.extremes(row)[0] for r in read), default=0.0)
    highest = max((r.extremes(row)[1] for r in read), default=0.0)
    counts = sum((r.counts_by_bin(row).numpy() for r in all_pools), np.zeros(N_BINS, np.int64))
    edges, histogram = _cropped(counts, lowest, highest)
    kind, evidence = kind_of(
        reducers[Pool.TRAIN], row, splits[Pool.TRAIN], token_ids, position_width, rates, effects
    )
    return FeatureRecord(
        feature=feature,
        train=splits[Pool.TRAIN],
        dev=splits[Pool.DEV],
        test=splits[Pool.TEST],
        density=firing_tokens / max(n_tokens, 1),
        threshold=splits[Pool.TRAIN].threshold,
        threshold_rule=threshold_rule,
        peak=highest,
        mean=mean,
        std=max(squares / max(n_tokens, 1) - mean * mean, 0.0) ** 0.5,
        n_tokens=n_tokens,
        kind=kind,
        kind_evidence=evidence,
        histogram_edges=edges,
        histogram=histogram,
        provenance={**provenance, **({REPEATS: str(n_repeats)} if n_repeats else {})},
    )


def split_of(
    pool: Pool, reducer: PoolReducer, row: int, texts: Mapping[int, WindowText], n_firing: int
) -> Split:
    """One feature's examples of one pool, with the windows that each stands for.

    The strongest windows are all there, so each stands for itself. The other firing windows are a
    uniform sample of `n` out of `N`, so each stands for `N / n`, whatever its peak: fifths of the
    *sample* do not hold exact fifths of the population, and a weight that claimed so would be
    biased. The fifths' populations share out `N` in whole windows, so they differ from the sum
    of their weights by less than one.
    """
    threshold = float(reducer.thresholds[row])
    top = _Sampled.of(reducer.top, row)
    firing = _Sampled.of(reducer.firing, row)
    silent = _Sampled.of(reducer.silent, row)
    n_fires = int(reducer.firing_windows[row])

    strongest = set(top.ids)
    # in the order of their random priorities, so the first ones are a uniform sample of the rest
    others = [i for i, name in enumerate(firing.ids) if name not in strongest][:n_firing]
    population = n_fires - len(top.ids)
    peaks = firing.acts.max(axis=1, initial=-np.inf)  # (n_kept,)
    others.sort(key=lambda i: (float(peaks[i]), -firing.ids[i]))
    n = len(others)
    cuts = [n * step // N_QUANTILES for step in range(N_QUANTILES + 1)]
    strata = []
    examples = []
    for step in range(N_QUANTILES):
        start, stop = cuts[step], cuts[step + 1]
        share = population * stop // n - population * start // n if n else 0
        strata.append(Stratum(f"q{step + 1}", share, stop - start))
        examples += [
            _example(firing, i, texts, f"q{step + 1}", population / n) for i in others[start:stop]
        ]
    examples = [_example(top, i, texts, TOP, 1.0) for i in range(len(top.ids))] + examples[::-1]
    n_silent = reducer.n_windows - n_fires
    silent_examples = [
        _example(silent, i, texts, SILENT, n_silent / len(silent.ids))
        for i in range(len(silent.ids))
    ]
    return Split(
        pool=pool,
        threshold=threshold,
        firing=tuple(examples),
        silent=tuple(silent_examples),
        strata=(
            *strata,
            Stratum(TOP, len(top.ids), len(top.ids)),
            Stratum(SILENT, n_silent, len(silent.ids)),
        ),
    )


def _example(
    kept: _Sampled, i: int, texts: Mapping[int, WindowText], stratum: str, weight: float
) -> Example:
    text = texts[kept.ids[i]]
    acts = kept.acts[i, : len(text.tokens)].tolist()
    return Example(text.tokens, tuple(acts), text.document, text.start, stratum, weight)


def _cropped(
    counts: npt.NDArray[np.int64], lowest: float, highest: float
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Edges and counts of the bins from the first to the last that holds a token."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return (), ()
    first, last = int(filled[0]), int(filled[-1])
    inner = histogram_edges()
    # the outermost bins are open; they end where the values do
    edges = [min(lowest, inner[0]), *inner, max(highest, inner[-1])]
    return tuple(edges[first : last + 2]), tuple(counts[first : last + 1].tolist())


def kind_of(
    reducer: PoolReducer,
    row: int,
    train: Split,
    token_ids: TokenIds,
    position_width: int,
    rates: Mapping[str, float] | None,
    effects: Effects | None,
) -> tuple[Kind, dict[str, float]]:
    """The kind of the feature number `row` of the train pool's reducer, with its evidence."""
    fired, peak_ids = [], {}
    for example in train.firing:
        at = example.activations.index(example.peak)
        fired.append(
            Fired(
                tokens=example.tokens,
                at=at,
                peak=example.peak,
                weight=example.weight,
                document=example.document,
                start=example.start,
            )
        )
        peak_ids[example.tokens[at]] = token_ids[example.document, example.start][at]
    z = effects(list(peak_ids.values())) if effects else []
    return classify(
        fired,
        [Quiet(example.tokens, example.weight) for example in train.silent],
        density=int(reducer.firing_tokens[row]) / max(reducer.n_tokens, 1),
        positions=positions_of(reducer, row, position_width),
        output=OutputEffect(dict(zip(peak_ids, z, strict=True))) if len(z) else None,
        rates=rates,
    )


def positions_of(reducer: PoolReducer, row: int, width: int) -> Positions | None:
    """Where in what is read at once a feature fires, if that was counted."""
    if not len(reducer.firing_positions):
        return None
    return Positions(
        fired=reducer.firing_positions[row].tolist(),
        read=reducer.positions.tolist(),
        windows=int(reducer.firing_windows[row]),
        width=width,
    )
