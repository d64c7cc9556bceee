"""What keeps an agent from believing too much: held-back text, honest silence, sound intervals."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from glossator.agent.beliefs import Beliefs, log_likelihood
from glossator.agent.held_back import fitted, held_back
from glossator.agent.tools.intervals import difference_of
from glossator.evidence import Foretold
from glossator.types import Example, Pool, Split


def split(n: int) -> Split:
    firing = tuple(
        Example(("a", "b"), (1.0, 0.0), f"f{i}", 0, stratum="top", weight=1.0) for i in range(n)
    )
    silent = tuple(
        Example(("a", "b"), (0.0, 0.0), f"s{i}", 0, stratum="silent", weight=1.0) for i in range(n)
    )
    return Split(Pool.TRAIN, 0.0, firing, silent)


def test_what_patterns_are_made_from_is_not_what_they_are_tried_on() -> None:
    train = split(60)
    made, tried = fitted(train), held_back(train)
    assert {e.document for e in made.examples}.isdisjoint(e.document for e in tried.examples)
    assert len(made.examples) + len(tried.examples) == len(train.examples)
    assert min(map(len, (made.firing, made.silent, tried.firing, tried.silent))) >= 15


def test_where_there_is_too_little_text_all_of_it_is_tried() -> None:
    train = split(1)
    assert held_back(train) == train


def test_who_says_nothing_is_no_worse_than_who_says_always_no() -> None:
    answers = [False] * 8
    silent = log_likelihood([None] * 8, answers)
    no = log_likelihood([0.02] * 8, answers)
    assert silent == pytest.approx(no, abs=0.5)
    beliefs = Beliefs({"H1": 0.0, "H2": 0.0})
    told = [Foretold("H1", (None,) * 8), Foretold("H2", (0.02,) * 8)]
    assert beliefs.after(told, answers).probabilities["H1"] > 0.3


def test_silence_learns_from_the_answers_before_and_from_none_behind() -> None:
    assert log_likelihood([None, None], [True, True]) == pytest.approx(math.log(1 / 2 * 3 / 4))
    assert log_likelihood([None, None], [True, None]) == pytest.approx(math.log(1 / 2))
    assert log_likelihood([None], [None]) == 0


def test_the_interval_of_a_difference_is_welchs_also_where_nothing_varies() -> None:
    first, second = [1.0, 2.0, 3.5, 9.0], [0.0, 0.2, 0.4]
    found = difference_of("x", first, second)
    ends = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    alike = difference_of("x", [1 / 3, 0.1 + 0.2 + 1 / 30], [0.1] * 3)
    assert alike.low == pytest.approx(alike.value)
    assert difference_of("x", [1.0, 1.0], [0.0, 0.0]).low == 1.0
