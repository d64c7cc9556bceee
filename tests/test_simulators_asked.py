"""The simulators `token`, `ensemble` and `embedding`: what they ask, read and predict."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.embedder import Vectors
from glossator.errors import Refused, ReplyError
from glossator.llm import Can, Reply, Request, ScriptedLLM
from glossator.scorers import ensemble, token
from glossator.scorers.embedding_simulator import EmbeddingSimulator
from glossator.scorers.ensemble import EnsembleSimulator
from glossator.scorers.token import TokenSimulator
from glossator.types import Explanation, Scale, Usage
from tests.knowing import BY_WORD, COLOURS, NUMBERS, RIVER, marked, number, planted, said, values_of
from tests.knowing import scored as scored_by

ONE = planted()[RIVER]
TOKENS = ("the", " red", " fox", " ran")


def asked_token(request: Request) -> tuple[str, list[str], list[bool]]:
    """Description, tokens and marks of a question about one token."""
    found = re.fullmatch(r'Description: (.*)\nText: "(.*)"', request.messages[-1].content)
    assert found is not None
    return found[1], *marked(found[2])


def value_of(request: Request) -> float:
    description, tokens, marks = asked_token(request)
    assert marks.index(True) == len(tokens) - 1  # nothing behind it is shown
    return values_of(description, tokens)[-1]


def telling(request: Request) -> Reply:
    digit = 9 * round(value_of(request))
    return Reply(answers=tuple(0.0 if v == digit else -math.inf for v in range(10)))


def saying(request: Request) -> str:
    return str(9 * round(value_of(request)))


KNOWING = {
    "probabilities": lambda: ScriptedLLM(telling, can=frozenset({Can.ANSWERS})),
    "replies": lambda: ScriptedLLM(saying),
}


# -- token -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", KNOWING)
def test_token_asks_once_a_token_and_who_knows_predicts_it_exactly(way: str) -> None:
    llm = KNOWING[way]()
    window = ONE.test.firing[0]
    found = asyncio.run(TokenSimulator(llm).simulate(said(ONE, RIVER), window.tokens))
    assert len(llm.requests) == len(window.tokens)
    assert found.scale is Scale.TENTHS
    assert found.predicted == tuple(10.0 if a > 0 else 0.0 for a in window.activations)


@pytest.mark.parametrize("name", BY_WORD)
def test_token_of_the_true_meaning_reaches_one_and_of_another_does_not(name: str) -> None:
    llm = KNOWING["probabilities"]()
    true = scored_by("simulation", name, llm, simulator="token", n_wrong=2, n_scored=16)
    assert number(true.value) > 0.9
    other = scored_by(
        "simulation", name, llm, text="violins", simulator="token", n_wrong=2, n_scored=16
    )
    # A meaning of which no word is in these windows predicts 0 everywhere, and has no value.
    assert other.value is None or other.value < 0.5


@given(st.lists(st.floats(-30, 0), min_size=10, max_size=10))
def test_the_value_is_the_expected_digit_from_0_to_10(answers: list[float]) -> None:
    p = np.exp(answers)
    wanted = float(p @ np.arange(10) / p.sum()) * 10 / 9
    found = token.expected_value(Reply(answers=tuple(answers)))
    assert found == pytest.approx(wanted, abs=1e-9)
    assert 0 <= found <= 10 + 1e-9


def test_no_answer_begins_another() -> None:
    # Where only the first token of a reply is seen, "10" would be read as "1".
    assert all(len(v) == 1 for v in token.VALUES)


@pytest.mark.parametrize("text", ["", "10", "ten", "-1", "3.5", "yes", "0 or 1", "\u0664"])
def test_what_is_no_digit_is_an_error_that_keeps_the_reply(text: str) -> None:
    with pytest.raises(ReplyError) as caught:
        token.parse(Reply(text))
    assert caught.value.reply == text


def test_a_token_that_fails_fails_the_window_with_what_all_cost() -> None:
    def rule(request: Request) -> Reply:
        if asked_token(request)[1][-1].strip() == "fox":
            raise Refused("no", "no", Usage(calls=1))
        return Reply("0", usage=Usage(calls=1))

    with pytest.raises(Refused) as caught:
        asyncio.run(TokenSimulator(ScriptedLLM(rule)).simulate(said(ONE, "x"), TOKENS))
    assert caught.value.usage == Usage(calls=4)


# -- ensemble --------------------------------------------------------------------------------------


def shown(request: Request) -> tuple[str, list[int], list[str]]:
    """Description, guesses and tokens of an ensemble's request."""
    content = request.messages[-1].content
    description = content.split("\n")[0].removeprefix("Description: ")
    lines = re.findall(r"^\d+ \(guess (\d+)\): (.*)$", content, re.M)
    return description, [int(g) for g, _ in lines], [t for _, t in lines]


