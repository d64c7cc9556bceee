"""The library of planted features: what descriptions mean, and that all of it fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.planted import word_pieces
from glossator.datasets.truth import LIBRARY, PEAK, Ground, claims, plant, spread
from glossator.datasets.truth_claims import Claim, Miss, Planted
from glossator.datasets.truth_context import NOT, QUOTES, ROUND
from glossator.datasets.truth_forms import CAPITAL, DIGITS, WORD
from glossator.datasets.truth_rules import (
    After,
    Either,
    Glued,
    Page,
    Place,
    Rule,
    Run,
    Shape,
    Signed,
    Without,
    Words,
)
from glossator.datasets.truth_text import made_up
from glossator.errors import ConfigError
from glossator.explainers.max_act import parse
from glossator.scorers.judge import MARKS_SHOTS, SHOTS
from glossator.scorers.nulls import DECOYS
from glossator.types import Split

CLASSES = {
    *("single tokens", "word lists", "casing", "affixes", "numbers and formats", "n-grams"),
    *("positions", "brackets and quotes", "negation", "topics", "two senses", "conjunctions"),
    *("negative tails", "distractor-correlated"),
}
"""Those of the specification, less features that act only on the output."""
WINDOW = 32


def fires_on(rule: Rule, text: str) -> list[str]:
    """The tokens of `text` on which `rule` is above 0."""
    page = Page(word_pieces(text))
    return [b for b, v in zip(page.bare, rule.values(page), strict=True) if v > 0]


@pytest.fixture(scope="module")
def ground() -> Ground:
    return plant(LIBRARY, Corpus.of(made_up(LIBRARY)), tokens=None)


# -- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "text", "fires"),
    [
        (Words(("red", "Blue")), "Red and blue bluebells", ["Red", "blue"]),
        (Words(("March",), cased=True), "march in March", ["March"]),
        (Shape(r"\d+", ("1",)), "12 in 1a and 7", ["12", "7"]),
        (Run((DIGITS, Glued(Words((".",))), Glued(DIGITS))), "3.5 and 3 . 5 in 10.25", ["5", "25"]),
        (Run((Words(("of",)), Words(("the",)))), "the end of the day of all the", ["the"]),
        (After(WORD, NOT, within=2), "I do not like it at all. Not now", ["like", "it", "now"]),
        (After(DIGITS, Words(("May",))), "2 in May 3. And 4", ["3"]),
        (Either((DIGITS, CAPITAL)), "a 7 or B", ["7", "B"]),
        (Without(CAPITAL, Place("sentence", 1, 1), ()), "We met Anna. She left", ["Anna"]),
        (Place("text", 1, 1), "One. Two", ["One"]),
        (Place("sentence", 2, 2), "One, two three. Four five", ["two", "five"]),
        (Place("line", 1, 1), "one two\nthree four", ["one", "three"]),
        (Place("sentence", 4, 99), "a b c d e! f", ["d", "e"]),
        (ROUND, "a (b, 1) c", ["b", "1"]),
        (QUOTES, 'he said "not now" and “go” there', ["not", "now", "go"]),
        (QUOTES, 'never closed " ' + "a " * 60 + "b", ["a"] * 40),
        (Signed(Words(("she",)), Words(("he",))), "he and she", ["she"]),
    ],
)
def test_a_rule_fires_where_it_says(rule: Rule, text: str, fires: list[str]) -> None:
    assert fires_on(rule, text) == fires


def test_what_a_rule_says_of_a_token_does_not_depend_on_what_follows() -> None:
    tokens = word_pieces(made_up(LIBRARY, 1, seed=3)[0])
    whole, part = Page(tokens), Page(tokens[:40])
    for claim in claims(LIBRARY).values():
        assert claim.rule.values(part) == claim.rule.values(whole)[:40], claim.text


def test_graded_features_are_graded_and_the_other_tail_is_below_0() -> None:
    assert Shape(r"\d+", ("1",), full=4).values(Page(["7", "1984"])) == [0.25, 1.0]
    assert Words(("a", "b", "c"), fall=0.5).values(Page(["a", "b", "c", "d"])) == [1, 0.75, 0.5, 0]
    assert Signed(Words(("a",)), Words(("b",))).values(Page(["a", "b", "c"])) == [1, -1, 0]


# -- the library ----------------------------------------------------------------------------------


def test_there_are_over_a_hundred_features_of_all_classes() -> None:
    assert len(LIBRARY) >= 100
    assert {feature.group for feature in LIBRARY} == CLASSES
    assert len({feature.name for feature in LIBRARY}) == len(LIBRARY)
    assert {claim.miss for feature in LIBRARY for claim in feature.near} == set(Miss)
    assert all(feature.near for feature in LIBRARY)


def test_a_description_has_one_meaning_and_another_than_its_near_misses() -> None:
    known = claims(LIBRARY)
    assert len(known) > 2 * len(LIBRARY)
    for feature in LIBRARY:
        assert all(claim.rule != feature.true.rule for claim in feature.near)
    with pytest.raises(ConfigError, match="two meanings"):
        claims([*LIBRARY, Planted("x", Claim(LIBRARY[1].name, CAPITAL), ())])


def test_a_description_can_be_told_from_the_rest_of_a_prompt() -> None:
    """It survives the parser of an explainer, and is in no decoy and no answered question."""
    answered = {about for _, about, _ in (*SHOTS, *MARKS_SHOTS)}
    for text in claims(LIBRARY):
        assert parse(f"The neuron reacts to {text}.") == text
        assert text not in DECOYS
        assert text not in answered
        assert len(text) >= 10


def test_a_spread_selection_has_all_classes_and_grows_by_adding() -> None:
    some, more = spread(LIBRARY, 14), spread(LIBRARY, 28)
    assert {feature.group for feature in some} == CLASSES
    assert set(some) < set(more)
    assert spread(LIBRARY, len(LIBRARY)) == LIBRARY


# -- on text --------------------------------------------------------------------------------------


def agreement(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson r; 0 where either is constant."""
    if np.std(one) == 0 or np.std(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def test_every_feature_fires_often_enough_on_the_made_up_text(ground: Ground) -> None:
    for feature, record in ground.pairs():
        n = [len(split.firing) for split in (record.train, record.dev, record.test)]
        assert n[0] >= 10, (feature.name, n)
        assert n[1] >= 5, (feature.name, n)
        assert n[2] >= 10, (feature.name, n)
        assert record.test.silent, feature.name
        assert 0 < record.peak <= PEAK
        assert record.feature.negative is feature.negative


def test_near_misses_are_neither_the_truth_nor_far_from_it(ground: Ground) -> None:
    """On the text, a near miss has something to do with its feature, and is another thing."""
    pages = [Page(tokens) for tokens in ground.documents.values()]

    def over(rule: Rule) -> list[float]:
        return [value for page in pages for value in rule.values(page)]

    for feature in ground.features:
        truth = over(feature.function)
        for claim in feature.near:
            guess = over(claim.rule)
            assert agreement(truth, guess) < 0.995, (feature.name, claim.text)
            if claim.miss in (Miss.BROAD, Miss.NARROW, Miss.SENSE):
                overlap = [a > 0 and b > 0 for a, b in zip(truth, guess, strict=True)]
                assert any(overlap), (feature.name, claim.text)
            if claim.miss is Miss.TAIL:
                assert agreement(truth, guess) < 0, (feature.name, claim.text)


def test_unrelated_descriptions_have_little_to_do_with_a_feature(ground: Ground) -> None:
    pages = [Page(tokens) for tokens in list(ground.documents.values())[:150]]
    rows = np.array(
        [[v for page in pages for v in f.true.rule.values(page)] for f in ground.features]
    )
    r = np.corrcoef(rows[rows.std(axis=1) > 0])
    apart = np.abs(r[~np.eye(len(r), dtype=bool)])
    assert np.quantile(apart, 0.95) < 0.2
    assert np.median(apart) < 0.03


def test_records_hold_what_the_rule_gives_in_the_documents(ground: Ground) -> None:
    for feature, record in list(ground.pairs())[::9]:
        split: Split = record.test
        for example in split.examples[:20]:
            tokens = ground.documents[example.document]
            values = feature.function.values(Page(tokens))
            end = example.start + len(example.tokens)
            assert tokens[example.start : end] == example.tokens
            assert np.allclose(example.activations, np.array(values[example.start : end]) * PEAK)


@pytest.mark.assets
def test_every_feature_fires_often_enough_on_the_default_corpus() -> None:
    found = plant(LIBRARY, load_corpus("default", offline=True), tokens=200_000)
    for feature, record in found.pairs():
        n = [len(split.firing) for split in (record.train, record.dev, record.test)]
        assert min(n) >= 10, (feature.name, n)
        assert len(record.test.silent) >= 10, feature.name
