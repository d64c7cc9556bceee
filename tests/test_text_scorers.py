"""Scorers that need text alone, on planted features, with judges that know what is meant."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

import glossator as gl
from glossator.datasets.planted import word_pieces
from glossator.embedder import Vectors, bundled
from glossator.errors import Refused, Unsupported
from glossator.hard import NEAREST, NEIGHBOUR, REPLACED
from glossator.llm import LLM, Can, Reply, Request, ScriptedLLM
from glossator.scorers.against_hard import FAILED_HARD, ON_RANDOM, alarms_on
from glossator.scorers.build import Settings, build_scorer
from glossator.scorers.compare import paired_difference
from glossator.scorers.embedding import EmbeddingScorer
from glossator.scorers.fuzzing import AGAINST_MISMARKED, AGAINST_SILENT
from glossator.scorers.marking import fires_at
from glossator.scorers.nulls import DECOYS, Wrong
from glossator.scorers.surprisal import SurprisalScorer, neutral, request_for
from glossator.types import MISMARKED, SILENT, TOP, Explanation, FeatureRecord, Score, Usage
from tests.knowing import (
    BY_WORD,
    CAPITALS,
    COLOURS,
    FIRST,
    NUMBERS,
    RIVER,
    fits,
    marked,
    number,
    on_topics,
    others,
    planted,
    run,
    said,
    scored,
    values_of,
)

Twist = Callable[[float], float]
"""From 1 for what fits and 0 for what does not to what the reader makes of it."""


def plain(value: float) -> float:
    return value


def inverted(value: float) -> float:
    return 1 - value


def yes_or_no(value: float, request: Request) -> Reply | str:
    if request.answers:
        p = 0.1 + 0.8 * value
        return Reply(answers=(math.log(p), math.log(1 - p)))
    return "yes" if value > 0.5 else "no"


def asked_marks(request: Request) -> tuple[str, list[str], list[bool]]:
    form = r'Text: "(.*)"\nDo the marked words fit: (.*)\?'
    found = re.fullmatch(form, request.messages[-1].content)
    assert found is not None
    return found[2], *marked(found[1])


def knows_marks(request: Request) -> float:
    description, tokens, marks = asked_marks(request)
    values = values_of(description, tokens)
    return float(all(v for v, mark in zip(values, marks, strict=True) if mark))


def knows_window(request: Request) -> float:
    found = re.fullmatch(r'Text: "(.*)"\nDoes it contain (.*)\?', request.messages[-1].content)
    assert found is not None
    return float(fits(found[2], found[1]))


def knows_rating(request: Request) -> float:
    found = re.fullmatch(r'Text: "(.*)"\nDescription: (.*)', request.messages[-1].content)
    assert found is not None
    return float(fits(found[2], found[1]))


def rates(value: float, request: Request) -> Reply | str:
    if request.answers:
        return Reply(answers=tuple(math.log(0.97 if i == 3 * value else 0.01) for i in range(4)))
    return str(round(3 * value))


def hard_to_write(text: str) -> float:
    """Nats that a text costs whatever is said of it; much more than what knowing it saves."""
    return 40 + zlib.crc32(text.encode()) % 60


def knows_text(twist: Twist) -> Callable[[Request], Reply]:
    def rule(request: Request) -> Reply:
        about = re.fullmatch(r"Write a passage that contains (.*)\.", request.messages[-1].content)
        assert about is not None
        (text,) = request.answers
        saved = len(word_pieces(text)) / 16 * twist(float(fits(about[1], text)))
        return Reply(answers=(-hard_to_write(text) + saved,))

    return rule


@dataclass(frozen=True)
class Knowing:
    """Of 0 to 1 for each known meaning in a text; a description is the meaning itself."""

    twist: Twist = plain
    name: str = "knowing"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, n_meanings + 1)."""
        rows = []
        for text in texts:
            known = [
                float(text == m) if text in BY_WORD else self.twist(float(fits(m, text)))
                for m in BY_WORD
            ]
            rows.append([*known, 0.5])
        found = np.array(rows, np.float32)
        unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit


