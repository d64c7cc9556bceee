"""The oracle: it reads descriptions as they are meant, whatever the prompt looks like."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from glossator.bench.oracle import Oracle
from glossator.bench.shelf import Shelf, skeleton
from glossator.datasets.planted import word_pieces
from glossator.datasets.truth import LIBRARY, Ground, claims
from glossator.errors import ReplyError
from glossator.explainers.max_act import question as excerpts_of
from glossator.llm import Message, Reply, Request
from glossator.scorers import contrast, logprob, reply, rubric, surprisal, token
from glossator.scorers import intruder as odd_one
from glossator.scorers.judge import marks_prompt
from glossator.scorers.judge import prompt as judged
from glossator.writing import write, write_without

DOCUMENTS = {
    "a": 'Anna said "no" to 12 men (of Oslo).\n\nThe water was cold in March 1984.',
    "b": "People of the city went home. They had seen nothing because it was dark.",
    "c": "A red house and a green door stood between two roads; 7 birds sang.",
}
TOKENS = {name: tuple(word_pieces(text)) for name, text in DOCUMENTS.items()}
DIGITS = "numbers written in digits"
BECAUSE = 'the word "because"'
SECOND = "the second word of each sentence"


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    found = Oracle.of(Ground(LIBRARY, (), TOKENS))
    assert set(claims(LIBRARY)) <= set(found.known)
    return found


def said(oracle: Oracle, request: Request) -> Reply:
    return asyncio.run(oracle.reply(request))


def yes(oracle: Oracle, messages: tuple[Message, ...]) -> bool:
    answers = said(oracle, Request(messages, max_tokens=0, answers=("yes", "no"))).answers
    assert sum(map(math.exp, answers)) == pytest.approx(1)
    return answers[0] > answers[1]


# -- finding text again ----------------------------------------------------------------------------


def test_text_is_found_again_however_it_was_laid_out() -> None:
    shelf = Shelf(TOKENS)
    for name, tokens in TOKENS.items():
        for first in range(0, len(tokens) - 5, 3):
            for n in (5, len(tokens) - first):
                part = tokens[first : first + n]
                line = " ".join("".join(part).replace('"', "'").split())
                place = shelf.place(line)
                assert place is not None
                assert place.tokens == TOKENS[name]
                assert tokens[place.first : place.first + place.n] == part


def test_marks_are_read_off_to_the_token() -> None:
    place = Shelf(TOKENS).place("They had <<seen nothing>> because it <<was>> dark")
    assert place is not None
    marked = [
        t.strip() for t, mark in zip(place.tokens[place.first :], place.marks, strict=False) if mark
    ]
    assert marked == ["seen", "nothing", "was"]


def test_an_unknown_text_is_a_document_of_its_own_and_an_empty_one_is_none() -> None:
    shelf = Shelf(TOKENS)
    place = shelf.place("Nobody <<wrote>> this")
    assert place is not None
    assert (place.first, place.n, place.marks) == (0, 3, (False, True, False))
    assert shelf.place(" \n") is None
    assert skeleton(' "A\u23ce ') == "'A"


# -- judges and simulators -------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize(("about", "holds"), [(DIGITS, "ac"), (BECAUSE, "b")])
def test_it_judges_windows(oracle: Oracle, name: str, about: str, holds: str) -> None:
    assert yes(oracle, judged(about, DOCUMENTS[name])) is (name in holds)


def test_it_judges_marked_words_and_not_the_others(oracle: Oracle) -> None:
    tokens = TOKENS["a"]
    for i, token_ in enumerate(tokens):
        marks = [j == i for j in range(len(tokens))]
        assert yes(oracle, marks_prompt(DIGITS, tokens, marks)) is token_.strip().isdigit()


def test_it_reads_a_window_in_its_document(oracle: Oracle) -> None:
    """`of` is the second word of a sentence there, which the window by itself does not say."""
    window = "of the city went home"
    assert yes(oracle, judged(SECOND, window))
    assert not yes(oracle, judged("the first word of a text", window))


def test_simulators_get_the_value_of_each_token(oracle: Oracle) -> None:
    tokens = TOKENS["a"]
    wanted = [10.0 * t.strip().isdigit() for t in tokens]
    reply_ = said(oracle, logprob.request_for(DIGITS, tokens, logprob.VALUES))
    assert [logprob.expected(row) for row in reply_.slots] == pytest.approx(wanted, abs=1e-3)
    reply_ = said(oracle, contrast.request_for(DIGITS, tokens))
    assert [a > b for a, b in reply_.slots] == [w > 0 for w in wanted]
    text = said(oracle, reply.request_for(DIGITS, tokens)).text
    assert list(json.loads(text).values()) == wanted
    values = [
        said(oracle, Request(token.prompt(DIGITS, tokens[: i + 1]), answers=token.VALUES)).answers
        for i in range(1, len(tokens))
    ]
    assert [logprob.expected(v) > 4 for v in values] == [w > 0 for w in wanted[1:]]


def test_a_token_that_nobody_can_see_has_a_value_too() -> None:
    tokens = ("\xad", "seen", " 12", " times", "\n")
    unseen = Oracle.of(Ground(LIBRARY, (), {"d": ("Often", " ", *tokens)}))
    rows = said(unseen, logprob.request_for(DIGITS, tokens, logprob.VALUES)).slots
    assert [logprob.expected(row) > 5 for row in rows] == [False, False, True, False, False]


def test_graded_values_come_through(oracle: Oracle) -> None:
    about = "numbers in digits, the longer the stronger"
    rows = said(oracle, logprob.request_for(about, TOKENS["a"], logprob.VALUES)).slots
    values = [logprob.expected(row) for row in rows]
    assert values[TOKENS["a"].index(" 12")] == pytest.approx(5, abs=0.01)
    assert values[TOKENS["a"].index(" 1984")] == pytest.approx(10, abs=0.01)


def test_it_rates_and_is_less_surprised_where_the_description_fits(oracle: Oracle) -> None:
    def rating(about: str) -> float:
        request = Request(rubric.prompt(about, DOCUMENTS["b"]), answers=rubric.STEPS)
        return rubric.expected_step(said(oracle, request))

    assert rating(BECAUSE) > 2.9
    assert rating(DIGITS) < 0.1

    def loss(about: str) -> float:
        return -said(oracle, surprisal.request_for(about, DOCUMENTS["b"])).answers[0]

    assert loss(BECAUSE) < loss(DIGITS) == loss("violins and other instruments")


def test_it_finds_the_intruder_by_what_the_others_share(oracle: Oracle) -> None:
    texts = [f"{name} saw {n} birds" for name, n in (("one", 3), ("we", 41), ("he", 600))]
    places = [*texts, "nobody saw birds at all"]
    request = Request(odd_one.prompt(places), answers=tuple("1234"))
    answers = said(oracle, request).answers
    assert answers.index(max(answers)) == 3


def test_the_longest_description_is_the_one_that_is_meant(oracle: Oracle) -> None:
    found = oracle.described('Description: the word "Because" where it has a capital letter')
    assert found is not None
    assert found.text == 'the word "Because" where it has a capital letter'
    longer = "words about states and their rule, such as government, law and party"
    found = oracle.described(f"Does it contain {longer}?")
    assert found is not None
    assert found.text == longer
    assert oracle.described("Does it contain violins?") is None


def test_descriptions_of_several_senses_are_read_together(oracle: Oracle) -> None:
    both = f"{BECAUSE}; or {DIGITS}"
    assert [yes(oracle, judged(both, text)) for text in DOCUMENTS.values()] == [True, True, True]
    assert oracle.legible(both)
    assert not oracle.legible(f"{BECAUSE}; or violins")
    assert not oracle.legible("violins")


def test_an_unknown_description_fits_nothing(oracle: Oracle) -> None:
    assert not any(yes(oracle, judged("violins", text)) for text in DOCUMENTS.values())


# -- explainers and writers ------------------------------------------------------------------------


def test_it_names_what_the_marks_have_in_common(oracle: Oracle) -> None:
    lines = ["to <<12>> men", "in March <<1984>>", "two roads; <<7>> birds sang"]
    request = Request((Message("user", excerpts_of(lines, ())),), prefill="The neuron reacts to")
    assert said(oracle, request).text == f"The neuron reacts to {DIGITS}"


def test_it_writes_texts_that_fit_and_twins_that_do_not(oracle: Oracle) -> None:
    texts, _ = asyncio.run(write(oracle, DIGITS, 2))
    assert len(texts) == 2
    assert all(any(c.isdigit() for c in text) for text in texts)
    twins, _ = asyncio.run(write_without(oracle, DIGITS, texts))
    assert len(twins) == 2
    assert not any(c.isdigit() for twin in twins.values() for c in twin)


def test_a_question_of_another_form_is_an_error_and_no_guess(oracle: Oracle) -> None:
    for request in (
        Request((Message("user", "What is the capital of Norway?"),)),
        Request(judged(DIGITS, DOCUMENTS["a"]), answers=("maybe", "perhaps")),
        Request((Message("user", f"Is there any of {DIGITS}?"),), answers=("yes", "no")),
    ):
        with pytest.raises(ReplyError, match="the oracle"):
            said(oracle, request)
