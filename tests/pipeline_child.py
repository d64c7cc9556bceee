"""A small run of the whole pipeline: subject, text, a rule that answers, and a process to kill.

`python -m tests.pipeline_child STORE` reads a config, limits and the pace of batches from standard
input, runs it, and prints each step that it makes. It may be told to die as it writes replies of a
batch down, once there are so many.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import random
import re
import signal
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glossator.config import RunConfig, RunLimits
from glossator.llm import Can, Reply, Request
from glossator.pipeline import Outcome, run
from glossator.progress import Progress
from glossator.providers.errand import PACE, Pace
from glossator.providers.openai import OpenAILLM
from glossator.providers.prices import FlatPrice, Price, find_price
from glossator.store import Store, open_store
from glossator.types import Explanation, FeatureId, Split, Usage
from tests.loopback import Answer, Asked, Loopback
from tests.panels import asked_windows
from tests.tiny_llama import WORDS, save_tiny_llama

DEAD = 5
"""A neuron of layer 0 that is 0 at every token."""
PER_TOKEN = FlatPrice(1000.0, 1000.0)
"""A tenth of a cent a token."""


def save_subject(folder: Path) -> Path:
    """A tiny model whose neuron `DEAD` of layer 0 never fires."""
    from safetensors.torch import load_file, save_file

    save_tiny_llama(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.gate_proj.weight"][DEAD] = 0.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def texts(n: int = 90) -> list[str]:
    """Documents of random words; every third word is the document's own, such as `z017`."""
    rng = random.Random(7)
    return [
        " ".join(f"z{i:03d}" if k % 3 == 0 else rng.choice(WORDS) for k in range(60))
        for i in range(n)
    ]


def save_texts(file: Path) -> Path:
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts()), encoding="utf-8")
    return file


def options(folder: Path, **others: Any) -> dict[str, Any]:
    """Of a run that takes a second; `folder` holds `subject` and `texts.jsonl`."""
    return {
        "model": str(folder / "subject"),
        "sites": ["layers.0.mlp.neurons"],
        "features": "0-2",
        "corpus": str(folder / "texts.jsonl"),
        "tokens": 8000,
        "ctx": 64,
        "window": 16,
        "calibration_tokens": 2000,
        "firing_quantile": 0.95,
        "n_top": 4,
        "n_per_quantile": 2,
        "n_silent": 8,
        "n_scored": 4,
        "n_shuffled": 1,
        "dtype": "float32",
        "llm": "openai:some-model",
    } | others


def kind_of(messages: Sequence[tuple[str, str]]) -> str:
    """What a request is about: `explain`, `simulate` or `detect`."""
    system = messages[0][1]
    if "You study one neuron" in system:
        return "explain"
    return "simulate" if "JSON object" in system else "detect"


def answer(messages: Sequence[tuple[str, str]]) -> str:
    """A reply that depends on the question alone."""
    question = messages[-1][1]
    chance = random.Random(zlib.crc32(question.encode()))
    kind = kind_of(messages)
    if kind == "explain":
        return f"the word {chance.choice(WORDS)} and number {chance.randint(0, 10**9)}"
    if kind == "simulate":
        n = len(re.findall(r"^\d+: ", question, re.MULTILINE))
        return json.dumps({str(i): chance.randint(0, 10) for i in range(1, n + 1)})
    if "Texts:" in question:
        return "\n".join(f"{i}: {word}" for i, word in enumerate(said_of_each(messages), 1))
    return chance.choice(["yes", "no"])


def said_of_each(messages: Sequence[tuple[str, str]]) -> list[str]:
    """What is said of each window of a request, whatever stands beside it."""
    # Where a reply could not be used, the question stands before it.
    question = next(text for _, text in reversed(messages) if text.startswith("Texts:"))
    about, windows, _ = asked_windows(question)
    return [
        random.Random(zlib.crc32(f"{about} {text}".encode())).choice(["yes", "no"])
        for text in windows
    ]


def rule(asked: Asked) -> Answer:
    """The same from a server, with probabilities."""
    text = answer(asked.messages)
    if asked.last.startswith("Texts:"):
        return Answer(text, tokens=tokens_of(text))
    share = random.Random(zlib.crc32(asked.last.encode())).uniform(0.55, 0.95)
    other = {"yes": "no", "no": "yes"}.get(text, "")
    top = {text: math.log(share), other: math.log(1 - share)} if other else {}
    return Answer(text, top)


