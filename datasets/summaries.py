"""The kind and the numbers of every feature of a digest, records or none.

Which token a window's peak is at is looked up for all kept windows together, in one reading of the
corpus without the model. What is held depends on the number of features, not on that of tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glossator.datasets.batches import position_width, windows_of
from glossator.datasets.digest import Digest
from glossator.datasets.kinds import Fired, OutputEffect, classify, folded_rates
from glossator.datasets.outputs import Outputs
from glossator.datasets.records import positions_of
from glossator.datasets.reducers import NO_WINDOW, PoolReducer, window_id
from glossator.datasets.windows import Chunk
from glossator.types import FeatureId, FeatureSummary, Pool


@dataclass(frozen=True, slots=True)
class _Peaks:
    """The peaks of the firing windows kept of a group, shape (n_rows, k) each."""

    ids: npt.NDArray[np.int64]
    ats: npt.NDArray[np.int16]
    peaks: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float64]
    """Windows that each stands for; 0 where there is none."""
    tokens: npt.NDArray[np.int32]
    """Token id at the peak, and in the next array of the one before it; -1 where there is none."""
    before: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int16]
    """Tokens of the window."""


def summaries_of(digest: Digest, outputs: Outputs | None = None) -> Iterator[FeatureSummary]:
    """A summary of each feature, group by group.

    Kinds rest on the peaks of the train windows alone, and on how often tokens occur; how often a
    pair of tokens occurs without firing is not known here, as it is for records.
    """
    peaks = [_peaks_of(reducers[Pool.TRAIN]) for reducers in digest.reducers]
    texts, rates = _looked_up(digest, peaks)
    width = position_width(digest.settings)
    for group, reducers, kept in zip(digest.reading.groups, digest.reducers, peaks, strict=True):
        train = reducers[Pool.TRAIN]
        for row, feature in enumerate(group.features):
            fired = _fired(kept, row, texts)
            z: Any = []
            # a token of the vocabulary may have several texts in a corpus, but not the other way
            at = {one.tokens[one.at]: int(t) for one, t in _with_tokens(fired, kept, row)}
            if outputs is not None:
                z = outputs.effects(group, row, list(at.values()))
            kind, evidence = classify(
                fired,
                (),
                density=int(train.firing_tokens[row]) / max(train.n_tokens, 1),
                positions=positions_of(train, row, width),
                output=OutputEffect(dict(zip(at, z, strict=True))) if len(z) else None,
                rates=rates,
            )
            yield _summary(feature, row, reducers, float(train.thresholds[row]), kind, evidence)


def _summary(
    feature: FeatureId,
    row: int,
    reducers: Mapping[Pool, PoolReducer],
    threshold: float,
    kind: Any,
    evidence: Mapping[str, float],
) -> FeatureSummary:
    read = [reducer for reducer in reducers.values() if reducer.n_tokens]
    n_tokens = sum(reducer.n_tokens for reducer in read)
    total = sum(reducer.moments(row)[0] for reducer in read)
    squares = sum(reducer.moments(row)[1] for reducer in read)
    mean = total / n_tokens
    return FeatureSummary(
        feature=feature,
        kind=kind,
        density=sum(int(reducer.firing_tokens[row]) for reducer in read) / n_tokens,
        threshold=threshold,
        peak=max(reducer.extremes(row)[1] for reducer in read),
        mean=mean,
        std=max(squares / n_tokens - mean * mean, 0.0) ** 0.5,
        n_tokens=n_tokens,
        lowest=min(reducer.extremes(row)[0] for reducer in read),
        n_windows=sum(reducer.n_windows for reducer in read),
        evidence=evidence,
    )


def _peaks_of(train: PoolReducer) -> _Peaks:
    """The strongest windows, and the sampled others with the windows that each stands for."""
    train.state()  # puts the windows in order
    top, firing = train.top.ids.cpu().numpy(), train.firing.ids.cpu().numpy()
    n_top = (top != NO_WINDOW).sum(axis=1)  # (n_rows,)
    in_top = _is_among(firing, top)
    # in the order of their random priorities, so the first ones are a uniform sample of the rest
    rest = (firing != NO_WINDOW) & ~in_top
    rest &= np.cumsum(rest, axis=1) <= train.kept.n_firing
    population = train.firing_windows.cpu().numpy() - n_top
    each = population / np.maximum(rest.sum(axis=1), 1)
    ids = np.concatenate([top, firing], axis=1)
    peaks = torch.cat([-train.top.keys, train.firing.peaks], dim=1).cpu().numpy()
    return _Peaks(
        ids=ids,
        ats=torch.cat([train.top.ats, train.firing.ats], dim=1).cpu().numpy(),
        peaks=peaks,
        weights=np.concatenate([top != NO_WINDOW, rest * each[:, None]], axis=1).astype(np.float64),
        tokens=np.full(ids.shape, -1, dtype=np.int32),
        before=np.full(ids.shape, -1, dtype=np.int32),
        lengths=np.zeros(ids.shape, dtype=np.int16),
    )


def _is_among(ids: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Shape of `ids`: whether each is in the same row of `others`."""
    found = np.zeros(ids.shape, dtype=np.bool_)
    for column in range(others.shape[1]):
        found |= ids == others[:, column, None]
    return found


