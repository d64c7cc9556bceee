"""Features that are a callable of one's own: `tokens -> (batch, ctx, n)`.

What `planted.py` lacks for such: it knows texts of tokens and no ids, one number a token and
function, whole documents, and only features that fire above 0. Here one call computes many features
of a batch, so that another library's hook, or a probe on a GPU, can be collected like a site.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from glossator.datasets.collect import records_of
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.readings import Reading
from glossator.datasets.settings import CollectSettings, Progress
from glossator.datasets.windows import Chunk, chunks
from glossator.errors import ConfigError
from glossator.types import FeatureId, FeatureRecord

_PLAIN = re.compile(r"[^/@\x00-\x1f]+")


@dataclass(frozen=True)
class CallableFeatures:
    """`n` features that `function` computes.

    `collect_function` collects them.

    Raises:
        ConfigError: for a name that a feature id cannot hold, or a number below 1.
    """

    name: str
    """What stands for the site in their ids: `MODEL//NAME/INDEX`."""
    function: Callable[[Any], Any]
    """From a batch to activations, shape (batch, ctx, n), a tensor or array, or one of shape
    (n_tokens, n) for each text. What it gives behind a text's end means nothing.

    If it takes `ids`, the batch is a tensor of token ids, shape (batch, ctx), int64, on the CPU;
    if it takes `texts`, a list of lists of token texts, which joined are the text.
    """
    n: int
    """How many features."""
    model: str = "function"
    """What stands for the subject in their ids."""
    takes: Literal["ids", "texts"] = "ids"
    polarity: Literal["positive", "both"] = "positive"
    """`positive`: a feature fires above 0. `both`: dense and signed, so the negative tail is a
    feature of its own, and a token fires above a percentile."""
    start_token_id: int | None = None
    """Put before each row of ids, as a start token; its activations are left out."""
    pad_token_id: int = 0
    """Fills up rows of ids at the right."""

    def __post_init__(self) -> None:
        if not _PLAIN.fullmatch(self.name):
            raise ConfigError(f"a name is not empty and holds no '/' and no '@': {self.name!r}")
        if self.n < 1:
            raise ConfigError(f"a callable gives at least 1 feature, not {self.n}")

    @property
    def features(self) -> tuple[FeatureId, ...]:
        """Ids of all of them, in order; with both tails, n positive ones and then n negative."""
        tails = (False, True) if self.polarity == "both" else (False,)
        return tuple(
            FeatureId(self.model, self.name, i, negative=tail)
            for tail in tails
            for i in range(self.n)
        )

    @property
    def above_zero(self) -> bool:
        """Whether they fire above 0, and not above a percentile."""
        return self.polarity == "positive"

    def read(self, batch: Sequence[Chunk]) -> Tensor:
        """Activations of all `features`, in their order, sign turned for negative tails.

        Returns:
            Shape (batch, ctx, n_features), float32, where the callable computed it; 0 behind a
            text's end.

        Raises:
            ConfigError: if the callable gives another shape, no numbers, or NaN or infinite ones.
        """
        if not batch:
            raise ConfigError("reading takes at least one text")
        acts = self._together(self._given(batch), batch)  # (batch, ctx, n)
        if self.polarity == "both":
            acts = torch.cat([acts, -acts], dim=2)  # (batch, ctx, 2 n)
        return acts

    def _given(self, batch: Sequence[Chunk]) -> Any:
        if self.takes == "texts":
            return self.function([list(chunk.tokens) for chunk in batch])
        first = [] if self.start_token_id is None else [self.start_token_id]
        rows = [torch.tensor([*first, *chunk.token_ids]) for chunk in batch]
        ids = torch.nn.utils.rnn.pad_sequence(
            rows, batch_first=True, padding_value=self.pad_token_id
        )  # (batch, ctx), one more with a start token
        with torch.no_grad():
            return self.function(ids)

    def _together(self, given: Any, batch: Sequence[Chunk]) -> Tensor:
        """What the callable gave, as one tensor, checked."""
        extra = int(self.takes == "ids" and self.start_token_id is not None)
        lengths = [len(chunk.token_ids) for chunk in batch]
        wanted = (len(batch), max(lengths) + extra, self.n)
        if isinstance(given, list | tuple):
            parts = [self._tensor(part) for part in given]
            for part, length in zip(parts, lengths, strict=False):
                if part.shape != (length + extra, self.n):
                    raise ConfigError(
                        f"the callable {self.name!r} gave shape {tuple(part.shape)} for a text of "
                        f"{length + extra} tokens, not {(length + extra, self.n)}"
                    )
            if len(parts) != len(batch):
                raise ConfigError(
                    f"the callable {self.name!r} gave {len(parts)} texts' activations for "
                    f"{len(batch)} texts"
                )
            acts = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        else:
            acts = self._tensor(given)
        if acts.shape != wanted:
            raise ConfigError(
                f"the callable {self.name!r} gave shape {tuple(acts.shape)}, not {wanted}: "
                "(batch, ctx, n)"
            )
        acts = acts[:, extra:]  # (batch, ctx, n)
        inside = torch.arange(acts.shape[1]) < torch.tensor(lengths)[:, None]  # (batch, ctx)
        acts = acts.masked_fill(~inside.to(acts.device)[:, :, None], 0.0)
        if not bool(acts.isfinite().all()):
            raise ConfigError(f"the callable {self.name!r} gave NaN or an infinite activation")
        return acts

    def _tensor(self, given: Any) -> Tensor:
        if isinstance(given, np.ndarray) and given.dtype.kind in "fiub":
            given = torch.from_numpy(np.ascontiguousarray(given))
        if not isinstance(given, Tensor) or given.is_complex():
            raise ConfigError(
                f"the callable {self.name!r} gave a {type(given).__name__}, not a tensor or array "
                "of real numbers"
            )
        return given.detach().float()


def collect_function(
    source: CallableFeatures,
    tokenizer: Any,
    *,
    corpus: str | Corpus = "default",
    settings: CollectSettings | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> list[FeatureRecord]:
    """Records of all features that a callable computes, in their order.

    Args:
        source: the callable, and what it gives.
        tokenizer: the fast tokenizer of `transformers` that its token ids are of; its special
            tokens are in no window.
        corpus: a corpus, or what `load_corpus` takes.
        settings: how much is read and kept.
        offline: never try the network for the corpus.
        progress: told how far it is.

    Raises:
        ConfigError: if the callable gives another shape, no numbers, or NaN or infinite ones.
        CorpusError: if the corpus holds nothing to read.
    """
    settings = settings or CollectSettings()
    text = load_corpus(corpus, offline=offline) if isinstance(corpus, str) else corpus
    reading = Reading.of_function(
        source.features,
        lambda: chunks(text, tokenizer, settings.ctx, settings.tokens),
        source.read,
        percentile=None if source.above_zero else settings.percentile,
        left_out_ids=frozenset(tokenizer.all_special_ids),
        provenance={
            "model": source.model,
            "tokenizer": type(tokenizer).__name__,
            "corpus": text.name,
            "corpus_digest": text.digest,
        },
    )
    return list(records_of(reading, settings, progress))
