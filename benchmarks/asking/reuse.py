"""What a local model gains by computing once what prompts begin with: a detection workload."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from glossator.datasets.corpora import default_corpus
from glossator.llm import Reply, Request
from glossator.providers.local import LocalLLM
from glossator.providers.prompts import Prompt, Prompts
from glossator.scorers.judge import ANSWERS, probability_of_yes, prompt

EXPLANATIONS = (
    "names of animals",
    "the second word of a comparison, behind 'than'",
    "words that express doubt, such as perhaps or maybe",
    "numbers that stand for years",
    "verbs of motion in the past tense",
)
PADDED_TOGETHER = 16

Way = Callable[[LocalLLM, Sequence[Request]], list[float]]
"""Gives P(yes) of each request."""


def workload(llm: LocalLLM, n_explanations: int, n_windows: int, window: int) -> list[Request]:
    """The judge's own questions, each about another window, as the detection scorer asks them."""
    texts = []
    for document in default_corpus().read():
        ids = llm.tokenizer(document.text, add_special_tokens=False)["input_ids"]
        if len(ids) >= window:
            texts.append(str(llm.tokenizer.decode(ids[:window])))
        if len(texts) == n_explanations * n_windows:
            break
    return [
        Request(prompt(EXPLANATIONS[i // n_windows], text), max_tokens=0, answers=ANSWERS)
        for i, text in enumerate(texts)
    ]


def shipped(llm: LocalLLM, requests: Sequence[Request]) -> list[float]:
    """All at once, as a run asks."""

    async def ask() -> list[Reply]:
        return list(await asyncio.gather(*map(llm.reply, requests)))

    return [probability_of_yes(reply) for reply in asyncio.run(ask())]


def no_tree(llm: LocalLLM, requests: Sequence[Request]) -> list[float]:
    """One after the other: what they begin with is kept, and each is a pass of its own."""

    async def ask() -> list[Reply]:
        return [await llm.reply(request) for request in requests]

    return [probability_of_yes(reply) for reply in asyncio.run(ask())]


def alone(llm: LocalLLM, requests: Sequence[Request]) -> list[float]:
    """Each prompt by itself and whole, through the model's own forward pass."""
    return _plainly(llm, requests, together=1)


def padded(llm: LocalLLM, requests: Sequence[Request]) -> list[float]:
    """Whole prompts in batches of those of about one length, padded on the left."""
    return _plainly(llm, requests, together=PADDED_TOGETHER)


WAYS: dict[str, Way] = {
    "as shipped: prefix and tree": shipped,
    "prefix, each prompt a pass": no_tree,
    "no reuse, padded batches": padded,
    "no reuse, one prompt a pass": alone,
}
SLOW = {"no reuse, one prompt a pass": 12}
"""Prompts that are enough to know its rate."""
WITHOUT = ("no reuse, padded batches", "no reuse, one prompt a pass")
PLAIN = "no reuse, padded batches"
"""Whose probabilities the others are held against."""


def measured(
    spec: str, n_explanations: int, n_windows: int, window: int, reps: int
) -> list[dict[str, Any]]:
    """Prompt tokens a second of each way, in turn, on the same prompts; a row for each."""
    loaded = LocalLLM.load(spec)
    requests = workload(loaded, n_explanations, n_windows, window)
    prompts = _prompts(loaded, requests)
    sizes = [len(p.ids) for p in prompts]
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    found: dict[str, list[float]] = {}
    for rep in range(-1, reps):  # The first time warms up.
        names = list(WAYS) if rep % 2 else list(WAYS)[::-1]
        for name in names:
            # Nothing is kept from the way before.
            llm = LocalLLM(spec, loaded.model, loaded.tokenizer, loaded.revision)
            n = 4 if rep < 0 else SLOW.get(name, len(requests))
            began = time.perf_counter()
            said = WAYS[name](llm, requests[:n])
            seconds = time.perf_counter() - began
            if rep >= 0:
                rates[name].append(sum(sizes[:n]) / seconds)
                found[name] = said
    fastest = [max(rates[name][rep] for name in WITHOUT) for rep in range(reps)]
    return [
        {
            "what": name,
            "model": spec,
            "prompts": len(requests),
            "tokens": sum(sizes),
            "distinct": _distinct(prompts),
            "rate": _spread(rates[name]),
            "ratio": _spread([r / f for r, f in zip(rates[name], fastest, strict=True)]),
            "apart": max(abs(a - b) for a, b in zip(found[name], found[PLAIN], strict=False)),
        }
        for name in WAYS
    ]


def _prompts(llm: LocalLLM, requests: Sequence[Request]) -> list[Prompt]:
    prompts = Prompts(llm.name, llm.tokenizer, 1 << 30)
    return [prompts.of(request) for request in requests]


def _distinct(prompts: Sequence[Prompt]) -> int:
    """Tokens that are left where each beginning that prompts share is counted once."""
    ordered = sorted(p.ids for p in prompts)
    n = len(ordered[0])
    for before, ids in itertools.pairwise(ordered):
        n += len(ids) - next(
            (i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), len(before)
        )
    return n


def _plainly(llm: LocalLLM, requests: Sequence[Request], together: int) -> list[float]:
    """Probabilities of both answers from passes without any cache, through the whole model."""
    prompts = _prompts(llm, requests)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    found = [0.0] * len(prompts)
    for begin in range(0, len(order), together):
        some = order[begin : begin + together]
        longest = max(len(prompts[i].ids) for i in some)
        ids = torch.zeros(len(some), longest, dtype=torch.long)
        mask = torch.zeros(len(some), longest, dtype=torch.long)
        for row, i in enumerate(some):
            ids[row, longest - len(prompts[i].ids) :] = torch.tensor(prompts[i].ids)
            mask[row, longest - len(prompts[i].ids) :] = 1
        position = (mask.cumsum(1) - 1).clamp(min=0)
        device = llm.model.device
        with torch.inference_mode():
            logits = llm.model(
                input_ids=ids.to(device),
                attention_mask=None if together == 1 else mask.to(device),
                position_ids=position.to(device),
                use_cache=False,
                logits_to_keep=1,
            ).logits[:, -1]
        rows = logits.float().log_softmax(-1).cpu()
        for row, i in enumerate(some):
            # Both answers are one token in the models that this is run with.
            answers = tuple(float(rows[row, a[0]]) for a in prompts[i].answers)
            found[i] = probability_of_yes(Reply(answers=answers))
    return found


def _spread(values: list[float]) -> list[float]:
    """Least, median and greatest."""
    return [min(values), statistics.median(values), max(values)]
