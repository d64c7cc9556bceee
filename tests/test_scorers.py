"""Scorers on planted features, judged by a model that knows what each description means."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.datasets.planted import collect_planted, word_pieces
from glossator.errors import BudgetSpent, ConfigError, ProviderError, Refused
from glossator.llm import LLM, Can, Reply, Request, ScriptedLLM
from glossator.scorers.build import Settings, build_scorer, simulator_for
from glossator.scorers.compare import paired_difference
from glossator.scorers.contrast import ContrastSimulator
from glossator.scorers.detection import DetectionScorer, best_threshold
from glossator.scorers.judge import AskingJudge
from glossator.scorers.nulls import DECOYS, Wrong, choose_wrong, lift, null_of, permutation_p
from glossator.scorers.reply import ReplySimulator
from glossator.scorers.sample import draw, working
from glossator.scorers.simulation import SimulationScorer
from glossator.types import (
    SILENT,
    TOP,
    Example,
    Explanation,
    FeatureId,
    FeatureRecord,
    Pool,
    Prediction,
    Score,
    Split,
    Usage,
)

PLAIN = (  # noqa: SIM905
    "the a of and in to was with from over under across near stone bread market bridge door wind "
    "cloud walk carry open close turn find lose keep give take make leave stay call hear see "
    "slowly often never always again perhaps small large old young cold warm heavy light far"
).split()
NAMES = ("Anna", "Paris", "Monday", "Oslo", "Maria", "London", "Peter", "Norway", "Kenya", "Rome")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange")
PEAK = 3.14159
"""What planted features give where they fire; no prompt may hold it."""


def some_documents(n: int = 420, seed: int = 0) -> list[str]:
    """Texts of 40 to 90 words in no order, in which none of the features depends on another."""
    rng = random.Random(seed)

    def word() -> str:
        kind = rng.random()
        if kind < 0.03:
            return rng.choice(NAMES)
        if kind < 0.055:
            return str(rng.randint(2, 9999))
        if kind < 0.075:
            return "river"
        if kind < 0.105:
            return rng.choice(COLOURS)
        return rng.choice(PLAIN)

    return [" ".join(word() for _ in range(rng.randint(40, 90))) for _ in range(n)]


DOCUMENTS = some_documents()
N_LOOKED_UP = 8
BEGINNINGS = {tuple(d.split()[:N_LOOKED_UP]) for d in DOCUMENTS}

Meaning = Callable[[Sequence[str]], list[float]]
"""From stripped tokens to 1 where the feature fires."""

MEANINGS: dict[str, Meaning] = {
    "words that begin with a capital letter": lambda ts: [float(t[:1].isupper()) for t in ts],
    "numbers in digits": lambda ts: [float(t.isdigit()) for t in ts],
    'the word "river"': lambda ts: [float(t == "river") for t in ts],
    "names of colours": lambda ts: [float(t in COLOURS) for t in ts],
    "the first word of a text": lambda ts: [
        float(tuple(ts[:N_LOOKED_UP]) in BEGINNINGS),
        *[0.0] * (len(ts) - 1),
    ],
}


def meaning_of(description: str) -> Meaning:
    """What is meant; a description of nothing here means some arbitrary words."""
    if description in MEANINGS:
        return MEANINGS[description]
    return lambda ts: [float(zlib.crc32(f"{description}{t}".encode()) % 20 == 0) for t in ts]


@pytest.fixture(scope="module")
def records() -> dict[str, FeatureRecord]:
    def planted(meaning: Meaning) -> Callable[[list[str]], list[float]]:
        return lambda tokens: [PEAK * v for v in meaning([t.strip() for t in tokens])]

    found = collect_planted({n: planted(m) for n, m in MEANINGS.items()}, texts=DOCUMENTS)
    return dict(zip(MEANINGS, found, strict=True))


# -- models that know -------------------------------------------------------------------------

Twist = Callable[[list[float]], list[float]]


def asked_tokens(request: Request) -> tuple[str, list[str]]:
    """Description and tokens of a simulator's request."""
    content = request.messages[-1].content
    description = content.split("\n")[0].removeprefix("Description: ")
    if request.slots:
        return description, [s.strip() for s in request.slots]
    numbered = content.split("Tokens:\n")[1].splitlines()
    return description, [line.partition(": ")[2] for line in numbered]


