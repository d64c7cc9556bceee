"""Our side of the comparison: the one place that calls the engine under test."""

from __future__ import annotations

import time
from enum import StrEnum

import torch

from glossator.datasets.collect import CollectSettings
from glossator.datasets.corpora import Corpus
from glossator.datasets.digest import Digest, keeps_acts, reduce_into, thresholds_of
from glossator.datasets.readings import reading_of
from glossator.sae import SparseCoder
from glossator.subject import Subject
from glossator.types import FeatureId


class Work(StrEnum):
    """What is collected."""

    ALL = "all"
    """All MLP neurons of all layers."""
    CODER = "coder"
    """All latents of the coder."""


def ours(
    subject: Subject,
    work: Work,
    coder: SparseCoder | None,
    corpus: Corpus,
    *,
    ctx: int,
    batch: int,
    tokens: int | None = None,
) -> float:
    """The digest of all features of `work` over `corpus`, with the engine's own settings.

    Of neurons both tails are features.

    Args:
        subject: the model.
        work: what is collected.
        coder: for `Work.CODER`.
        corpus: what is read, tokenized on the way.
        ctx: text tokens the model reads at once.
        batch: chunks the model reads at once.
        tokens: stop after so many; None reads all.

    Returns:
        Seconds that went into measuring thresholds, on at most `calibration_tokens` of train text,
        before the pass over the corpus; nothing for a sparse coder.
    """
    settings = CollectSettings(tokens=tokens, ctx=ctx, batch=batch)
    features = [
        FeatureId(subject.name, site, index, coder=name, negative=negative)
        for site, name, width, tails in _sites(subject, work, coder)
        for index in range(width)
        for negative in tails
    ]
    coders = {coder.name: coder} if coder is not None else {}
    reading = reading_of(subject, features, corpus, settings, coders)
    began = time.perf_counter()
    limits, rule = thresholds_of(reading, settings)
    if subject.device.startswith("cuda"):
        torch.cuda.synchronize()
    measured = time.perf_counter() - began
    digest = Digest(reading, settings, limits, rule, keeps_acts(len(features), settings))
    reduce_into(digest)
    if not digest.n_tokens:
        raise SystemExit("nothing was collected")
    return measured


def _sites(
    subject: Subject, work: Work, coder: SparseCoder | None
) -> list[tuple[str, str | None, int, tuple[bool, ...]]]:
    if work is Work.CODER and coder is not None:
        return [(coder.site or "layers.14.resid_post", coder.name, coder.d_sae, (False,))]
    sites = subject.expand("layers.*.mlp.neurons")
    return [(site, None, subject.resolve(site).width, (False, True)) for site in sites]
