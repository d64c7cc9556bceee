from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from glossator.scorers.bootstrap import Resampling, centred, percentiles, replicates
from glossator.scorers.estimates import (
    AveragePrecision,
    Calls,
    ExplainedVariance,
    Floats,
    Metric,
    Pearson,
    Spearman,
    fit_line,
    weighted_ranks,
)
from glossator.types import Prediction

FIGURES = ("F1", "precision", "recall", "IoU", "balanced accuracy")
Windows = list[tuple[float, ...]]


def one(metric: Metric, weights: Sequence[float]) -> float:
    """The figure of a single row of weights."""
    return float(metric(np.array([weights], float))[0])


def sample(
    seed: int, n: int = 30, ties: bool = False
) -> tuple[Windows, Windows, list[bool], list[int]]:
    """Windows of 1 to 6 tokens, a prediction that knows something, who fired, integer weights."""
    chance = np.random.default_rng(seed)
    actual, predicted = [], []
    for _ in range(n):
        a = np.round(chance.gamma(1, 1, chance.integers(1, 7)), 1 if ties else 8)
        p = np.round(a * chance.random() + chance.random(len(a)), 0 if ties else 8)
        actual.append(tuple(map(float, a)))
        predicted.append(tuple(map(float, p)))
    fired = [max(a) > 1.5 for a in actual]
    return actual, predicted, fired, [int(w) for w in chance.integers(1, 6, n)]


def repeated(windows: Windows, weights: Sequence[int]) -> list[float]:
    """All tokens, each window as often as it weighs."""
    return [x for w, k in zip(windows, weights, strict=True) for _ in range(k) for x in w]


def per_window(values: Sequence[float], weights: Sequence[int]) -> list[float]:
    return [v for v, k in zip(values, weights, strict=True) for _ in range(k)]


seeds = pytest.mark.parametrize("seed", range(12))
either = pytest.mark.parametrize("ties", [False, True])


@seeds
@either
def test_pearson_and_spearman_are_scipys_over_windows_repeated_by_weight(
    seed: int, ties: bool
) -> None:
    actual, predicted, _, weights = sample(seed, ties=ties)
    x, y = repeated(actual, weights), repeated(predicted, weights)
    assert one(Pearson.over(actual, predicted), weights) == pytest.approx(stats.pearsonr(x, y)[0])
    spearman = Spearman.over(actual, predicted, weights)
    assert one(spearman, weights) == pytest.approx(stats.spearmanr(x, y)[0])


@seeds
@either
def test_average_precision_is_sklearns(seed: int, ties: bool) -> None:
    _, predicted, fired, _ = sample(seed, ties=ties)
    weights = np.random.default_rng(seed).exponential(size=len(fired))
    ratings = [max(p) for p in predicted]
    assert one(AveragePrecision.of(fired, ratings), list(weights)) == pytest.approx(
        sk.average_precision_score(fired, ratings, sample_weight=weights)
    )


@seeds
def test_figures_of_calls_are_sklearns(seed: int) -> None:
    _, predicted, fired, _ = sample(seed)
    weights = np.random.default_rng(seed).exponential(size=len(fired))
    called = [max(p) > 1 for p in predicted]
    oracles: dict[str, Callable[..., float]] = {
        "F1": sk.f1_score,
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "IoU": sk.jaccard_score,
        "balanced accuracy": sk.balanced_accuracy_score,
    }
    for name in FIGURES:
        expected = oracles[name](fired, called, sample_weight=weights)
        assert one(Calls.of(fired, called, name), list(weights)) == pytest.approx(expected), name


@seeds
def test_explained_variance_is_sklearns_r2_of_the_line(seed: int) -> None:
    actual, predicted, _, weights = sample(seed)
    slope, intercept = 0.7, -0.2
    x = repeated(actual, weights)
    line = [slope * p + intercept for p in repeated(predicted, weights)]
    metric = ExplainedVariance.over(actual, predicted, slope, intercept)
    assert one(metric, weights) == pytest.approx(sk.r2_score(x, line))


@seeds
def test_the_line_is_numpys_where_it_rises(seed: int) -> None:
    actual, predicted, _, weights = sample(seed)
    x, y = repeated(predicted, weights), repeated(actual, weights)
    slope, intercept = np.polyfit(x, y, 1)
    assert slope > 0
    assert fit_line(actual, predicted, weights) == pytest.approx((slope, intercept))


