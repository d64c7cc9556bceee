"""Agreement of people, and of scorers with them, against known answers."""

from __future__ import annotations

import random

import pytest
from scipy.stats import spearmanr

from glossator.agreement import Unit, alpha, spearman

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), its reliability data of four
# observers and twelve units; he gives 0.815 for ordinal data.
WORKED = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)


def units(rows: tuple[tuple[int | None, ...], ...]) -> list[Unit]:
    return [
        Unit(number, {str(who): value for who, value in enumerate(column) if value is not None})
        for number, column in enumerate(zip(*rows, strict=True))
    ]


def test_alpha_is_that_of_the_worked_example() -> None:
    found = alpha(units(WORKED))
    assert found.value is not None
    assert round(found.value, 3) == 0.815
    assert found.n == 11
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.815 < found.high <= 1


def test_those_who_always_agree_have_an_alpha_of_one() -> None:
    assert alpha(units(((1, 2, 5), (1, 2, 5)))).value == 1.0


def test_those_who_always_differ_have_less_than_chance() -> None:
    found = alpha(units(((1, 5, 1, 5), (5, 1, 5, 1))))
    assert found.value is not None
    assert found.value < 0


@pytest.mark.parametrize("rows", [((1, 2),), ((3, 3), (3, 3)), ((1, None), (None, 2)), ()])
def test_alpha_is_undefined_without_pairs_or_differences(
    rows: tuple[tuple[int | None, ...], ...],
) -> None:
    assert alpha(units(rows)).value is None


def test_ratings_by_chance_have_an_interval_around_zero() -> None:
    draw = random.Random(0)
    rows = tuple(tuple(draw.randint(1, 5) for _ in range(200)) for _ in range(2))
    found = alpha(units(rows))
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert found.high - found.low < 0.5


def test_spearman_is_that_of_scipy_with_ties() -> None:
    draw = random.Random(1)
    pairs = [(float(draw.randint(1, 5)), draw.random()) for _ in range(40)]
    found = spearman(pairs, range(40))
    assert found.value == pytest.approx(spearmanr(pairs)[0])
    assert (found.n, found.n_clusters) == (40, 40)


def test_two_explanations_of_one_feature_are_not_two_draws() -> None:
    pairs = [(float(i % 7), float((i * 3) % 5)) for i in range(30)]
    apart = spearman(pairs, range(30))
    together = spearman(pairs, [i // 2 for i in range(30)])
    assert together.value == apart.value
    assert together.n_clusters == 15
    assert (together.low, together.high) != (apart.low, apart.high)


def test_spearman_of_a_constant_is_undefined() -> None:
    assert spearman([(1.0, 1.0), (1.0, 2.0)], [0, 1]).value is None
    assert spearman([], []).value is None
