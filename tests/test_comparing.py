"""Runs and explainers compared on the same windows, with known answers on planted features."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import glossator as gl
from glossator.cli.app import call
from glossator.comparing import compare_runs, differing
from glossator.config import RunConfig
from glossator.errors import ConfigError, StoreError
from glossator.scorers.build import Settings, build_scorer
from glossator.scorers.compare import (
    Difference,
    compared,
    mean_interval,
    paired_difference,
    sign_flip_p,
)
from glossator.scorers.nulls import Wrong
from glossator.store import Store, open_store
from glossator.types import Explanation, FeatureRecord, Score

GROUPS = {
    "colours": ("red", "blue", "green", "yellow"),
    "tools": ("hammer", "saw", "drill", "rope"),
    "fruit": ("apple", "pear", "plum", "fig"),
    "birds": ("crow", "swan", "wren", "owl"),
    "metals": ("iron", "tin", "zinc", "lead"),
}
"""Features that fire on four words alike."""
PLAIN = ("the", "a", "of", "and", "in", "to", "was", "with", "stone", "bread", "door", "wind")


def planted(words: Sequence[str]) -> Callable[[list[str]], list[float]]:
    return lambda tokens: [float(t.strip() in words) for t in tokens]


@pytest.fixture(scope="module")
def records() -> list[FeatureRecord]:
    rng = random.Random(0)
    rare = [w for words in GROUPS.values() for w in words]
    texts = [
        " ".join(rng.choice(rare if rng.random() < 0.1 else PLAIN) for _ in range(60))
        for _ in range(300)
    ]
    return gl.collect_planted({n: planted(w) for n, w in GROUPS.items()}, texts=texts)


def pattern(record: FeatureRecord, explainer: str, n: int) -> Explanation:
    """Says that the feature fires on the first `n` of its four words."""
    words = list(GROUPS.values())[record.feature.index][:n]
    return Explanation(
        record.feature, ", ".join(words), explainer, words=tuple((f" {w}", 1.0) for w in words)
    )


def scored(record: FeatureRecord, said: Explanation, settings: Settings) -> list[Score]:
    return [
        asyncio.run(
            build_scorer(name, said, Wrong("shuffled", ()), settings=settings).score(
                said, record.test, record.dev
            )
        )
        for name in ("simulation", "detection")
    ]


def add_run(
    store: Store,
    records: Sequence[FeatureRecord],
    knows: dict[str, Sequence[int]],
    *,
    collection: str = "c",
    n_scored: int = 40,
    seed: int = 0,
    tokens: int = 1000,
    precision: float = 0.0,
) -> str:
    """A run whose explainers know so many words of each feature; 0 is an abstention."""
    config = RunConfig(
        explainers=tuple(knows),
        n_scored=n_scored,
        seed=seed,
        tokens=tokens,
        precision=precision,
        llm=f"local:{len(store.runs())}",
    )
    run = store.begin_run(config, versions={}, collection=collection, fresh=True)
    for explainer, counts in knows.items():
        for record, n in zip(records, counts, strict=False):
            said = (
                pattern(record, explainer, n)
                if n
                else Explanation(record.feature, "", explainer, abstained="nothing in common")
            )
            store.put_explanation(run.id, said)
            for score in scored(record, said, Settings(n_scored, seed=seed, precision=precision)):
                store.put_score(run.id, score)
    return run.id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/s.db")


def test_an_explainer_that_knows_more_is_better_on_every_feature(
    store: Store, records: list[FeatureRecord]
) -> None:
    run = add_run(store, records, {"full": [4] * 5, "half": [2] * 5})
    for one in compare_runs(store, run):
        c = one.comparison
        assert (one.a.explainer, one.b.explainer) == ("full", "half")
        assert (c.n, c.better, c.worse, c.tied) == (5, 5, 0, 0)
        assert c.low is not None
        assert c.low > 0.05
        assert c.p == pytest.approx(2 / 2**5)  # of 32 ways to turn signs, two are as extreme
        assert c.undefined == {}
        means = [
            [
                s.value or 0
                for s in store.scores_of(run)
                if (s.explainer, s.scorer) == (who, one.scorer)
            ]
            for who in ("full", "half")
        ]
        assert c.mean == pytest.approx(np.mean(means[0]) - np.mean(means[1]))


def test_the_other_way_round_is_the_same_with_its_sign_turned(
    store: Store, records: list[FeatureRecord]
) -> None:
    run = add_run(store, records, {"x": [4, 4, 4, 2, 4], "y": [2, 4, 3, 3, 1]})
    there = compare_runs(store, run, explainers=["x", "y"])
    back = compare_runs(store, run, explainers=["y", "x"])
    for one, other in zip(there, back, strict=True):
        a, b = one.comparison, other.comparison
        assert (a.better, a.worse, a.tied) == (b.worse, b.better, b.tied) == (3, 1, 1)
        assert a.mean == pytest.approx(-number(b.mean))
        assert a.low == pytest.approx(-number(b.high))
        assert a.p == pytest.approx(b.p)


def test_nobody_is_better_than_themselves(store: Store, records: list[FeatureRecord]) -> None:
    first, again = (add_run(store, records, {"x": [2] * 5}) for _ in range(2))
    for one in compare_runs(store, first, again):
        c = one.comparison
        assert (c.mean, c.low, c.high, c.p, c.tied) == (0, 0, 0, 1, 5)


def test_what_has_no_difference_is_counted_with_its_reason(
    store: Store, records: list[FeatureRecord]
) -> None:
    first = add_run(store, records, {"x": [4, 0, 4, 4, 0]})
    second = add_run(store, records[:4], {"x": [2, 2, 0, 2]})
    for one in compare_runs(store, first, second):
        c = one.comparison
        assert c.n == 2
        assert sum(c.undefined.values()) == 2
        assert {why[:14] for why in c.undefined} == {"a has no value", "b has no value"}
        assert all("nothing in common" in why for why in c.undefined)
        assert one.unpaired == {
            records[4].feature: f"no explanation of it in {second} x",
        }
        assert c.n + sum(c.undefined.values()) + len(one.unpaired) == len(records)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"seed": 1}, "seed (0 and 1)"), ({"n_scored": 20}, "n_scored (40 and 20)")],
)
def test_runs_that_scored_other_windows_are_refused(
    store: Store, records: list[FeatureRecord], options: dict[str, int], named: str
) -> None:
    first = add_run(store, records, {"x": [4] * 5})
    second = add_run(store, records, {"x": [4] * 5}, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="read other windows") as caught:
        compare_runs(store, first, second)
    assert named in str(caught.value)
    assert "llm" not in str(caught.value)


def test_runs_of_other_text_are_refused(store: Store, records: list[FeatureRecord]) -> None:
    first = add_run(store, records, {"x": [4] * 5})
    second = add_run(store, records, {"x": [4] * 5}, collection="d", tokens=2000)
    with pytest.raises(ConfigError) as caught:
        compare_runs(store, first, second)
    assert "tokens (1000 and 2000)" in str(caught.value)


def test_what_differs_is_told_as_it_is_typed_and_is_what_decides_on_windows(store: Store) -> None:
    plain = RunConfig(sites=("layers.1.mlp.neurons",))
    other = RunConfig(
        sites=("auto",), control="random-weights", per_call=3, n_hard=4, scorers=("detection",)
    )
    a, b = (store.begin_run(c, versions={}, collection=c.control) for c in (plain, other))
    assert sorted(differing(a, b)) == [
        "control (none and random-weights)",
        "sites (layers.1.mlp.neurons and auto)",
    ]


def test_runs_that_stop_when_precise_are_compared_where_both_looked(
    store: Store, records: list[FeatureRecord]
) -> None:
    first = add_run(store, records, {"x": [4] * 5}, n_scored=120, precision=0.3)
    second = add_run(store, records, {"x": [3] * 5}, n_scored=120, precision=0.05)
    shorter = [s for s in store.scores_of(first) if s.scorer == "detection"]
    assert min(s.n for s in shorter) < 60
    for one in compare_runs(store, first, second):
        if one.scorer == "detection":
            assert {d.n for d in one.differences.values()} == {s.n for s in shorter}
        assert one.comparison.better == 5


def test_who_is_compared_must_be_clear(store: Store, records: list[FeatureRecord]) -> None:
    several = add_run(store, records[:1], {"x": [4], "y": [3], "z": [2]})
    single = add_run(store, records[:1], {"w": [4]})
    asked: list[tuple[tuple[str, str | None], tuple[str, ...], str]] = [
        ((several, None), (), "--explainer A --explainer B"),
        ((several, None), ("x",), "second explainer"),
        ((several, None), ("x", "q"), "no explanations by 'q'; by: x, y, z"),
        ((several, None), ("x", "y", "z"), "two explainers"),
        ((several, single), (), "one of each"),
        ((several, single), ("x",), "no explanations by 'x'; by: w"),
    ]
    for runs, explainers, told in asked:
        with pytest.raises(ConfigError, match=told):
            compare_runs(store, *runs, explainers)
    assert compare_runs(store, several, single, ("y", "w"))[0].a.explainer == "y"
    with pytest.raises(StoreError):
        compare_runs(store, several, "r99")


def test_a_table_for_python_has_a_row_a_scorer_or_a_feature(
    store: Store, records: list[FeatureRecord]
) -> None:
    run = add_run(store, records, {"full": [4] * 5, "half": [2, 2, 0, 2, 2]})
    table = gl.compare(store, run)
    assert list(table["scorer"]) == ["detection", "simulation"]
    assert list(table["n"]) == [4, 4]
    assert list(table["undefined"]) == [1, 1]
    each = gl.compare(store, run, per_feature=True)
    assert len(each) == 10
    assert each["difference"].isna().sum() == 2
    assert each.groupby("scorer")["difference"].mean().to_dict() == pytest.approx(
        dict(zip(table["scorer"], table["difference"], strict=True))
    )
    assert dict(table.dtypes.astype(str))["n"] == "int64"


def test_the_command_says_it_for_people_and_for_programs(
    tmp_path: Path,
    store: Store,
    records: list[FeatureRecord],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = add_run(store, records, {"full": [4] * 5, "half": [2, 2, 0, 2, 2]})
    place = f"sqlite:///{tmp_path}/s.db"
    assert call(["compare", run, "--store", place]) == 0
    said = capsys.readouterr().out
    assert f"{run} full less {run} half" in said
    assert "of 4 features 4 better, 0 worse, 0 tied" in said
    assert "undefined for 1: b has no value" in said
    arguments = ["compare", run, "--explainer", "half", "--explainer", "full", "--json"]
    assert call([*arguments, "--store", place]) == 0
    document = json.loads(capsys.readouterr().out)
    found = {one["scorer"]: one for one in document["comparisons"]}
    assert set(found) == {"simulation", "detection"}
    for one in found.values():
        assert one["high"] < 0
        assert one["worse"] == one["n"] == 4
        assert len(one["features"]) == 5
    assert call(["compare", run, "r9", "--store", place]) == 2


def number(value: float | None) -> float:
    assert value is not None
    return value


# -- many differences -------------------------------------------------------------------------


def difference(value: float | None, spread: float = 0.0, why: str = "") -> Difference:
    return Difference(value, None, None, 40, spread, why)


def test_the_sign_flip_p_is_that_of_all_sign_patterns() -> None:
    values = np.array([0.3, 0.1, -0.05, 0.2, 0.4, 0.02])
    signs = 1 - 2 * ((np.arange(2**6)[:, None] >> np.arange(6)) & 1)
    means = (signs * values).mean(axis=1)
    exact = np.mean(np.abs(means) >= abs(values.mean()) - 1e-12)
    assert sign_flip_p(values, np.random.default_rng(0)) == pytest.approx(exact)
    assert sign_flip_p(np.array([]), np.random.default_rng(0)) is None
    assert sign_flip_p(np.array([0.3]), np.random.default_rng(0)) == 1


def test_p_values_are_uniform_where_neither_is_better() -> None:
    rng = np.random.default_rng(0)
    found = [sign_flip_p(rng.normal(0, 0.2, 12), rng) for _ in range(300)]
    assert stats.kstest(np.array(found, float), "uniform").pvalue > 0.01


@pytest.mark.parametrize("n", [3, 12, 40])
@pytest.mark.parametrize(("between", "within"), [(0.3, 0.05), (0.2, 0.2), (0.02, 0.2)])
def test_the_interval_of_the_mean_holds_it_as_often_as_said(
    n: int, between: float, within: float
) -> None:
    rng = np.random.default_rng(n)
    held = []
    for _ in range(1000):
        values = 0.1 + rng.normal(0, between, n) + rng.normal(0, within, n)
        low, high = mean_interval([difference(float(v), within) for v in values])
        assert low is not None
        assert high is not None
        held.append(low <= 0.1 <= high)
    # Where documents are most of it, the wider of two spreads is taken, and holds a little more.
    assert 0.92 <= np.mean(held) <= (0.98 if within < between else 0.995), np.mean(held)


def test_equal_differences_of_few_features_are_not_certain() -> None:
    c = compared([difference(0.1, 0.2), difference(0.1, 0.2)])
    assert c.low is not None
    assert c.low < 0


def test_a_single_pair_keeps_its_own_interval_and_none_has_none() -> None:
    alone = compared([Difference(0.2, 0.1, 0.3, 40, 0.05)])
    assert (alone.mean, alone.low, alone.high, alone.p, alone.n) == (0.2, 0.1, 0.3, 1.0, 1)
    nothing = compared([difference(None, why="b has no value: abstained")] * 3)
    assert (nothing.mean, nothing.low, nothing.p, nothing.n) == (None, None, None, 0)
    assert nothing.undefined == {"b has no value: abstained": 3}


def test_a_scorer_that_says_no_figure_is_compared_by_its_values(
    records: list[FeatureRecord],
) -> None:
    a = Score(records[0].feature, "x", "elsewhere.mod:Part", value=0.7, n=9)
    found = paired_difference(a, replace(a, value=0.5, n=7))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (None, None)
    assert paired_difference(a, replace(a, value=None, note="dead")).why == "b has no value: dead"