@seeds
def test_the_line_never_turns_a_prediction_into_its_opposite(seed: int) -> None:
    actual, predicted, _, weights = sample(seed)
    opposite = [tuple(-v for v in p) for p in predicted]
    slope, intercept = fit_line(actual, opposite, weights)
    assert slope == 0
    assert intercept == pytest.approx(float(np.mean(repeated(actual, weights))))


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7e5, 1e-9, 123456.789])
def test_a_constant_prediction_gets_a_flat_line_at_the_mean(value: float) -> None:
    for seed in range(20):
        actual, predicted, _, _ = sample(seed)
        weights = list(np.random.default_rng(seed).exponential(size=len(actual)))
        flat = [tuple(value for _ in p) for p in predicted]
        slope, intercept = fit_line(actual, flat, weights)
        assert slope == 0
        assert min(map(min, actual)) < intercept < max(map(max, actual))


@given(
    st.lists(st.sampled_from([0.0, 1.0, 1.5, -2.0, 7.0]), min_size=1, max_size=20),
    st.integers(0, 99),
)
def test_weighted_ranks_are_scipys_ranks_of_repeated_values(values: list[float], seed: int) -> None:
    weights = np.random.default_rng(seed).integers(1, 5, len(values))
    first = np.cumsum(weights) - weights
    ranks = stats.rankdata(np.repeat(values, weights))[first]
    assert weighted_ranks(np.array(values), weights.astype(float)) == pytest.approx(ranks - 0.5)


# -- properties ------------------------------------------------------------------------------------

numbers = st.integers(-4, 4).map(lambda v: v / 2)
windows = st.lists(
    st.tuples(
        st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4),
        st.booleans(),
        st.booleans(),
        st.sampled_from([0.5, 1.0, 3.0, 40.0]),
    ),
    min_size=1,
    max_size=9,
)
Drawn = list[tuple[list[tuple[float, float]], bool, bool, float]]


def figures(drawn: Drawn) -> list[float]:
    """Every metric of the drawn windows."""
    actual = [[a for a, _ in tokens] for tokens, *_ in drawn]
    predicted = [[p for _, p in tokens] for tokens, *_ in drawn]
    fired, called = [d[1] for d in drawn], [d[2] for d in drawn]
    weights = [d[3] for d in drawn]
    found: list[Metric] = [
        Pearson.over(actual, predicted),
        Spearman.over(actual, predicted, weights),
        ExplainedVariance.over(actual, predicted, 0.5, 1.0),
        AveragePrecision.of(fired, [max(p) for p in predicted]),
        *(Calls.of(fired, called, name) for name in FIGURES),
    ]
    return [one(m, weights) for m in found]


def same(a: list[float], b: list[float]) -> bool:
    return np.allclose(a, b, rtol=1e-7, atol=1e-7, equal_nan=True)


@given(windows, st.data())
def test_a_window_twice_at_half_its_weight_changes_nothing(
    drawn: Drawn, data: st.DataObject
) -> None:
    i = data.draw(st.integers(0, len(drawn) - 1))
    tokens, fired, called, weight = drawn[i]
    halves = [(tokens, fired, called, weight / 2)] * 2
    assert same(figures(drawn), figures([*drawn[:i], *halves, *drawn[i + 1 :]]))


@given(windows, st.data())
def test_the_order_of_windows_changes_nothing(drawn: Drawn, data: st.DataObject) -> None:
    assert same(figures(drawn), figures(data.draw(st.permutations(drawn))))


@given(windows, st.sampled_from([1e-3, 7.0, 1e6]))
def test_the_unit_of_weights_changes_nothing(drawn: Drawn, unit: float) -> None:
    assert same(figures(drawn), figures([(t, f, c, w * unit) for t, f, c, w in drawn]))


@given(windows)
def test_a_window_of_weight_0_changes_nothing(drawn: Drawn) -> None:
    extra = ([(9.0, -9.0), (0.0, 3.0)], True, False, 0.0)
    with_extra = figures([*drawn, extra])
    assert same(figures(drawn), with_extra)


@given(windows)
def test_figures_stay_in_their_bounds(drawn: Drawn) -> None:
    pearson, spearman, r2, *rest = figures(drawn)
    assert all(math.isnan(v) or -1 <= v <= 1 for v in (pearson, spearman))
    assert math.isnan(r2) or r2 <= 1
    assert all(math.isnan(v) or 0 <= v <= 1 + 1e-12 for v in rest)