def _looked_up(digest: Digest, peaks: list[_Peaks]) -> tuple[dict[int, str], dict[str, float]]:
    """Fills in the tokens at the peaks; the texts of token ids, and how often each occurs."""
    reading, settings = digest.reading, digest.settings
    wanted = np.concatenate([kept.ids.ravel() for kept in peaks])
    order = np.argsort(wanted, kind="stable")
    names = wanted[order]
    ats = np.concatenate([kept.ats.ravel() for kept in peaks])[order]
    tokens, before = np.full(len(names), -1, np.int32), np.full(len(names), -1, np.int32)
    lengths = np.zeros(len(names), np.int16)
    texts: dict[int, str] = {}
    counts: Counter[int] = Counter()

    def look(chunk: Chunk) -> None:
        ids = np.array(chunk.token_ids, dtype=np.int32)
        for start, stop in windows_of(chunk, reading, settings):
            counts.update(chunk.token_ids[start:stop])
            texts.update(zip(chunk.token_ids[start:stop], chunk.tokens[start:stop], strict=True))
            name = window_id(chunk.number, chunk.start + start)
            first, last = np.searchsorted(names, [name, name + 1])
            if first < last:
                places = start + ats[first:last].astype(np.int64)
                tokens[first:last] = ids[places]
                lengths[first:last] = stop - start
                inner = ats[first:last] > 0
                before[first:last][inner] = ids[places[inner] - 1]

    for chunk in reading.chunks():
        if chunk.pool is Pool.TRAIN:
            look(chunk)
    found, preceding, long = (np.empty_like(part) for part in (tokens, before, lengths))
    found[order], preceding[order], long[order] = tokens, before, lengths
    at = 0
    for kept in peaks:
        kept.tokens[:] = found[at : at + kept.ids.size].reshape(kept.ids.shape)
        kept.before[:] = preceding[at : at + kept.ids.size].reshape(kept.ids.shape)
        kept.lengths[:] = long[at : at + kept.ids.size].reshape(kept.ids.shape)
        at += kept.ids.size
    return texts, folded_rates((texts[token] for token in counts), counts.values())


def _fired(kept: _Peaks, row: int, texts: Mapping[int, str]) -> list[Fired]:
    """The kept firing windows of a feature; of their tokens the peak and the one before it alone.

    The others are empty: how long a window is and where its peak is counts too.
    """
    found = []
    for slot in np.flatnonzero(kept.weights[row] > 0):
        token, previous = int(kept.tokens[row, slot]), int(kept.before[row, slot])
        if token < 0:
            continue
        at, n = int(kept.ats[row, slot]), int(kept.lengths[row, slot])
        words = [""] * n
        words[at] = texts[token]
        if at:
            words[at - 1] = texts[previous]
        name = int(kept.ids[row, slot])
        found.append(
            Fired(
                tokens=tuple(words),
                at=at,
                peak=float(kept.peaks[row, slot]),
                weight=float(kept.weights[row, slot]),
                document=str(name >> 32),
                start=name & 0xFFFFFFFF,
            )
        )
    return found


def _with_tokens(fired: list[Fired], kept: _Peaks, row: int) -> Iterator[tuple[Fired, int]]:
    slots = [slot for slot in np.flatnonzero(kept.weights[row] > 0) if kept.tokens[row, slot] >= 0]
    for one, slot in zip(fired, slots, strict=True):
        yield one, int(kept.tokens[row, slot])
