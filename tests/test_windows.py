"""Normalised text, pools, shared text, chunks, token texts and windows."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.datasets.pools import SHARED_RUN, Document, leaks, normalised, pool_of
from glossator.datasets.windows import SHORTEST_TAIL, chunks, token_texts, window_starts
from glossator.errors import ConfigError, Unsupported
from glossator.types import Pool

STRICTNESS = [Pool.TRAIN, Pool.DEV, Pool.TEST]


def byte_tokenizer() -> Any:
    """A real byte-level tokenizer without merges, so that every byte is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)  # type: ignore[no-untyped-call]


BYTES = byte_tokenizer()


def by_brute_force(documents: Sequence[Document]) -> frozenset[str]:
    """`leaks`, by a table of every run of 100 normalised characters."""
    laxest: dict[str, int] = {}
    for d in documents:
        text = normalised(d.text)
        for i in range(len(text) - SHARED_RUN + 1):
            run = text[i : i + SHARED_RUN]
            laxest[run] = min(laxest.get(run, 9), STRICTNESS.index(d.pool))
    found = set()
    for d in documents:
        text = normalised(d.text)
        runs = (text[i : i + SHARED_RUN] for i in range(len(text) - SHARED_RUN + 1))
        if any(laxest[run] < STRICTNESS.index(d.pool) for run in runs):
            found.add(d.id)
    return frozenset(found)


@given(st.text())
def test_normalised_text_holds_only_letters_and_digits_in_lower_case(text: str) -> None:
    result = normalised(text)
    assert all(c.isalnum() for c in result)
    assert result == result.casefold()


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_the_fast_way_through_ascii_agrees_with_the_general_rule(text: str) -> None:
    general = unicodedata.normalize("NFKC", text).casefold()
    assert normalised(text) == "".join(c for c in general if c.isalnum())


@given(st.lists(st.text(alphabet="abcXYZ019éßñ漢", min_size=1)), st.sampled_from([" ", "\n", ", "]))
def test_the_pool_ignores_case_spacing_and_punctuation(words: list[str], gap: str) -> None:
    assert pool_of(" ".join(words)) is pool_of(gap.join(words).swapcase() + "!")


def test_a_pool_is_the_published_function_of_the_sha256() -> None:
    for text in ("Hello, world", "a", "Ünïcode"):
        digest = hashlib.sha256(normalised(text).encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        wanted = Pool.TRAIN if share < 0.4 else Pool.DEV if share < 0.6 else Pool.TEST
        assert pool_of(text) is wanted
        assert Document.of(text, "x").id == digest.hex()[:16]


def test_pools_have_the_sizes_that_were_promised() -> None:
    pools = [pool_of(f"document {i}") for i in range(5000)]
    assert abs(pools.count(Pool.TRAIN) / 5000 - 0.4) < 0.03
    assert abs(pools.count(Pool.DEV) / 5000 - 0.2) < 0.03


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    letters=st.sampled_from(["a", "ab", "abcdefghij", "aé漢9"]),
    length=st.sampled_from([SHARED_RUN - 1, SHARED_RUN, SHARED_RUN + 1, 3 * SHARED_RUN]),
)
def test_exactly_the_documents_that_share_a_run_with_a_laxer_pool_are_left_out(
    seed: int, letters: str, length: int
) -> None:
    rng = random.Random(seed)

    def some(n: int) -> str:
        return "".join(rng.choice(letters) for _ in range(n))

    quotations = [some(length) for _ in range(2)]
    documents = [
        Document.of(f"{some(rng.randint(0, 90))}z{rng.choice(quotations)}y{some(150)}{i}", "x")
        for i in range(8)
    ]
    assert leaks(lambda: documents) == by_brute_force(documents)


def test_a_run_of_exactly_100_characters_is_shared_and_one_of_99_is_not() -> None:
    rng = random.Random(0)
    run = "".join(rng.choice("abcdefghij") for _ in range(SHARED_RUN))
    for length, expected in ((SHARED_RUN, True), (SHARED_RUN - 1, False)):
        texts = [f"{name} {run[:length]} {name}" for name in "qrstuvwxyz"]
        documents = [Document.of(text, "x") for text in texts]
        assert {d.pool for d in documents} == set(Pool)
        left_out = leaks(lambda d=documents: d)  # type: ignore[misc]
        assert bool(left_out) is expected
        if expected:
            assert left_out == {d.id for d in documents if d.pool is not Pool.TRAIN}