def asked_window(request: Request) -> tuple[str, str]:
    """Description and text of a judge's request."""
    found = re.fullmatch(r'Text: "(.*)"\nDoes it contain (.*)\?', request.messages[-1].content)
    assert found is not None
    return found[2], found[1]


def replying(twist: Twist = list) -> ScriptedLLM:
    def rule(request: Request) -> str:
        description, tokens = asked_tokens(request)
        values = twist(meaning_of(description)(tokens))
        return json.dumps({str(i): round(10 * v) for i, v in enumerate(values, 1)})

    return ScriptedLLM(rule)


def reading_slots(twist: Twist = list) -> ScriptedLLM:
    def rule(request: Request) -> Reply:
        description, tokens = asked_tokens(request)
        values = twist(meaning_of(description)(tokens))
        least = math.log(0.01)
        rows = [
            tuple(math.log(0.9) if i == round(10 * v) else least for i in range(11)) for v in values
        ]
        return Reply(slots=tuple(rows))

    return ScriptedLLM(rule, can=frozenset({Can.PROMPT_LOGPROBS}))


def fires(request: Request, twist: Twist = list) -> float:
    description, text = asked_window(request)
    tokens = [t.strip() for t in word_pieces(text)]
    return twist([max(meaning_of(description)(tokens))])[0]


def telling_odds(twist: Twist = list) -> ScriptedLLM:
    def rule(request: Request) -> Reply:
        yes = 0.1 + 0.8 * fires(request, twist)
        return Reply(answers=(math.log(yes), math.log(1 - yes)))

    return ScriptedLLM(rule, can=frozenset({Can.ANSWERS}))


def voting(twist: Twist = list) -> ScriptedLLM:
    def rule(request: Request) -> str:
        yes = fires(request, twist) > 0.5
        return "yes" if yes != (request.sample == 2) else "no"  # one vote in five is wrong

    return ScriptedLLM(rule)


@dataclass(frozen=True)
class Way:
    scorer: str
    simulator: str
    llm: Callable[[Twist], ScriptedLLM]


WAYS = {
    "reply": Way("simulation", "reply", replying),
    "logprob": Way("simulation", "logprob", reading_slots),
    "odds": Way("detection", "auto", telling_odds),
    "votes": Way("detection", "auto", voting),
}
ways = pytest.mark.parametrize("way", WAYS)


def said(record: FeatureRecord, text: str) -> Explanation:
    return Explanation(record.feature, text, "max-act")


def others(records: dict[str, FeatureRecord]) -> list[Explanation]:
    """The run's explanations: each feature's true one, and three that mean nothing here."""
    features = [r.feature for r in records.values()]
    texts = [*MEANINGS, "zebras", "violins", "verbs of motion"]
    sites = [*features, *(replace(features[0], index=i) for i in (90, 91, 92))]
    return [Explanation(f, t, "max-act") for f, t in zip(sites, texts, strict=True)]


def scored(
    records: dict[str, FeatureRecord],
    name: str,
    way: str,
    *,
    text: str | None = None,
    llm: LLM | None = None,
    seed: int = 0,
    n_scored: int = 40,
    record: FeatureRecord | None = None,
) -> Score:
    record = record or records[name]
    explanation = said(record, text or name)
    scorer = build_scorer(
        WAYS[way].scorer,
        explanation,
        choose_wrong(explanation, others(records), 5, seed),
        simulator=WAYS[way].simulator,
        llm=llm or WAYS[way].llm(list),
        settings=Settings(n_scored=n_scored, seed=seed, per_call=1),
    )
    return asyncio.run(scorer.score(explanation, record.test, record.dev))


def number(value: float | None) -> float:
    assert value is not None
    return value


# -- right, unrelated, inverted, constant -----------------------------------------------------


@ways
def test_a_true_description_scores_high_and_far_from_its_null(
    records: dict[str, FeatureRecord], way: str
) -> None:
    for name in MEANINGS:
        score = scored(records, name, way)
        assert number(score.value) > 0.9, name
        assert number(score.low) > number(score.null), name
        assert number(score.lift) > 0.8, name
        assert score.p == pytest.approx(1 / 6)  # the least that five wrong ones allow
        assert score.n_failed == 0
        assert score.n == len(score.predictions) >= 36


