"""Seconds that a feature takes: ten windows of 128 tokens, each feature with its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from simulating.predictions import Who

from glossator.datasets.corpora import Corpus
from glossator.datasets.windows import token_texts
from glossator.embedder import bundled
from glossator.llm import LLM
from glossator.scorers.build import build_simulator
from glossator.scorers.together import together
from glossator.types import Explanation, FeatureId, Pool

WINDOWS, LENGTH = 10, 128
Text = tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """How long one simulator took."""

    who: str
    features: int
    seconds: float
    """Median over features."""
    least: float
    most: float
    features_a_second: float
    """All features over all seconds."""


def windows_of(corpus: Corpus, tokenizer: Any, n: int) -> list[Text]:
    """`n` windows of the test pool, one of each document that is long enough."""
    found: list[Text] = []
    for document in corpus:
        if document.pool is not Pool.TEST:
            continue
        text = document.text[:4000]
        given = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        tokens = token_texts(text, [end for _, end in given["offset_mapping"]])
        if len(tokens) >= LENGTH:
            found.append(tuple(tokens[:LENGTH]))
        if len(found) == n:
            break
    return found


async def timed(
    who: Who, llm: LLM | None, texts: Sequence[str], windows: Sequence[Text], offline: bool
) -> Speed:
    """The time of each of `texts` but the first, which warms up, on ten windows of its own."""
    took = []
    feature = FeatureId("speed", "speed", 0)
    for number, text in enumerate(texts):
        others = tuple(t for t in texts if t != text)[:3]
        words = ((" the", 1.0),) if who.simulator == "symbolic" else ()
        explanation = Explanation(feature, text, "human", words=words)
        simulator = build_simulator(who.simulator, llm, others, bundled(offline))
        own = windows[number * WINDOWS : (number + 1) * WINDOWS]
        began = time.perf_counter()
        await together(simulator.simulate(explanation, tokens) for tokens in own)
        seconds = time.perf_counter() - began
        print(f"{who}: {seconds:.3f} s a feature", flush=True)
        if number:
            took.append(seconds)
    return Speed(str(who), len(took), median(took), min(took), max(took), len(took) / sum(took))
