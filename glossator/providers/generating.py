"""Text that goes on from several prompts at a time.

What the prompts begin with in common is computed once. The rest is padded on the left, so that
every row's next token is at the end. A row that has ended leaves the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from glossator.llm import Request
from glossator.providers.grammar import Broken, Path
from glossator.providers.passes import Passes
from glossator.providers.prompts import Prompt
from glossator.providers.tree import common_prefix

MAX_ROWS = 16
MAX_TOKENS = 1 << 14
"""That the rows of a batch hold together, those to come included: their keys and values fill
memory."""


@dataclass
class Row:
    """One reply on its way."""

    request: Request
    prompt: Prompt
    path: Path | None = None
    """Through the schema, where there is one."""
    made: list[int] = field(default_factory=list)
    finish: Literal["", "stop", "length"] = ""
    """Empty while it goes on."""
    broken: str = ""
    """Why it could not be held to its schema."""

    @property
    def most(self) -> int:
        """Tokens it may come to hold."""
        return len(self.prompt.ids) + self.request.max_tokens


def batches(prompts: Sequence[Prompt], bounds: Sequence[int]) -> list[list[int]]:
    """Which of `prompts` are continued together; gives indices.

    Args:
        prompts: those that begin alike come together.
        bounds: tokens that may be made for each.
    """
    found: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(prompts)), key=lambda i: prompts[i].ids):
        most = len(prompts[index].ids) + bounds[index]
        longest = max(longest, most)
        rows = len(found[-1]) + 1 if found else 1
        if not found or rows > MAX_ROWS or rows * longest > MAX_TOKENS:
            found.append([])
            longest = most
        found[-1].append(index)
    return found


def write(
    passes: Passes, tokenizer: PreTrainedTokenizerBase, ends: Collection[int], rows: Sequence[Row]
) -> None:
    """Goes on with all `rows` until each has ended.

    Args:
        passes: the model.
        tokenizer: its own.
        ends: tokens that end a reply.
        rows: they are changed.
    """
    prompts = [row.prompt.ids for row in rows]
    shared = min(common_prefix(prompts), min(map(len, prompts)) - 1)
    cache = passes.past(prompts[0][:shared]).cache(len(rows))
    longest = max(map(len, prompts)) - shared
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.ones(len(rows), shared + longest, dtype=torch.long)
    for at, prompt in enumerate(prompts):
        pad = longest - (len(prompt) - shared)
        ids[at, pad:] = torch.tensor(prompt[shared:])
        mask[at, shared : shared + pad] = 0
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]  # (n_rows, longest)
    # One for each row, so that a reply does not depend on who else was waiting.
    chances = [torch.Generator().manual_seed(int(r.request.digest[:12], 16)) for r in rows]
    going = list(zip(rows, chances, strict=True))
    while True:
        logits = passes.next_logits(ids, mask, position, cache)  # (n_going, n_vocab)
        for (row, chance), values in zip(going, logits, strict=True):
            try:
                _extend(row, values, chance, tokenizer, ends)
            except Broken as error:
                row.broken, row.finish = str(error), "stop"
        kept = [i for i, (row, _) in enumerate(going) if not row.finish]
        if not kept:
            return
        if len(kept) < len(going):
            cache.batch_select_indices(torch.tensor(kept, device=passes.model.device))
            going = [going[i] for i in kept]
        ids = torch.tensor([row.made[-1:] for row, _ in going])
        mask = torch.cat([mask[kept], torch.ones(len(kept), 1, dtype=torch.long)], dim=1)
        position = position[kept, -1:] + 1


def _extend(
    row: Row,
    logits: torch.Tensor,
    chance: torch.Generator,
    tokenizer: PreTrainedTokenizerBase,
    ends: Collection[int],
) -> None:
    """Puts one token more behind `row`, or ends it; `logits` has shape (n_vocab,)."""
    request = row.request
    if row.path is not None:
        row.path.forbid(logits)
    if request.temperature > 0:
        odds = torch.softmax(logits / request.temperature, dim=-1)
        token = int(torch.multinomial(odds, 1, generator=chance))
    else:
        token = int(logits.argmax())
    row.made.append(token)
    if token in ends:
        row.finish = "stop"
        return
    if row.path is not None:
        row.path.take(token)
        if row.path.ended:
            row.finish = "stop"
    elif request.stop:
        text = str(tokenizer.decode(row.made))
        if any(stop in text for stop in request.stop):
            row.finish = "stop"
    if not row.finish and len(row.made) >= request.max_tokens:
        row.finish = "length"


def text_of(row: Row, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> str:
    """What `row` says, up to its first stop string; in a reply that keeps to a schema none counts.

    What the request wanted it to begin with stands before it.
    """
    made = row.made[:-1] if row.made and row.made[-1] in ends else row.made
    text = str(tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    if row.path is None:
        stops = (text.find(stop) for stop in row.request.stop if stop in text)
        text = text[: min(stops, default=len(text))]
    return row.request.prefill + text
