"""A tiny local model that chats, and what it gives by one plain pass after the other."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glossator.llm import Message, Reply, Request
from glossator.providers.local import LocalLLM
from tests.tiny_llama import WORDS, save_tiny_llama, some_texts

TEMPLATE = (
    "<s>{% for m in messages %}[{{ m.role }}]\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)


def save_tiny_chat(folder: Path) -> Path:
    """Writes the model to `folder`, with a chat template."""
    found = save_tiny_llama(folder)
    (found / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return found


def loaded(folder: Path) -> LocalLLM:
    """It, in float32."""
    return LocalLLM.load(str(folder), device="cpu", dtype="float32")


def roomy(llm: LocalLLM) -> LocalLLM:
    """The same model with room for longer prompts."""
    llm.model.config.max_position_embeddings = 8192
    return LocalLLM(llm.name, llm.model, llm.tokenizer)


def asked(text: str, *, system: str = "Answer.", **settings: object) -> Request:
    """A request of two messages."""
    messages = (Message("system", system), Message("user", text))
    return replace(Request(messages), **settings)  # type: ignore[arg-type]


def all_replies(llm: LocalLLM, requests: Sequence[Request]) -> list[Reply]:
    """The replies to `requests`, asked for at once."""

    async def together() -> list[Reply]:
        return list(await asyncio.gather(*[llm.reply(r) for r in requests]))

    return asyncio.run(together())


def prompts(n: int, seed: int) -> list[str]:
    """Texts many of which begin alike."""
    rng = random.Random(seed)
    starts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 25))) for _ in range(3)]
    return [f"{rng.choice(starts)} {t}"[:300] for t in some_texts(n, 30, seed)]


@contextmanager
def tokens_read(llm: LocalLLM) -> Iterator[list[int]]:
    """How many tokens each pass of the model inside reads."""
    passes: list[int] = []
    embeddings = llm.model.get_input_embeddings()
    hook = embeddings.register_forward_pre_hook(lambda _, args: passes.append(args[0].numel()))
    try:
        yield passes
    finally:
        hook.remove()


# -- the oracle: one plain forward pass for each answer of each place ------------------------------


def encoded(llm: LocalLLM, text: str) -> list[int]:
    """The tokens of `text`."""
    return [int(i) for i in llm.tokenizer(text, add_special_tokens=False)["input_ids"]]


def rendered(request: Request) -> str:
    """What `TEMPLATE` makes of `request`."""
    turns = "".join(f"[{m.role}]\n{m.content}<|endoftext|>\n" for m in request.messages)
    return f"<s>{turns}[assistant]\n{request.prefill}"


def starts_with(llm: LocalLLM, ids: list[int], answer: list[int]) -> float:
    """Log probability that `answer` follows `ids`."""
    with torch.inference_mode():
        logits = llm.model(input_ids=torch.tensor([ids + answer]), use_cache=False).logits[0]
    log_probs = torch.log_softmax(logits.double(), dim=-1)
    return sum(float(log_probs[len(ids) - 1 + i, t]) for i, t in enumerate(answer))


def plain_row(llm: LocalLLM, ids: list[int], answers: Sequence[str]) -> list[float]:
    """The same for each of `answers`, what goes on to a longer one left out."""
    row = []
    for answer in answers:
        mine = encoded(llm, answer)
        share = math.exp(starts_with(llm, ids, mine))
        for other in answers:
            theirs = encoded(llm, other)
            if len(theirs) > len(mine) and theirs[: len(mine)] == mine:
                share -= math.exp(starts_with(llm, ids, theirs))
        row.append(math.log(share))
    return row


def close(found: Sequence[float], wanted: Sequence[float]) -> bool:
    """Whether two rows are the same but for the rounding of float32."""
    return list(found) == pytest.approx(list(wanted), abs=1e-4)