@given(windows, st.integers(0, 9))
def test_a_matrix_of_weights_gives_each_row_what_it_gives_alone(drawn: Drawn, seed: int) -> None:
    actual = [[a for a, _ in tokens] for tokens, *_ in drawn]
    predicted = [[p for _, p in tokens] for tokens, *_ in drawn]
    rows = np.random.default_rng(seed).integers(0, 4, (5, len(drawn))).astype(float)
    metric: Metric
    for metric in (
        Pearson.over(actual, predicted),
        AveragePrecision.of([d[1] for d in drawn], [max(p) for p in predicted]),
        Calls.of([d[1] for d in drawn], [d[2] for d in drawn], "F1"),
    ):
        together = metric(rows)
        assert same(list(together), [one(metric, row) for row in rows.tolist()])


# -- edges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e9, -5e-7])
def test_a_constant_side_has_no_correlation(value: float) -> None:
    actual, predicted, _, weights = sample(1)
    flat = [tuple(value for _ in a) for a in actual]
    for a, p in ((actual, flat), (flat, predicted), (flat, flat)):
        assert math.isnan(one(Pearson.over(a, p), weights))
        assert math.isnan(one(Spearman.over(a, p, weights), weights))
    assert math.isnan(one(ExplainedVariance.over(flat, predicted, 1, 0), weights))


def test_what_is_constant_where_the_weights_are_has_no_correlation() -> None:
    metric = Pearson.over([[0.1, 0.1], [5.0]], [[1.0, 2.0], [3.0]])
    assert math.isnan(one(metric, [1, 0]))


def test_one_class_alone_has_no_average_precision_and_no_f1() -> None:
    assert math.isnan(one(AveragePrecision.of([True, True], [1, 0]), [1, 2]))
    assert math.isnan(one(AveragePrecision.of([False, False], [1, 0]), [1, 2]))
    assert math.isnan(one(AveragePrecision.of([True, False], [1, 0]), [1, 0]))
    for name in ("F1", "IoU", "recall", "balanced accuracy"):
        assert math.isnan(one(Calls.of([False, False], [True, False], name), [1, 1])), name
    assert math.isnan(one(Calls.of([True, False], [False, False], "precision"), [1, 1]))
    assert one(Calls.of([True, False], [False, False], "F1"), [1, 1]) == 0


def test_no_weight_at_all_gives_nan_and_no_warning() -> None:
    assert all(map(math.isnan, figures([([(1.0, 2.0), (3.0, 1.0)], True, True, 0.0)])))


def test_equal_ratings_count_as_one_step() -> None:
    fired = [True, False, False, False]
    for order in itertools.permutations(range(4)):
        metric = AveragePrecision.of([fired[i] for i in order], [0.5] * 4)
        assert one(metric, [1] * 4) == pytest.approx(0.25)
    constant = AveragePrecision.of([True, False], [0, 0])
    assert one(constant, [3, 97]) == pytest.approx(0.03)  # the base rate


def test_an_inverted_ranking_is_worse_than_a_constant_one() -> None:
    fired = [True] * 5 + [False] * 20
    best = one(AveragePrecision.of(fired, list(range(25, 0, -1))), [1] * 25)
    flat = one(AveragePrecision.of(fired, [0] * 25), [1] * 25)
    worst = one(AveragePrecision.of(fired, list(range(25))), [1] * 25)
    assert best == 1
    assert flat == pytest.approx(0.2)
    assert worst < flat


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e8])
def test_pearson_survives_a_large_offset(offset: float) -> None:
    actual, predicted, _, weights = sample(3)
    moved_a = [tuple(v + offset for v in a) for a in actual]
    moved_p = [tuple(3 * v - offset for v in p) for p in predicted]
    wanted = one(Pearson.over(actual, predicted), weights)
    assert one(Pearson.over(moved_a, moved_p), weights) == pytest.approx(wanted, abs=1e-6)
    # The oracle that a sum of plain squares would fail.
    x, y = repeated(moved_a, weights), repeated(moved_p, weights)
    assert wanted == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-6)


def test_an_unknown_figure_is_named() -> None:
    with pytest.raises(ValueError, match="accuracy"):
        Calls.of([True], [True], "accuracy")


