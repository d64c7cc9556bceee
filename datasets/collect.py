"""Collection: a corpus read by a subject, feature by feature reduced to records.

`digest` says how a corpus is read. Then the text of the few windows that were kept is looked up in
the corpus once more, and each feature's record is built from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import SupportsIndex

import torch

from glossator.datasets.batches import position_width, windows_of
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.digest import (
    NO_TRAIN_TEXT,
    Digest,
    Sink,
    digest_of,
    each_batch,
    train_chunks,
)
from glossator.datasets.directions import Direction, projector
from glossator.datasets.kinds import folded_rates
from glossator.datasets.outputs import Outputs
from glossator.datasets.readings import Coder, Reading, reading_of
from glossator.datasets.records import WindowText, kept_ids, record_of
from glossator.datasets.reducers import WindowBatch, above_zero, window_id
from glossator.datasets.selection import Tails, feature_ids
from glossator.datasets.settings import CollectSettings, Progress
from glossator.errors import CorpusError
from glossator.subject import Subject
from glossator.types import FeatureId, FeatureRecord, Pool

__all__ = ["CollectSettings", "Progress", "collect", "collect_features", "densities", "records_of"]


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
    batch: int = 64,
    n_top: int = 20,
    n_firing: int = 50,
    n_silent: int = 50,
    coder: Coder | Direction | None = None,
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
        coder: a sparse coder, or a direction, whose features at the site are meant.
        offline: never try the network for the corpus.
        progress: told how far it is.

    Raises:
        ConfigError: for an unknown site or feature, or a setting that cannot be.
        CorpusError: if the corpus holds nothing to read.
    """
    if isinstance(coder, Direction):
        coder = projector(coder)
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
    wanted = feature_ids(
        subject.name, subject.expand(site), features, tails, coder.name if coder else None
    )
    text = load_corpus(corpus, offline=offline) if isinstance(corpus, str) else corpus
    coders = {coder.name: coder} if coder else {}
    return list(collect_features(subject, wanted, text, settings, progress, coders=coders))


def collect_features(
    subject: Subject,
    features: Sequence[FeatureId],
    corpus: Corpus,
    settings: CollectSettings | None = None,
    progress: Progress | None = None,
    *,
    coders: Mapping[str, Coder] | None = None,
    folder: Path | None = None,
    sink: Sink | None = None,
) -> Iterator[FeatureRecord]:
    """Records of features of any sites, read together; built one by one as they are taken.

    Args:
        subject: the model.
        features: what is wanted.
        corpus: the text.
        settings: how much of it.
        progress: told how far it is.
        coders: by the name that features call them.
        folder: where the digest is saved while it grows; nowhere if None.
        sink: gets every activation.

    Raises:
        ConfigError: for a feature that the subject does not have, or one that is asked for twice.
        CorpusError: if the corpus holds nothing to read.
        StoreError: if the folder cannot be written.
    """
    settings = settings or CollectSettings()
    reading = reading_of(subject, features, corpus, settings, coders)
    return records_of(reading, settings, progress, folder=folder, sink=sink, subject=subject)


def densities(
    subject: Subject,
    sites: Iterable[str],
    corpus: Corpus,
    settings: CollectSettings | None = None,
    coder: Coder | None = None,
) -> dict[str, list[float]]:
    """For each site, the share of tokens on which each of its features is above 0.

    Read on the train tokens that a threshold would be measured on. Above 0 and not above its own
    threshold: by that, all features of a dense site would fire equally often.

    Raises:
        CorpusError: if there is no train text to measure on.
    """
    settings = settings or CollectSettings()
    names = list(sites)
    every = [
        FeatureId(subject.name, site, index, coder=coder.name if coder else None)
        for site in names
        for index in range(coder.d_sae if coder else subject.resolve(site).width)
    ]
    coders = {coder.name: coder} if coder else {}
    reading = reading_of(subject, every, corpus, settings, coders)
    above = [torch.zeros(len(group.columns), dtype=torch.int64) for group in reading.groups]
    n_tokens = 0

    def take(group: int, windows: WindowBatch) -> None:
        nonlocal n_tokens
        above[group] += above_zero(windows).cpu()
        n_tokens += int(windows.lengths.sum()) if group == 0 else 0

    each_batch(train_chunks(reading, settings), reading, settings, take)
    if not n_tokens:
        raise CorpusError(NO_TRAIN_TEXT)
    return {name: (above[i] / n_tokens).tolist() for i, name in enumerate(names)}