@ways
def test_an_unrelated_description_scores_like_its_null(
    records: dict[str, FeatureRecord], way: str
) -> None:
    names = list(MEANINGS)
    for name, wrong in zip(names, names[2:] + names[:2], strict=True):
        score = scored(records, name, way, text=wrong)
        null = number(score.null)
        assert number(score.value) < null + 0.25, name
        assert number(score.low) <= max(score.nulls[0].values) + 0.01, name
        assert number(score.low) <= null + 0.05, name


@ways
def test_an_inverted_reader_is_not_above_its_null(
    records: dict[str, FeatureRecord], way: str
) -> None:
    def inverted(values: list[float]) -> list[float]:
        return [1 - v for v in values]

    for name in MEANINGS:
        right = scored(records, name, way)
        score = scored(records, name, way, llm=WAYS[way].llm(inverted))
        assert number(score.value) < number(right.null) + 0.02, name
        if WAYS[way].scorer == "simulation":
            assert number(score.value) < -0.9
            # A line fitted on dev does not turn it round.
            assert number(score.measures["R2, line fitted on dev"].value) <= 0
            assert number(score.measures["Spearman"].value) < -0.9
            assert number(right.measures["R2, line fitted on dev"].value) > 0.9


@ways
def test_a_constant_reader_has_no_correlation_and_the_base_rate_as_precision(
    records: dict[str, FeatureRecord], way: str
) -> None:
    for level in (0.0, 1.0):
        llm = WAYS[way].llm(lambda values, v=level: [v] * len(values))  # type: ignore[misc]
        score = scored(records, "numbers in digits", way, llm=llm)
        if WAYS[way].scorer == "simulation":
            assert score.value is None
            assert "same at every token" in score.note
            assert (score.low, score.high, score.p, score.lift) == (None,) * 4
        else:
            assert score.value == pytest.approx(number(score.nulls[1].value))
            assert score.p == 1
            assert number(score.measures["balanced accuracy"].value) == 0.5


# -- what a judge may see ---------------------------------------------------------------------


@ways
def test_no_request_holds_an_activation(records: dict[str, FeatureRecord], way: str) -> None:
    llm = WAYS[way].llm(list)
    scored(records, "names of colours", way, llm=llm)
    assert len(llm.requests) > 100
    for request in llm.requests:
        whole = "\n".join(m.content for m in request.messages) + request.schema + request.prefill
        assert "3.1" not in whole
        assert TOP not in whole.split()
        assert SILENT not in whole.split()


@ways
def test_the_dev_pool_alone_is_asked_for_calibration(
    records: dict[str, FeatureRecord], way: str
) -> None:
    # Scored without dev, the headline is the same; only what is fitted is missing.
    record = records["numbers in digits"]
    explanation = said(record, "numbers in digits")
    wrong = choose_wrong(explanation, others(records), 5, 0)
    llm = WAYS[way].llm(list)
    scorer = build_scorer(
        WAYS[way].scorer,
        explanation,
        wrong,
        simulator=WAYS[way].simulator,
        llm=llm,
        settings=Settings(per_call=1),
    )
    alone = asyncio.run(scorer.score(explanation, record.test))
    fitted = asyncio.run(scorer.score(explanation, record.test, record.dev))
    assert (alone.value, alone.low, alone.high) == (fitted.value, fitted.low, fitted.high)
    assert alone.predictions == fitted.predictions
    assert ("R2, line fitted on dev" in alone.measures) is False
    if WAYS[way].scorer == "detection":
        assert alone.measures["threshold"].value == 0.5
        assert "best on dev" in fitted.note


# -- failures ---------------------------------------------------------------------------------


def failing(way: str, broken: Callable[[Request], bool], refuse: bool = False) -> ScriptedLLM:
    good = WAYS[way].llm(list)

    def rule(request: Request) -> Reply | str:
        if not broken(request):
            assert callable(good.rule)
            return good.rule(request)
        if refuse:
            raise Refused("I cannot help with that", "no")
        return Reply("as an AI", usage=Usage(calls=1))

    return ScriptedLLM(rule, can=good.can)


def asked_first(request: Request) -> Request:
    """`request` without what was said when its reply could not be read."""
    n = sum("cannot be used" in m.content for m in request.messages)
    return replace(request, messages=request.messages[: len(request.messages) - 2 * n])


