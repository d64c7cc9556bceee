"""Searching a corpus: what is found, that no test text ever is, and that any query is answered."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.datasets.corpora import Corpus
from glossator.datasets.planted import collect_planted, word_pieces
from glossator.datasets.pools import Document, normalised, standing_in
from glossator.datasets.search import LONGEST_PATTERN, CorpusSearch, Found, Withheld
from glossator.embedder import Vectors, bundled
from glossator.errors import ConfigError
from glossator.types import Pool
from tests.tiny_llama import some_texts

_Result = TypeVar("_Result")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ODD = ("\0", "\x1b[31m\r\n", "\ud800", "\udfff x \ud800", "\u202e", "x" * 10_000, " ", "")


class Letters:
    """How often each letter stands in a text; a one in front, so that no vector is zero."""

    name = "letters"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, 27)."""
        self.asked.append(len(texts))
        for text in texts:
            text.encode()  # as a tokenizer does, which takes no lone surrogates
        rows = np.array([[1, *map(t.lower().count, LETTERS)] for t in texts], np.float32)
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def get(work: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run(work)


def search_of(texts: Sequence[str], **others: Any) -> CorpusSearch:
    return CorpusSearch(Corpus.of(texts), word_pieces, Letters(), **others)


def everything(search: CorpusSearch) -> tuple[Found, ...]:
    return get(search.containing("", 10**6))


# -- what is never found ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_no_text_of_a_test_document_is_found(seed: int) -> None:
    rng = random.Random(seed)
    footers = ["All rights reserved, 1999.", "Please see page 4 for more of the same", "1 2 3 4"]

    def text() -> str:
        words = rng.choices(["the", "old", "river", "said", "bread", "cost", "King"], k=30)
        words.insert(rng.randint(0, 30), rng.choice(["", *footers, footers[0].upper()]))
        return " ".join(words)

    corpus = Corpus.of([*(text() for _ in range(20)), *footers])
    tests = [d for d in corpus if d.pool is Pool.TEST]
    search = CorpusSearch(corpus, word_pieces, Letters(), ctx=16, window=8, seed=seed)
    found = {
        *everything(search),
        *get(search.containing("r", 50)),
        *get(search.matching(".", 50)),
        *get(search.meaning("the river", 50)),
    }
    assert {f.pool for f in found} <= {Pool.TRAIN, Pool.DEV}
    assert {f.document for f in found}.isdisjoint(d.id for d in tests)
    bodies = [normalised(d.text) for d in tests]
    assert not any(normalised(f.text) in body for f in found for body in bodies)


def test_a_sentence_that_a_test_document_has_too_is_not_found() -> None:
    footer = "Printed in the year 1900 by Smith"
    texts = [f"{footer}. {text}" for text in some_texts(40, 30)]
    pools = {d.pool for d in Corpus.of(texts)}
    assert pools == set(Pool)
    search = search_of(texts, window=word_pieces(footer).__len__())
    assert get(search.containing("Smith", 50)) == ()
    assert everything(search)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab ", min_size=8, max_size=40), max_size=8),
    st.lists(st.text("abAB. ", max_size=80), max_size=4),
)
def test_texts_that_stand_in_documents_are_those_that_python_finds(
    texts: list[str], bodies: list[str]
) -> None:
    texts = [text for text in texts if len(normalised(text)) >= 8]
    texts += [body[3:30] for body in bodies if len(normalised(body[3:30])) >= 8]
    expected = {
        i
        for i, text in enumerate(texts)
        if any(normalised(text) in normalised(body) for body in bodies)
    }
    assert standing_in(texts, [Document.of(body, "x") for body in bodies]) == expected


# -- what is held ----------------------------------------------------------------------------------


def test_windows_are_those_of_collection() -> None:
    texts = some_texts(60, 200, seed=4)
    (record,) = collect_planted(
        {"the": lambda tokens: [float(t.strip() == "the") for t in tokens]},
        texts=texts,
        tokens=None,
        window=32,
        n_firing=500,
        n_silent=500,
    )
    # planted functions see documents whole
    held = everything(search_of(texts, ctx=1 << 30))
    said = {(f.document, f.start): f.text for f in held}
    examples = [*record.train.examples, *record.dev.examples]
    assert len(examples) > 50
    for example in examples:
        if (place := (example.document, example.start)) in said:
            assert said[place] == example.text
    assert sum((e.document, e.start) in said for e in examples) > 0.9 * len(examples)


