"""Vectors of texts by the bundled model, and negatives that are hard because they are near."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.embedder import MiniLM, Vectors, bundled
from glossator.hard import nearest_silent, replaced_trigger
from glossator.types import SILENT, TOP, Example

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Letters:
    """An embedder that can be checked by hand: how often each letter stands in the text."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, 26)."""
        rows = np.array([[t.lower().count(c) for c in LETTERS] for t in texts], np.float32)
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def example(text: str, fires: str = "", document: str = "d") -> Example:
    tokens = tuple(re.findall(r"\s*\S+", text))
    acts = tuple(float(t.strip() in fires.split()) for t in tokens)
    return Example(tokens, acts, document, 0, TOP if fires else SILENT, 1.0)


# -- hard negatives --------------------------------------------------------------------------------


def test_the_nearest_silent_windows_come_first_whatever_the_order() -> None:
    firing = [example("cab cab", "cab", "f")]
    silent = [
        example("zoo zoo", document="far"),
        example("bac", document="same letters"),
        example("bacz", document="near"),
    ]
    for given_ in (silent, silent[::-1]):
        found = nearest_silent(firing, given_, Letters(), 2)
        assert [e.document for e in found] == ["same letters", "near"]
    assert nearest_silent([], silent, Letters(), 2) == ()
    assert nearest_silent(firing, [], Letters(), 2) == ()
    assert len(nearest_silent(firing, silent, Letters(), 9)) == 3


def test_a_replaced_trigger_is_a_silent_word_of_the_window_in_the_same_spacing() -> None:
    window = example("we saw red boats and a red sky", "red")
    found = replaced_trigger(window, 0.5, np.random.default_rng(0))
    assert found is not None
    changed = [(a, b) for a, b in zip(window.tokens, found, strict=True) if a != b]
    assert [a for a, _ in changed] == [" red", " red"]
    assert all(b.startswith(" ") and b.strip() in window.text.split() for _, b in changed)
    assert "red" not in "".join(found).split()


def test_nothing_stands_in_where_all_fires_or_nothing_does() -> None:
    chance = np.random.default_rng(0)
    assert replaced_trigger(example("red red", "red"), 0.5, chance) is None
    assert replaced_trigger(example("red , . !", "red"), 0.5, chance) is None
    assert replaced_trigger(example("a blue sky"), 0.5, chance) is None


@given(st.lists(st.tuples(st.sampled_from([" a", " b", "\n", ",", "Red"]), st.booleans())))
def test_only_what_fires_is_replaced(drawn: list[tuple[str, bool]]) -> None:
    if not drawn:
        return
    tokens = tuple(t for t, _ in drawn)
    window = Example(tokens, tuple(float(f) for _, f in drawn), "d", 0, "x", 1.0)
    found = replaced_trigger(window, 0.5, np.random.default_rng(1))
    if found is None:
        return
    said = {t.strip().lower() for t, fires in drawn if fires}
    for (token, fires), new in zip(drawn, found, strict=True):
        assert (new == token) if not fires else (new.strip().lower() not in said)


# -- the bundled model -----------------------------------------------------------------------------


@pytest.mark.assets
def test_near_meanings_have_near_vectors_of_length_one() -> None:
    texts = ["a red car", "the crimson automobile", "the tax law of 1987", ""]
    found = bundled().embed(texts)
    assert found.shape == (4, 384)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert found[0] @ found[1] > 0.5 > 0.3 > found[0] @ found[2]
    assert bundled().embed([]).shape[0] == 0


@pytest.mark.assets
def test_a_text_has_one_vector_in_whatever_company_and_process() -> None:
    texts = [f"text number {i} " + "and so on " * (i % 7) for i in range(70)]
    together = bundled().embed(texts)
    assert (bundled().embed(texts[::-1]) == together[::-1]).all()
    alone = np.concatenate([MiniLM().embed([text]) for text in texts[:3]])
    assert alone == pytest.approx(together[:3], abs=1e-5)


@pytest.mark.assets
def test_threads_may_ask_at_the_same_time() -> None:
    model, found = MiniLM(), {}
    texts = [f"a text about {i}" for i in range(8)]

    def ask(i: int) -> None:
        found[i] = model.embed(texts[i:] + texts[:i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((np.roll(found[i], i, axis=0) == found[0]).all() for i in range(4))
