"""The same windows of tokens for everyone: full ones, so that nothing is padded."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glossator.datasets.corpora import Corpus, Document, default_corpus
from glossator.datasets.windows import chunks
from glossator.subject import Subject
from glossator.types import Pool

SHARES = {Pool.TRAIN: 0.4, Pool.DEV: 0.2, Pool.TEST: 0.4}
_TEXTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Windows:
    """Runs of text of exactly `ctx` tokens, each a document of its own."""

    ctx: int
    documents: tuple[Document, ...]
    token_ids: tuple[tuple[int, ...], ...]
    """Shape (n_windows, ctx), without the start token."""

    @property
    def n_tokens(self) -> int:
        """Tokens of text; the start token before each window is not counted, for anyone."""
        return self.ctx * len(self.token_ids)

    @property
    def corpus(self) -> Corpus:
        """The windows as a corpus, from which a tokenizer makes the same windows again."""
        digest = hashlib.sha256("".join(d.id for d in self.documents).encode()).hexdigest()
        documents = self.documents
        return Corpus(
            name=f"windows of {self.ctx} tokens",
            digest=digest,
            n_documents=len(documents),
            n_duplicates=0,
            n_left_out=0,
            n_unreadable=0,
            read=lambda: iter(documents),
        )

    def rows(self, start_token_id: int) -> Tensor:
        """What the model reads, shape (n_windows, 1 + ctx)."""
        ids = torch.tensor(self.token_ids)
        return torch.cat([torch.full((len(ids), 1), start_token_id), ids], dim=1)

    def first(self, n: int) -> Windows:
        """The first `n` of them."""
        return Windows(self.ctx, self.documents[:n], self.token_ids[:n])

    def save(self, file: Path) -> None:
        """Writes the texts; `load` reads them."""
        file.write_text(json.dumps([d.text for d in self.documents]), encoding="utf-8")


def load(file: Path, subject: Subject, ctx: int) -> Windows:
    """Windows that `Windows.save` wrote."""
    texts: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return Windows(
        ctx,
        tuple(Document.of(text, "benchmark") for text in texts),
        tuple(tuple(ids) for ids in _tokenized(subject, texts)),
    )


def full_windows(subject: Subject, ctx: int, tokens: int, batch: int) -> Windows:
    """At least one batch, and as many whole batches as `tokens` holds, of the default corpus.

    As many windows of each pool are taken as make whole batches, since batches are of one pool.

    Raises:
        SystemExit: if the corpus has too few windows of that length.
    """
    wanted = _whole_batches(max(1, tokens // (ctx * batch)), batch)
    taken: Counter[Pool] = Counter()
    documents: list[Document] = []
    token_ids: list[tuple[int, ...]] = []
    seen: set[str] = set()
    for document, ids in _candidates(subject, ctx):
        if taken[document.pool] < wanted[document.pool] and document.id not in seen:
            taken[document.pool] += 1
            seen.add(document.id)
            documents.append(document)
            token_ids.append(ids)
            if len(documents) == sum(wanted.values()):
                return Windows(ctx, tuple(documents), tuple(token_ids))
    raise SystemExit(
        f"the default corpus has {len(documents)} windows of {ctx} tokens where "
        f"{sum(wanted.values())} are wanted; give fewer --tokens"
    )


def _whole_batches(n_batches: int, batch: int) -> dict[Pool, int]:
    """Windows of each pool, multiples of `batch` that add up to `n_batches` of them."""
    dev = round(SHARES[Pool.DEV] * n_batches)
    test = round(SHARES[Pool.TEST] * (n_batches - dev) / (1 - SHARES[Pool.DEV]) - 0.01)
    train = n_batches - dev - test  # gets the odd one: thresholds are measured on it
    return {Pool.TRAIN: train * batch, Pool.DEV: dev * batch, Pool.TEST: test * batch}


def _candidates(subject: Subject, ctx: int) -> Iterator[tuple[Document, tuple[int, ...]]]:
    """Full windows that come out the same when their text is tokenized on its own."""
    stream = (c for c in chunks(_long(ctx), subject.tokenizer, ctx) if len(c.token_ids) == ctx)
    while some := list(itertools.islice(stream, _TEXTS_AT_ONCE)):
        texts = ["".join(chunk.tokens) for chunk in some]
        for chunk, text, ids in zip(some, texts, _tokenized(subject, texts), strict=True):
            if tuple(ids) == chunk.token_ids and subject.left_out_ids.isdisjoint(ids):
                yield Document.of(text, "benchmark"), chunk.token_ids


def _long(ctx: int) -> Iterable[Document]:
    """Documents that could hold a window: a token has a character or more."""
    return (document for document in default_corpus() if len(document.text) >= ctx)


def _tokenized(subject: Subject, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = subject.tokenizer(
        list(texts), add_special_tokens=False, verbose=False
    )["input_ids"]
    return found