def test_what_is_held_is_bounded_and_drawn_by_the_seed_from_all_documents() -> None:
    texts = [f"{i} " + text for i, text in enumerate(some_texts(300, 64))]
    ids = [d.id for d in Corpus.of(texts) if d.pool is not Pool.TEST]
    first, again, other = (
        everything(search_of(texts, seed=seed, most_tokens=1500)) for seed in (0, 0, 1)
    )
    assert first == again
    assert {f.document for f in first} != {f.document for f in other}
    for found in (first, other):
        assert 700 < sum(len(word_pieces(f.text)) for f in found) <= 1500
        places = [ids.index(f.document) for f in found]
        assert min(places) < len(ids) / 4 < 3 * len(ids) / 4 < max(places)


def test_the_corpus_is_read_at_the_first_search_and_then_never_again() -> None:
    corpus, n_read = Corpus.of(some_texts(30, 40)), 0

    def read() -> Iterator[Document]:
        nonlocal n_read
        assert threading.current_thread() is not threading.main_thread()
        n_read += 1
        return iter(documents)

    documents = list(corpus)
    embedder = Letters()
    search = CorpusSearch(replace(corpus, read=read), word_pieces, embedder)
    assert n_read == 0

    async def at_once() -> None:
        await asyncio.gather(*(search.containing("the", 3) for _ in range(4)))
        await asyncio.gather(*(search.meaning("the", 3) for _ in range(4)))

    asyncio.run(at_once())
    assert n_read == 2
    assert sorted(embedder.asked)[:4] == [1, 1, 1, 1]
    assert len(embedder.asked) == 5


# -- what is found ---------------------------------------------------------------------------------


def windows_by_hand(texts: Sequence[str]) -> list[str]:
    """Texts that are their own only window, as a train or dev document."""
    return [text for text in texts if Document.of(text, "x").pool is not Pool.TEST]


def test_a_string_is_found_whatever_its_case_and_nothing_else_is() -> None:
    texts = [f"{word} number {i}" for i in range(40) for word in ("Straße", "RIVER", "river's")]
    kept = set(windows_by_hand(texts))
    search = search_of(texts)
    for string, words in (("river", ("RIVER", "river's")), ("STRASSE", ("Straße",))):
        found = get(search.containing(string, 10**6))
        assert found
        assert {f.text for f in found} <= kept
        assert all(f.text.startswith(words) for f in found)
    assert get(search.containing("absent", 5)) == ()
    assert len(get(search.containing("river", 3))) == 3
    assert get(search.containing("river", 0)) == get(search.containing("river", -1)) == ()


def test_finds_are_spread_over_documents() -> None:
    texts = [" ".join(f"bread{i} and{j} wine{i}x{j}" for j in range(40)) for i in range(30)]
    search = search_of(texts, window=8)
    for found in (get(search.containing("bread", 9)), get(search.matching("^.*bread", 9))):
        assert len({f.document for f in found}) == 9


def test_a_text_full_of_what_is_meant_does_not_crowd_out_others() -> None:
    crowd = next(t for i in range(99) if windows_by_hand([t := f"number {i} " + "zq bzq " * 200]))
    texts = [crowd, *(f"the {a} zqz and so on {a * 3}" for a in LETTERS)]
    found = get(search_of(texts, window=8).meaning("zq", 6))
    assert [f.document for f in found].count(Document.of(crowd, "x").id) == 1
    assert found[0].text.count("zq") > 2
    alone = get(search_of([crowd], window=8).meaning("zq", 6))
    assert len({f.start for f in alone}) == 6


def test_what_is_meant_is_found_in_the_middle_of_documents_too() -> None:
    texts = [f"number {i} " + "the river ran on and on " * 30 for i in range(60)]
    texts = [f"{text} zqzq at its end" for text in texts]
    found = get(search_of(texts, window=8, most_meant=20).meaning("the river ran on", 15))
    assert sum(f.start > 0 for f in found) > 10


def test_spaces_and_line_breaks_are_alike_to_a_string() -> None:
    texts = [f"number {i} on the river\n bank it was" for i in range(40)]
    search = search_of(texts)
    for string in ("river bank", "RIVER\tbank", "river  bank"):
        assert len(get(search.containing(string, 3))) == 3
    assert get(search.containing("riverbank", 3)) == ()


