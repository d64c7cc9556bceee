"""Forward passes of a subject: what comes next after texts, how they go on, where heads look.

Texts of one length are read together, so that none is padded and each is read as it is alone, but
for rounding. No cache, mask or setting of the model is left changed.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from glossator.datasets.pools import Document
from glossator.datasets.windows import Chunk, chunks
from glossator.errors import ConfigError, Unsupported
from glossator.live import Attention
from glossator.subject import Subject

_AT_ONCE = 16
"""Texts in one pass, at most."""

Ids = Sequence[tuple[int, ...]]
"""Token ids of texts, without a start token."""


def chunks_of(subject: Subject, texts: Sequence[str], ctx: int) -> list[list[Chunk]]:
    """Each text cut as a document of a corpus is: runs of `ctx` tokens, in order.

    Raises:
        ConfigError: for a text without a token.
    """
    found: list[list[Chunk]] = [[] for _ in texts]
    documents = [Document(text, "experiment", f"{i:016x}") for i, text in enumerate(texts)]
    for chunk in chunks(documents, subject.tokenizer, ctx):
        found[chunk.number].append(chunk)
    for text, cut in zip(texts, found, strict=True):
        if not cut:
            raise ConfigError(f"a text has no token that can be read: {text!r:.80}")
    return found


def ids_of(subject: Subject, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Token ids of each text as a whole.

    Raises:
        ConfigError: for a text without a token, or longer than the model reads at once.
    """
    longest = (subject.max_ctx or 1 << 30) - 1
    cut = chunks_of(subject, texts, longest)
    if any(len(parts) > 1 for parts in cut):
        raise ConfigError(f"{subject.name} reads at most {longest} tokens after a start token")
    return [parts[0].token_ids for parts in cut]


def of_one_length(ids: Ids) -> Iterator[list[int]]:
    """The places of texts that can be read together, at most `_AT_ONCE`."""
    by_length: dict[int, list[int]] = {}
    for i, text in enumerate(ids):
        by_length.setdefault(len(text), []).append(i)
    for places in by_length.values():
        for first in range(0, len(places), _AT_ONCE):
            yield places[first : first + _AT_ONCE]


def next_log_probabilities(subject: Subject, ids: Ids) -> Tensor:
    """Natural-log probabilities of what comes after each text, shape (n_texts, vocab).

    In float64 and on the CPU, so that small divergences of them are no rounding.
    """
    found: list[Tensor | None] = [None] * len(ids)
    for places in of_one_length(ids):
        batch = _started(subject, [ids[i] for i in places])  # (batch, 1 + ctx)
        with torch.inference_mode():
            logits = _last_logits(subject, batch, use_cache=False)[0]
        for i, row in zip(places, logits.cpu().double().log_softmax(dim=-1), strict=True):
            found[i] = row
    return torch.stack([row for row in found if row is not None])  # (n_texts, vocab)


def continued(
    subject: Subject,
    texts: Sequence[str],
    max_tokens: int,
    seed: int | None,
    held: Callable[[], Any],
) -> list[str]:
    """How the model goes on after each text; `held` gives the context it runs in, one a batch.

    What is drawn for a text depends on it and `seed` alone, and not on the texts beside it. Special
    tokens, which end a text, are not part of what is given.
    """
    ids = ids_of(subject, texts)
    made: list[list[int]] = [[] for _ in texts]
    for places in of_one_length(ids):
        draws = [_chance(seed, texts[i]) for i in places]
        batch = _started(subject, [ids[i] for i in places])  # (batch, 1 + ctx)
        open_ends = set(places)
        past: Any = None
        with torch.inference_mode(), held():
            for _ in range(max_tokens):
                logits, past = _last_logits(subject, batch, use_cache=True, past=past)
                chosen = [
                    _draw(row, chance) for row, chance in zip(logits, draws, strict=True)
                ]  # (batch,)
                for i, token in zip(places, chosen, strict=True):
                    if token in subject.left_out_ids:
                        open_ends.discard(i)
                    elif i in open_ends:
                        made[i].append(token)
                if not open_ends:
                    break
                batch = torch.tensor(chosen, device=subject.device)[:, None]  # (batch, 1)
    # Behind its text, so that the first token keeps its leading space.
    tokenizer = subject.tokenizer
    whole = [tokenizer.decode([*ids[i], *made[i]]) for i in range(len(texts))]
    start = [tokenizer.decode(list(text)) for text in ids]
    return [
        after.removeprefix(before) if after.startswith(before) else tokenizer.decode(new)
        for after, before, new in zip(whole, start, made, strict=True)
    ]


def attention_weights(subject: Subject, layer: int, head: int, ids: Ids) -> list[Tensor]:
    """Where a head looks in each text, shape (ctx, ctx), the start token left out.

    Raises:
        Unsupported: if the model does not give its attention away.
    """
    found: list[Tensor | None] = [None] * len(ids)
    for places in of_one_length(ids):
        batch = _started(subject, [ids[i] for i in places])  # (batch, 1 + ctx)
        with torch.inference_mode(), _eager(subject):
            given = subject.body(input_ids=batch, use_cache=False, output_attentions=True)
        weights = getattr(given, "attentions", None)
        if not weights or weights[layer] is None:
            raise Unsupported(f"{subject.name} does not give the weights of its attention away")
        for i, row in zip(places, weights[layer][:, head], strict=True):
            found[i] = row[1:, 1:].float().cpu()  # (ctx, ctx)
    return [row for row in found if row is not None]


def attended(
    subject: Subject, layer: int, head: int, texts: Sequence[str]
) -> tuple[Attention, ...]:
    """Where a head looks in each text.

    Raises:
        ConfigError: for a text without a token, or longer than the model reads at once.
        Unsupported: if the model does not give its attention away.
    """
    ids = ids_of(subject, texts)
    weights = attention_weights(subject, layer, head, ids)
    cut = chunks_of(subject, texts, max(map(len, ids), default=1))
    return tuple(
        Attention(parts[0].tokens, tuple(tuple(row) for row in rows.tolist()))
        for parts, rows in zip(cut, weights, strict=True)
    )


@contextmanager
def _eager(subject: Subject) -> Iterator[None]:
    """Has attention computed in the way that keeps its weights, and then as before."""
    model = subject.model
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation("eager")
        yield
    finally:
        model.set_attn_implementation(before)


def _started(subject: Subject, ids: Ids) -> Tensor:
    """Texts of one length behind a start token, shape (batch, 1 + ctx)."""
    rows = [[subject.start_token_id, *text] for text in ids]
    return torch.tensor(rows, device=subject.device)


def _last_logits(
    subject: Subject, batch: Tensor, *, use_cache: bool, past: Any = None
) -> tuple[Tensor, Any]:
    """Logits behind the last token of each text, shape (batch, vocab), float32; and the cache."""
    more: dict[str, Any] = {} if past is None else {"past_key_values": past}
    if "logits_to_keep" in inspect.signature(subject.model.forward).parameters:
        more["logits_to_keep"] = 1
    given = subject.model(input_ids=batch, use_cache=use_cache, **more)
    return given.logits[:, -1].float(), given.past_key_values if use_cache else None


def _chance(seed: int | None, text: str) -> torch.Generator | None:
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _draw(logits: Tensor, chance: torch.Generator | None) -> int:
    """The likeliest token, or one drawn by `chance`."""
    if chance is None:
        return int(logits.argmax())
    return int(torch.multinomial(logits.softmax(dim=-1).cpu(), 1, generator=chance))
