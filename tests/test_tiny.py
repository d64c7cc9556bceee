"""The simulator `tiny`: which piece is whose, what it says, and what it will not answer."""

from __future__ import annotations

import asyncio
import hashlib
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.errors import AssetError, ReplyError
from glossator.scorers.build import ASKS_NOBODY, build_judge, build_simulator, limits_of
from glossator.scorers.judge import Verdict, Window
from glossator.scorers.tiny.desk import LONGEST_WINDOW, Desk, Said, desk, parts_of, sizes_of
from glossator.scorers.tiny.overlap import flags
from glossator.scorers.tiny.pieces import GAP, LINE_BREAK, parts, pieces_of, ranges, shape
from glossator.scorers.tiny.simulator import TinySimulator
from glossator.scorers.tiny.weights import SHIPPED, base_weights, load_trained, network_of
from glossator.types import Explanation, FeatureId
from tests.knowing import COLOURS, number, scored
from tests.source_tree import ROOT

FOLDER = ROOT / "scorers" / "tiny"
TEXT = (
    *(" She", " packed", " two", " apples", ",", " some", " grapes", " and", " a", " knife"),
    *(" for", " the", " trip", " to", " Paris", "."),
)  # fmt: skip

pytestmark = pytest.mark.assets


def about(text: str) -> Explanation:
    return Explanation(FeatureId("m", "s", 0), text, "human")


def simulated(text: str, tokens: tuple[str, ...]) -> tuple[float, ...]:
    return asyncio.run(TinySimulator().simulate(about(text), tokens)).predicted


def tokenizer() -> Any:
    return desk().network.tokenizer


# -- pieces and tokens -----------------------------------------------------------------------------

ODD = st.text(
    st.sampled_from("aé中\u0301🙂 \n\t'-.ﬁßẞİ\u200b\u00a0Σς0٣_<\x00"), min_size=1, max_size=40
)


@given(ODD, st.data())
def test_a_token_has_the_pieces_whose_characters_it_holds(text: str, data: st.DataObject) -> None:
    places = st.lists(st.integers(0, len(text)), max_size=12)
    cuts = sorted([0, len(text), *data.draw(places)])
    tokens = [text[a:b] for a, b in pairwise(cuts)]
    pieces = pieces_of(tokenizer(), text)
    for token, begin, (first, last) in zip(
        tokens, cuts, ranges(pieces, tokens).tolist(), strict=False
    ):
        held = set(range(begin, begin + len(token)))
        shares = [i for i, (a, b) in enumerate(pieces.spans.tolist()) if held & set(range(a, b))]
        if token:
            assert list(range(first, last)) == shares


@given(ODD)
def test_pieces_lie_in_order_and_belong_to_the_word_they_lie_in(text: str) -> None:
    pieces = pieces_of(tokenizer(), text)
    assert np.all(np.diff(pieces.spans[:, 0]) >= 0)
    assert np.all(np.diff(pieces.spans[:, 1]) >= 0)
    for (start, end), word in zip(pieces.spans.tolist(), pieces.word.tolist(), strict=True):
        assert text[start:end][:1] in pieces.words[word]


def test_a_token_without_characters_has_what_the_one_before_it_has() -> None:
    tokens = ("a", " 🙂", "", "", " b")
    pieces = pieces_of(tokenizer(), "".join(tokens))
    assert ranges(pieces, tokens).tolist() == [[0, 1], [1, 2], [1, 2], [1, 2], [2, 3]]


def test_white_space_that_means_something_is_a_piece() -> None:
    pieces = pieces_of(tokenizer(), "one two\n\nthree  four")
    assert [i for i in pieces.ids.tolist() if i < 100] == [LINE_BREAK, GAP]
    tokens = ("one", " two", "\n\n", "three", " ", " four")
    assert ranges(pieces, tokens).tolist() == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [4, 6]]


def test_parts_of_a_word_are_told_apart() -> None:
    tokens = (" un", "believ", "able", " news")
    pieces = pieces_of(tokenizer(), "".join(tokens))
    assert parts(pieces, tokens, ranges(pieces, tokens)).tolist() == [1, 2, 3, 0]