@pytest.mark.parametrize("ask", ["containing", "matching", "meaning"])
def test_nothing_of_withheld_documents_is_found_and_others_take_their_place(ask: str) -> None:
    texts = [" ".join(f"bread{i} and{j} wine{i}x{j}" for j in range(40)) for i in range(60)]
    search = search_of(texts, window=8)
    first = get(getattr(search, ask)("bread", 8))
    documents = frozenset(f.document for f in first[:5])
    rest = get(getattr(Withheld(search, documents), ask)("bread", 8))
    assert len(rest) == len({f.document for f in rest}) == 8
    assert not {f.document for f in rest} & documents
    assert get(getattr(Withheld(search, documents), ask)("bread", 0)) == ()


def test_a_pattern_finds_what_it_matches() -> None:
    texts = [f"in the year {i} we saw it" for i in range(80, 140)]
    found = get(search_of(texts).matching(r"\b1\d\d\b", 10**6))
    wanted = [text for text in windows_by_hand(texts) if " 1" in text]
    assert {f.text for f in found} == set(wanted) != set()


def test_the_nearest_in_meaning_come_first() -> None:
    texts = [f"{'zq' * a}{'ab' * b} and so on" for a in range(1, 9) for b in range(1, 9)]
    kept = [
        t for t in windows_by_hand(texts) if t in {f.text for f in everything(search_of(texts))}
    ]
    found = get(search_of(texts).meaning("zzqq", 5))
    best = sorted(kept, key=lambda t: -float(np.prod(Letters().embed([t, "zzqq"]), axis=0).sum()))
    assert [f.text for f in found] == best[:5]


def test_a_corpus_without_train_and_dev_text_answers_with_nothing() -> None:
    texts = [text for text in some_texts(40, 30) if Document.of(text, "x").pool is Pool.TEST]
    search = search_of(texts)
    assert everything(search) == get(search.matching(".", 5)) == get(search.meaning("x", 5)) == ()


# -- any query is answered -------------------------------------------------------------------------


@pytest.mark.parametrize("query", ODD, ids=ascii)
def test_odd_queries_are_answered(query: str) -> None:
    search = search_of(some_texts(20, 40))
    assert (get(search.containing(query, 3)) != ()) == (query in {"", " "})
    assert len(get(search.meaning(query, 3))) == 3
    wrong = len(query) > LONGEST_PATTERN or "[" in query
    with pytest.raises(ConfigError, match=r"at most|no regular") if wrong else nullcontext():
        assert (get(search.matching(query, 3)) != ()) == (query in {"", " "})


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", "[", "*", r"\p{nothing}", r"\L<x>", "a{99999999999}", "a{3,1}", r"\U99999999"),
        *("(?1)", "(?&x)", "(" * 400 + ")" * 400, "(?R)", "a(?R)?b", "(?P<x>a)(?P>x)"),
    ],
)
def test_a_pattern_that_is_none_is_an_error_that_says_so(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"no regular expression|calls itself"):
        get(search_of(some_texts(10, 40)).matching(pattern, 3))


def test_repeats_inside_repeats_are_answered_where_they_end() -> None:
    texts = [f"number {i} of them is {'a' * 60}" for i in range(40)]
    assert get(search_of(texts).matching("(a+)+$", 50))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pattern", [r"(a|aa)+(b|a)\d$", r"(?:a|aa)+[bcde]+\d"])
def test_a_pattern_that_never_ends_is_an_error(pattern: str) -> None:
    texts = [f"{'a' * 60}{'bcde'[i % 4] * (i // 4)} and so on 12 times" for i in range(40)]
    with pytest.raises(ConfigError, match="more than"):
        get(search_of(texts, seconds=0.5).matching(pattern, 3))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        search_of(["a text"], window=0)


@pytest.mark.assets
def test_the_bundled_embedder_finds_what_is_meant() -> None:
    about = (
        "the king died in the battle",
        "bake the bread with flour",
        "the server ran out of disk",
    )
    texts = [f"In {year}, {what}." for what in about for year in range(1900, 1920)]
    search = CorpusSearch(Corpus.of(texts), word_pieces, bundled(offline=True))
    found = get(search.meaning("cooking", 3))
    assert len(found) == 3
    assert all("flour" in f.text for f in found)
    for query in ODD:
        assert len(get(search.meaning(query, 2))) == 2