def tokens_of(text: str) -> list[tuple[str, dict[str, float]]]:
    """A reply of numbered lines in tokens; how likely yes and no are depends on the line."""
    found: list[tuple[str, dict[str, float]]] = []
    for line in text.splitlines(keepends=True):
        number, _, word = line.partition(": ")
        share = random.Random(zlib.crc32(line.encode())).uniform(0.55, 0.95)
        other = {"yes": "no", "no": "yes"}[word.strip()]
        found += [(number, {number: 0.0}), (":", {":": 0.0})]
        found.append(
            (
                f" {word.strip()}",
                {f" {word.strip()}": math.log(share), f" {other}": math.log(1 - share)},
            )
        )
        if line.endswith("\n"):
            found.append(("\n", {"\n": 0.0}))
    return found


def function(messages: Sequence[Mapping[str, str]]) -> str:
    """The same as a function from messages to a reply."""
    return answer([(m["role"], m["content"]) for m in messages])


class Priced:
    """The OpenAI protocol at the address in the environment, at a known price."""

    price: Price | None

    def __init__(self) -> None:
        self._llm = dataclasses.replace(OpenAILLM.connect("priced"), price=PER_TOKEN)
        self.price = PER_TOKEN

    @property
    def name(self) -> str:
        return self._llm.name

    @property
    def identity(self) -> str:
        return self._llm.identity

    @property
    def can(self) -> frozenset[Can]:
        return self._llm.can

    async def reply(self, request: Request) -> Reply:
        return await self._llm.reply(request)

    async def aclose(self) -> None:
        await self._llm.aclose()


class Listed(Priced):
    """The same, at the list's price of a model that OpenAI itself serves."""

    def __init__(self) -> None:
        found = find_price("openai", "gpt-4.1-mini")
        self._llm = dataclasses.replace(OpenAILLM.connect("gpt-4.1-mini"), price=found)
        self.price = found


@dataclasses.dataclass(frozen=True)
class Outsider:
    """An explainer from outside, which calls itself something else."""

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        return Explanation(feature, f"what {train.firing[0].document} holds", "somebody")


def config_for(folder: Path, server: Loopback | None = None, **others: Any) -> RunConfig:
    if server is not None:
        others = {"base_url": server.openai_url} | others
    return RunConfig.from_mapping(options(folder, **others))


def do(
    config: RunConfig,
    store: Store,
    stages: tuple[str, ...] = ("collect", "explain", "score"),
    tell: Callable[[Progress], None] | None = None,
    fresh: bool = False,
    pace: Pace = PACE,
    **limits: Any,
) -> Outcome:
    given = RunLimits(**limits)
    work = run(config, given, store, stages=stages, on_progress=tell, fresh=fresh, pace=pace)
    return asyncio.run(work)


def rows(store: Store, which: str = "r1") -> list[dict[str, Any]]:
    """All that a run found out, and nothing of what it took to."""
    found = []
    for result in store.results(which, predictions=True):
        explanation = dataclasses.replace(result.explanation, usage=Usage())
        scores = [dataclasses.replace(s, usage=Usage()).to_json() for s in result.scores]
        scores.sort(key=lambda s: str(s["scorer"]))
        found.append({"explanation": explanation.to_json(), "scores": scores})
    return sorted(found, key=lambda row: json.dumps(row["explanation"]))


def asked_about(server: Loopback) -> Counter[str]:
    return Counter(kind_of(asked.messages) for asked in server.log)


def _die_after(store: Store, replies: int) -> None:
    """Has this process killed amid the first write after so many replies of batches are kept."""
    settle, kept = store.batches.settle, 0

    def last(items: Iterable[tuple[str, int]]) -> None:
        nonlocal kept
        given = list(items)
        if given and kept >= replies:
            os.kill(os.getpid(), signal.SIGKILL)
        settle(given)
        kept += len(given)

    store.batches.settle = last  # type: ignore[method-assign]


def main() -> None:
    told = json.load(sys.stdin)
    config, limits = RunConfig.from_mapping(told["config"]), RunLimits(**told["limits"])
    pace = Pace(**told.get("pace", {}))

    def tell(progress: Progress) -> None:
        print(progress.stage, progress.done, progress.total, flush=True)

    with open_store(sys.argv[1]) as store:
        if "dies_after" in told:
            _die_after(store, told["dies_after"])
        outcome = asyncio.run(run(config, limits, store, on_progress=tell, pace=pace))
    print("end", outcome.status.value.replace(" ", "-"), flush=True)


if __name__ == "__main__":
    main()
