"""The frame of scorers of windows: right on average, and moved by nothing that should not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.errors import ReplyError
from glossator.scorers.asking import one_by_one
from glossator.scorers.detection import best_threshold
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import Frame, failed
from glossator.scorers.rated import (
    Reading,
    base_rate,
    calls_above,
    pearson,
    precision_of_ratings,
    rated,
    rating,
    unusable,
)
from glossator.scorers.sample import draw
from glossator.types import (
    SILENT,
    TOP,
    Example,
    Explanation,
    FeatureId,
    Pool,
    Prediction,
    Score,
    Split,
    Usage,
)

FEATURE = FeatureId("m", "s", 0)
OWN = Explanation(FEATURE, "rivers", "max-act")
WRONG = Wrong(
    "shuffled",
    tuple(Explanation(replace(FEATURE, index=i), f"t{i}", "max-act") for i in range(1, 10)),
)
T = 5
Rule = Callable[[Explanation, Example], Sequence[float]]


def population(seed: int, n: int = 4000) -> Split:
    """All windows of a pool, as if all had been kept: one in eight fires."""
    chance = np.random.default_rng(seed)
    fires = np.sort(np.where(chance.random(n) < 0.125, chance.gamma(2, 1, n) + 0.1, 0.0))[::-1]
    n_firing = int((fires > 0).sum())
    examples = []
    for i, peak in enumerate(fires):
        stratum = SILENT if peak == 0 else TOP if i < 20 else f"q{5 - 5 * i // (n_firing + 1)}"
        acts = [0.0] * T
        acts[int(chance.integers(T))] = float(peak)
        examples.append(Example((" a",) * T, tuple(acts), f"d{i // 3}", i % 3, stratum, 1.0))
    return Split(Pool.TEST, 0.0, tuple(examples[:n_firing]), tuple(examples[n_firing:]))


def scored(
    rule: Rule, examples: Sequence[Example], whole: bool = True, wrong: Wrong = WRONG
) -> Score:
    """A score by a reader who follows `rule`; of whole windows, or of each token."""

    async def rate(explanation: Explanation, example: Example) -> tuple[Prediction, Usage]:
        said = tuple(map(float, rule(explanation, example)))
        if not said:
            error = ReplyError("it says nothing")
            return failed(example, unusable("judge", error), "tenths", whole), Usage()
        made = rating(example, max(said), "tenths")
        return (
            made if whole else replace(made, actual=example.activations, predicted=said)
        ), Usage()

    def read(own: Sequence[Prediction], on_dev: Sequence[Prediction]) -> Reading:
        if not whole:
            return Reading(pearson, lambda _: None, "it is constant", (-1, 1))
        beside = {"F1": (calls_above(0.5, "F1"), (0.0, 1.0))}
        return Reading(precision_of_ratings, base_rate, "it is undefined", beside=beside)

    frame = Frame(OWN, "mine", "reader", "judge", "figure")
    return asyncio.run(rated(frame, wrong, examples, one_by_one(rate), read, 0))


def number(value: float | None) -> float:
    assert value is not None
    return value


def noisy(explanation: Explanation, example: Example) -> list[float]:
    """Right about seven windows in ten, at any hour the same."""
    key = sum(map(ord, explanation.text + example.key * 3))
    chance = np.random.default_rng(key)
    if explanation is not OWN:
        return list(chance.random(T))
    return [
        0.6 * (a > 0) * (chance.random() < 0.7) + 0.4 * chance.random() for a in example.activations
    ]


@pytest.mark.parametrize("whole", [True, False])
def test_a_weighted_sample_gives_the_pools_value_on_average(whole: bool) -> None:
    split = population(0)
    everything = number(scored(noisy, split.examples, whole, Wrong("shuffled", ())).value)
    found = [
        number(scored(noisy, draw(split, 300, FEATURE, seed), whole, Wrong("shuffled", ())).value)
        for seed in range(60)
    ]
    error = float(np.std(found)) / np.sqrt(len(found))
    assert abs(float(np.mean(found)) - everything) <= 3 * error + 0.02
    plain = number(
        scored(noisy, [replace(e, weight=1.0) for e in draw(split, 300, FEATURE)], whole).value
    )
    assert abs(plain - everything) > 0.03  # without weights it is another number


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 999), st.sampled_from([40, 120]), st.floats(0, 1))
def test_a_constant_reader_is_worth_the_base_rate_and_no_more(
    seed: int, n: int, level: float
) -> None:
    split = population(seed, 800)
    examples = draw(split, n, FEATURE, seed)
    score = scored(lambda said, e: [level] * T, examples)
    share = len(split.firing) / len(split.examples)
    assert score.value == pytest.approx(share)
    assert score.p == 1
    assert number(score.low) <= number(score.null) <= number(score.high)
    assert scored(lambda said, e: [level] * T, examples, whole=False).value is None


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 999), st.sampled_from([40, 120]), st.booleans())
def test_an_inverted_reader_is_not_above_its_null(seed: int, n: int, whole: bool) -> None:
    def inverted(said: Explanation, example: Example) -> list[float]:
        values = noisy(said, example)
        return [1 - max(values)] * T if whole else [1 - v for v in values]

    score = scored(inverted, draw(population(seed, 800), n, FEATURE, seed), whole)
    assert number(score.low) <= number(score.null)
    if not whole:
        assert number(score.value) < 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.booleans(), st.randoms(use_true_random=False))
def test_what_is_stored_in_another_order_gives_the_same_score(
    seed: int, whole: bool, rng: np.random.Generator
) -> None:
    split = population(seed, 400)
    firing, silent = list(split.firing), list(split.silent)
    rng.shuffle(firing)
    rng.shuffle(silent)
    turned = replace(split, firing=tuple(firing), silent=tuple(silent))
    a, b = (scored(noisy, draw(s, 60, FEATURE, seed), whole) for s in (split, turned))
    assert a == b


@pytest.mark.parametrize("whole", [True, False])
def test_a_window_that_is_there_twice_at_half_its_weight_changes_no_value(whole: bool) -> None:
    examples = draw(population(0), 60, FEATURE)
    halves = [replace(e, weight=e.weight / 2) for e in examples for _ in range(2)]
    once, twice = (scored(noisy, some, whole) for some in (examples, halves))
    assert twice.value == pytest.approx(number(once.value))
    assert twice.null == pytest.approx(number(once.null))
    assert (number(twice.high) - number(twice.low)) == pytest.approx(
        number(once.high) - number(once.low), rel=0.25
    )  # documents are drawn, not windows: twice the rows are not twice the evidence


def test_other_names_of_documents_change_no_value() -> None:
    examples = draw(population(0), 60, FEATURE)
    renamed = [replace(e, document=f"other {e.document}") for e in examples]

    def by_tokens(said: Explanation, example: Example) -> list[float]:
        return [0.5 * a + 0.01 * len(said.text) * i for i, a in enumerate(example.activations)]

    a, b = scored(by_tokens, examples), scored(by_tokens, renamed)
    assert a.value == b.value
    assert a.null == b.null
    assert a.low == pytest.approx(number(b.low), abs=0.05)


def test_failures_leave_the_value_where_it_is_and_are_counted() -> None:
    examples = draw(population(0), 120, FEATURE)
    broken = {e.key for e in examples[::4]}

    def perfect(said: Explanation, example: Example) -> list[float]:
        return [] if example.key in broken else [float(a > 0) for a in example.activations]

    score = scored(perfect, examples)
    assert score.value == pytest.approx(1)
    assert score.failures == {"parse": len(broken)}
    assert score.n + score.n_failed == len(examples)


def test_the_threshold_is_fitted_on_dev_alone() -> None:
    examples, dev = (draw(population(s), 60, FEATURE) for s in (0, 1))
    fitted: list[list[Prediction]] = []

    async def rate(explanation: Explanation, example: Example) -> tuple[Prediction, Usage]:
        return rating(example, max(noisy(explanation, example)), "tenths"), Usage()

    def read(own: Sequence[Prediction], on_dev: Sequence[Prediction]) -> Reading:
        fitted.append(list(on_dev))
        best_threshold(on_dev, 0.5)
        return Reading(precision_of_ratings, base_rate, "it is undefined")

    frame = Frame(OWN, "mine", "reader", "judge", "figure")
    asyncio.run(rated(frame, WRONG, examples, one_by_one(rate), read, 0, dev_units=dev))
    assert [p.example for p in fitted[-1]] == [e.key for e in dev]
    assert [p.actual for p in fitted[-1]] == [(e.peak,) for e in dev]
