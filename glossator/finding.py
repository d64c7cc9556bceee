"""Features for a concept that somebody describes: by what was said of them, and by what they do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glossator.config import RunConfig, RunLimits
from glossator.datasets.concepts import (
    Match,
    check_examples,
    contrast_of,
    peaks_of,
    probe_of,
)
from glossator.datasets.corpora import load_corpus
from glossator.datasets.search import CorpusSearch
from glossator.embedder import Embedder, bundled
from glossator.errors import ConfigError
from glossator.experiments import Experiments
from glossator.reading import coder_of, sites_of, subject_of
from glossator.store import Store

LIKE = 0.35
"""Cosine of the words of a concept and of an explanation, below which they mean other things."""
N_FOUND = 5
N_MEANT = 24
"""Windows of the corpus that stand for a concept of which no examples are given."""

_WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True, slots=True)
class FoundFeatures:
    """What was found for a concept."""

    matches: tuple[Match, ...]
    """The likeliest first, no feature twice."""
    notes: tuple[str, ...]
    """How it was looked for, and what came of that, a sentence each."""


async def find_features(
    concept: str,
    having: Sequence[str],
    lacking: Sequence[str],
    config: RunConfig,
    limits: RunLimits,
    store: Store,
) -> FoundFeatures:
    """Features that may be of `concept`, of which texts may be given that have it or do not.

    Without such texts, windows of the corpus that are near to it in meaning stand for it.

    Raises:
        ConfigError: if neither a concept nor examples are given, or these can show nothing.
        AssetError, CorpusError: if the subject or the text cannot be had.
    """
    if not concept.strip() and not (having or lacking):
        raise ConfigError("describe a concept, or give texts with it and without it")
    if having or lacking:
        check_examples(having, lacking)
    embedder = bundled(limits.offline)
    said = await asyncio.to_thread(by_explanation, store, config.model, concept, embedder)
    notes = [
        f"{len(said)} stored explanations mean something like it"
        if said
        else "no stored explanation means anything like it"
    ]
    acting, more = await _by_activation(concept, having, lacking, config, limits, embedder)
    ranked = {match.feature: match for match in [*reversed([*said, *acting])]}
    # What the texts show counts before what somebody wrote, where they were given.
    order = [*acting, *said] if having else [*said, *acting]
    firsts = dict.fromkeys(match.feature for match in order)
    return FoundFeatures(tuple(ranked[f] for f in firsts), (*notes, *more))


def by_explanation(
    store: Store, model: str, concept: str, embedder: Embedder, n: int = N_FOUND
) -> list[Match]:
    """Stored explanations of features of `model` that mean, or say, what `concept` does."""
    if not concept.strip():
        return []
    known = {
        (e.feature, e.text): e
        for run in store.runs()
        for e in store.explanations_of(run.id)
        if e.text.strip() and e.feature.model == model
    }
    if not known:
        return []
    explanations = list(known.values())
    vectors = embedder.embed([e.text for e in explanations])
    (wanted,) = embedder.embed([concept])
    words = set(_WORD.findall(concept.lower()))
    found: dict[object, Match] = {}
    for explanation, near in zip(explanations, (vectors @ wanted).tolist(), strict=True):
        shared = words & set(_WORD.findall(explanation.text.lower()))
        share = len(shared) / len(words) if words else 0.0
        if near < LIKE and share < 1.0:
            continue
        why = f"{explanation.explainer} says: {explanation.text} (likeness {near:.2f})"
        match = Match(explanation.feature, "explanation", near + 0.2 * share, why)
        before = found.get(explanation.feature)
        if before is None or before.value < match.value:
            found[explanation.feature] = match
    return sorted(found.values(), key=lambda match: -match.value)[:n]


async def _by_activation(
    concept: str,
    having: Sequence[str],
    lacking: Sequence[str],
    config: RunConfig,
    limits: RunLimits,
    embedder: Embedder,
) -> tuple[list[Match], list[str]]:
    subject = await asyncio.to_thread(subject_of, config, limits)
    coder = await asyncio.to_thread(coder_of, config, subject, limits.offline)
    sites = sites_of(config, subject, coder)
    whose = "your examples"
    if not having:
        corpus = await asyncio.to_thread(load_corpus, config.corpus, offline=limits.offline)
        cut = Experiments(subject, config.ctx, config.batch_size).cut
        search = CorpusSearch(corpus, cut, embedder, config.ctx, config.window, config.seed)
        ranked = [found.text for found in await search.meaning(concept, 1_000_000)]
        n = min(N_MEANT, len(ranked) // 2)
        having = ranked[:n]
        # Those in the middle and below, drawn alike, for the farthest are odd in other ways.
        rest = ranked[max(n, len(ranked) // 3) :]
        picks = np.random.default_rng(config.seed).permutation(len(rest))[: 2 * n]
        lacking = [rest[i] for i in picks]
        whose = f"{len(having)} windows of the corpus that are nearest in meaning"
        lacking = [text for text in dict.fromkeys(lacking) if text not in set(having)]
        having = list(dict.fromkeys(having))
        check_examples(having, lacking)
    texts = [*having, *lacking]
    has = np.array([True] * len(having) + [False] * len(lacking))
    found: list[Match] = []
    notes: list[str] = []
    for site in sites:
        features, peaks = await asyncio.to_thread(peaks_of, subject, site, texts, config.ctx, coder)
        contrast = await asyncio.to_thread(contrast_of, features, peaks, has, config.seed)
        best = contrast.best(N_FOUND)
        found += best
        standing = {match.feature for match in best}
        probed = await asyncio.to_thread(probe_of, features, peaks, has, N_FOUND, config.seed)
        # The probe is trusted where it names features that stand out by themselves, or has a few.
        found += [m for m in probed if best and m.feature not in standing]
        notes.append(
            f"{len(best)} of {len(features):,} features of {site} tell {whose} from "
            f"{len(lacking)} others better than chance does"
        )
    return sorted(found, key=lambda m: (m.how != "contrast", -m.value)), notes