def silent_request(name: str) -> Callable[[Request], bool]:
    """Whether a request is of a window in which feature `name` is silent."""

    def broken(request: Request) -> bool:
        first = asked_first(request)
        if "Does it contain" in first.messages[-1].content:
            tokens = [t.strip() for t in word_pieces(asked_window(first)[1])]
        else:
            tokens = asked_tokens(first)[1]
        return not any(MEANINGS[name](tokens))

    return broken


@ways
def test_a_judge_that_fails_on_all_silent_windows_gives_no_value(
    records: dict[str, FeatureRecord], way: str
) -> None:
    name = "numbers in digits"
    for refuse in (False, True):
        score = scored(records, name, way, llm=failing(way, silent_request(name), refuse))
        assert score.value is None
        assert "both kinds" in score.note
        n_silent = sum(p.stratum == SILENT for p in score.predictions)
        kind = "refused" if refuse else "parse"
        assert score.n_failed == n_silent == 20
        assert dict(score.failures) == {kind: n_silent}
        assert {p.failure for p in score.predictions if p.stratum == SILENT} == {kind}


@ways
def test_a_judge_that_always_fails_gives_no_value(
    records: dict[str, FeatureRecord], way: str
) -> None:
    score = scored(records, "numbers in digits", way, llm=failing(way, lambda _: True))
    assert score.value is None
    assert score.n == 0
    assert score.n_failed == len(score.predictions)
    assert score.note


@pytest.mark.parametrize("way", ["odds", "votes"])
def test_failures_on_silent_windows_do_not_change_the_base_rate(
    records: dict[str, FeatureRecord], way: str
) -> None:
    name = "names of colours"
    silent = silent_request(name)

    def half(request: Request) -> bool:
        text = asked_window(asked_first(request))[1]
        return silent(request) and zlib.crc32(text.encode()) % 2 == 0

    whole = scored(records, name, way)
    score = scored(records, name, way, llm=failing(way, half))
    assert 3 <= score.n_failed <= 17
    assert score.n + score.n_failed == whole.n
    assert f"{score.n_failed} of {whole.n} examples could not be judged" in score.note
    assert number(score.measures["base rate"].value) == pytest.approx(
        number(whole.measures["base rate"].value)
    )
    assert score.value == pytest.approx(number(whole.value))


def test_a_wrong_explanation_that_could_not_be_judged_is_no_part_of_the_null(
    records: dict[str, FeatureRecord],
) -> None:
    for way in WAYS:
        score = scored(
            records,
            "numbers in digits",
            way,
            llm=failing(way, lambda r: "violins" in str(r.messages)),
        )
        assert len(score.nulls[0].values) == len(score.nulls[0].explanations)
        assert "violins" not in score.nulls[0].explanations
        assert number(score.value) > 0.9
        without = scored(records, "numbers in digits", way)
        kept = dict(zip(without.nulls[0].explanations, without.nulls[0].values, strict=True))
        kept.pop("violins", None)
        assert dict(zip(score.nulls[0].explanations, score.nulls[0].values, strict=True)) == kept


@ways
@pytest.mark.parametrize("error", [ProviderError("down"), BudgetSpent("spent")])
def test_what_is_no_failed_reply_is_raised_as_it_is(
    records: dict[str, FeatureRecord], way: str, error: Exception
) -> None:
    def always(_: Request) -> str:
        raise error

    record = records["numbers in digits"]
    in_dev = {" ".join(e.text.split()) for e in record.dev.examples}
    good = WAYS[way].llm(list)

    def on_dev(request: Request) -> Reply | str:
        assert callable(good.rule)
        if "Does it contain" in request.messages[-1].content:
            text = " ".join(asked_window(request)[1].split())
        else:
            text = " ".join(asked_tokens(request)[1])
        if text in in_dev:
            raise error
        return good.rule(request)

    for rule in (always, on_dev):
        llm = ScriptedLLM(rule, can=good.can)
        with pytest.raises(type(error)) as caught:
            scored(records, "numbers in digits", way, llm=llm)
        assert caught.value is error


# -- what has no value ------------------------------------------------------------------------


