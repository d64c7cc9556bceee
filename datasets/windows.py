"""Documents cut into what the model reads (chunks) and what is shown and scored (windows)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glossator.datasets.pools import Document, document_id, normalised, pool_of
from glossator.errors import ConfigError, Unsupported
from glossator.types import Pool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Chunk",
    "chunks",
    "document_id",
    "normalised",
    "pool_of",
    "token_texts",
    "window_starts",
]

SHORTEST_TAIL = 8
"""A document's last window is left out if it has fewer tokens than this."""

_DOCUMENTS_AT_ONCE = 64
"""Documents a call of the tokenizer; it works on them in parallel."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of one document's tokens that the model reads at once."""

    document: str
    """Id of the document."""
    pool: Pool
    number: int
    """The document's place in the corpus, from 0."""
    start: int
    """Position of the first token in the document, in tokens."""
    token_ids: tuple[int, ...]
    """Shape (n_tokens,), at most `ctx`; without a start token."""
    tokens: tuple[str, ...]
    """Shape (n_tokens,): each token's text; joined, they are the chunk's text."""
    whole_document: bool = False
    """Whether this is all of the document, so that even a short tail is kept."""


def chunks(
    corpus: Iterable[Document],
    tokenizer: PreTrainedTokenizerBase,
    ctx: int,
    max_tokens: int | None = None,
) -> Iterator[Chunk]:
    """The corpus in its own order, each document cut into runs of `ctx` tokens.

    No run crosses from one document into the next, and a document's last run may be shorter.
    Special tokens are not added. One that is spelt out in the text is read as the tokenizer reads
    it. A document without any token gives no chunk, but counts in `number`.

    Args:
        corpus: documents, read once and not held.
        tokenizer: one that knows which characters each token covers (a "fast" one).
        ctx: longest chunk, in tokens.
        max_tokens: stop after this many; the last chunk is cut short to meet it.

    Raises:
        ConfigError: if `ctx` or `max_tokens` is below 1.
        Unsupported: if the tokenizer cannot tell which characters a token covers.
    """
    if ctx < 1 or (max_tokens is not None and max_tokens < 1):
        raise ConfigError(f"ctx and max_tokens are at least 1, not {ctx} and {max_tokens}")
    if not tokenizer.is_fast:
        raise Unsupported(
            f"the tokenizer {type(tokenizer).__name__} does not say which characters a token "
            "covers; use a model with a tokenizer.json"
        )
    left = max_tokens
    numbered = enumerate(corpus)
    while batch := list(itertools.islice(numbered, _DOCUMENTS_AT_ONCE)):
        encoded = tokenizer(
            [document.text for _, document in batch],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        for (number, document), ids, offsets in zip(
            batch, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            texts = token_texts(document.text, [end for _, end in offsets])
            for start in range(0, len(ids), ctx):
                stop = min(start + ctx, len(ids) if left is None else start + left)
                yield Chunk(
                    document=document.id,
                    pool=document.pool,
                    number=number,
                    start=start,
                    token_ids=tuple(ids[start:stop]),
                    tokens=tuple(texts[start:stop]),
                    whole_document=start == 0 and stop >= len(ids),
                )
                if left is not None:
                    left -= min(stop, len(ids)) - start
                    if left <= 0:
                        return


def token_texts(text: str, ends: Sequence[int]) -> list[str]:
    """Each token's share of `text`; joined, they are `text` again, whatever the tokenizer does.

    A token gets the characters from where the one before it stopped to its own end. So a character
    whose bytes are spread over several tokens belongs to the first of them and the others are
    empty; spaces that a tokenizer leaves out of its offsets go to the next token, and at the end
    of the text to the last.

    Args:
        text: what was tokenized.
        ends: shape (n_tokens,), where each token ends in `text`, in characters.
    """
    cuts = [0, *itertools.accumulate(ends, max)]
    if len(cuts) > 1:
        cuts[-1] = len(text)
    return [text[start:stop] for start, stop in itertools.pairwise(cuts)]


def window_starts(n_tokens: int, window: int, whole_document: bool) -> list[tuple[int, int]]:
    """The windows of a chunk of `n_tokens`, as (start, stop) inside it, in tokens.

    Windows lie end to end and do not overlap. A last one shorter than `SHORTEST_TAIL` (or than
    `window`, if that is less) is left out, unless it is the whole document.
    """
    if window < 1:
        raise ConfigError(f"a window has at least 1 token, not {window}")
    cut = [(start, min(start + window, n_tokens)) for start in range(0, n_tokens, window)]
    if cut and not (whole_document and len(cut) == 1):
        start, stop = cut[-1]
        if stop - start < min(SHORTEST_TAIL, window):
            cut.pop()
    return cut