def records_of(
    reading: Reading,
    settings: CollectSettings,
    progress: Progress | None = None,
    *,
    folder: Path | None = None,
    sink: Sink | None = None,
    subject: Subject | None = None,
) -> Iterator[FeatureRecord]:
    """Reads everything, then gives the records in the order of the features.

    Raises:
        CorpusError: if the corpus holds nothing to read, or no train text to measure on.
        StoreError: if the folder cannot be written.
    """
    digest = digest_of(reading, settings, progress, folder=folder, keep_acts=True, sink=sink)
    return records_from(digest, Outputs.of(subject) if subject else None)


def records_from(digest: Digest, outputs: Outputs | None = None) -> Iterator[FeatureRecord]:
    """The records of a digest that keeps activations, in the order of its features."""
    reading, settings = digest.reading, digest.settings
    every = [reducer for reducers in digest.reducers for reducer in reducers.values()]
    texts, rates, counts = window_texts(reading, kept_ids(every), settings)
    token_ids = {(text.document, text.start): text.token_ids for text in texts.values()}
    common = {
        "seed": str(settings.seed),
        "ctx": str(settings.ctx),
        "window": str(settings.window),
        "tokens": str(digest.n_tokens),
        **counts,
        **reading.provenance,
    }
    names = dict(zip(reading.features, reading.names, strict=False))
    built = {}
    for group, reducers in zip(reading.groups, digest.reducers, strict=True):
        rule = digest.rule if group.dense else "above 0"
        for row, feature in enumerate(group.features):
            built[feature] = (row, reducers, rule, group)
    for feature in reading.features:
        row, reducers, rule, group = built[feature]
        yield record_of(
            feature,
            row,
            reducers,
            texts,
            token_ids,
            threshold_rule=rule,
            n_firing=settings.n_firing,
            position_width=position_width(settings),
            rates=rates,
            effects=partial(outputs.effects, group, row) if outputs else None,
            provenance=common
            | {"site": feature.site, "polarity": "negative" if feature.negative else "positive"}
            | ({"name": names[feature]} if feature in names else {}),
        )


def window_texts(
    reading: Reading, wanted: set[int], settings: CollectSettings
) -> tuple[dict[int, WindowText], dict[str, float], dict[str, str]]:
    """What the corpus says of windows, in one reading of it without the model.

    Returns:
        The text of the wanted windows; the share of the train tokens that each folded token is; and
        how many tokens were left out of all windows, and why.
    """
    found: dict[int, WindowText] = {}
    seen: Counter[str] = Counter()
    chunks_read = special = outside = 0
    for chunk in reading.chunks():
        windows = windows_of(chunk, reading, settings)
        left_out = sum(token in reading.left_out_ids for token in chunk.token_ids)
        chunks_read += bool(windows)
        special += left_out
        outside += len(chunk.token_ids) - left_out - sum(stop - start for start, stop in windows)
        for start, stop in windows:
            name = window_id(chunk.number, chunk.start + start)
            if chunk.pool is Pool.TRAIN:
                seen.update(chunk.tokens[start:stop])
            if name in wanted:
                found[name] = WindowText(
                    chunk.document,
                    chunk.start + start,
                    chunk.tokens[start:stop],
                    chunk.token_ids[start:stop],
                )
    counts = {
        "start_tokens_left_out": str(chunks_read),
        "special_tokens_left_out": str(special),
        "tail_tokens_left_out": str(outside),
    }
    return found, folded_rates(seen.keys(), seen.values()), counts