@ways
def test_an_abstention_and_a_feature_that_never_or_always_fires_ask_nobody(
    records: dict[str, FeatureRecord], way: str
) -> None:
    record = records["numbers in digits"]
    llm = WAYS[way].llm(list)
    wrong = Wrong("shuffled", ())
    abstained = Explanation(record.feature, "", "max-act", abstained="nothing fires")
    some = said(record, "numbers in digits")
    never, always = replace(record.test, firing=()), replace(record.test, silent=())
    for explanation, split, why in (
        (abstained, record.test, "abstained: nothing fires"),
        (some, never, "never fires in the test pool"),
        (some, always, "fires in every window"),
    ):
        scorer = build_scorer(WAYS[way].scorer, some, wrong, simulator=WAYS[way].simulator, llm=llm)
        score = asyncio.run(scorer.score(explanation, split, record.dev))
        assert score.value is None
        assert why in score.note
    assert not llm.requests


def test_a_pattern_that_is_missing_is_a_reason_and_no_failure(
    records: dict[str, FeatureRecord],
) -> None:
    record = records["numbers in digits"]
    explanation = said(record, "numbers in digits")
    for name in ("simulation", "detection"):
        scorer = build_scorer(name, explanation, Wrong("shuffled", ()), simulator="symbolic")
        score = asyncio.run(scorer.score(explanation, record.test, record.dev))
        assert score.value is None
        assert "no pattern" in score.note
        assert score.n_failed == 0


def test_a_model_that_is_missing_is_named(records: dict[str, FeatureRecord]) -> None:
    explanation = said(records["numbers in digits"], "x")
    with pytest.raises(ConfigError, match="llm"):
        build_scorer("simulation", explanation, Wrong("shuffled", ()), simulator="reply")


# -- pooled, repeatable -----------------------------------------------------------------------


def test_the_correlation_is_over_all_tokens_at_their_weights(
    records: dict[str, FeatureRecord],
) -> None:
    noise = random.Random(1)

    def noisy(values: list[float]) -> list[float]:
        return [v if noise.random() < 0.8 else round(noise.random(), 1) for v in values]

    score = scored(records, "names of colours", "reply", llm=replying(noisy))
    x = np.concatenate([p.actual for p in score.predictions])
    y = np.concatenate([p.predicted for p in score.predictions])
    w = np.concatenate([np.full(len(p.actual), p.weight) for p in score.predictions])
    cov = np.cov(x, y, aweights=w)
    pooled = cov[0, 1] / math.sqrt(cov[0, 0] * cov[1, 1])
    assert score.value == pytest.approx(pooled)
    each = [np.corrcoef(p.actual, p.predicted)[0, 1] for p in score.predictions if any(p.actual)]
    assert abs(float(np.mean(each)) - pooled) > 0.01
    assert score.measures["Pearson, unweighted"].value == pytest.approx(np.corrcoef(x, y)[0, 1])


@ways
def test_equal_seeds_give_equal_scores_and_other_seeds_other_windows(
    records: dict[str, FeatureRecord], way: str
) -> None:
    first, again = (scored(records, "names of colours", way, seed=3) for _ in range(2))
    assert first == again
    other = scored(records, "names of colours", way, seed=4)
    assert {p.example for p in other.predictions} != {p.example for p in first.predictions}


@ways
def test_the_order_of_examples_does_not_change_the_value(
    records: dict[str, FeatureRecord], way: str
) -> None:
    record = records["names of colours"]
    turned = replace(
        record,
        test=replace(record.test, firing=record.test.firing[::-1], silent=record.test.silent[::-1]),
    )
    everything = 500
    a = scored(records, "names of colours", way, text="red things", n_scored=everything)
    b = scored(
        records, "names of colours", way, text="red things", n_scored=everything, record=turned
    )
    assert a.value == pytest.approx(number(b.value))
    assert a.nulls[0].values == pytest.approx(b.nulls[0].values)
    assert {p.example: p for p in a.predictions} == {p.example: p for p in b.predictions}


# -- drawing ----------------------------------------------------------------------------------


