"""The bench on features that act: who is right about the output, and who at equal budget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from glossator.bench.causal import Judged, effect_said, judged, trigger_said
from glossator.bench.causal_tables import CausalRow, paired_causal, paired_recovery
from glossator.bench.competent import Competent
from glossator.bench.config import TruthConfig, benched
from glossator.bench.equal import MOST_DRAFTS, calls_of, explain_within
from glossator.bench.ranking import Reader
from glossator.bench.recovery import Recovered
from glossator.bench.tables import TruthReport
from glossator.bench.truth import bench_truth
from glossator.blank import BlankEmbedder
from glossator.config import RunLimits
from glossator.datasets.corpora import Corpus
from glossator.datasets.truth import LIBRARY
from glossator.datasets.truth_causal import (
    ALIKE,
    BOTH,
    CAUSAL,
    FALLING,
    NO_RULE,
    OUTPUT_ONLY,
    CausalGround,
    plant_causal,
)
from glossator.datasets.truth_effects import NONE, Astray, Causal
from glossator.datasets.truth_rules import Words
from glossator.datasets.truth_text import made_up
from glossator.errors import ConfigError
from glossator.experiments.of_planted import live_planted
from glossator.types import Explanation, FeatureId, Score, Usage

FEATURE = FeatureId("planted", "causal", 0)


@pytest.fixture(scope="module")
def ground() -> CausalGround:
    return plant_causal(CAUSAL, Corpus.of(made_up(LIBRARY, 300)), tokens=None)


@pytest.fixture(scope="module")
def model(ground: CausalGround) -> Competent:
    return Competent.of(ground)


def saying(trigger: str, effect: str, calls: int = 0) -> Explanation:
    text = trigger or effect or "x"
    usage = Usage(calls=calls)
    return Explanation(FEATURE, text, "agent", trigger=trigger, output_effect=effect, usage=usage)


ABSTAINED = Explanation(FEATURE, "", "agent", abstained="undecided: nothing holds")


def held_against(
    ground: CausalGround, model: Competent, feature: Causal, explanation: Explanation
) -> Judged:
    documents: Sequence[Sequence[str]] = list(ground.ground.documents.values())[:60]
    work = judged(feature, "agent", explanation, model, model.rule_of, documents)
    return asyncio.run(work)


# -- one explanation -------------------------------------------------------------------------------


def test_the_truth_is_right_and_what_is_wrong_is_wrong(
    ground: CausalGround, model: Competent
) -> None:
    for feature in CAUSAL[::2]:
        if not feature.describable:
            continue
        true = held_against(ground, model, feature, saying(*feature.said))
        assert (true.output, true.trigger, true.identified) == (True, True, True), feature.name
        for wrong in feature.wrong:
            found = held_against(ground, model, feature, saying(wrong.trigger, wrong.effect))
            assert not found.identified, (feature.name, wrong)
            if wrong.astray in (Astray.WRONG_EFFECT, Astray.REVERSED, Astray.NOT_THERE):
                assert not found.output, (feature.name, wrong)
            if wrong.astray is Astray.WRONG_TRIGGER:
                assert found.output, (feature.name, wrong)


def test_nothing_said_is_right_of_what_has_no_rule_and_of_nothing_else(
    ground: CausalGround, model: Competent
) -> None:
    for feature in CAUSAL:
        found = held_against(ground, model, feature, ABSTAINED)
        assert found.identified is (feature.group == NO_RULE)
        assert not found.output
        if feature.group == NO_RULE:
            told = held_against(ground, model, feature, saying(LIBRARY[0].name, NONE))
            assert told.identified is False


def test_an_explanation_of_text_alone_says_that_there_is_no_effect(
    ground: CausalGround, model: Competent
) -> None:
    plain = Explanation(FEATURE, LIBRARY[0].name, "max-act")
    assert (trigger_said(plain), effect_said(plain)) == (LIBRARY[0].name, "")
    assert effect_said(saying("x", "None.")) == ""
    acting, inert = (f for f in CAUSAL if f.group == ALIKE and "months" in f.name)
    assert held_against(ground, model, inert, saying(acting.said[0], "")).identified
    assert not held_against(ground, model, acting, saying(acting.said[0], "")).output


def test_a_pattern_is_run_in_place_of_its_words(ground: CausalGround, model: Competent) -> None:
    inert = next(f for f in CAUSAL if f.group == ALIKE and f.effect is None and "months" in f.name)
    months = next(f for f in LIBRARY if f.name == inert.said[0]).true.rule
    assert isinstance(months, Words)
    cases = [
        (f"{space}{case}", 1.0)
        for word in months.words
        for space in ("", " ")
        for case in (word, word.lower())
    ]
    pattern = replace(saying("the tokens", ""), words=tuple(cases))
    assert held_against(ground, model, inert, pattern).trigger
    assert not held_against(ground, model, inert, replace(pattern, words=tuple(cases[:4]))).trigger


# -- rows ------------------------------------------------------------------------------------------


def of_group(group: str) -> list[Causal]:
    return [feature for feature in CAUSAL if feature.group == group]


def test_rows_count_what_they_say() -> None:
    acting, inert = of_group(BOTH)[0], next(f for f in of_group(ALIKE) if f.effect is None)
    scattered = of_group(NO_RULE)[0]
    told = saying("x", "y", calls=4)
    found = [
        Judged(acting, "agent", told, acts=True, words=1.0, trigger=True),
        Judged(acting, "agent", told, acts=True, words=0.5, trigger=True),
        Judged(acting, "agent", ABSTAINED),
        Judged(acting, "agent", None, failure="no reply"),
        Judged(inert, "agent", saying("x", NONE), trigger=False),
        Judged(scattered, "agent", ABSTAINED),
        Judged(scattered, "agent", told, acts=True, trigger=False),
    ]
    row = CausalRow.of("agent", found)
    assert (row.features, row.failed, row.undecided) == (7, 1, 2)
    shares = (row.output, row.acts, row.words, row.spared, row.identified, row.left_open)
    assert [m.value for m in shares] == pytest.approx([2 / 5, 2 / 4, 1 / 4, 1, 1 / 5, 1 / 2])
    assert row.groups[BOTH].value == 1 / 4
    assert row.calls == pytest.approx(12 / 7)


def test_the_agent_is_held_against_others_feature_by_feature() -> None:
    features = of_group(BOTH)[:4]
    right = [True, True, True, False]

    def told(name: str, good: bool, feature: Causal, calls: int) -> Judged:
        return Judged(feature, name, saying("x", "y", calls), good, float(good), good)

    mine = [told("agent", good, f, 9) for good, f in zip(right, features, strict=True)]
    other = [told("max-act", False, f, 8) for f in features]
    rows = {row.what: row for row in paired_causal(mine, other)}
    assert set(rows) == {"output part right", "all of it right"}
    row = rows["output part right"]
    assert (row.other, row.n, row.agent.value, row.value.value) == ("max-act", 4, 0.75, 0.0)
    assert row.difference.value == 0.75
    assert row.difference.low is not None
    assert row.calls == (9, 8)
    assert paired_causal([], other) == []


def test_an_abstention_is_scored_as_chance_where_scores_are_paired() -> None:
    reader = Reader("detection")

    def recovered(name: str, value: float | None) -> Recovered:
        score = Score(FEATURE, name, "detection", value=value, metric="AP", note="as it is")
        scores = () if value is None else ((reader, score),)
        return Recovered(LIBRARY[0], name, saying("x", "", 5), scores)

    (row,) = paired_recovery([recovered("agent", None)], [recovered("n2g", 0.5)], reader)
    assert (row.agent.value, row.value.value, row.difference.value) == (0.0, 0.5, -0.5)


# -- equal budget ----------------------------------------------------------------------------------


def test_others_make_as_many_drafts_as_the_calls_pay_for(
    ground: CausalGround, model: Competent
) -> None:
    feature, record = next(pair for pair in ground.pairs() if pair[0].group == BOTH)
    live = live_planted(feature, ground.words, record)
    config = benched("oracle", quick=True, explainers=["max-act", "n2g"]).run

    def within(name: str, calls: int) -> Explanation:
        work = explain_within(config, record, name, model, live, BlankEmbedder(), calls)
        return asyncio.run(work)

    one = within("max-act", 1)
    each = calls_of(one.usage)
    three = within("max-act", 3 * each + 1)
    assert one.explainer == three.explainer == "max-act"
    assert each < calls_of(three.usage) <= 3 * each + 1
    assert calls_of(within("max-act", 100 * each).usage) <= MOST_DRAFTS * each
    assert calls_of(within("n2g", 100).usage) == 0


# -- the whole bench -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report() -> TruthReport:
    config = TruthConfig(
        readers=(Reader("detection"),),
        explainers=("both", "max-act", "output"),
        n_features=4,
        n_causal=15,
        corpus="made-up",
        embeds=False,
        n_scored=12,
        n_unrelated=2,
    )
    return asyncio.run(bench_truth(config, RunLimits(offline=True)))


def test_those_that_look_at_the_output_find_it_and_are_taken_in_by_its_direction(
    report: TruthReport,
) -> None:
    rows = {row.explainer: row for row in report.causal}
    assert set(rows) == {"both", "max-act", "output"}
    assert {row.explainer for row in report.explainers} == {"max-act"}
    assert rows["max-act"].words.value == 0
    assert rows["max-act"].spared.value == 1
    for name in ("both", "output"):
        assert rows[name].words.value == 1
        assert rows[name].spared.value == 0
    assert rows["output"].groups[OUTPUT_ONLY].value == 1
    assert rows["output"].left_open.value == 1
    assert rows["both"].left_open.value == 0
    assert set(rows["both"].groups) == {OUTPUT_ONLY, BOTH, ALIKE, FALLING, NO_RULE}


def test_the_tables_hold_all_rows(report: TruthReport) -> None:
    titles = [table.title for table in report.tables()]
    assert any("what they say of the output" in title for title in titles)
    for table in report.tables():
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert not report.paired
    assert len(report.to_json()["causal"]) == 3  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="that act on the output"):
        TruthConfig(n_causal=len(CAUSAL) + 1)
