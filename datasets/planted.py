"""Planted features: functions of the text whose meaning is known, in place of a model's inside."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from glossator.datasets.collect import CollectSettings, Progress, records_of
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.readings import Reading
from glossator.datasets.windows import Chunk, chunks
from glossator.errors import ConfigError
from glossator.types import FeatureId, FeatureRecord

Function = Callable[[list[str]], Sequence[float]]
"""From a document's tokens to one activation for each."""

MODEL, SITE = "planted", "function"

_PIECE = re.compile(r"\s*(?:\w+(?:'\w+)?|[^\w\s])|\s+")
_WHOLE_DOCUMENT = 1 << 31
"""A chunk length that no document reaches: a function sees documents whole."""


def word_pieces(text: str) -> list[str]:
    """`text` in words, numbers and single marks; joined, they are `text` again.

    White space belongs to what follows it, as in byte-pair encodings, and at the end of the text
    is a piece of its own. An apostrophe inside a word does not part it.
    """
    return _PIECE.findall(text)


class _WordTokenizer:
    """`word_pieces` behind as much of a tokenizer's interface as cutting documents needs."""

    is_fast = True

    def __call__(self, texts: Sequence[str], **_: Any) -> dict[str, list[Any]]:
        offsets = []
        for text in texts:
            ends = list(itertools.accumulate(map(len, word_pieces(text))))
            offsets.append(list(zip([0, *ends[:-1]], ends, strict=True)) if ends else [])
        # the functions see texts, so all pieces may have one number
        return {"input_ids": [[0] * len(o) for o in offsets], "offset_mapping": offsets}


def collect_planted(
    functions: Mapping[str, Function],
    *,
    texts: Iterable[str] | None = None,
    corpus: str | Corpus | None = None,
    tokens: int | None = 200_000,
    window: int = 32,
    seed: int = 0,
    n_top: int = 20,
    n_firing: int = 50,
    n_silent: int = 50,
    tokenizer: Any = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> list[FeatureRecord]:
    """Records of features that are functions of the text, in the order given.

    A function is called once or twice for each *document*, with all of its tokens, so position 0 is
    the first token of the document, and not of an example: of each document, the first window
    fires on it and the others are silent. Feature number i has the id `planted//function/i` and its
    name in `provenance["name"]`. It fires above 0.

    Args:
        functions: by name, from a document's tokens to one finite number for each.
        texts: the documents, in place of `corpus`.
        corpus: a corpus, or what `load_corpus` takes.
        tokens: how many tokens to read; None reads all.
        window: tokens of an example.
        seed: of the samples.
        n_top: strongest windows kept in each split.
        n_firing: other firing windows in each split.
        n_silent: silent windows in each split.
        tokenizer: a fast tokenizer of `transformers` in place of `word_pieces`.
        offline: never try the network for the corpus.
        progress: told how far it is.

    Raises:
        ConfigError: if there is no function, one gives something else than a finite number for each
            token, or both or neither of `texts` and `corpus` are given.
        CorpusError: if there is no text.
    """
    if (texts is None) == (corpus is None):
        raise ConfigError("planted features are read on texts=..., or on corpus=..., one of them")
    if texts is not None:
        text = Corpus.of([texts] if isinstance(texts, str) else texts)
    else:
        text = corpus if isinstance(corpus, Corpus) else load_corpus(corpus or "default", offline)
    settings = CollectSettings(
        tokens=tokens,
        ctx=max(window, _WHOLE_DOCUMENT),
        window=window,
        seed=seed,
        batch=8,
        n_top=n_top,
        n_firing=n_firing,
        n_silent=n_silent,
    )
    cutter: Any = tokenizer or _WordTokenizer()

    def stream() -> Iterator[Chunk]:
        return chunks(text, cutter, settings.ctx, settings.tokens)

    def read(batch: Sequence[Chunk]) -> Tensor:
        longest = max(len(chunk.tokens) for chunk in batch)
        acts = torch.zeros((len(batch), longest, len(functions)))
        for row, chunk in enumerate(batch):
            for column, (name, function) in enumerate(functions.items()):
                values = _values(name, function, chunk.tokens)
                acts[row, : len(values), column] = torch.tensor(values, dtype=torch.float32)
        return acts

    reading = Reading.of_function(
        [FeatureId(MODEL, SITE, i) for i in range(len(functions))],
        stream,
        read,
        provenance={
            "model": MODEL,
            "tokenizer": type(tokenizer).__name__ if tokenizer else "word pieces",
            "ctx": "whole documents",
            "start_tokens_left_out": "0",
            "corpus": text.name,
            "corpus_digest": text.digest,
        },
        names=tuple(functions),
    )
    return list(records_of(reading, settings, progress))


def _values(name: str, function: Function, tokens: tuple[str, ...]) -> list[float]:
    """What `function` gives for a document, checked."""
    given = list(tokens)  # a copy, so that it may do with it what it likes
    try:
        values = [float(value) for value in function(given)]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the planted function {name!r} gave no list of numbers: {error}"
        ) from error
    if len(values) != len(tokens):
        raise ConfigError(
            f"the planted function {name!r} gave {len(values)} activations for "
            f"{len(tokens)} tokens; it must give one for each"
        )
    # as the reducers hold them, in 32 bits, whose largest number is 3.4e38
    if not all(math.isfinite(value) and abs(value) < 3e38 for value in values):
        raise ConfigError(f"the planted function {name!r} gave NaN or an infinite activation")
    return values