# -- resampling ------------------------------------------------------------------------------------


def predictions(
    seed: int, rename: Callable[[str], str] = str, n: int = 30
) -> tuple[Prediction, ...]:
    actual, predicted, fired, weights = sample(seed, n)
    return tuple(
        Prediction(
            f"{rename(f'doc{i // 2}')}:{i}",
            "q1" if f else "silent",
            float(w),
            rename(f"doc{i // 2}"),
            a,
            p,
            "tenths",
        )
        for i, (a, p, f, w) in enumerate(zip(actual, predicted, fired, weights, strict=True))
    )


def resampled(items: Sequence[Prediction], seed: int = 0) -> Resampling:
    return Resampling.of(items, np.random.default_rng(seed), 100)


def measured(items: Sequence[Prediction]) -> tuple[float | None, float | None, float | None]:
    r = resampled(items)
    m = r.measure(Pearson.over(r.actual, r.predicted), (-1, 1))
    return m.value, m.low, m.high


def test_renaming_documents_changes_neither_value_nor_interval() -> None:
    assert measured(predictions(5)) == measured(predictions(5, lambda d: f"zz{d[::-1]}"))


def test_the_interval_holds_the_value_and_the_order_of_windows_does_not_move_the_value() -> None:
    for seed in range(10):
        items = predictions(seed)
        value, low, high = measured(items)
        assert value is not None
        assert low is not None
        assert high is not None
        assert -1 <= low <= value <= high <= 1
        assert low < high
        assert measured(items[::-1])[0] == pytest.approx(value)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_replicates_keep_every_strata_total_and_move_documents_whole(seed: int) -> None:
    chance = np.random.default_rng(seed)
    n = int(chance.integers(2, 25))
    strata = [str(s) for s in chance.choice(["top", "q1", "silent"], n)]
    documents = [f"{s}{chance.integers(0, 6)}" for s in strata]  # each in one stratum
    weights = chance.exponential(size=n)
    draws = replicates(list(weights), strata, documents, chance, 50)
    assert (draws >= 0).all()
    for stratum in set(strata):
        inside = np.array([s == stratum for s in strata])
        assert draws[:, inside].sum(axis=1) == pytest.approx(np.full(50, weights[inside].sum()))
    for document in set(documents):
        inside = np.array([d == document for d in documents])
        share = draws[:, inside] / weights[inside]
        assert np.allclose(share, share[:, :1])


def test_replicates_are_spread_like_the_mean_of_documents() -> None:
    # 12 documents of one window each: the standard error of their mean, n - 1 in its denominator.
    values = np.random.default_rng(0).normal(size=12)
    names = [f"d{i}" for i in range(12)]
    draws = replicates([1.0] * 12, ["q1"] * 12, names, np.random.default_rng(1), 20_000)
    assert (draws @ values / 12).std() == pytest.approx(stats.sem(values), rel=0.03)


def test_a_failed_prediction_cannot_be_resampled() -> None:
    failed = Prediction("d:0", "q1", 1.0, "d", (1.0,), (), "tenths", failure="parse")
    with pytest.raises(ValueError, match="worked"):
        Resampling.of([failed], np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least one"):
        Resampling.of([], np.random.default_rng(0))


def test_an_interval_needs_half_of_the_draws() -> None:
    nan = math.nan
    draws: Floats = np.array([0.2, 0.4, 0.6, nan, nan])
    few: Floats = np.array([0.2, nan, nan, nan, nan])
    assert percentiles(few) == (None, None)
    assert centred(0.4, few, draws, (0, 1)) == (None, None)
    assert centred(0.4, draws, few, (0, 1)) == (None, None)
    low, high = percentiles(draws)
    assert low is not None
    assert high is not None
    assert 0.2 <= low < high <= 0.6


@given(st.integers(0, 50))
@settings(max_examples=20)
def test_the_bias_of_the_draws_is_taken_off(seed: int) -> None:
    chance = np.random.default_rng(seed)
    value = float(chance.uniform(0.3, 0.7))
    spread = chance.normal(0, 0.02, 400)
    assume(abs(spread.mean()) < 0.004)
    low, high = centred(value, value + 0.1 + spread, value + spread, (0, 1))
    assert low is not None
    assert high is not None
    assert (low + high) / 2 < value - 0.05
