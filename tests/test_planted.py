from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.datasets.planted import Function, collect_planted, word_pieces
from glossator.errors import ConfigError
from glossator.types import FeatureId, FeatureRecord, Kind, Pool
from tests.tiny_llama import some_texts

FUNCTIONS: dict[str, Function] = {
    "capitalised": lambda tokens: [float(t.strip()[:1].isupper()) for t in tokens],
    "position 0": lambda tokens: [1.0] + [0.0] * (len(tokens) - 1),
    "river": lambda tokens: [float(t.strip() == "river") for t in tokens],
    "nothing": lambda tokens: [0.0] * len(tokens),
    "length": lambda tokens: [float(len(t)) for t in tokens],
}


@pytest.fixture(scope="module")
def records() -> list[FeatureRecord]:
    return collect_planted(FUNCTIONS, texts=some_texts(300))


@given(st.text())
def test_the_pieces_join_to_the_text(text: str) -> None:
    assert "".join(word_pieces(text)) == text


def test_space_belongs_to_the_following_word() -> None:
    assert word_pieces("It isn't 12, no. ") == ["It", " isn't", " 12", ",", " no", ".", " "]


def test_features_are_numbered_in_order_and_named(records: list[FeatureRecord]) -> None:
    assert [r.feature for r in records] == [FeatureId("planted", "function", i) for i in range(5)]
    assert [r.provenance["name"] for r in records] == list(FUNCTIONS)
    assert all(r.threshold == 0 and r.threshold_rule == "above 0" for r in records)


def test_kinds_follow_the_rules(records: list[FeatureRecord]) -> None:
    assert [r.kind for r in records] == [
        Kind.TOKEN,  # the texts have three words with capitals
        Kind.POSITIONAL,
        Kind.TOKEN,
        Kind.DEAD,
        Kind.DENSE,
    ]


def test_position_0_fires_in_the_first_window_of_each_document(
    records: list[FeatureRecord],
) -> None:
    record = records[1]
    for pool in Pool:
        split = record.split(pool)
        assert len(split.firing) >= 30
        assert all(e.start == 0 and e.activations[0] == 1 for e in split.firing)
        assert all(e.start > 0 for e in split.silent)


def test_examples_carry_what_the_function_gives(records: list[FeatureRecord]) -> None:
    for name in ("capitalised", "river", "length"):  # functions that look at each token alone
        record = records[list(FUNCTIONS).index(name)]
        for pool in Pool:
            for example in record.split(pool).examples:
                assert list(example.activations) == FUNCTIONS[name](list(example.tokens))


def test_a_dead_feature_has_silent_windows_only(records: list[FeatureRecord]) -> None:
    dead = records[3]
    assert (dead.density, dead.peak, dead.std) == (0, 0, 0)
    assert not dead.train.firing
    assert dead.train.silent


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text("ab. Z", min_size=1, max_size=200).filter(str.strip), min_size=1,
                   max_size=30, unique_by=lambda t: t.replace(" ", "").replace(".", "").lower()),
    window=st.integers(1, 40),
    n_top=st.integers(0, 4),
    n_firing=st.integers(0, 12),
)  # fmt: skip
def test_splits_share_no_document_and_weights_sum_to_the_population(
    texts: list[str], window: int, n_top: int, n_firing: int
) -> None:
    texts = [*texts, "always a text with letters in it"]
    for record in collect_planted(
        FUNCTIONS, texts=texts, window=window, n_top=n_top, n_firing=n_firing, n_silent=3
    ):
        documents = [{e.document for e in record.split(pool).examples} for pool in Pool]
        assert sum(map(len, documents)) == len(set.union(*documents))
        for pool in Pool:
            split = record.split(pool)
            for stratum in split.strata:
                inside = [e.weight for e in split.examples if e.stratum == stratum.name]
                assert len(inside) == stratum.sampled
                if inside:
                    assert abs(sum(inside) - stratum.population) < 1
            if split.firing and n_firing:
                firing = sum(s.population for s in split.strata if s.name != "silent")
                fifths = [s for s in split.strata if s.name[0] == "q"]
                drawn = sum(s.sampled for s in fifths)
                # Where a window that stands in another pool, too, was left out of those drawn, what
                # the others stand for is rounded, within the bound above.
                if drawn and drawn == min(n_firing, sum(s.population for s in fifths)):
                    assert sum(e.weight for e in split.firing) == pytest.approx(firing)


def test_a_wrong_function_is_named() -> None:
    for wrong in (
        lambda tokens: [0.0],
        lambda tokens: [float("nan")] * len(tokens),
        lambda tokens: [1e300] * len(tokens),
        lambda tokens: None,
        lambda tokens: ["x"] * len(tokens),
    ):
        with pytest.raises(ConfigError, match="'mine'"):
            collect_planted({"mine": wrong}, texts=some_texts(5))  # type: ignore[dict-item]


def test_texts_or_a_corpus_and_at_least_one_function() -> None:
    with pytest.raises(ConfigError, match="one of them"):
        collect_planted(FUNCTIONS)
    with pytest.raises(ConfigError, match="no feature"):
        collect_planted({}, texts=some_texts(5))