def test_quotations_are_found_whatever_their_case_and_punctuation() -> None:
    passage = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 2
    documents = [Document.of(f"{n}: {passage}" if n % 2 else passage.upper() + str(n), "x")
                 for n in range(20)]  # fmt: skip
    assert leaks(lambda: documents) == {d.id for d in documents if d.pool is not Pool.TRAIN}


def test_nothing_is_shared_among_no_documents() -> None:
    assert leaks(list) == frozenset()


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=5), st.integers(1, 9))
def test_joined_tokens_are_the_text_whatever_the_characters(texts: list[str], ctx: int) -> None:
    documents = [Document.of(text, "x") for text in texts]
    found = list(chunks(documents, BYTES, ctx))
    for number, document in enumerate(documents):
        own = [chunk for chunk in found if chunk.number == number]
        assert "".join("".join(chunk.tokens) for chunk in own) == document.text
        assert all(chunk.document == document.id and chunk.pool is document.pool for chunk in own)
        ids = [i for chunk in own for i in chunk.token_ids]
        assert ids == BYTES(document.text, add_special_tokens=False)["input_ids"]
        assert [chunk.start for chunk in own] == list(range(0, len(ids), ctx))
        assert [chunk.whole_document for chunk in own] == [True] * len(own) if len(own) == 1 else (
            not any(chunk.whole_document for chunk in own)
        )  # fmt: skip
    assert all(len(chunk.tokens) == len(chunk.token_ids) <= ctx for chunk in found)


def test_a_character_of_several_tokens_belongs_to_the_first_of_them() -> None:
    (chunk,) = chunks([Document.of("a漢b", "x")], BYTES, 10)
    assert chunk.tokens == ("a", "漢", "", "", "b")


@given(st.text(min_size=1), st.lists(st.integers(0, 30), min_size=1))
def test_token_texts_joined_are_the_text_even_for_odd_offsets(text: str, ends: list[int]) -> None:
    assert "".join(token_texts(text, ends)) == text
    assert len(token_texts(text, ends)) == len(ends)


@given(st.integers(1, 200))
def test_no_more_tokens_than_asked_for_are_read(max_tokens: int) -> None:
    documents = [Document.of(f"{'x' * 17} {i}", "x") for i in range(8)]
    n_all = sum(len(d.text) for d in documents)
    found = list(chunks(documents, BYTES, 7, max_tokens))
    assert sum(len(c.tokens) for c in found) == min(max_tokens, n_all)


def test_a_corpus_is_read_no_further_than_needed() -> None:
    read = []

    def documents() -> Any:
        for i in range(1000):
            read.append(i)
            yield Document.of(f"some text {i}", "x")

    assert len(list(chunks(documents(), BYTES, 5, 10))) == 2
    assert len(read) < 100


@given(st.integers(0, 300), st.integers(1, 64), st.booleans())
def test_windows_cover_a_chunk_but_for_a_short_tail(n: int, window: int, whole: bool) -> None:
    cut = window_starts(n, window, whole)
    covered = [i for start, stop in cut for i in range(start, stop)]
    assert covered == list(range(len(covered)))
    left_out = n - len(covered)
    assert left_out < min(SHORTEST_TAIL, window)
    assert all(stop - start <= window for start, stop in cut)
    if whole and n <= window:
        assert left_out == 0
    elif cut:
        assert cut[-1][1] - cut[-1][0] >= min(SHORTEST_TAIL, window)


@pytest.mark.parametrize(
    ("n", "window", "whole", "expected"),
    [
        (40, 32, False, [(0, 32), (32, 40)]),
        (39, 32, False, [(0, 32)]),
        (39, 32, True, [(0, 32)]),
        (5, 32, True, [(0, 5)]),
        (5, 32, False, []),
        (8, 32, False, [(0, 8)]),
        (0, 32, True, []),
    ],
)
def test_a_tail_below_eight_tokens_is_left_out_unless_it_is_the_whole_document(
    n: int, window: int, whole: bool, expected: list[tuple[int, int]]
) -> None:
    assert window_starts(n, window, whole) == expected


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ConfigError):
        list(chunks([], BYTES, 0))
    with pytest.raises(ConfigError):
        list(chunks([], BYTES, 4, 0))
    with pytest.raises(ConfigError):
        window_starts(4, 0, False)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(Unsupported, match="tokenizer"):
        list(chunks([Document.of("text", "x")], ByT5Tokenizer(), 4))