Made = Callable[[Twist], LLM | None]
ABLE = frozenset({Can.ANSWERS})
WAYS: dict[str, tuple[str, Made]] = {
    "fuzzing, P(yes)": (
        "fuzzing",
        lambda t: ScriptedLLM(lambda r: yes_or_no(t(knows_marks(r)), r), can=ABLE),
    ),
    "fuzzing, votes": ("fuzzing", lambda t: ScriptedLLM(lambda r: yes_or_no(t(knows_marks(r)), r))),
    "purity": (
        "purity",
        lambda t: ScriptedLLM(lambda r: yes_or_no(t(knows_window(r)), r), can=ABLE),
    ),
    "rubric, probabilities": (
        "rubric",
        lambda t: ScriptedLLM(lambda r: rates(t(knows_rating(r)), r), can=ABLE),
    ),
    "rubric, replies": ("rubric", lambda t: ScriptedLLM(lambda r: rates(t(knows_rating(r)), r))),
    "surprisal": ("surprisal", lambda t: ScriptedLLM(knows_text(t), can=ABLE)),
    "embedding": ("embedding", lambda t: None),
}
ways = pytest.mark.parametrize("way", WAYS)
asking = pytest.mark.parametrize("way", [w for w in WAYS if w != "embedding"])


def score(
    way: str,
    name: str,
    text: str | None = None,
    twist: Twist = plain,
    llm: LLM | None = None,
    record: FeatureRecord | None = None,
    n_scored: int = 40,
) -> Score:
    scorer, make = WAYS[way]
    return scored(
        scorer,
        name,
        llm or make(twist),
        text=text,
        record=record,
        n_scored=n_scored,
        embedder=Knowing(twist),
    )


# -- right, unrelated, inverted --------------------------------------------------------------------


@ways
def test_a_true_description_is_far_above_its_null(way: str) -> None:
    for name in BY_WORD:
        found = score(way, name)
        assert number(found.value) > 0.85, name
        assert number(found.low) > number(found.null), name
        assert number(found.lift) > 0.7, name
        assert found.p == pytest.approx(1 / 6)
        assert found.n_failed == 0
        assert found.n == len(found.predictions) >= 30


@ways
def test_an_unrelated_description_is_like_its_null(way: str) -> None:
    for name, wrong in zip(BY_WORD, BY_WORD[2:] + BY_WORD[:2], strict=True):
        found = score(way, name, text=wrong)
        assert number(found.value) < number(found.null) + 0.3, name
        assert number(found.low) <= max(0.05, *found.nulls[0].values), name


@ways
def test_an_inverted_reader_is_not_above_chance(way: str) -> None:
    for name in BY_WORD:
        found = score(way, name, twist=inverted)
        null = score(way, name).null if way != "purity" else found.nulls[1].value
        assert number(found.value) < number(null) + 0.02, name


@ways
def test_equal_ratings_score_what_a_constant_does(way: str) -> None:
    found = score(way, COLOURS, twist=lambda _: 0.0)
    empty = found.nulls[1].value
    if way == "purity":
        assert found.value is None
        assert "same of every window" in found.note
    elif way != "embedding":
        assert found.value == pytest.approx(number(empty))
        assert found.p == 1


# -- what is asked, and of whom --------------------------------------------------------------------


@asking
def test_no_request_holds_an_activation_or_says_which_windows_fire(way: str) -> None:
    llm = WAYS[way][1](plain)
    assert isinstance(llm, ScriptedLLM)
    score(way, COLOURS, llm=llm)
    assert len(llm.requests) > 100
    for request in llm.requests:
        whole = "\n".join([*(m.content for m in request.messages), *request.answers])
        assert "3.1" not in whole
        assert not {TOP, SILENT, MISMARKED} & set(whole.split())


