"""Finding the window that does not belong, and what is no finding."""

from __future__ import annotations

import asyncio
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.errors import Refused, ReplyError
from glossator.llm import Can, Reply, Request, ScriptedLLM
from glossator.scorers.intruder import IntruderScorer, parse, probabilities, prompt
from glossator.scorers.wilson import wilson
from glossator.types import SILENT, Explanation, Score, Usage
from tests.knowing import BY_WORD, COLOURS, FIRST, NUMBERS, fits, number, planted, said, scored

K = 5


def windows(request: Request) -> list[str]:
    return [m[2] for m in re.finditer(r'^(\d): "(.*)"$', request.messages[-1].content, re.M)]


def knows(name: str) -> Callable[[Sequence[str]], list[bool]]:
    return lambda texts: [not fits(name, text) for text in texts]


def telling(odd: Callable[[Sequence[str]], list[bool]]) -> ScriptedLLM:
    def rule(request: Request) -> Reply:
        found = odd(windows(request))
        return Reply(answers=tuple(math.log(0.8 if o else 0.05) for o in found))

    return ScriptedLLM(rule, can=frozenset({Can.ANSWERS}))


def saying(odd: Callable[[Sequence[str]], list[bool]]) -> ScriptedLLM:
    def rule(request: Request) -> str:
        found = odd(windows(request))
        return str(found.index(True) + 1) if any(found) else "1"

    return ScriptedLLM(rule)


WAYS = {"probabilities": telling, "replies": saying}
ways = pytest.mark.parametrize("way", WAYS)


@ways
@pytest.mark.parametrize("name", BY_WORD)
def test_who_knows_the_meaning_finds_every_intruder(way: str, name: str) -> None:
    score = scored("intruder", name, WAYS[way](knows(name)))
    assert score.value == pytest.approx(1)
    assert number(score.low) > 0.7
    assert score.null == 1 / K
    assert number(score.lift) == pytest.approx(1)
    assert number(score.p) <= 0.002
    assert score.n_failed == 0
    assert number(score.measures["trials"].value) >= 10


@ways
def test_who_looks_for_something_else_is_at_chance(way: str) -> None:
    values = [number(scored("intruder", n, WAYS[way](knows(FIRST))).value) for n in BY_WORD]
    assert 0.05 < sum(values) / len(values) < 0.4


@ways
@pytest.mark.parametrize("place", range(K))
def test_always_the_same_place_earns_one_in_k_exactly(way: str, place: int) -> None:
    score = scored("intruder", COLOURS, WAYS[way](lambda ts: [i == place for i in range(len(ts))]))
    assert score.value == pytest.approx(1 / K)
    assert number(score.lift) == pytest.approx(0)
    assert score.p == 1


@ways
def test_every_window_stands_once_at_every_place(way: str) -> None:
    llm = WAYS[way](knows(NUMBERS))
    score = scored("intruder", NUMBERS, llm)
    stood = Counter((text, i) for r in llm.requests for i, text in enumerate(windows(r)))
    texts = {text for text, _ in stood}
    assert len(texts) == len(score.predictions)
    assert all(stood[text, i] == 1 for text in texts for i in range(K))


def test_a_taste_for_a_place_does_not_hide_what_is_known() -> None:
    def rule(request: Request) -> Reply:
        odd = knows(COLOURS)(windows(request))
        return Reply(
            answers=tuple(
                math.log((4 if i == 0 else 1) * (3 if o else 1)) for i, o in enumerate(odd)
            )
        )

    score = scored("intruder", COLOURS, ScriptedLLM(rule, can=frozenset({Can.TOP_LOGPROBS})))
    assert score.value == pytest.approx(1)


def test_there_is_no_answer_that_none_is_odd_and_saying_so_earns_nothing() -> None:
    # The trap: a known pipeline has an answer that is right in 10 of 14 trials.
    assert "none" not in json.dumps([m.content for m in prompt(["a", "b", "c"])]).lower()
    score = scored("intruder", COLOURS, ScriptedLLM(lambda _: "none of them"))
    assert score.value is None
    assert score.n == 0
    assert dict(score.failures) == {"parse": len(score.predictions)}


