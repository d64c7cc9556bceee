"""From what the reducers kept to records: weighted examples in strata, histogram, kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glossator.datasets.reducers import (
    N_BINS,
    NO_WINDOW,
    KeptWindows,
    PoolReducer,
    histogram_edges,
)
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

DENSE_SHARE = 0.2
"""A feature that fires on more of the tokens is dense."""

MAIN_SHARE = 0.5
"""What one token, pair or position must account for to name the kind of a feature."""

_FEWEST = 5
"""Firing documents below which a common position or pair may be chance."""


@dataclass(frozen=True, slots=True)
class WindowText:
    """The text of a window, found again by its id."""

    document: str
    start: int
    """Position of the first token in its document."""
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sampled:
    """One feature's kept windows of one sort, as plain arrays, empty slots left out."""

    ids: list[int]
    acts: npt.NDArray[np.float32]
    """Shape (n_kept, window)."""

    @classmethod
    def of(cls, kept: KeptWindows, row: int) -> _Sampled:
        ids = kept.ids[row].cpu()
        n = int((ids != NO_WINDOW).sum())  # empty slots stand behind
        return cls(ids[:n].tolist(), kept.acts[row, :n].cpu().numpy())


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
    *,
    threshold_rule: str,
    n_firing: int,
    ctx: int,
    provenance: Mapping[str, str],
) -> FeatureRecord:
    """The record of the feature that is number `row` in `reducers`.

    Args:
        feature: its name.
        row: its place on the reducers' first axis.
        reducers: one for each pool.
        texts: at least the windows that the reducers keep for it.
        threshold_rule: how its threshold was chosen, in words.
        n_firing: firing windows wanted in a split beside the top ones.
        ctx: tokens read at once, for positions.
        provenance: what was read and how.
    """
    splits = {pool: split_of(pool, reducers[pool], row, texts, n_firing) for pool in Pool}
    all_pools = list(reducers.values())
    n_tokens = sum(r.n_tokens for r in all_pools)
    firing_tokens = sum(int(r.firing_tokens[row]) for r in all_pools)
    total = sum(r.moments(row)[0] for r in all_pools)
    squares = sum(r.moments(row)[1] for r in all_pools)
    mean = total / max(n_tokens, 1)
    read = [r for r in all_pools if r.n_tokens]
    lowest = min((float(r.lowest[row]) for r in read), default=0.0)
    highest = max((float(r.highest[row]) for r in read), default=0.0)
    counts = sum((r.histogram[row].cpu().numpy() for r in all_pools), np.zeros(N_BINS, np.int64))
    edges, histogram = _cropped(counts, lowest, highest)
    train = reducers[Pool.TRAIN]
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
        kind=kind_of(
            splits[Pool.TRAIN], int(train.firing_tokens[row]) / max(train.n_tokens, 1), ctx
        ),
        histogram_edges=edges,
        histogram=histogram,
        provenance=dict(provenance),
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


def kind_of(train: Split, density: float, ctx: int) -> Kind:
    """What sort of feature this is, by rules over its training windows.

    The first that holds: *dead* fires in no window. *dense* fires on more than a fifth of the
    tokens. *positional*: in at least half of the firing windows the strongest token is at one and
    the same position, of the document or of what the model read at once. *n-gram*: one pair of a
    token and the one before it accounts for half of the activation, and that token fires less than
    half of the times it occurs. *token*: one token, case and spaces aside, accounts for half of the
    activation. Everything else is *other*. Positions and pairs count from five documents on, and
    windows count by their weights.

    Args:
        train: the examples, firing and silent.
        density: share of the train tokens that fire.
        ctx: tokens the model read at once.
    """
    if not train.firing:
        return Kind.DEAD
    if density > DENSE_SHARE:
        return Kind.DENSE
    many = len({example.document for example in train.firing}) >= _FEWEST
    windows = sum(example.weight for example in train.firing)
    places: defaultdict[tuple[str, int], float] = defaultdict(float)
    tokens: defaultdict[str, float] = defaultdict(float)
    pairs: defaultdict[tuple[str, str], float] = defaultdict(float)
    fired: defaultdict[str, float] = defaultdict(float)
    seen: defaultdict[str, float] = defaultdict(float)
    for example in train.examples:
        words = [token.strip().lower() for token in example.tokens]
        if example.peak > train.threshold:
            place = example.start + example.activations.index(example.peak)
            places["document", place] += example.weight
            places["ctx", place % ctx] += example.weight
        for i, (word, act) in enumerate(zip(words, example.activations, strict=True)):
            seen[word] += example.weight
            if act > train.threshold:
                fired[word] += example.weight
                tokens[word] += act * example.weight
                pairs[words[i - 1] if i else "", word] += act * example.weight
    if many and max(places.values()) >= MAIN_SHARE * windows:
        return Kind.POSITIONAL
    mass = sum(tokens.values())
    pair, share = max(pairs.items(), key=lambda item: (item[1], item[0]))
    if many and share >= MAIN_SHARE * mass and fired[pair[1]] < MAIN_SHARE * seen[pair[1]]:
        return Kind.NGRAM
    return Kind.TOKEN if max(tokens.values()) >= MAIN_SHARE * mass else Kind.OTHER