@ways
def test_the_order_and_the_names_of_windows_change_nothing(way: str) -> None:
    record = planted()[COLOURS]
    turned = replace(record.test, firing=record.test.firing[::-1], silent=record.test.silent[::-1])
    renamed = replace(
        record.test,
        firing=tuple(replace(e, document=e.document[::-1]) for e in record.test.firing),
        silent=tuple(replace(e, document=e.document[::-1]) for e in record.test.silent),
    )
    a, b, c = (
        score(way, COLOURS, text=CAPITALS, n_scored=500, record=replace(record, test=test))
        for test in (record.test, turned, renamed)
    )
    assert a.value == pytest.approx(number(b.value))
    assert a.value == pytest.approx(number(c.value))
    assert a.nulls[0].values == pytest.approx(b.nulls[0].values)
    assert a.nulls[0].values == pytest.approx(c.nulls[0].values)
    assert {p.example: p.predicted for p in a.predictions} == {
        p.example: p.predicted for p in b.predictions
    }


# -- failures, and what has no value ---------------------------------------------------------------


def broken(way: str, when: Callable[[str], bool], error: Exception | str) -> ScriptedLLM:
    good = WAYS[way][1](plain)
    assert isinstance(good, ScriptedLLM)

    def rule(request: Request) -> Reply | str:
        text = request.answers[0] if way == "surprisal" else request.messages[-1].content
        if not when(" ".join(m.content for m in request.messages) + text):
            assert callable(good.rule)
            return good.rule(request)
        if isinstance(error, Exception):
            raise error
        return Reply(error, usage=Usage(calls=1))

    return ScriptedLLM(rule, can=good.can)


@asking
@pytest.mark.parametrize("kind", ["parse", "refused"])
def test_windows_that_fail_are_counted_by_kind_and_enter_nothing(way: str, kind: str) -> None:
    error: Exception | str = Refused("I cannot", "no") if kind == "refused" else "as an AI"
    llm = broken(way, lambda text: re.search(r"\bbread\b", text) is not None, error)
    whole = score(way, COLOURS)
    found = score(way, COLOURS, llm=llm)
    assert 0 < found.n_failed < whole.n
    assert found.n + found.n_failed == whole.n
    assert dict(found.failures) == {kind: found.n_failed}
    assert f"{found.n_failed} of {whole.n} examples could not be judged" in found.note
    assert number(found.value) > 0.85


@asking
def test_where_every_window_fails_there_is_no_value(way: str) -> None:
    found = score(way, COLOURS, llm=broken(way, lambda _: True, "as an AI"))
    assert found.value is None
    assert found.n == 0
    assert found.n_failed == len(found.predictions) > 0
    assert found.note


@ways
def test_an_abstention_and_what_never_or_always_fires_ask_nobody(way: str) -> None:
    record = planted()[COLOURS]
    llm = ScriptedLLM([], can=ABLE)
    for split, why in (
        (replace(record.test, firing=()), "never fires in the test pool"),
        (replace(record.test, silent=()), "fires in every window"),
    ):
        found = score(way, COLOURS, llm=llm, record=replace(record, test=split))
        assert found.value is None
        assert why in found.note
    assert not llm.requests


@pytest.mark.parametrize("way", [w for w in WAYS if w != "purity"])
def test_two_explanations_are_compared_on_the_same_windows(way: str) -> None:
    true, wrong = score(way, COLOURS), score(way, COLOURS, text=NUMBERS)
    found = paired_difference(true, wrong)
    assert found.value == pytest.approx(number(true.value) - number(wrong.value))
    assert 0 < number(found.low) <= number(found.value) <= number(found.high)
    assert found.n == true.n


# -- fuzzing ---------------------------------------------------------------------------------------


def fuzzed(rule: Callable[[Request], float], name: str = COLOURS, n_scored: int = 90) -> Score:
    llm = ScriptedLLM(lambda r: yes_or_no(rule(r), r), can=ABLE)
    return scored("fuzzing", name, llm, n_scored=n_scored)


def test_who_reads_number_and_place_of_marks_alone_earns_nothing() -> None:
    # The trap: negatives marked at one place always are told by that place.
    for rule in (
        lambda r: asked_marks(r)[2].index(True) / 32,
        lambda r: 1 - asked_marks(r)[2].index(True) / 32,
        lambda r: sum(asked_marks(r)[2]) / 32,
        lambda r: float(asked_marks(r)[2].index(True) == 0),
    ):
        found = fuzzed(rule)
        assert number(found.low) <= number(found.nulls[1].value) + 0.02
        for figure, chance in (
            (AGAINST_MISMARKED, "base rate against wrong marks"),
            (AGAINST_SILENT, "base rate against silent windows"),
        ):
            measured, level = found.measures[figure], number(found.measures[chance].value)
            assert number(measured.value) < level + 0.15
            assert number(measured.low) <= level + 0.02


