"""The scripted competent model: it plays all roles of an agent, and is told nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from glossator.agent import prompts
from glossator.agent.lab import Lab, Seen
from glossator.agent.observing import excerpts_of, known_effects
from glossator.bench.competent import Competent
from glossator.blank import BlankEmbedder
from glossator.datasets.corpora import Corpus
from glossator.datasets.planted import word_pieces
from glossator.datasets.truth import LIBRARY, page_of
from glossator.datasets.truth_causal import (
    ALIKE,
    BOTH,
    CAUSAL,
    FALLING,
    NO_RULE,
    OUTPUT_ONLY,
    CausalGround,
    effects,
    plant_causal,
)
from glossator.datasets.truth_effects import FEWER, NONE, Causal
from glossator.datasets.truth_text import made_up
from glossator.evidence import Effect, Evidence, Experiment, Finding, Hypothesis, Part
from glossator.experiments.of_planted import live_planted
from glossator.explainers.both import BothExplainer
from glossator.explainers.output import OutputExplainer
from glossator.llm import Request
from glossator.scorers.judge import AskingJudge, Verdict, Window
from glossator.types import Explanation, FeatureId, FeatureRecord

DIGITS = "numbers written in digits"
TWO_DIGITS = "numbers of exactly two digits"
ANIMALS = "names of animals, such as horse and bird"
FOOD = "what people eat and drink, such as cheese and milk"
FEATURE = FeatureId("planted", "causal", 0)


@pytest.fixture(scope="module")
def ground() -> CausalGround:
    return plant_causal(CAUSAL, Corpus.of(made_up(LIBRARY, 300)), tokens=None)


@pytest.fixture(scope="module")
def model(ground: CausalGround) -> Competent:
    return Competent.of(ground)


def lab_of(ground: CausalGround, feature: Causal, record: FeatureRecord) -> Lab:
    async def nothing(_: Explanation) -> object:
        raise AssertionError("nobody asks for a score here")

    live = live_planted(feature, ground.words, record)
    return Lab(Seen.of(record), live, BlankEmbedder(), word_pieces, nothing)  # type: ignore[arg-type]


def proposed(model: Competent, lab: Lab, n: int = 4) -> list[tuple[str, str]]:
    firing, silent = excerpts_of(lab, 10)
    listed = asyncio.run(known_effects(lab))
    request = prompts.propose(n, firing, silent, listed, [])
    return prompts.read_hypotheses(asyncio.run(model.reply(request)))


def fires(model: Competent, about: str, text: str) -> bool:
    rule = model.rule_of(about)
    return rule is not None and any(v > 0 for v in rule.values(page_of(tuple(word_pieces(text)))))


def yes(model: Competent, about: str, texts: Sequence[str]) -> list[bool]:
    explanation = Explanation(FEATURE, about, "test")
    windows = [Window((text,)) for text in texts]
    found = asyncio.run(AskingJudge(model).judge(explanation, windows))
    return [isinstance(verdict, Verdict) and verdict.value > 0.5 for verdict in found]


def test_the_truth_is_among_what_it_proposes_and_not_always_first(
    ground: CausalGround, model: Competent
) -> None:
    places = []
    for feature, record in ground.pairs():
        ideas = proposed(model, lab_of(ground, feature, record))
        assert len(ideas) == len(set(ideas)) == 4
        if feature.group in (OUTPUT_ONLY, BOTH, ALIKE):
            assert feature.said in ideas, (feature.name, ideas)
            places.append(ideas.index(feature.said))
        if feature.group == NO_RULE:
            assert all(trigger for trigger, _ in ideas)
    assert set(places) == {0, 1, 2, 3}


def test_of_two_that_look_alike_it_says_the_same(ground: CausalGround, model: Competent) -> None:
    """It cannot know that what the output direction shows is undone later."""
    by_name = {feature.name: (feature, record) for feature, record in ground.pairs()}
    for feature, record in ground.pairs():
        if feature.seems is not None:
            mine = proposed(model, lab_of(ground, feature, record))
            twins = proposed(model, lab_of(ground, *by_name[feature.twin]))
            assert {(feature.said[0], feature.seems.said), feature.said} <= set(mine) & set(twins)


def test_it_proposes_others_than_those_that_are_known(
    ground: CausalGround, model: Competent
) -> None:
    feature, record = next(p for p in ground.pairs() if p[0].group == BOTH)
    lab = lab_of(ground, feature, record)
    firing, silent = excerpts_of(lab, 10)
    known = Hypothesis("H1", "known", *feature.said)
    request = prompts.propose(3, firing, silent, asyncio.run(known_effects(lab)), [], [known])
    assert feature.said not in prompts.read_hypotheses(asyncio.run(model.reply(request)))


def test_contrast_texts_tell_two_descriptions_apart(model: Competent) -> None:
    pairs = [(DIGITS, TWO_DIGITS), (DIGITS, "words that end in -ing"), ('the tokens "cat"', DIGITS)]
    for one, other in pairs:
        first, second = Hypothesis("H1", one, one), Hypothesis("H2", other, other, FOOD)
        request = prompts.contrast(first, second, 8, ["E1 run_texts: 3 of 8 yes"])
        texts = prompts.read_texts(asyncio.run(model.reply(request)))
        told = [(fires(model, one, text), fires(model, other, text)) for text in texts]
        assert len(texts) == 8
        assert told.count((True, False)) >= 3
        assert (False, False) in told


def test_it_names_words_of_each_effect_and_some_of_none(model: Competent) -> None:
    hypotheses = [Hypothesis(f"H{i}", e, "", e) for i, e in enumerate((ANIMALS, NONE, FOOD), 1)]
    request = prompts.effect_words(hypotheses, 8)
    words = prompts.read_words(asyncio.run(model.reply(request)))
    assert len(words) == 8
    covered = [sum(yes(model, effect, words)) for effect in (ANIMALS, FOOD)]
    assert covered == [3, 3]


def test_it_judges_words_by_effects_and_texts_by_triggers(model: Competent) -> None:
    assert yes(model, ANIMALS, ["horse", " Bird", "milk"]) == [True, True, False]
    assert yes(model, FEWER + ANIMALS, ["horse", "milk"]) == [False, True]
    both = f"{DIGITS}; promotes {ANIMALS}"
    assert yes(model, both, ["They saw 12 men", "a horse stood there"]) == [True, False]
    assert yes(model, DIGITS, ["They saw 12 men", "a horse stood there"]) == [True, False]
    assert model.legible(both)
    assert model.legible(ANIMALS)
    assert not model.legible("names of rivers; promotes names of rivers")


def test_a_sceptic_writes_what_fits_and_what_nearly_fits(model: Competent) -> None:
    leader = Hypothesis("H1", TWO_DIGITS, TWO_DIGITS)
    request = prompts.sceptic(leader, ["E1 run_texts: 5 of 8 yes"], 8)
    texts, better = prompts.read_doubts(asyncio.run(model.reply(request)))
    mine = [fires(model, TWO_DIGITS, text) for text in texts]
    near = [fires(model, DIGITS, text) for text in texts]
    assert sum(mine) >= 3
    assert sum(n and not m for n, m in zip(near, mine, strict=True)) >= 1
    assert not better


def test_a_sceptic_gives_what_fits_the_marks_better(model: Competent) -> None:
    leader = Hypothesis("H1", TWO_DIGITS, TWO_DIGITS)
    found = ["0.9 of peak: they saw <<7>> men", "0.9 of peak: some <<12>> or <<350>> of them"]
    _, better = prompts.read_doubts(asyncio.run(model.reply(prompts.sceptic(leader, found, 8))))
    assert better
    assert fires(model, better[0][0], "there were 350")


def test_claims_cite_experiments_that_did_not_fail(model: Competent) -> None:
    def evidence(name: str, tool: str, failure: str = "") -> Evidence:
        experiment = Experiment(name, tool, {})
        finding = None if failure else Finding("x", effects=(Effect("gain (nats)", 1.0, 0.5, 1.5),))
        return Evidence(experiment, finding, failure)

    leader = Hypothesis("H1", "x", DIGITS, ANIMALS)
    ran = [evidence("E1", "run_texts"), evidence("E2", "steer"), evidence("E3", "steer", "no")]
    claims = prompts.read_claims(asyncio.run(model.reply(prompts.conclude(leader, ran))))
    assert [(part, ids) for part, _, ids in claims] == [
        (Part.TRIGGER, ("E1",)),
        (Part.OUTPUT, ("E2",)),
    ]
    assert DIGITS in claims[0][1]
    assert ANIMALS in claims[1][1]


def test_explainers_of_the_output_get_what_is_listed(
    ground: CausalGround, model: Competent
) -> None:
    for feature, record in ground.pairs():
        if feature.group in (NO_RULE, FALLING) or feature.seems is not None:
            continue
        live = live_planted(feature, ground.words, record)
        said = asyncio.run(OutputExplainer(model, live).explain(record.feature, record.train))
        wanted = "" if feature.effect is None else feature.effect.said
        assert said.output_effect == wanted, feature.name
        if feature.trigger is not None:
            both = asyncio.run(BothExplainer(model, live).explain(record.feature, record.train))
            assert both.output_effect == wanted, feature.name
            assert model.rule_of(both.trigger) is not None


def test_the_same_prompt_gets_the_same_reply_and_another_seed_another(model: Competent) -> None:
    first, second = (
        Hypothesis("H1", DIGITS, DIGITS),
        Hypothesis("H2", "ing", "words that end in -ly"),
    )
    request: Request = prompts.contrast(first, second, 6, [])
    one, same = (asyncio.run(model.reply(request)).text for _ in range(2))
    other = asyncio.run(replace(model, seed=1).reply(request)).text
    assert one == same != other
    assert set(effects()) == set(model.outputs)