def test_a_trial_that_fails_in_one_order_is_counted_and_left_out() -> None:
    good = saying(knows(COLOURS))

    def rule(request: Request) -> Reply | str:
        if zlib.crc32(windows(request)[0].encode()) % 10 == 0:
            raise Refused("no", "no")
        assert callable(good.rule)
        return Reply(str(good.rule(request)), usage=Usage(calls=1))

    score = scored("intruder", COLOURS, ScriptedLLM(rule))
    assert 0 < score.n_failed < len(score.predictions)
    assert score.n_failed % K == score.n % K == 0
    assert dict(score.failures) == {"refused": score.n_failed}
    assert score.value == pytest.approx(1)
    assert "could not be judged" in score.note


def test_no_explanation_is_read_and_an_abstention_is_scored_alike() -> None:
    record = planted()[COLOURS]
    found: list[Score] = []
    asked = []
    for explanation in (
        said(record, COLOURS),
        said(record, "zebras"),
        Explanation(record.feature, "", "max-act", abstained="nothing fires"),
    ):
        llm = telling(knows(COLOURS))
        found.append(asyncio.run(IntruderScorer(llm).score(explanation, record.test)))
        asked.append([r.digest for r in llm.requests])
    assert asked[0] == asked[1] == asked[2]
    assert found[0] == found[1] == found[2]
    assert "zebras" not in str(asked[1])


def test_no_request_holds_an_activation_or_a_stratum() -> None:
    llm = telling(knows(COLOURS))
    scored("intruder", COLOURS, llm)
    for request in llm.requests:
        whole = " ".join(m.content for m in request.messages)
        assert "3.1" not in whole
        assert SILENT not in whole.split()


def test_the_order_of_examples_changes_nothing() -> None:
    record = planted()[COLOURS]
    test = record.test
    turned = replace(test, firing=test.firing[::-1], silent=test.silent[::-1])
    everything = IntruderScorer(telling(knows(NUMBERS)), n_trials=500)
    a, b = (asyncio.run(everything.score(said(record, "x"), t)) for t in (test, turned))
    assert a.n > 50
    assert a == b


def test_too_little_to_ask_about_is_said_and_nobody_is_asked() -> None:
    record = planted()[COLOURS]
    llm = saying(knows(COLOURS))
    one = record.test.firing[0].document
    few = replace(record.test, firing=tuple(e for e in record.test.firing if e.document == one))
    for split, why in (
        (replace(record.test, firing=()), "never fires"),
        (replace(record.test, silent=()), "every window"),
        (few, "fewer than 4 documents"),
    ):
        score = asyncio.run(IntruderScorer(llm).score(said(record, "x"), split))
        assert score.value is None
        assert why in score.note
    assert not llm.requests


# -- reading replies -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["3", " 3.", '"3"', "**3**", "Text 3", "3\n"])
def test_a_number_is_read(text: str) -> None:
    assert parse(text, 5) == (0, 0, 1, 0, 0)


@pytest.mark.parametrize("text", ["", "6", "0", "none", "3 or 4", "33333", "-1", "third"])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ReplyError):
        parse(text, 5)


@given(st.lists(st.floats(-50, 0), min_size=2, max_size=9))
def test_probabilities_add_up(answers: list[float]) -> None:
    found = probabilities(Reply(answers=tuple(answers)))
    assert sum(found) == pytest.approx(1)
    for bad in ((), (-math.inf,) * 3):
        with pytest.raises(ReplyError):
            probabilities(Reply(answers=bad))


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(1.0, 15) == pytest.approx((1 / (1 + 1.959964**2 / 15), 1.0))
    low, high = wilson(0.5, 20)
    assert (low + high) / 2 == pytest.approx(0.5)
