"""Our side of the comparison: the one place that calls the engine under test."""

from __future__ import annotations

from enum import StrEnum

from glossator.datasets.collect import CollectSettings, collect_features
from glossator.datasets.corpora import Corpus
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
) -> None:
    """The digest of all features of `work` over `corpus`, with the engine's own settings.

    Args:
        subject: the model.
        work: what is collected.
        coder: for `Work.CODER`.
        corpus: what is read, tokenized on the way.
        ctx: text tokens the model reads at once.
        batch: chunks the model reads at once.
        tokens: stop after so many; None reads all.
    """
    settings = CollectSettings(tokens=tokens, ctx=ctx, batch=batch)
    if work is Work.CODER:
        raise NotImplementedError("the engine does not collect latents yet")
    features = [
        FeatureId(subject.name, site, index)
        for site in subject.expand("layers.*.mlp.neurons")
        for index in range(subject.resolve(site).width)
    ]
    for _ in collect_features(subject, features, corpus, settings):
        pass