def test_who_finds_the_window_and_not_the_token_is_told_apart() -> None:
    def window_alone(request: Request) -> float:
        description, tokens, _ = asked_marks(request)
        return float(any(values_of(description, tokens)))

    found = fuzzed(window_alone)
    assert found.measures[AGAINST_SILENT].value == 1
    assert found.measures[AGAINST_MISMARKED].value == pytest.approx(0.5, abs=0.02)
    assert number(found.value) == pytest.approx(0.5, abs=0.03)
    whole = fuzzed(knows_marks)
    assert [whole.measures[m].value for m in (AGAINST_SILENT, AGAINST_MISMARKED)] == [1, 1]


def test_marks_and_their_truth_are_those_of_the_record() -> None:
    found = fuzzed(knows_marks, n_scored=30)
    record = planted()[COLOURS]
    by_key = {e.key: e for e in record.test.examples}
    kinds = {p.stratum for p in found.predictions}
    assert {SILENT, MISMARKED, TOP} <= kinds
    assert len({p.example for p in found.predictions}) == len(found.predictions)
    for p in found.predictions:
        example = by_key[p.example.removesuffix(f" {MISMARKED}")]
        right = p.stratum not in (SILENT, MISMARKED)
        assert any(fires_at(example, record.threshold)) == (p.stratum != SILENT)
        assert (p.actual[0] > record.threshold) == right
        assert (p.predicted[0] > 0.5) == right


def test_a_feature_of_one_place_has_no_wrong_marks_on_firing_windows() -> None:
    found = fuzzed(knows_marks, FIRST, n_scored=40)
    assert number(found.value) > 0.9
    assert found.measures[AGAINST_MISMARKED].value is None


def test_without_a_language_model_the_simulator_judges_the_marks() -> None:
    record = planted()[COLOURS]
    words = tuple((f" {w}", 3.0) for w in ("red", "blue", "green", "yellow", "purple", "orange"))
    pattern = replace(said(record, COLOURS), words=words)
    wrong = Wrong("shuffled", tuple(replace(e, words=((" the", 1.0),)) for e in others()[:2]))
    part = build_scorer("fuzzing", pattern, wrong)
    found = run(part.score(pattern, record.test, record.dev))
    assert number(found.value) > 0.95
    assert found.model == ""
    bare = run(build_scorer("fuzzing", said(record, "x"), wrong, simulator="symbolic").score(
        said(record, "x"), record.test, record.dev
    ))  # fmt: skip
    assert bare.value is None
    assert "no pattern" in bare.note
    assert bare.n_failed == 0


# -- purity ----------------------------------------------------------------------------------------


def test_too_broad_and_too_narrow_are_both_impure() -> None:
    broad, narrow = "colours or numbers", "red"

    def rule(request: Request) -> Reply | str:
        asked = request.messages[-1].content
        found = re.fullmatch(r'Text: "(.*)"\nDoes it contain (.*)\?', asked)
        assert found is not None
        text, about = found[1], found[2]
        if about == broad:
            return yes_or_no(float(fits(COLOURS, text) or fits(NUMBERS, text)), request)
        if about == narrow:
            return yes_or_no(float("red" in text.split()), request)
        return yes_or_no(float(fits(about, text)), request)

    llm = ScriptedLLM(rule, can=ABLE)
    lifts = {}
    for text in (COLOURS, broad, narrow):
        found = scored("purity", COLOURS, llm, text=text, n_scored=90)
        chance = number(found.nulls[1].value)  # what a constant activation scores
        lifts[text] = (number(found.value) - chance) / (1 - chance)
    assert lifts[broad] < 0.8
    assert lifts[COLOURS] > 0.99
    assert lifts[narrow] < 0.5


# -- rubric ----------------------------------------------------------------------------------------


