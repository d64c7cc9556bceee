"""Real features that somebody may describe: drawn by a seed, before any simulator was asked."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from glossator.datasets.collect import CollectSettings, collect_features
from glossator.datasets.corpora import load_corpus
from glossator.datasets.readings import Coder
from glossator.sae import SparseCoder, load_coder
from glossator.subject import Subject, load_subject
from glossator.types import FeatureId, FeatureRecord

BUNDLED = "smollm2-135m"
LAYERS, NEURONS, LATENTS = (2, 9, 16, 24), 20, 40
"""Layers of the bundled subject and neurons of each; the training script has neurons of others."""
OTHER_LAYERS, OTHER_NEURONS = (3, 10), 20
"""The same of another subject; early layers, for it is read only up to there."""
SEED = 2611


def bundled_candidates(subject: Subject, coder: SparseCoder) -> list[FeatureId]:
    """Neurons of four layers, one of each layer in turn, then latents of the coder."""
    latents = Random(SEED).sample(range(coder.d_sae), LATENTS)
    site = str(coder.site)
    return [
        *_neurons(subject, LAYERS, NEURONS),
        *(FeatureId(subject.name, site, index, coder=coder.name) for index in latents),
    ]


def other_candidates(subject: Subject) -> list[FeatureId]:
    """Neurons of two layers of another subject, in turn."""
    return list(_neurons(subject, OTHER_LAYERS, OTHER_NEURONS))


def _neurons(subject: Subject, layers: Iterable[int], n: int) -> Iterator[FeatureId]:
    chance = Random(SEED)
    drawn = {layer: chance.sample(range(subject.d_mlp), n) for layer in layers}
    for place in range(n):
        for layer, indexes in drawn.items():
            yield FeatureId(subject.name, f"layers.{layer}.mlp.neurons", indexes[place])


def collected(
    spec: str, tokens: int, *, with_coder: bool, offline: bool
) -> Iterator[FeatureRecord]:
    """Records of the candidates of the subject that `spec` names, on the default corpus."""
    subject = load_subject(spec, offline=offline)
    coders: dict[str, Coder] = {}
    if with_coder:
        coder = load_coder("default", d_in=subject.d_model, offline=offline)
        coders[coder.name] = coder
        wanted = bundled_candidates(subject, coder)
    else:
        wanted = other_candidates(subject)
    settings = CollectSettings(tokens=tokens, calibration_tokens=min(40_000, tokens // 4))
    corpus = load_corpus("default", offline=offline)
    yield from collect_features(subject, wanted, corpus, settings, coders=coders)


def write_records(records: Iterable[FeatureRecord], path: Path) -> int:
    """Writes one record a line; how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    n = 0
    with gzip.open(part, "wt", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record.to_json()) + "\n")
            n += 1
    part.replace(path)
    return n


def read_records(path: Path) -> Iterator[FeatureRecord]:
    """What `write_records` wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield FeatureRecord.from_json(json.loads(line))