@given(st.integers(2, 200), st.integers(0, 99))
def test_drawn_windows_stand_for_the_whole_pool(n: int, seed: int) -> None:
    def window(i: int, peak: float, stratum: str, weight: float) -> Example:
        return Example((" a",), (peak,), f"d{i}", 0, stratum, weight)

    firing = [window(i, 50 - i, TOP, 1.0) for i in range(20)]
    firing += [window(20 + i, 25 - i, f"q{5 - i // 5}", 7.5) for i in range(25)]
    silent = [window(100 + i, 0.0, SILENT, 40.0) for i in range(30)]
    split = Split(pool=Pool.TEST, threshold=0.0, firing=tuple(firing), silent=tuple(silent))
    drawn = draw(split, n, FeatureId("m", "s", 0), seed)
    assert len({e.key for e in drawn}) == len(drawn) <= n + 5
    for stratum, total in [(TOP, 20), (SILENT, 1200), *((f"q{k}", 37.5) for k in range(1, 6))]:
        assert sum(e.weight for e in drawn if e.stratum == stratum) == pytest.approx(total)
    assert drawn == draw(split, n, FeatureId("m", "s", 0), seed)


def test_one_window_is_too_few(records: dict[str, FeatureRecord]) -> None:
    record = records["names of colours"]
    with pytest.raises(ValueError, match="two windows"):
        draw(record.test, 1, record.feature)


def prediction(
    i: int, stratum: str, weight: float, actual: float, predicted: float | None
) -> Prediction:
    return Prediction(
        f"d{i}:0",
        stratum,
        weight,
        f"d{i}",
        (actual,),
        () if predicted is None else (predicted,),
        "probability",
        failure="parse" if predicted is None else "",
    )


def test_those_that_worked_stand_for_those_that_did_not() -> None:
    items = [
        prediction(0, TOP, 1.0, 1, 0.9),
        prediction(1, SILENT, 30.0, 0, None),
        prediction(2, SILENT, 10.0, 0, 0.1),
        prediction(3, "q1", 2.0, 1, None),
    ]
    assert [(p.example, p.weight) for p in working(items)] == [("d0:0", 1.0), ("d2:0", 40.0)]


def test_the_threshold_is_the_best_on_what_it_was_fitted_on() -> None:
    items = [
        prediction(0, TOP, 1.0, 1, 0.40),
        prediction(1, "q1", 5.0, 1, 0.30),
        prediction(2, SILENT, 50.0, 0, 0.20),
        prediction(3, SILENT, 50.0, 0, 0.10),
    ]
    assert best_threshold(items, 0.5) == pytest.approx(0.25)
    assert best_threshold(items, 0.22) == 0.22  # what is as good is left as it is


# -- nulls ------------------------------------------------------------------------------------


def explanation(index: int, text: str, *, site: str = "s", negative: bool = False) -> Explanation:
    return Explanation(FeatureId("m", site, index, negative=negative), text, "max-act")


def test_wrong_explanations_leave_out_the_feature_itself_in_either_tail() -> None:
    own = explanation(1, "mine")
    pool = [
        own,
        explanation(1, "my other tail", negative=True),
        explanation(2, "mine"),
        explanation(3, "three"),
        explanation(4, "four"),
        explanation(5, "four"),
        explanation(6, "far", site="t"),
        replace(explanation(7, "x"), text="", abstained="nothing"),
        replace(explanation(8, "by another"), explainer="unigram"),
    ]
    wrong = choose_wrong(own, pool, 9, 0)
    assert wrong.kind == "shuffled"
    assert sorted(e.text for e in wrong.explanations) == ["far", "four", "three"]
    assert wrong.explanations[-1].text == "far"  # those of the same site come first
    assert [e.text for e in choose_wrong(own, pool, 2, 0).explanations] == [
        e.text for e in wrong.explanations[:2]
    ]
    assert choose_wrong(own, pool[::-1], 9, 0) == wrong


def test_with_under_two_others_decoys_stand_in() -> None:
    own = explanation(1, DECOYS[0])
    wrong = choose_wrong(own, [own, explanation(2, "alone")], 100, 0)
    assert wrong.kind == "decoys"
    assert sorted(e.text for e in wrong.explanations) == sorted(DECOYS[1:])
    pattern = replace(own, words=((" a", 1.0),))
    assert choose_wrong(pattern, [], 5, 0) == Wrong("shuffled", ())


@given(
    st.floats(-1, 1),
    st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=30),
)
def test_p_counts_those_at_least_as_high(value: float, values: list[float | None]) -> None:
    texts = tuple(explanation(i, f"t{i}") for i in range(len(values)))
    null = null_of(Wrong("shuffled", texts), values)
    p = permutation_p(value, null)
    if not values:
        assert p is None
        assert null.value is None
        return
    above = sum((v or 0.0) >= value for v in values)
    assert p == pytest.approx((1 + above) / (1 + len(values)))
    assert null.value == pytest.approx(sum(v or 0.0 for v in values) / len(values))


