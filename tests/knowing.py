"""Planted features, and language models that know what each of their descriptions means."""

from __future__ import annotations

import asyncio
import functools
import random
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from glossator.datasets.planted import collect_planted, word_pieces
from glossator.llm import LLM
from glossator.scorers.build import Settings, build_scorer
from glossator.scorers.nulls import Wrong, choose_wrong
from glossator.types import Explanation, FeatureRecord, Score
from tests.test_scorers import DOCUMENTS, MEANINGS, PEAK, meaning_of

RIVER = 'the word "river"'
NUMBERS = "numbers in digits"
COLOURS = "names of colours"
CAPITALS = "words that begin with a capital letter"
FIRST = "the first word of a text"
BY_WORD = (CAPITALS, NUMBERS, RIVER, COLOURS)
"""Those whose meaning is of single words."""
SENSELESS = ("zebras", "violins", "verbs of motion", "snow", "tax law")


@functools.cache
def planted() -> dict[str, FeatureRecord]:
    """A record for each meaning; made once a process."""

    def function(name: str) -> Callable[[list[str]], list[float]]:
        return lambda tokens: [PEAK * v for v in MEANINGS[name]([t.strip() for t in tokens])]

    found = collect_planted({n: function(n) for n in MEANINGS}, texts=DOCUMENTS)
    return dict(zip(MEANINGS, found, strict=True))


def said(record: FeatureRecord, text: str) -> Explanation:
    """`text` as an explanation of the record's feature."""
    return Explanation(record.feature, text, "max-act")


def others() -> list[Explanation]:
    """What a run says of other features: of each its own meaning, and things of no meaning here."""
    records = planted()
    first = records[RIVER].feature
    known = [said(r, n) for n, r in records.items()]
    more = [
        Explanation(replace(first, index=90 + i), t, "max-act") for i, t in enumerate(SENSELESS)
    ]
    return known + more


def scored(
    scorer: str,
    name: str,
    llm: LLM | None,
    *,
    text: str | None = None,
    record: FeatureRecord | None = None,
    n_wrong: int = 5,
    n_scored: int = 40,
    simulator: str = "auto",
    wrong: Wrong | None = None,
    embedder: object = None,
    per_call: int = 1,
) -> Score:
    """The score of `text`, or of the feature's own meaning, by the scorer of that name."""
    record = record or planted()[name]
    explanation = said(record, text or name)
    part = build_scorer(
        scorer,
        explanation,
        wrong or choose_wrong(explanation, others(), n_wrong, 0),
        simulator=simulator,
        llm=llm,
        settings=Settings(n_scored, per_call=per_call),
        embedder=embedder,  # type: ignore[arg-type]
    )
    return asyncio.run(part.score(explanation, record.test, record.dev))


def run(work: Coroutine[Any, Any, Score]) -> Score:
    """The score that a scorer gives."""
    return asyncio.run(work)


def on_topics(topics: Mapping[str, str]) -> dict[str, FeatureRecord]:
    """For each topic a feature that fires on the words of its sentence, and texts of all topics."""
    rng = random.Random(0)
    sentences = [sentence.split() for sentence in topics.values()]
    texts = []
    for i in range(240):
        words = sentences[i % len(sentences)]
        texts.append(" ".join([*rng.sample(words, k=8), f"number{i}"]))

    def function(words: set[str]) -> Callable[[list[str]], list[float]]:
        return lambda tokens: [float(t.strip() in words) for t in tokens]

    own = {
        name: set(words) - {w for other in sentences if other != words for w in other}
        for name, words in zip(topics, sentences, strict=True)
    }
    found = collect_planted({name: function(words) for name, words in own.items()}, texts=texts)
    return dict(zip(topics, found, strict=True))


def fits(description: str, text: str) -> bool:
    """Whether what is described is somewhere in `text`."""
    return any(values_of(description, word_pieces(text)))


def values_of(description: str, tokens: Sequence[str]) -> list[float]:
    """1 for each token that is described."""
    return meaning_of(description)([t.strip() for t in tokens])


def marked(line: str) -> tuple[list[str], list[bool]]:
    """The tokens of a line with marks <<like this>>, and which of them are marked."""
    tokens: list[str] = []
    marks: list[bool] = []
    for part in re.split(r"(<<.*?>>)", line):
        pieces = word_pieces(part.removeprefix("<<").removesuffix(">>"))
        tokens += pieces
        marks += [part.startswith("<<")] * len(pieces)
    return tokens, marks


def number(value: float | None) -> float:
    """`value`, which must be there."""
    assert value is not None
    return value