def test_what_fits_everything_a_little_gains_nothing() -> None:
    # The trap: the mean over firing windows alone would be 2 of 3.
    found = scored("rubric", COLOURS, ScriptedLLM(lambda _: "2"))
    assert found.value == pytest.approx(0)
    assert found.measures["mean rating in top"].value == 2
    assert found.measures[f"mean rating in {SILENT}"].value == 2


def test_the_curve_is_of_the_bins_and_its_ends_give_the_value() -> None:
    found = score("rubric, replies", RIVER)
    bins = [m for m in found.measures if m.startswith("mean rating in")]
    assert {"mean rating in top", "mean rating in q1", f"mean rating in {SILENT}"} <= set(bins)
    assert found.measures["mean rating in q5"].value == pytest.approx(3)
    assert found.measures[f"mean rating in {SILENT}"].value == pytest.approx(0)
    assert found.value == pytest.approx(1)


# -- surprisal -------------------------------------------------------------------------------------


def test_a_model_that_cannot_tell_a_texts_probability_is_refused_before_anything_is_sent() -> None:
    llm = ScriptedLLM([], can=frozenset({Can.TOP_LOGPROBS}))
    with pytest.raises(Unsupported, match="detection"):
        SurprisalScorer(llm, Wrong("shuffled", ()))
    assert not llm.requests


def test_how_hard_a_text_is_by_itself_is_taken_off() -> None:
    def rule(request: Request) -> Reply:
        return Reply(answers=(-hard_to_write(request.answers[0]),))

    found = scored("surprisal", COLOURS, ScriptedLLM(rule, can=ABLE))
    assert {p.predicted for p in found.predictions} == {(0.0,)}
    assert found.value == pytest.approx(number(found.nulls[1].value))


def test_what_is_saved_is_in_nats_a_token_of_the_window() -> None:
    def rule(request: Request) -> Reply:
        (text,) = request.answers
        knows = COLOURS in request.messages[-1].content and fits(COLOURS, text)
        return Reply(answers=(-hard_to_write(text) + knows * len(word_pieces(text)) / 16,))

    found = scored("surprisal", COLOURS, ScriptedLLM(rule, can=ABLE))
    assert found.measures["nats a token saved in top"].value == pytest.approx(1 / 16)
    assert found.measures[f"nats a token saved in {SILENT}"].value == pytest.approx(0)


def test_the_base_line_of_a_window_is_asked_for_once() -> None:
    llm = WAYS["surprisal"][1](plain)
    assert isinstance(llm, ScriptedLLM)
    found = score("surprisal", COLOURS, llm=llm)
    assert len(llm.requests) == found.n * (1 + 5 + 3)  # it, wrong ones, neutral ones
    assert found.usage == Usage(calls=found.n * 9, cost=None)  # A script says nothing of its cost.


def test_the_text_is_no_part_of_its_own_prompt() -> None:
    request = request_for("birds", " a window\nof text ")
    assert request.answers == ("a window\nof text",)
    assert not request.max_tokens
    assert "window" not in json.dumps([m.content for m in request.messages])


@pytest.mark.parametrize("length", [5, 30, 60, 150, 400])
def test_neutral_texts_are_about_as_long_and_none_is_the_explanation(length: int) -> None:
    for text in neutral("x" * length, 3, 0):
        assert abs(len(text) - length) <= max(35, length / 4)
    assert DECOYS[0] not in neutral(DECOYS[0], 20, 0)
    assert neutral("x" * length, 3, 0) == neutral("y" * length, 3, 0)


# -- embedding -------------------------------------------------------------------------------------


def test_embedding_asks_no_language_model_and_says_whose_cosine_it_is() -> None:
    found = score("embedding", RIVER)
    assert (found.model, found.simulator, found.usage) == ("", "cosine by knowing", Usage())
    assert all(-1 <= p.predicted[0] <= 1 for p in found.predictions)


@pytest.mark.assets
def test_the_bundled_embedder_ranks_windows_by_subject() -> None:
    topics = {
        "football matches and players": "the striker scored a late goal and the keeper was beaten",
        "cooking and recipes": "simmer the onions in butter until soft then stir in the flour",
        "space travel": "the rocket left its orbit and the crew saw the moon below",
    }
    for name, record in on_topics(topics).items():
        explanation = Explanation(record.feature, name, "max-act")
        wrong = [Explanation(record.feature, t, "max-act") for t in topics if t != name]
        part = EmbeddingScorer(bundled(), Wrong("shuffled", tuple(wrong)))
        found = run(part.score(explanation, record.test))
        assert number(found.value) > 0.9 > number(found.null)


