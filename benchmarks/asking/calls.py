"""Calls to the fake provider: through our layer, and through the bare SDK."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import openai
from asking.server import served

from glossator.config import RunConfig
from glossator.llm import Message, Reply, Request
from glossator.providers.journal import GroupJournal
from glossator.providers.metered import Metered
from glossator.providers.openai import OpenAILLM
from glossator.providers.prices import FlatPrice
from glossator.store import open_store

PROMPT = "Does this text hold a name of a fruit? " + "some words of a text " * 20
UNLIMITED = 1e9


def requests(n: int) -> list[Request]:
    """`n` different requests of a judge's size."""
    return [Request((Message("user", f"{PROMPT} {i}"),), max_tokens=5) for i in range(n)]


async def ours(url: str, n: int, at_once: int) -> tuple[float, int]:
    """Seconds for `n` calls, each reply and its cost on disk; and how many were lost."""
    llm = OpenAILLM.connect("some-model", base_url=url, environ={})
    with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{folder}/s.db") as store:
        run = store.begin_run(RunConfig()).id
        journal = GroupJournal(store.replies.get, lambda entries: store.put_calls(run, entries))
        model = Metered(llm, journal, price=FlatPrice(1.0, 1.0), limit=at_once)
        began = time.perf_counter()
        found = await asyncio.gather(*map(model.reply, requests(n)), return_exceptions=True)
        seconds = time.perf_counter() - began
        await model.aclose()
    return seconds, sum(not isinstance(reply, Reply) for reply in found)


async def bare(url: str, n: int, at_once: int, retries: int = 0) -> tuple[float, int]:
    """The same by the SDK alone, which keeps nothing; and how many were lost."""
    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=retries)
    places = asyncio.Semaphore(at_once)

    async def one(request: Request) -> Any:
        async with places:
            return await client.chat.completions.create(
                model="some-model",
                messages=[{"role": "user", "content": m.content} for m in request.messages],
                max_tokens=5,
                temperature=0.0,
            )

    began = time.perf_counter()
    found = await asyncio.gather(*map(one, requests(n)), return_exceptions=True)
    seconds = time.perf_counter() - began
    await client.close()
    return seconds, sum(isinstance(reply, BaseException) for reply in found)


Way = Callable[[str, int, int], Awaitable[tuple[float, int]]]


def rates(rate: float, n: int, wanted: list[int], reps: int) -> list[dict[str, Any]]:
    """What is achieved of `rate` calls a second, by us and by the SDK with its own retries."""

    async def sdk(url: str, n: int, at_once: int) -> tuple[float, int]:
        return await bare(url, n, at_once, retries=2)

    ways: dict[str, Way] = {"ours": ours, "bare SDK, 2 retries": sdk}
    rows = []
    for at_once in wanted:
        for name, way in ways.items():
            shares, lost, refused = [], 0, 0
            for _ in range(reps):
                with served(rate, 0.05) as (url, seen):
                    lost += asyncio.run(_awaited(way, url, n, at_once))[1]
                # The first of `count` comes at 0: the rest took the time.
                shares.append((seen["count"] - 1) / seen["seconds"] / rate)
                refused += int(seen["refused"])
            rows.append(
                {
                    "what": name,
                    "wanted": at_once,
                    "calls": n * reps,
                    "lost": lost,
                    "refused": refused,
                    "share": _spread(shares),
                }
            )
    return rows


def overhead(n: int, wanted: list[int], reps: int) -> list[dict[str, Any]]:
    """Milliseconds a call of our layer over the bare SDK, in turn, each pair by itself."""
    rows = []
    for at_once in wanted:
        alone, added = [], []
        with served(UNLIMITED, 0.05) as (url, _):
            asyncio.run(_awaited(ours, url, at_once, at_once))
            for rep in range(reps):
                took = {}
                for way in (ours, bare) if rep % 2 else (bare, ours):
                    took[way] = asyncio.run(_awaited(way, url, n, at_once))[0] / n * 1e3
                alone.append(took[bare])
                added.append(took[ours] - took[bare])
        row = {"wanted": at_once, "calls": n * reps, "bare": _spread(alone)}
        rows.append(row | {"added": _spread(added)})
    return rows


async def _awaited(way: Way, url: str, n: int, at_once: int) -> tuple[float, int]:
    return await way(url, n, at_once)


def _spread(values: list[float]) -> list[float]:
    """Least, median and greatest."""
    return [min(values), statistics.median(values), max(values)]
