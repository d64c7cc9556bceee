"""Collection: a corpus read by a subject, feature by feature reduced to records.

Two passes. The first measures each feature's threshold on train tokens, the second reads everything
through the reducers. Then the text of the few windows that were kept is looked up in the corpus
once more. Nothing that is held grows with the number of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import SupportsIndex

import torch
from torch import Tensor

from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.records import WindowText, kept_ids, record_of
from glossator.datasets.reducers import (
    LargestValues,
    PoolReducer,
    WindowBatch,
    feature_keys,
    window_id,
)
from glossator.datasets.selection import Tails, feature_ids
from glossator.datasets.windows import Chunk, chunks, window_starts
from glossator.errors import ConfigError, CorpusError
from glossator.subject import Subject
from glossator.types import FeatureId, FeatureRecord, Pool

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, tokens done so far, and tokens in all (None if nobody knows)."""

PERCENTILE = 99.0
"""A token of a dense site fires above this percentile."""
NO_TRAIN_TEXT = (
    "no document of the corpus is in the train pool, so no threshold can be measured; give more "
    "documents: each goes to one pool whole, and a .txt file without blank lines has one a line"
)
_BATCHES_SORTED = 8
"""Batches of chunks that are sorted by length together, so that little is padded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSettings:
    """How much is read, and how much of it is kept."""

    tokens: int | None = 200_000
    """Tokens of the corpus to read; None reads all."""
    ctx: int = 128
    """Text tokens the model reads at once, after one start token."""
    window: int = 32
    """Tokens of an example."""
    seed: int = 0
    """Of the samples; another seed draws other windows."""
    calibration_tokens: int = 50_000
    """Train tokens that the threshold of a dense site is measured on."""
    percentile: float = PERCENTILE
    """Of those tokens' activations, above which a token of a dense site fires."""
    batch: int = 32
    """Chunks the model reads at once."""
    n_top: int = 20
    """Strongest windows kept in each split."""
    n_firing: int = 50
    """Other firing windows in each split, in five strata."""
    n_silent: int = 50
    """Silent windows in each split."""

    def __post_init__(self) -> None:
        for name in ("tokens", "ctx", "window", "calibration_tokens", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is at least 1, not {value}")
        for name in ("n_top", "n_firing", "n_silent"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is not negative, but {getattr(self, name)} was given")
        if not 0 <= self.percentile <= 100:
            raise ConfigError(f"a percentile is from 0 to 100, not {self.percentile}")
        if self.window > self.ctx:
            raise ConfigError(f"a window of {self.window} tokens does not fit a ctx of {self.ctx}")


@dataclass(frozen=True, slots=True)
class Reading:
    """Features, and how to read them: what a subject and a planted function have in common."""

    features: tuple[FeatureId, ...]
    chunks: Callable[[], Iterator[Chunk]]
    """The corpus in chunks, the same ones each time."""
    read: Callable[[Sequence[Chunk]], Tensor]
    """From a batch of chunks to activations, shape (batch, ctx, n_features), float32, sign turned
    for negative tails; what stands behind a chunk's end means nothing."""
    percentile: float | None = PERCENTILE
    """Of train tokens, above which a token fires, but never below 0; None fires above 0."""
    left_out_ids: frozenset[int] = frozenset()
    """Tokens that are in no window and no statistic."""
    device: str = "cpu"
    """Where the reducers work."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    """A name for each feature, for its provenance; empty if they have none."""


def collect(
    subject: Subject,
    site: str,
    features: Iterable[FeatureId | SupportsIndex | str],
    *,
    tokens: int | None = 200_000,
    corpus: str | Corpus = "default",
    ctx: int = 128,
    window: int = 32,
    seed: int = 0,
    tails: Tails = "positive",
    calibration_tokens: int = 50_000,
    batch: int = 32,
    n_top: int = 20,
    n_firing: int = 50,
    n_silent: int = 50,
    offline: bool = False,
    progress: Progress | None = None,
) -> list[FeatureRecord]:
    """Records of some features of one site, in the order asked for.

    Args:
        subject: the model.
        site: such as `layers.7.mlp.neurons`; with `layers.*`, an index is meant at every layer.
        features: indexes, texts such as `123` and `123-` (the negative tail), or ids.
        tokens: how many tokens of the corpus to read; None reads all.
        corpus: a corpus, or what `load_corpus` takes.
        ctx: text tokens the model reads at once.
        window: tokens of an example.
        seed: of the samples.
        tails: what a bare integer means: `positive`, its positive tail; `both`, two features, the
            positive tail and then the negative one.
        calibration_tokens: train tokens that the thresholds are measured on.
        batch: chunks the model reads at once.
        n_top: strongest windows kept in each split.
        n_firing: other firing windows in each split.
        n_silent: silent windows in each split.
        offline: never try the network for the corpus.
        progress: told how far it is.

    Raises:
        ConfigError: for an unknown site or feature, or a setting that cannot be.
        CorpusError: if the corpus holds nothing to read.
    """
    settings = CollectSettings(
        tokens=tokens,
        ctx=ctx,
        window=window,
        seed=seed,
        calibration_tokens=calibration_tokens,
        batch=batch,
        n_top=n_top,
        n_firing=n_firing,
        n_silent=n_silent,
    )
    wanted = feature_ids(subject.name, subject.expand(site), features, tails)
    text = load_corpus(corpus, offline=offline) if isinstance(corpus, str) else corpus
    return list(collect_features(subject, wanted, text, settings, progress))


def collect_features(
    subject: Subject,
    features: Sequence[FeatureId],
    corpus: Corpus,
    settings: CollectSettings | None = None,
    progress: Progress | None = None,
) -> Iterator[FeatureRecord]:
    """Records of features of any sites, read together; built one by one as they are taken.

    Raises:
        ConfigError: for a feature that the subject does not have, or one that is asked for twice.
        CorpusError: if the corpus holds nothing to read.
    """
    settings = settings or CollectSettings()
    return records_of(_reading(subject, tuple(features), corpus, settings), settings, progress)


def _reading(
    subject: Subject, features: tuple[FeatureId, ...], corpus: Corpus, settings: CollectSettings
) -> Reading:
    columns: dict[str, list[int]] = {}
    places: dict[str, list[int]] = {}
    for place, feature in enumerate(features):
        if feature.model != subject.name or feature.coder is not None:
            raise ConfigError(f"{feature} is not a feature of {subject.name}")
        width = subject.resolve(feature.site).width
        if feature.index >= width:
            raise ConfigError(
                f"{feature.site} has features 0 to {width - 1}, and none numbered {feature.index}"
            )
        columns.setdefault(feature.site, []).append(feature.index)
        places.setdefault(feature.site, []).append(place)
    # the reducers work on CUDA too; elsewhere some of the number formats are missing
    device = subject.device if subject.device.startswith("cuda") else "cpu"
    back = torch.tensor([place for site in places for place in places[site]]).argsort().to(device)
    signs = torch.tensor([-1.0 if f.negative else 1.0 for f in features], device=device)

    def read(batch: Sequence[Chunk]) -> Tensor:
        kept = subject.read([chunk.token_ids for chunk in batch], list(columns))
        picked = [kept[site][:, :, columns[site]].to(device).float() for site in columns]
        return torch.cat(picked, dim=2)[:, :, back] * signs  # (batch, ctx, n_features)

    return Reading(
        features=features,
        chunks=lambda: chunks(corpus, subject.tokenizer, settings.ctx, settings.tokens),
        read=read,
        percentile=settings.percentile,
        left_out_ids=subject.left_out_ids,
        device=device,
        provenance={
            "model": subject.name,
            "revision": subject.revision,
            "dtype": subject.dtype,
            "device": subject.device,
            "tokenizer": type(subject.tokenizer).__name__,
            "start_token": str(subject.start_token_id),
            "corpus": corpus.name,
            "corpus_digest": corpus.digest,
        },
    )


def densities(
    subject: Subject,
    sites: Iterable[str],
    corpus: Corpus,
    settings: CollectSettings | None = None,
) -> dict[str, list[float]]:
    """For each site, the share of tokens on which each of its features is above 0.

    Read on the train tokens that a threshold would be measured on. Above 0 and not above its own
    threshold: by that, all features of a dense site would fire equally often.

    Raises:
        CorpusError: if there is no train text to measure on.
    """
    settings = settings or CollectSettings()
    found = {}
    for site in sites:
        width = subject.resolve(site).width
        every = tuple(FeatureId(subject.name, site, index) for index in range(width))
        reading = _reading(subject, every, corpus, settings)
        above, n_tokens = torch.zeros(width, device=reading.device), 0
        for _, batch in _window_batches(reading, _train_chunks(reading, settings), settings):
            above += (batch.acts > 0).sum(dim=(0, 1))
            n_tokens += int(batch.lengths.sum())
        if not n_tokens:
            raise CorpusError(NO_TRAIN_TEXT)
        found[site] = (above / n_tokens).tolist()
    return found


def records_of(
    reading: Reading, settings: CollectSettings, progress: Progress | None = None
) -> Iterator[FeatureRecord]:
    """Reads everything, then gives the records in the order of the features.

    Raises:
        ConfigError: if a feature is asked for twice, or none is.
        CorpusError: if the corpus holds nothing to read, or no train text to measure on.
    """
    if not reading.features:
        raise ConfigError("no feature was asked for")
    if len(set(reading.features)) < len(reading.features):
        raise ConfigError("a feature was asked for twice")
    limits, rule = thresholds(reading, settings, progress)
    reducers = reduce_pools(reading, limits, settings, progress)
    if not any(reducer.n_windows for reducer in reducers.values()):
        raise CorpusError("the corpus holds no window to read")
    texts, counts = _texts(reading, kept_ids(reducers.values()), settings)
    common = {
        "seed": str(settings.seed),
        "ctx": str(settings.ctx),
        "window": str(settings.window),
        "tokens": str(sum(reducer.n_tokens for reducer in reducers.values())),
        **counts,
        **reading.provenance,
    }
    return (
        record_of(
            feature,
            row,
            reducers,
            texts,
            threshold_rule=rule,
            n_firing=settings.n_firing,
            ctx=settings.ctx,
            provenance=common
            | {"site": feature.site, "polarity": "negative" if feature.negative else "positive"}
            | ({"name": reading.names[row]} if reading.names else {}),
        )
        for row, feature in enumerate(reading.features)
    )


def thresholds(
    reading: Reading, settings: CollectSettings, progress: Progress | None = None
) -> tuple[Tensor, str]:
    """Above what each feature fires, shape (n_features,), and how that was chosen, in words.

    Raises:
        CorpusError: if there is no train text to measure on.
    """
    n = len(reading.features)
    if reading.percentile is None:
        return torch.zeros(n), "above 0"
    wanted = settings.calibration_tokens
    share = 1 - reading.percentile / 100
    # the last chunk may take it past what is wanted
    largest = LargestValues(n, math.ceil(share * (wanted + settings.ctx)) + 2, reading.device)
    for _, batch in _window_batches(reading, _train_chunks(reading, settings), settings):
        largest.update(batch)
        if progress:
            progress("measuring thresholds", largest.n_tokens, wanted)
    if not largest.n_tokens:
        raise CorpusError(NO_TRAIN_TEXT)
    limits = largest.percentile(reading.percentile).clamp(min=0)
    return limits, (
        f"{reading.percentile:g}th percentile of {largest.n_tokens} train tokens, at least 0"
    )


def _train_chunks(reading: Reading, settings: CollectSettings) -> Iterator[Chunk]:
    n_tokens = 0
    for chunk in reading.chunks():
        if chunk.pool is Pool.TRAIN:
            yield chunk
            n_tokens += sum(stop - start for start, stop in windows_of(chunk, reading, settings))
            if n_tokens >= settings.calibration_tokens:
                return


def reduce_pools(
    reading: Reading,
    limits: Tensor,
    settings: CollectSettings,
    progress: Progress | None = None,
) -> dict[Pool, PoolReducer]:
    """All that is kept of each pool, after one pass over the corpus."""
    keys = feature_keys(reading.features, settings.seed)
    reducers = {
        pool: PoolReducer(
            limits,
            keys,
            window=settings.window,
            n_top=settings.n_top,
            n_firing=settings.n_firing,
            n_silent=settings.n_silent,
            device=reading.device,
        )
        for pool in Pool
    }
    for pool, batch in _window_batches(reading, reading.chunks(), settings):
        reducers[pool].update(batch)
        if progress:
            progress("reading", sum(r.n_tokens for r in reducers.values()), settings.tokens)
    return reducers


def windows_of(chunk: Chunk, reading: Reading, settings: CollectSettings) -> list[tuple[int, int]]:
    """The chunk's windows as (start, stop) inside it; none holds a token that is left out."""
    found: list[tuple[int, int]] = []
    at = 0
    for left_out, run in groupby(chunk.token_ids, reading.left_out_ids.__contains__):
        n = len(list(run))
        if not left_out:
            whole = chunk.whole_document and n == len(chunk.token_ids)
            cuts = window_starts(n, settings.window, whole)
            found += [(at + start, at + stop) for start, stop in cuts]
        at += n
    return found


def _window_batches(
    reading: Reading, stream: Iterable[Chunk], settings: CollectSettings
) -> Iterator[tuple[Pool, WindowBatch]]:
    """What is read, cut into windows, each batch of one pool."""
    for batch in _batches(stream, reading, settings):
        acts = reading.read(batch)  # (batch, ctx, n_features)
        ids, lengths, rows, starts = [], [], [], []
        for row, chunk in enumerate(batch):
            for start, stop in windows_of(chunk, reading, settings):
                ids.append(window_id(chunk.number, chunk.start + start))
                lengths.append(stop - start)
                rows.append(row)
                starts.append(start)
        places = torch.tensor(starts)[:, None] + torch.arange(settings.window)
        sizes = torch.tensor(lengths)
        inside = torch.arange(settings.window) < sizes[:, None]  # (n_windows, window)
        places = places.clamp(max=acts.shape[1] - 1).to(acts.device)
        cut = acts[torch.tensor(rows, device=acts.device)[:, None], places]
        if not bool(inside.all()):  # cut is (n_windows, window, n_features)
            cut = cut.masked_fill(~inside.to(acts.device)[:, :, None], 0.0)
        yield (
            batch[0].pool,
            WindowBatch(torch.tensor(ids, device=acts.device), sizes.to(acts.device), cut),
        )


def _batches(
    stream: Iterable[Chunk], reading: Reading, settings: CollectSettings
) -> Iterator[list[Chunk]]:
    """Chunks with at least one window, in batches of one pool and of about the same length."""
    waiting: dict[Pool, list[Chunk]] = {pool: [] for pool in Pool}

    def sorted_out(pool: Pool) -> Iterator[list[Chunk]]:
        ready = sorted(waiting[pool], key=lambda chunk: len(chunk.token_ids), reverse=True)
        waiting[pool] = []
        for first in range(0, len(ready), settings.batch):
            yield ready[first : first + settings.batch]

    for chunk in stream:
        if windows_of(chunk, reading, settings):
            waiting[chunk.pool].append(chunk)
            if len(waiting[chunk.pool]) >= settings.batch * _BATCHES_SORTED:
                yield from sorted_out(chunk.pool)
    for pool in Pool:
        yield from sorted_out(pool)


def _texts(
    reading: Reading, wanted: set[int], settings: CollectSettings
) -> tuple[dict[int, WindowText], dict[str, str]]:
    """The text of the wanted windows, and how many tokens were left out of all windows, and why."""
    found: dict[int, WindowText] = {}
    chunks_read = special = outside = 0
    for chunk in reading.chunks():
        windows = windows_of(chunk, reading, settings)
        left_out = sum(token in reading.left_out_ids for token in chunk.token_ids)
        chunks_read += bool(windows)
        special += left_out
        outside += len(chunk.token_ids) - left_out - sum(stop - start for start, stop in windows)
        for start, stop in windows:
            name = window_id(chunk.number, chunk.start + start)
            if name in wanted:
                found[name] = WindowText(
                    chunk.document, chunk.start + start, chunk.tokens[start:stop]
                )
    return found, {
        "start_tokens_left_out": str(chunks_read),
        "special_tokens_left_out": str(special),
        "tail_tokens_left_out": str(outside),
    }