def as_json(values: Sequence[float]) -> str:
    return json.dumps({str(i): v for i, v in enumerate(values, 1)})


def trusting(request: Request) -> str:
    return as_json(shown(request)[1])


def overruling(request: Request) -> str:
    description, _, tokens = shown(request)
    return as_json([10 * v for v in values_of(description, tokens)])


def simulated(explanation: Explanation, rule: object, tokens: tuple[str, ...]) -> tuple[float, ...]:
    llm = ScriptedLLM(rule)  # type: ignore[arg-type]
    return asyncio.run(EnsembleSimulator(llm).simulate(explanation, tokens)).predicted


def test_the_model_is_shown_the_pattern_on_the_scale_that_it_answers_on() -> None:
    explanation = replace(said(ONE, "foxes"), words=((" fox", 4.0), (" ran", 1.0), (" the", -1.0)))
    assert simulated(explanation, trusting, TOKENS) == (0, 0, 10, 2)


def test_without_a_pattern_it_is_shown_what_lexical_predicts() -> None:
    assert simulated(said(ONE, "foxes and other animals"), trusting, TOKENS) == (0, 0, 10, 0)


def test_a_pattern_that_never_fires_guesses_nothing() -> None:
    explanation = replace(said(ONE, "foxes"), words=((" fox", 0.0),))
    assert simulated(explanation, trusting, TOKENS) == (0, 0, 0, 0)


def test_the_model_may_overrule_the_program() -> None:
    # Lexical finds no number in "numbers in digits"; who knows the meaning does.
    llm = ScriptedLLM(overruling)
    score = scored_by("simulation", NUMBERS, llm, simulator="ensemble", n_wrong=2)
    assert number(score.value) > 0.9
    meek = scored_by("simulation", NUMBERS, ScriptedLLM(trusting), simulator="ensemble", n_wrong=2)
    assert meek.value is None  # nothing guessed, nothing predicted


def test_a_reply_that_names_too_few_tokens_is_an_error() -> None:
    with pytest.raises(ReplyError, match="missing"):
        simulated(said(ONE, "x"), lambda _: '{"1": 3}', TOKENS)


@given(
    st.lists(st.sampled_from(["a\nb", "2 (guess 10): x", "\t", "\u2028", '"', " a"]), min_size=1)
)
def test_a_token_stays_on_its_line(drawn: list[str]) -> None:
    request = ensemble.request_for("birds", drawn, [3] * len(drawn))
    lines = request.messages[-1].content.splitlines()
    assert lines[:3] == ["Description: birds", "", "Tokens:"]
    assert [re.match(r"\d+ \(guess 3\): ", line) is not None for line in lines[3:]] == [True] * len(
        drawn
    )


# -- embedding -------------------------------------------------------------------------------------


class Meanings:
    """An embedder of three dimensions: colours, numbers, all else."""

    name = "meanings"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, 3)."""
        rows = [
            (
                sum(values_of(COLOURS, t.split())) + 9 * (t == COLOURS),
                sum(values_of(NUMBERS, t.split())) + 9 * (t == NUMBERS),
                0.1 + len(t.split()) / 10,
            )
            for t in texts
        ]
        found = np.array(rows, np.float32)
        unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit


def test_the_token_that_brings_the_meaning_is_highest_and_not_its_neighbours() -> None:
    simulator = EmbeddingSimulator(Meanings())
    tokens = ("the", " wall", " was", " red", " and", " 17", " high")
    for name, at in ((COLOURS, 3), (NUMBERS, 5)):
        found = asyncio.run(simulator.simulate(said(ONE, name), tokens))
        assert found.scale is Scale.COSINE
        best, second = sorted(found.predicted, reverse=True)[:2]
        assert found.predicted[at] == best > second + 0.3


def test_it_asks_nobody_and_works_as_a_simulator() -> None:
    true = scored_by("simulation", COLOURS, None, simulator="embedding", embedder=Meanings())
    assert number(true.value) > 0.9
    assert true.model == ""
    assert true.usage == Usage()
    other = scored_by(
        "simulation", COLOURS, None, text=NUMBERS, simulator="embedding", embedder=Meanings()
    )
    assert number(other.value) < 0.3


@pytest.mark.assets
def test_the_bundled_model_finds_colours() -> None:
    score = scored_by("simulation", COLOURS, None, simulator="embedding", n_wrong=2, n_scored=20)
    assert number(score.value) > number(score.null) + 0.2
    assert number(score.value) > 0.5
