"""Intervals of a few trials."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.scorers.bounded import auc_of, mean_of, slope_of

shares = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_nothing_has_no_mean_and_no_area() -> None:
    assert mean_of([], chance()).value is None
    assert auc_of([], [0.5], chance()).value is None
    assert auc_of([0.5], [], chance()).value is None


def test_trials_that_are_all_alike_do_not_make_certain() -> None:
    few, many = mean_of([1.0] * 5, chance()), mean_of([1.0] * 50, chance())
    assert (few.value, few.high) == (1, 1)
    assert few.low is not None
    assert many.low is not None
    assert 0.6 < few.low < 0.95 < many.low < 1


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    found = auc_of([3.0, 1.0, 2.0], [2.0, 0.0], chance())
    # 3 beats both, 1 beats 0, 2 beats 0 and ties with 2
    assert found.value == pytest.approx((2 + 1 + 1.5) / 6)
    assert auc_of([1.0] * 4, [1.0] * 4, chance()).value == 0.5


@given(shares, st.integers(0, 99))
def test_an_interval_holds_its_mean_and_order_changes_no_mean(
    values: list[float], seed: int
) -> None:
    found = mean_of(values, chance(seed))
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert -1e-9 <= found.low <= found.value <= found.high <= 1 + 1e-9
    again = mean_of(values[::-1], chance(seed))
    assert again.value == pytest.approx(found.value)


def test_a_slope_is_that_of_the_line_and_never_certain() -> None:
    x = [0.0, 1.0, 2.0] * 4
    group = [i // 3 for i in range(12)]
    rising = slope_of(x, [0.2 + 0.3 * v for v in x], chance(), group)
    assert rising.value == pytest.approx(0.3)
    assert rising.low is not None
    assert 0 < rising.low < 0.3
    flat = slope_of(x, [0.5] * 12, chance(), group)
    assert flat.value == pytest.approx(0)
    assert flat.low is not None
    assert flat.low < 0
    assert slope_of([1.0, 1.0], [0.0, 1.0], chance(), [0, 1]).value is None


def test_trials_of_one_group_count_as_one() -> None:
    values = [0.0, 1.0] * 4
    alone = mean_of(values, chance())
    together = mean_of(values * 10, chance(), list(range(8)) * 10)
    assert alone.low is not None
    assert together.low is not None
    assert together.low == pytest.approx(alone.low, abs=0.05)
    assert together.value == alone.value


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    draw = chance(1)
    for seed in range(300):
        found = mean_of(list(draw.beta(2, 1, size=12)), chance(seed))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 2 / 3 <= found.high
    assert 0.90 <= held / 300 <= 0.99
    held = 0
    for seed in range(300):
        area = auc_of(list(draw.normal(1, 1, 10)), list(draw.normal(0, 1, 10)), chance(seed))
        assert area.low is not None
        assert area.high is not None
        held += area.low <= 0.7602 <= area.high
    assert 0.90 <= held / 300 <= 0.99