def test_case_is_seen_although_the_vocabulary_has_none() -> None:
    kinds = [shape(word) for word in ("word", "Word", "WORD", "W", "wOrd", "12", "1st", ".")]
    assert len(set(kinds)) == len(kinds)


def test_shared_letters_are_flagged() -> None:
    found = flags('the word "Bank" or words ending in -ing', ["bank", "Bank", "running", "sofa"])
    assert found[:, 2].tolist() == [1, 1, 0, 0]  # in quotes
    assert found[:, 3].tolist() == [0, 1, 0, 0]  # with the same case
    assert found[:, 5].tolist() == [0, 0, 1, 0]  # with the suffix


# -- long windows ----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_parts_of_a_long_window_answer_for_each_token_once(sizes: list[int]) -> None:
    tokens = tuple(map(str, range(len(sizes))))
    found = parts_of(tokens, np.array(sizes))
    assert [t for part in found for t in part.tokens[part.begin : part.end]] == list(tokens)
    cuts = dict(zip(tokens, sizes, strict=True))
    for part in found:
        assert sum(cuts[t] for t in part.tokens) <= LONGEST_WINDOW or len(part.tokens) == 1


def test_sizes_of_tokens_sum_to_all_pieces() -> None:
    tokens = (" un", "believ", "able", "", "\n\n", " 🙂", " news")
    pieces = pieces_of(tokenizer(), "".join(tokens))
    assert sizes_of(pieces, tokens).sum() == len(pieces)


def test_a_long_window_is_read_to_its_end() -> None:
    filler = tuple(" lamp stone road table garden".replace(" ", "| ").split("|")[1:]) * 80
    found = simulated("names of fruit", (*filler, " apples", "."))
    assert len(found) == len(filler) + 2
    assert np.argmax(found) == len(filler)


# -- what it says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("names of fruit", {" apples", " grapes"}),
        ('the word "and"', {" and"}),
        ("punctuation marks", {",", "."}),
        ("cities", {" Paris"}),
    ],
)
def test_tokens_that_a_plain_description_fits_come_first(text: str, fits: set[str]) -> None:
    found = simulated(text, TEXT)
    order = sorted(range(len(TEXT)), key=lambda i: -found[i])
    assert {TEXT[i] for i in order[: len(fits)]} == fits


@pytest.mark.parametrize(
    ("true", "other"),
    [("fruit", "football teams"), ("kitchen tools", "names of months"), ("travel", "mathematics")],
)
def test_a_true_description_expects_more_than_an_unrelated_one(true: str, other: str) -> None:
    assert max(simulated(true, TEXT)) > max(simulated(other, TEXT))


def test_one_answer_is_the_same_alone_and_among_others() -> None:
    texts = ("fruit", 'the words "a" and "the"')
    windows = (TEXT, TEXT[:2], (*TEXT, *TEXT))
    together = Desk(desk().network)
    questions = [(text, window) for text in texts for window in windows]
    answers = dict(zip(questions, together.answered(questions), strict=True))
    for question, among in answers.items():
        alone = Desk(desk().network).ask(*question)
        assert isinstance(alone, Said)
        assert isinstance(among, Said)
        assert alone.activations == pytest.approx(among.activations, abs=0.15)


def test_windows_asked_about_at_once_are_read_together() -> None:
    rounds: list[int] = []

    class Counting(Desk):
        def answered(self, questions: Any) -> Any:
            rounds.append(len(questions))
            return super().answered(questions)

    together = Counting(desk().network)
    windows = [(f" {word}", " apples", ".") for word in ("red", "two", "three", "four", "old")]

    async def ask() -> None:
        async with asyncio.TaskGroup() as group:
            for window in windows:
                group.create_task(asyncio.to_thread(together.ask, "any fruit at all", window))

    asyncio.run(ask())
    assert sum(rounds) == len(windows)
    assert len(rounds) < len(windows)