def test_lift_is_the_share_of_what_chance_leaves() -> None:
    assert lift(0.6, 0.2) == pytest.approx(0.5)
    assert lift(0.2, 0.2) == 0
    assert lift(0.1, None) is None
    assert lift(1.0, 1.0) is None


# -- building ---------------------------------------------------------------------------------


def test_contrast_is_given_the_texts_of_wrong_explanations() -> None:
    llm = ScriptedLLM([], can=frozenset({Can.PROMPT_LOGPROBS}))
    wrong = Wrong("shuffled", tuple(explanation(i, f"t{i}") for i in range(2, 9)))
    scorer = build_scorer(
        "simulation",
        explanation(1, "mine"),
        wrong,
        simulator="contrast",
        llm=llm,
        settings=Settings(n_others=3),
    )
    assert isinstance(scorer, SimulationScorer)
    assert isinstance(scorer.simulator, ContrastSimulator)
    assert scorer.simulator.others == ("t2", "t3", "t4")


def test_auto_takes_the_pattern_then_a_model_behind_an_api_then_words() -> None:
    own = explanation(1, "mine")
    api, local = ScriptedLLM([]), ScriptedLLM([], can=frozenset({Can.PROMPT_LOGPROBS}))
    assert simulator_for("auto", replace(own, words=((" a", 1.0),)), api) == "symbolic"
    assert simulator_for("auto", own, api) == "reply"
    assert simulator_for("auto", own, local) == simulator_for("auto", own, None) == "lexical"
    assert simulator_for("logprob", own, None) == "logprob"


# -- comparing --------------------------------------------------------------------------------


def test_a_difference_is_known_and_antisymmetric(records: dict[str, FeatureRecord]) -> None:
    rng = random.Random(0)

    def worse(values: list[float]) -> list[float]:
        return [v if rng.random() < 0.7 else float(rng.random() < 0.1) for v in values]

    for way in ("reply", "odds"):
        a = scored(records, "names of colours", way)
        b = scored(records, "names of colours", way, llm=WAYS[way].llm(worse))
        there, back = paired_difference(a, b), paired_difference(b, a)
        assert there.n == back.n == a.n
        assert there.value == pytest.approx(number(a.value) - number(b.value))
        assert number(there.value) == -number(back.value) > 0
        assert there.low == pytest.approx(-number(back.high))
        assert there.high == pytest.approx(-number(back.low))
        assert 0 <= number(there.low) <= number(there.value) <= number(there.high)
        shuffled = replace(b, predictions=b.predictions[::-1])
        assert paired_difference(a, shuffled) == there
        same = paired_difference(a, a)
        assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_difference_is_over_windows_that_both_judged(records: dict[str, FeatureRecord]) -> None:
    name = "names of colours"
    a = scored(records, name, "odds")

    def some(request: Request) -> bool:
        return zlib.crc32(asked_window(request)[1].encode()) % 3 == 0

    b = scored(records, name, "odds", llm=failing("odds", some))
    assert 0 < b.n < a.n
    found = paired_difference(a, b)
    assert found.n == b.n
    assert found.value == pytest.approx(0)
    none = scored(records, name, "odds", llm=failing("odds", silent_request(name)))
    assert paired_difference(a, none).value is None
    assert paired_difference(none, a).value is None
    with pytest.raises(ValueError, match="paired"):
        paired_difference(a, scored(records, "numbers in digits", "odds"))
    with pytest.raises(ValueError, match="paired"):
        paired_difference(a, scored(records, name, "reply"))


def test_parts_can_be_put_together_by_hand(records: dict[str, FeatureRecord]) -> None:
    record = records["numbers in digits"]
    own = said(record, "numbers in digits")
    wrong = Wrong("shuffled", ())
    for part in (
        SimulationScorer(ReplySimulator(replying()), wrong),
        DetectionScorer(AskingJudge(telling_odds()), wrong),
    ):
        score = asyncio.run(part.score(own, record.test, record.dev))
        assert number(score.value) > 0.9
        assert score.null is None
        assert score.p is None
