"""`n2g` on planted features whose shortest contexts are known."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.datasets.planted import Function, collect_planted
from glossator.experiments import live_function
from glossator.explainers.n2g import N2GExplainer, merged, said, spellings, weighed
from glossator.scorers.nulls import Wrong
from glossator.scorers.simulation import SimulationScorer
from glossator.scorers.symbolic import SymbolicSimulator, by_paths
from glossator.types import (
    SILENT,
    TOP,
    Example,
    Explanation,
    FeatureId,
    FeatureRecord,
    NgramPath,
    Pool,
    Split,
)

WORDS = "the a of and old new long cold was saw from over bread market stone wind door".split()  # noqa: SIM905
RIVERS = ("river", "bank", "water")


def documents(n: int = 300, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    some = [*WORDS, *RIVERS, "river"]
    return [" ".join(chance.choices(some, k=chance.randint(30, 60))) for _ in range(n)]


def word(tokens: list[str]) -> list[float]:
    return [2.0 * (t.strip().lower() == "river") for t in tokens]


def behind_old(tokens: list[str]) -> list[float]:
    """On the word "river" where "old" stands two words before it."""
    bare = [t.strip().lower() for t in tokens]
    return [3.0 * (t == "river" and i >= 2 and bare[i - 2] == "old") for i, t in enumerate(bare)]


def any_water(tokens: list[str]) -> list[float]:
    """On a river, a bank or water behind a cold or a long something."""
    bare = [t.strip() for t in tokens]
    return [
        1.0 * (t in RIVERS and i >= 1 and bare[i - 1] in ("cold", "long"))
        for i, t in enumerate(bare)
    ]


def nothing(tokens: list[str]) -> list[float]:
    return [0.0] * len(tokens)


PLANTED: dict[str, Function] = {
    "word": word,
    "behind": behind_old,
    "water": any_water,
    "nothing": nothing,
}


@pytest.fixture(scope="module")
def records() -> dict[str, FeatureRecord]:
    found = collect_planted(PLANTED, texts=documents())
    return dict(zip(PLANTED, found, strict=True))


def explained(records: dict[str, FeatureRecord], name: str) -> Explanation:
    record = records[name]
    explainer = N2GExplainer(live_function(PLANTED[name], record))
    return asyncio.run(explainer.explain(record.feature, record.train))


def test_a_word_is_one_path_of_one_step_with_all_its_spellings(
    records: dict[str, FeatureRecord],
) -> None:
    found = explained(records, "word")
    (path,) = found.paths
    assert {t.strip().lower() for t in path.steps[0]} == {"river"}
    assert {" river", "river", " River"} <= set(path.steps[0])
    assert found.text == 'the tokens "river"'


def test_a_context_is_kept_as_short_as_fires_and_what_does_not_matter_may_be_anything(
    records: dict[str, FeatureRecord],
) -> None:
    found = explained(records, "behind")
    assert {len(path.steps) for path in found.paths} == {3}
    for path in found.paths:
        assert {t.strip().lower() for t in path.steps[0]} == {"old"}
        assert path.steps[1] == ()
        assert {t.strip().lower() for t in path.steps[2]} == {"river"}
    assert found.text == 'the tokens "river" after "old" ...'


def test_words_of_like_contexts_are_let_in_and_others_are_not(
    records: dict[str, FeatureRecord],
) -> None:
    found = explained(records, "water")
    firsts = {t.strip() for path in found.paths for t in path.steps[0]}
    lasts = {t.strip() for path in found.paths for t in path.steps[-1]}
    assert firsts == {"cold", "long"}
    assert lasts == set(RIVERS)


@pytest.mark.parametrize("name", ["word", "behind", "water"])
def test_the_paths_predict_the_feature_on_held_out_text(
    records: dict[str, FeatureRecord], name: str
) -> None:
    record = records[name]
    scorer = SimulationScorer(SymbolicSimulator(), Wrong("shuffled", ()))
    score = asyncio.run(scorer.score(explained(records, name), record.test, record.dev))
    assert score.value is not None
    assert score.value > 0.97


def test_a_feature_that_never_fires_or_not_alone_is_an_abstention(
    records: dict[str, FeatureRecord],
) -> None:
    assert "nothing fires" in explained(records, "nothing").abstained
    record = records["word"]
    deaf = N2GExplainer(live_function(nothing, record))
    found = asyncio.run(deaf.explain(record.feature, record.train))
    assert "read alone" in found.abstained


def test_the_longest_path_counts_and_sees_nothing_behind_its_token() -> None:
    paths = (
        NgramPath((("b",),), 1.0),
        NgramPath((("a",), (), ("b",)), 5.0),
        NgramPath((("c",), ("b",)), -2.0),
    )
    assert by_paths(paths, ["b", "x", "b", "c", "b"]) == (1, 0, 1, 0, -2)
    assert by_paths(paths, ["a", "x", "b", "a", "c", "b"]) == (0, 0, 5, 0, 0, 5)


def test_paths_go_to_json_and_back_and_have_to_name_their_ends() -> None:
    path = NgramPath((("a", " a"), (), ("b",)), 0.5)
    explanation = Explanation(FeatureId("m", "s", 0), "text", "n2g", paths=(path,))
    assert Explanation.from_json(explanation.to_json()) == explanation
    assert explanation.runs
    for steps in ((), ((),), (("a",), ())):
        with pytest.raises(ValueError, match="begins and ends"):
            NgramPath(steps, 1.0)
    with pytest.raises(ValueError, match="finite"):
        NgramPath((("a",),), float("nan"))


def test_paths_that_share_a_token_in_their_one_difference_are_one() -> None:
    a = NgramPath((("x", "y"), ("b",)), 1.0)
    b = NgramPath((("y", "z"), ("b",)), 2.0)
    c = NgramPath((("q",), ("b",)), 3.0)
    assert merged([a, c, b, a]) == [NgramPath((("x", "y", "z"), ("b",)), 2.0), c]


def test_what_a_path_predicts_is_the_mean_by_the_windows_that_it_stands_for() -> None:
    loud = Example((" a", " b"), (0.0, 4.0), "d", 0, TOP, 1.0)
    quiet = Example((" a", " b"), (0.0, 0.0), "e", 0, SILENT, 99.0)
    train = Split(Pool.TRAIN, 0.0, (loud,), (quiet,))
    (found,) = weighed([NgramPath(((" b",),), 9.0)], train)
    middle = 4 / 200
    assert found.activation == pytest.approx((4 + middle) / 101)


@given(st.text(max_size=6))
def test_no_spelling_is_the_token_itself(token: str) -> None:
    assert token not in spellings(token)


def test_a_phrase_says_what_stands_before() -> None:
    path = NgramPath(((" old", "old", " Old"), (), (" river",)), 1.0)
    assert said([path, path]) == 'the tokens "river" after "old" ...'