def test_probabilities_of_firing_come_with_the_activations() -> None:
    said = asyncio.run(TinySimulator().says(about("names of fruit"), TEXT))
    assert all(0 <= p <= 1 for p in said.firing)
    assert said.firing[TEXT.index(" apples")] > 0.5 > said.firing[TEXT.index(" the")]


# -- what it cannot read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("word " * 2000, "shorten"),
        ("ꙮ ꙮ ꙮ ꙮ", "English"),
    ],
)
def test_an_explanation_that_cannot_be_read_is_refused(text: str, said: str) -> None:
    explanation = (
        about(text)
        if text
        else Explanation(FeatureId("m", "s", 0), "", "human", abstained="nothing to say")
    )
    with pytest.raises(ReplyError, match=said):
        asyncio.run(TinySimulator().simulate(explanation, TEXT))


@pytest.mark.parametrize(
    "text", ["Wörter für Obst", "слова о фруктах", "水果的名字", "!!!", "-ing"]
)
def test_any_other_explanation_gets_finite_numbers(text: str) -> None:
    assert all(0 <= value <= 10 for value in simulated(text, TEXT))


def test_tokens_that_show_nothing_get_nothing() -> None:
    assert simulated("white space", (" ",)) == (0.0,)
    assert simulated("fruit", ("\x00", "\u200b", ""))[0] == 0.0
    assert len(simulated("line breaks", ("\n", "\n\n", "  ", "\t\t"))) == 4


# -- how it is registered and shipped --------------------------------------------------------------


def test_it_asks_nobody_and_judges_windows_by_their_maximum() -> None:
    assert "tiny" in ASKS_NOBODY
    assert limits_of("tiny")
    assert build_simulator("tiny", None).model == ""
    judge = build_judge("tiny", about("fruit"), None)
    assert judge.name == "maximum of tiny"
    found = asyncio.run(judge.judge(about("fruit"), [Window(TEXT), Window(TEXT[10:13])]))
    fits, misses = (v.value for v in found if isinstance(v, Verdict))
    assert fits > judge.threshold > misses


@pytest.mark.parametrize("scorer", ["simulation", "detection", "fuzzing"])
def test_scorers_tell_a_true_description_from_others_by_it(scorer: str) -> None:
    score = scored(scorer, COLOURS, None, simulator="tiny", n_wrong=2, n_scored=16)
    assert score.model == ""
    assert not score.usage.calls
    assert number(score.value) > max(0.7, number(score.null) + 0.05)


def test_an_explanation_that_it_refuses_has_no_score_and_a_reason() -> None:
    score = scored("simulation", COLOURS, None, text="word " * 2000, simulator="tiny", n_scored=8)
    assert score.value is None
    assert "shorten" in score.note


def test_what_is_shipped_is_small_and_is_what_the_card_describes() -> None:
    path = FOLDER / SHIPPED
    assert sum(f.stat().st_size for f in FOLDER.glob("*.safetensors")) < 20_000_000
    assert hashlib.sha256(path.read_bytes()).hexdigest() in (FOLDER / "MODEL.md").read_text("utf-8")


def test_every_tensor_that_is_shipped_is_in_16_bits() -> None:
    from safetensors import safe_open

    with safe_open(FOLDER / SHIPPED, framework="np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118


def test_a_file_that_holds_something_else_is_refused(tmp_path: Any) -> None:
    wrong = tmp_path / "tiny.safetensors"
    wrong.write_bytes(b"no weights")
    with pytest.raises(AssetError, match="holds no weights"):
        network_of(wrong)


def test_nothing_of_the_encoder_is_shipped() -> None:
    _, base = base_weights()
    from glossator.scorers.tiny.network import halves

    lower, upper = halves(base)
    before = upper.layers[0].qkv.weight.clone()  # type: ignore[union-attr,operator]
    load_trained(upper, FOLDER / SHIPPED)
    assert not np.array_equal(before, upper.layers[0].qkv.weight)  # type: ignore[union-attr,arg-type]
    assert {n for n, _ in lower.named_parameters()}.isdisjoint({"segments.weight", "out.weight"})


def test_places_of_tokens_add_up() -> None:
    assert list(accumulate(map(len, TEXT)))[-1] == len("".join(TEXT))