# -- hard negatives beside detection ---------------------------------------------------------------


ON_HARD = alarms_on(NEAREST)


def detected(rule: Callable[[Request], float], n_hard: int) -> Score:
    llm = ScriptedLLM(lambda r: yes_or_no(rule(r), r), can=ABLE)
    record = planted()[RIVER]
    part = build_scorer(
        "detection",
        said(record, RIVER),
        Wrong("shuffled", tuple(others()[6:9])),
        llm=llm,
        settings=Settings(20, n_hard=n_hard),
        embedder=Knowing(),
    )
    return run(part.score(said(record, RIVER), record.test, record.dev))


def test_hard_windows_get_a_figure_of_their_own_and_change_no_other() -> None:
    without, beside = (detected(knows_window, n) for n in (0, 12))
    assert beside.measures[ON_HARD].value == 0
    assert 0.2 < number(beside.measures[ON_HARD].high) < 0.3  # of 12
    assert beside.measures[FAILED_HARD].value == 0
    assert beside.usage.calls == without.usage.calls + 12
    same = {k: m for k, m in beside.measures.items() if k in without.measures}
    note = f"{without.note}; no {NEIGHBOUR}: no other feature of the site is at hand"
    note += f"; no {REPLACED}: there is no live subject that could read them"
    assert beside.note == note
    assert replace(beside, measures=same, usage=without.usage, note=without.note) == without


def test_who_takes_near_for_the_same_is_found_out_on_hard_windows() -> None:
    # Beside a river stand the other things; the nearest windows without one have those, too.
    def by_company(request: Request) -> float:
        text = request.messages[-1].content.split('"')[1]
        company = all(fits(m, text) for m in (CAPITALS, NUMBERS, COLOURS))
        return max(knows_window(request), float(company))

    found = detected(by_company, 12)
    assert number(found.measures[ON_HARD].value) > number(found.measures[ON_RANDOM].value) + 0.2


# -- from Python -----------------------------------------------------------------------------------


def test_all_of_them_run_in_one_call_on_the_same_feature() -> None:
    def rule(request: Request) -> Reply | str:
        asked = request.messages[-1].content
        if "Do the marked words fit" in asked:
            return yes_or_no(knows_marks(request), request)
        if "Does it contain" in asked:
            return yes_or_no(knows_window(request), request)
        if asked.startswith("Write a passage"):
            return knows_text(plain)(request)
        if "\nDescription: " in asked:
            return rates(knows_rating(request), request)
        texts = re.findall(r'^\d: "(.*)"$', asked, re.M)
        return Reply(answers=tuple(math.log(0.05 if fits(RIVER, t) else 0.8) for t in texts))

    record = planted()[RIVER]
    names = ("detection", "fuzzing", "intruder", "surprisal", "purity", "rubric")
    found = gl.run_sync(
        gl.score(
            gl.Explanation.written_by_hand(record.feature, RIVER),
            record,
            scorers=names,
            llm=ScriptedLLM(rule, can=ABLE),
            others=[
                replace(e, feature=replace(e.feature, index=50 + i))
                for i, e in enumerate(others())
                if e.text != RIVER
            ],
        )
    )
    assert [s.scorer for s in found] == list(names)
    assert all(number(s.value) > 0.9 and s.n_failed == 0 for s in found)
    assert all(number(s.low) > number(s.null) for s in found)


def test_a_pattern_that_asks_nobody_still_gets_the_model_where_a_scorer_wants_one() -> None:
    record = planted()[RIVER]
    pattern = replace(said(record, RIVER), words=((" river", 3.0),))
    llm = ScriptedLLM(lambda _: "2")
    rubric, detection = gl.run_sync(
        gl.score(pattern, record, scorers=["rubric", "detection"], llm=llm)
    )
    assert rubric.model == "scripted"
    assert rubric.value == pytest.approx(0)
    assert detection.model == ""
