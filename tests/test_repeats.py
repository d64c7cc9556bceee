"""No text of train or dev is in test: for any corpus, feature, sampler and run."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.datasets.corpora import Corpus
from glossator.datasets.planted import collect_planted
from glossator.datasets.pools import SHARED_RUN, normalised
from glossator.datasets.records import REPEATS
from glossator.datasets.repeats import STRICTER, without_repeats
from glossator.scorers.sample import draw, draw_dev
from glossator.types import SILENT, TOP, Example, FeatureRecord, Pool, Split, Stratum

WORDS = ("the", "a", "of", "river", "Stone", "Door", "I", "it", "in", "7", "café", "Straße", "ﬁre")
TAIL = "All rights reserved. See the terms of use on page 7 of it."

CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "as it is": lambda text, rng: text,
    "upper case": lambda text, rng: text.upper(),
    "decomposed": lambda text, rng: unicodedata.normalize("NFD", text),
    "compatibility forms": lambda text, rng: unicodedata.normalize("NFKC", text),
    "full width": lambda text, rng: "".join(
        chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text
    ),
    "spacing": lambda text, rng: text.replace(" ", rng.choice(["  ", "\n", "\u00a0", " - "])),
    "punctuation": lambda text, rng: text.replace(".", rng.choice(["!", " ...", "", ";"])),
    "a word changed": lambda text, rng: text.replace(rng.choice(WORDS), "wind", 1),
    "a footer": lambda text, rng: f"{text} {TAIL}",
}


def some_texts(seed: int, n: int = 90) -> list[str]:
    """Texts made of few sentences, many of which change, quote or repeat an earlier one."""
    rng = random.Random(seed)
    sentences = [
        " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 14))) + "." for _ in range(150)
    ]
    texts: list[str] = []
    for _ in range(n):
        text = " ".join(rng.choice(sentences) for _ in range(rng.randint(1, 9)))
        if texts and rng.random() < 0.5:
            earlier = rng.choice(texts)
            begin = rng.randint(0, len(earlier) // 2)
            text = rng.choice([earlier, f'{text} "{earlier[begin:]}"', earlier[begin:] or text])
        texts.append(CHANGES[rng.choice(list(CHANGES))](text, rng))
    return texts


def planted(texts: list[str], window: int, seed: int) -> list[FeatureRecord]:
    functions = {
        "river": lambda ts: [float(t.strip().lower() == "river") for t in ts],
        "length": lambda ts: [float(len(t)) - 3 for t in ts],
        "position": lambda ts: [float(i % 7 == 0) * (i + 1) for i in range(len(ts))],
    }
    return collect_planted(functions, texts=texts, window=window, seed=seed)


def runs_of(text: str) -> set[str]:
    return {text[i : i + SHARED_RUN] for i in range(len(text) - SHARED_RUN + 1)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([8, 16, 32]), st.integers(0, 3))
def test_no_held_out_window_says_what_was_seen(seed: int, window: int, run: int) -> None:
    for record in planted(some_texts(seed), window, run):
        seen: set[str] = set()
        seen_runs: set[str] = set()
        for pool in STRICTER:
            texts = {normalised(e.text) for e in record.split(pool).examples} - {""}
            assert not texts & seen
            runs = {r for text in texts for r in runs_of(text)}
            assert not runs & seen_runs
            seen |= texts
            seen_runs |= runs


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_no_documents_of_two_pools_share_a_run_whatever_was_done_to_them(seed: int) -> None:
    of_pool: dict[Pool, set[str]] = {pool: set() for pool in Pool}
    for document in Corpus.of(some_texts(seed)):
        of_pool[document.pool] |= runs_of(normalised(document.text))
    assert not of_pool[Pool.TRAIN] & of_pool[Pool.DEV]
    assert not (of_pool[Pool.TRAIN] | of_pool[Pool.DEV]) & of_pool[Pool.TEST]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 150), st.integers(0, 99))
def test_no_sampler_brings_a_seen_text_back(seed: int, n: int, sampler: int) -> None:
    for record in planted(some_texts(seed), 16, 0):
        if not (record.test.firing and record.test.silent):
            continue
        scored = {normalised(e.text) for e in draw(record.test, n, record.feature, sampler)}
        fitted = draw_dev(record.dev, n, record.feature, sampler)
        shown = [*record.train.examples, *fitted]
        assert not scored & ({normalised(e.text) for e in shown} - {""})


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_done_to_a_text_does_not_hide_that_it_is_the_same(change: str) -> None:
    rng = random.Random(0)
    text = " ".join(rng.choice(WORDS) for _ in range(60)) + "."
    changed = CHANGES[change](text, rng)
    documents = list(Corpus.of([text, changed]))
    pools = {d.pool for d in documents}
    assert len(documents) == 1 or len(pools) == 1
    if change not in ("a word changed", "a footer"):
        assert normalised(changed) == normalised(text)


def window(text: str, document: str, stratum: str, peak: float, weight: float) -> Example:
    return Example((text,), (peak,), document, 0, stratum, weight)


def split(pool: Pool, texts: dict[str, list[str]]) -> Split:
    population = {TOP: 1, "q1": 10, SILENT: 100}
    examples = {
        name: tuple(
            window(t, f"{pool}{name}{i}", name, float(name != SILENT), float(population[name]))
            for i, t in enumerate(some)
        )
        for name, some in texts.items()
    }
    return Split(
        pool,
        0.5,
        examples[TOP] + examples["q1"],
        examples[SILENT],
        tuple(Stratum(n, population[n] * len(some), len(some)) for n, some in texts.items()),
    )


def test_repeats_are_left_out_of_the_stricter_pool_and_the_others_stand_for_the_rest() -> None:
    whole = {
        Pool.TRAIN: split(Pool.TRAIN, {TOP: ["a b"], "q1": ["c"], SILENT: ["d", "..."]}),
        Pool.DEV: split(Pool.DEV, {TOP: ["e"], "q1": ["A, B!"], SILENT: ["f", "g"]}),
        Pool.TEST: split(Pool.TEST, {TOP: ["E."], "q1": ["h", "i"], SILENT: ["ab", "j", "k", "!"]}),
    }
    found, n = without_repeats(whole)
    assert n == 3
    assert found[Pool.TRAIN] is whole[Pool.TRAIN]
    assert [e.text for e in found[Pool.DEV].examples] == ["e", "f", "g"]
    test = found[Pool.TEST]
    assert [e.text for e in test.examples] == ["h", "i", "j", "k", "!"]
    assert [(s.name, s.population, s.sampled) for s in test.strata] == [
        (TOP, 0, 0),
        ("q1", 20, 2),
        (SILENT, 300, 3),
    ]
    for stratum in test.strata:
        weights = [e.weight for e in test.examples if e.stratum == stratum.name]
        assert np.sum(weights) == stratum.population


def test_a_record_says_how_many_were_left_out() -> None:
    told = [r.provenance.get(REPEATS, "0") for r in planted(some_texts(3), 16, 0)]
    assert any(int(n) > 0 for n in told)
    rng = random.Random(0)
    all_different = [" ".join(str(rng.random()) for _ in range(40)) for _ in range(60)]
    assert all(REPEATS not in r.provenance for r in planted(all_different, 16, 0))
