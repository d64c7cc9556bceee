"""Where training examples come from: concepts, documents, and real features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from transformers import AutoTokenizer

from glossator.assets import model_folder
from glossator.datasets.corpora import default_corpus
from glossator.datasets.pools import Document
from glossator.embedder import bundled
from glossator.sae.loading import load_coder
from glossator.scorers.tiny.lessons.examples import documents_of
from glossator.scorers.tiny.lessons.library import Shelf, shelves
from glossator.scorers.tiny.lessons.real import RealFeature, real_features, train_splits
from glossator.scorers.tiny.lessons.wordnet import load_wordnet
from glossator.subject import load_subject

SUBJECT = "smollm2-135m"
"""Its tokens are what windows are cut in, and its features are among the lessons."""
N_DOCUMENTS = 900
"""Train documents on which real features are read."""


@dataclass(frozen=True)
class Lessons:
    """All that examples are made of."""

    train: Shelf
    held: Shelf
    """Concepts to validate on."""
    documents: Sequence[Document]
    validation: Sequence[Document]
    tokenizer: Any
    """The subject's."""
    real: Sequence[RealFeature] = ()
    """Real features to train on, beside the concepts."""


def lessons(seed: int, with_real: bool = True) -> Lessons:
    """All of it; takes some minutes, and a quarter of an hour on a CPU with real features.

    Raises:
        ConfigError: if WordNet is not installed.
        AssetError: if the corpus or a model could not be had.
    """
    net = load_wordnet()
    corpus = default_corpus()
    documents = documents_of(corpus, validation=False)
    train, held = shelves([d.text for d in documents], net, bundled(), seed)
    tokenizer = AutoTokenizer.from_pretrained(model_folder(SUBJECT), local_files_only=True)
    found = Lessons(train, held, documents, documents_of(corpus, validation=True), tokenizer)
    if not with_real:
        return found
    texts = [d.text[:3000] for d in Random(seed).sample(documents, N_DOCUMENTS)]
    splits = train_splits(load_subject(SUBJECT), load_coder("default"), texts, seed)
    return replace(found, real=real_features(splits, train))
