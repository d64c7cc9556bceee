"""Planted features that act on the output: what is known of them, and experiments with them."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from glossator.datasets.corpora import Corpus
from glossator.datasets.next_words import MEAN_PAIRS, NextWords
from glossator.datasets.truth import LIBRARY, PEAK, claims
from glossator.datasets.truth_causal import (
    ALIKE,
    BOTH,
    CAUSAL,
    EFFECTS,
    FALLING,
    NO_RULE,
    OUTPUT_ONLY,
    CausalGround,
    effects,
    opposite,
    plant_causal,
)
from glossator.datasets.truth_effects import NONE, Astray, Causal, Effect, Scattered
from glossator.datasets.truth_rules import Page
from glossator.datasets.truth_text import made_up
from glossator.errors import Unsupported
from glossator.experiments.of_function import FunctionLive
from glossator.experiments.of_planted import PlantedLive, live_planted
from glossator.live import NEUTRAL, NextToken

COUNTED = NextWords.of([("A", " red", " cat", " red", " dog")], [" ox", " emu"])


@pytest.fixture(scope="module")
def ground() -> CausalGround:
    return plant_causal(CAUSAL, Corpus.of(made_up(LIBRARY, 300)), tokens=None)


def changed(live: PlantedLive, text: str, clamp: float, n: int = 10) -> NextToken:
    (found,) = asyncio.run(live.next_tokens([text], clamp, n))
    return found


# -- the library ----------------------------------------------------------------------------------


def test_there_are_enough_of_each_group() -> None:
    n = Counter(feature.group for feature in CAUSAL)
    assert n[OUTPUT_ONLY] >= 6
    assert n[BOTH] >= 6
    assert n[ALIKE] >= 8
    assert n[NO_RULE] >= 10
    assert len({feature.name for feature in CAUSAL}) == len(CAUSAL)
    for feature in CAUSAL:
        assert feature.describable is (feature.group != NO_RULE)
        assert (feature.trigger is None) is (feature.group in (OUTPUT_ONLY, NO_RULE))


def test_of_two_that_fire_alike_one_acts() -> None:
    by_name = {feature.name: feature for feature in CAUSAL}
    for feature in CAUSAL:
        if feature.group == ALIKE:
            twin = by_name[feature.twin]
            assert twin.twin == feature.name
            assert twin.rule == feature.rule
            assert (twin.effect is None) is not (feature.effect is None)
            assert twin.said[0] == feature.said[0]
            assert NONE in (twin.said[1], feature.said[1])
    seeming = [f for f in CAUSAL if f.seems is not None]
    assert len(seeming) >= 2
    assert all(f.effect is None and by_name[f.twin].effect == f.seems for f in seeming)


def test_what_is_wrong_of_a_feature_is_another_thing_than_what_is_true() -> None:
    known, outputs = claims(LIBRARY), effects()
    for feature in CAUSAL:
        told = {(s.trigger, s.effect) for s in feature.wrong}
        assert feature.said not in told, feature.name
        assert len(told) == len(feature.wrong) >= 3, feature.name
        for trigger, effect in (*told, *([feature.said] if feature.describable else [])):
            assert trigger in ("", *known)
            assert effect in (NONE, *outputs)
    by_kind = {kind for feature in CAUSAL for kind in {s.astray for s in feature.wrong}}
    assert by_kind == set(Astray)


def test_effects_share_no_word_and_are_no_triggers() -> None:
    words = [word for effect in EFFECTS for word in effect.words]
    assert len(words) == len(set(words))
    assert not {effect.text for effect in EFFECTS} & set(claims(LIBRARY))
    for said in effects():
        assert opposite(opposite(said)) == said != opposite(said)
        assert not any(text in said for text in claims(LIBRARY))


def test_scattered_features_fire_at_their_share_of_tokens_and_know_nothing_of_what_follows() -> (
    None
):
    tokens = [f" {i % 50}" for i in range(20_000)]
    values = Scattered(7, 0.01).values(Page(tokens))
    assert sum(v > 0 for v in values) == pytest.approx(200, abs=45)
    assert values[:500] == Scattered(7, 0.01).values(Page(tokens[:500]))
    assert values != Scattered(8, 0.01).values(Page(tokens))
    assert all(v == 0 or 0.3 <= v <= 1 for v in values)


def test_no_description_of_the_library_says_where_a_scattered_feature_fires(
    ground: CausalGround,
) -> None:
    pages = [Page(tokens) for tokens in list(ground.ground.documents.values())[:100]]
    scattered = [f for f in CAUSAL if f.trigger is None]
    for feature in scattered[::4]:
        fires = np.array([v for page in pages for v in feature.rule.values(page)])
        for claim in claims(LIBRARY).values():
            guess = np.array([v for page in pages for v in claim.rule.values(page)])
            if guess.std() > 0:
                assert abs(np.corrcoef(fires, guess)[0, 1]) < 0.15, (feature.name, claim.text)


def test_every_feature_fires_often_enough(ground: CausalGround) -> None:
    for feature, record in ground.pairs():
        for split in (record.train, record.dev, record.test):
            assert len(split.firing) >= 5, feature.name
            assert split.silent, feature.name
        assert str(record.feature).startswith("planted//causal/")
    acting, inert = [
        record for feature, record in ground.pairs() if feature.trigger and feature.group == ALIKE
    ][:2]
    assert acting.density == inert.density > 0
    assert acting.train.peak == inert.train.peak == PEAK


# -- what comes next ------------------------------------------------------------------------------


def test_word_pairs_are_counted() -> None:
    assert COUNTED.vocabulary == (" red", " cat", " dog", "A", " ox", " emu")
    assert COUNTED.shares == pytest.approx(np.array([3, 2, 2, 2, 1, 1]) / 11)
    after = np.exp(COUNTED.after("the Red"))
    assert after.sum() == pytest.approx(1)
    assert after[1] == pytest.approx((1 + MEAN_PAIRS * 2 / 11) / (2 + MEAN_PAIRS))
    assert np.exp(COUNTED.after("never seen")) == pytest.approx(COUNTED.shares)
    assert [COUNTED.number_of(w) for w in ("A", "emu", "sun")] == [3, 5, None]
    assert COUNTED.places_of(["ox", "sun"]) == [4, 5]


def silent(effect: Effect | None, strength: float = 2.0, noise: float = 0.01) -> PlantedLive:
    reading = FunctionLive(lambda tokens: [0.0] * len(tokens))
    return PlantedLive(reading, COUNTED, effect, strength=strength, noise=noise)


def test_an_effect_moves_probabilities_by_exactly_what_it_says() -> None:
    live = silent(Effect("beasts", ("ox", "emu")), strength=math.log(2), noise=0.0)
    found = changed(live, "never seen", PEAK)
    weights = np.array([1, 1, 1, 1, 2.0, 2.0**0.7])
    wanted = COUNTED.shares * weights / (COUNTED.shares * weights).sum()
    assert {s.token for s in found.raised} == {" ox", " emu"}
    assert found.raised[0].token == " ox"
    assert math.exp(found.raised[0].after) == pytest.approx(wanted[4])
    assert found.kl == pytest.approx(
        float(np.sum(COUNTED.shares * np.log(COUNTED.shares / wanted)))
    )
    assert {s.token for s in found.lowered} == {" red", " cat", " dog", "A"}


def test_words_fall_where_the_effect_says_so_and_nothing_moves_without_one() -> None:
    fewer = silent(Effect("beasts", ("ox", "emu"), falls=True), noise=0.0)
    assert {s.token for s in changed(fewer, "it", PEAK).lowered} == {" ox", " emu"}
    nothing = silent(None, noise=0.0)
    assert changed(nothing, "it", 4 * PEAK) == NextToken(0.0, (), ())


def test_named_tokens_gain_what_the_effect_says_and_others_like_them_do_not() -> None:
    live = silent(Effect("beasts", ("ox",)), strength=3.0, noise=0.0)
    ox, cat, unknown = asyncio.run(live.shifts(["it", "a"], [" ox", "cat", " sun"], PEAK, 2))
    after = changed(live, "it", PEAK).raised[0]
    assert (ox.token, ox.before[0], ox.after[0]) == (" ox", after.before, after.after)
    rest = math.log(1 - COUNTED.shares[4] + COUNTED.shares[4] * math.exp(3.0))
    assert ox.changes[0] == pytest.approx(3.0 - rest, abs=0.01)
    assert cat.changes[0] == pytest.approx(unknown.changes[0])
    assert len(ox.like) == 2
    assert all(change < 0 for change in (*ox.like, *cat.changes, *cat.like))
    assert asyncio.run(live.shifts([], [" ox"], PEAK)) == ()


def test_of_words_as_rare_as_those_of_an_effect_most_are_others(ground: CausalGround) -> None:
    """Else nothing could be told from what such words do anyhow."""
    feature = next(f for f in CAUSAL if f.group == OUTPUT_ONLY)
    assert feature.effect is not None
    live = live_planted(feature, ground.words)
    named = [f" {word}" for word in feature.effect.words[:3]]
    for shift in asyncio.run(live.shifts(NEUTRAL, named, 4 * PEAK, 50)):
        assert np.mean(shift.changes) > np.quantile(shift.like, 0.95) + 1


def test_before_is_with_the_feature_as_it_is_at_the_last_token() -> None:
    beasts = Effect("beasts", ("ox",))
    fires = PlantedLive(FunctionLive(lambda tokens: [PEAK] * len(tokens)), COUNTED, beasts)
    assert changed(fires, "it", PEAK).kl == 0
    ablated = changed(fires, "it", 0.0)
    assert ablated.lowered[0].token == " ox"
    assert ablated.lowered[0].after == pytest.approx(COUNTED.after("it")[4])


def test_texts_go_on_with_the_words_of_an_effect_that_is_held_high() -> None:
    live = silent(Effect("beasts", ("emu",)), strength=20.0)
    assert asyncio.run(live.continuations(["it", "a"], 2 * PEAK, 3)) == (" emu emu emu",) * 2
    one, same, other = asyncio.run(
        _three(silent(None)),
    )
    assert one == same != other
    with pytest.raises(Unsupported, match="attention"):
        asyncio.run(live.attention(["it"]))


async def _three(live: PlantedLive) -> list[str]:
    return [(await live.continuations(["it"], 0.0, 9, seed))[0] for seed in (1, 1, 2)]


@pytest.mark.parametrize("feature", [f for f in CAUSAL if f.group != FALLING], ids=lambda f: f.name)
def test_what_is_raised_most_is_what_the_description_says(
    feature: Causal, ground: CausalGround
) -> None:
    live = live_planted(feature, ground.words, ground.ground.records[CAUSAL.index(feature)])
    gains: dict[str, float] = defaultdict(float)
    for change in asyncio.run(live.next_tokens(NEUTRAL[:6], 4 * live.peak)):
        for shift in change.raised:
            gains[shift.token.strip()] += math.exp(shift.after) - math.exp(shift.before)
    found = set(sorted(gains, key=lambda token: -gains[token])[:8])
    listed = {token.strip() for token, _ in asyncio.run(live.promoted(10)).promoted}
    for effect in EFFECTS:
        mine = feature.effect is not None and effect.text == feature.effect.text
        assert (len(found & set(effect.words)) >= 6) is mine
        shown = feature.effect or feature.seems
        assert (len(listed & set(effect.words)) >= 8) is (
            shown is not None and effect.text == shown.text
        )
