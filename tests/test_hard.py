"""Hard silent windows of each kind, on planted features whose every activation can be checked."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glossator as gl
from glossator.config import RunConfig
from glossator.datasets.planted import collect_planted, word_pieces
from glossator.embedder import Vectors
from glossator.errors import Unsupported
from glossator.experiments import live_function
from glossator.experiments.of_function import FunctionLive
from glossator.hard import KINDS, NEAREST, NEIGHBOUR, REPLACED, Hard, HardText
from glossator.live import Activations
from glossator.llm import Can, Reply, Request, ScriptedLLM
from glossator.neighbours import Neighbours
from glossator.runs import RunStatus
from glossator.scorers.against_hard import FAILED_HARD, ON_RANDOM, alarms_on
from glossator.scorers.build import Settings, build_scorer
from glossator.scorers.judge import Window, line_for
from glossator.scorers.nulls import Wrong
from glossator.store import Store, open_store
from glossator.types import Explanation, FeatureRecord, Score, Split
from tests.loopback import Loopback
from tests.panels import asked_windows, by_line
from tests.pipeline_child import config_for, do, rows

WATER = "shore wave water sail deck tide".split()  # noqa: SIM905
KITCHEN = "oven flour dough knife table salt".split()  # noqa: SIM905
TRIGGERS = {"river": WATER, "ship": WATER, "bread": KITCHEN}


def documents(n: int = 600) -> list[str]:
    """Texts of water or of the kitchen, in some of which a word stands that a feature fires on."""
    chance = random.Random(0)
    made = []
    for i in range(n):
        theme = WATER if i % 2 else KITCHEN
        words = [chance.choice(theme) for _ in range(30)] + [f"number{i}"]
        for trigger, own in TRIGGERS.items():
            if own is theme and chance.random() < 0.25:
                words[chance.randrange(30)] = trigger
        made.append(" ".join(words))
    return made


def fires_on(*words: str) -> Callable[[list[str]], list[float]]:
    return lambda tokens: [2.0 * (t.strip() in words) for t in tokens]


RULES = {
    "river": fires_on("river"),
    "ship": fires_on("ship"),
    "bread": fires_on("bread"),
    "nothing": fires_on("zebra"),
    "first": lambda tokens: [1.0, *[0.0] * (len(tokens) - 1)],
}


class Themes:
    """Texts by how often their words are of each theme."""

    name = "themes"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, 2)."""
        rows = np.array(
            [[1e-6 + sum(t.count(w) for w in theme) for theme in (WATER, KITCHEN)] for t in texts]
        )
        found: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return found


@pytest.fixture(scope="module")
def records() -> dict[str, FeatureRecord]:
    found = collect_planted(RULES, texts=documents(), n_silent=40)
    return dict(zip(RULES, found, strict=True))


def live_on(name: str, records: dict[str, FeatureRecord]) -> FunctionLive:
    return live_function(RULES[name], records[name])


def hard(source: HardText, split: Split, seen: Sequence[str] = ()) -> dict[str, Hard]:
    found = asyncio.run(source.of(split, seen, np.random.default_rng(0)))
    assert [one.kind for one in found] == list(KINDS)
    return {one.kind: one for one in found}


# -- neighbours ------------------------------------------------------------------------------------


def test_the_neighbour_is_the_feature_that_fires_on_like_text(
    records: dict[str, FeatureRecord],
) -> None:
    among = Neighbours.among(records.values(), Themes())
    river, ship, bread = (records[name].feature for name in ("river", "ship", "bread"))
    found = [record.feature for record in among.of(records["river"])]
    assert found[0] == ship
    assert found[-1] == bread
    assert river not in found
    assert records["nothing"].feature not in found  # It has no text to be near to.
    assert among.of(records["nothing"]) == ()
    elsewhere = replace(records["ship"], feature=replace(ship, site="elsewhere"))
    others = Neighbours.among([records["bread"], elsewhere], Themes())
    assert [record.feature for record in others.of(records["river"])] == [bread]


# -- windows ---------------------------------------------------------------------------------------


def test_without_a_live_subject_only_what_the_record_knows_to_be_silent_is_taken(
    records: dict[str, FeatureRecord],
) -> None:
    test = records["river"].test
    both = {e.key for e in test.silent} & {e.key for e in records["ship"].test.firing}
    assert both
    seen = sorted(both)[:1]
    found = hard(HardText(99, Themes(), None, (records["ship"],)), test, seen)
    assert {e.key for e in found[NEIGHBOUR].windows} == both - set(seen)
    assert found[REPLACED].windows == ()
    assert "no live subject" in found[REPLACED].missing
    assert not {e.key for e in found[NEAREST].windows} & set(seen)
    none = hard(HardText(9, Themes()), test)
    assert none[NEIGHBOUR].windows == ()
    assert "no other feature" in none[NEIGHBOUR].missing


def test_what_the_live_subject_reads_is_silent_and_holds_what_the_neighbour_fires_on(
    records: dict[str, FeatureRecord],
) -> None:
    test, dev = records["river"].test, records["river"].dev
    source = HardText(9, Themes(), live_on("river", records), (records["ship"],))
    for split in (test, dev):
        found = hard(source, split)
        assert [len(found[kind].windows) for kind in KINDS] == [9, 9, 9]
        for one in found.values():
            assert all("river" not in e.text and e.peak <= split.threshold for e in one.windows)
        assert all("ship" in e.text for e in found[NEIGHBOUR].windows)
        documents_ = {e.document for e in records["ship"].split(split.pool).firing}
        assert {e.document for e in found[NEIGHBOUR].windows} <= documents_
        firing = {e.document: e for e in split.firing}
        for e in found[REPLACED].windows:
            old = word_pieces(firing[e.document].text)
            changed = [a for a, b in zip(old, e.tokens, strict=True) if a != b]
            assert {token.strip() for token in changed} == {"river"}


def test_a_trigger_that_still_fires_when_it_is_replaced_is_no_silent_window(
    records: dict[str, FeatureRecord],
) -> None:
    source = HardText(5, Themes(), live_on("first", records))
    found = hard(source, records["first"].test)[REPLACED]
    assert found.windows == ()
    assert "the feature fires in all 20 that were read" in found.missing


def test_a_subject_that_cannot_be_asked_is_no_error(records: dict[str, FeatureRecord]) -> None:
    class Mute(FunctionLive):
        async def activations(self, texts: Sequence[str]) -> tuple[Activations, ...]:
            raise Unsupported("this one has no activations")

    source = HardText(5, Themes(), Mute(RULES["river"]), (records["bread"],))
    found = hard(source, records["river"].test)
    assert found[REPLACED].missing == "this one has no activations"


# -- beside detection ------------------------------------------------------------------------------


def judge_of(says_yes: Callable[[str], bool], can: Can = Can.ANSWERS) -> ScriptedLLM:
    def rule(request: Request) -> Reply:
        text = request.messages[-1].content.split('"')[1]
        p = 0.9 if says_yes(text) else 0.1
        return Reply(answers=(math.log(p), math.log(1 - p)))

    return ScriptedLLM(by_line(rule), can=frozenset({can}))


def detected(records: dict[str, FeatureRecord], llm: ScriptedLLM, n_hard: int = 10) -> Score:
    record = records["river"]
    explanation = Explanation(record.feature, 'the word "river"', "max-act")
    part = build_scorer(
        "detection",
        explanation,
        Wrong("shuffled", ()),
        llm=llm,
        settings=Settings(20, n_hard=n_hard),
        embedder=Themes(),
        live=live_on("river", records),
        neighbours=(records["ship"],),
    )
    return asyncio.run(part.score(explanation, record.test, record.dev))


def test_each_kind_finds_another_reader_out(records: dict[str, FeatureRecord]) -> None:
    def alarms(says_yes: Callable[[str], bool]) -> list[float | None]:
        found = detected(records, judge_of(says_yes))
        assert found.measures[FAILED_HARD].value == 0
        return [found.measures[alarms_on(kind)].value for kind in KINDS]

    assert alarms(lambda text: "river" in text) == [0, 0, 0]
    by_company = alarms(lambda text: "shore" in text or "wave" in text)
    assert all(value is not None and value > 0.8 for value in by_company)
    broad = detected(records, judge_of(lambda text: "river" in text or "ship" in text))
    assert broad.measures[alarms_on(NEIGHBOUR)].value == 1
    random_ones = broad.measures[ON_RANDOM].value
    assert random_ones is not None
    assert random_ones < 0.5
    assert "hard" not in broad.note


def test_no_request_holds_hard_windows_alone(records: dict[str, FeatureRecord]) -> None:
    alone, beside = (judge_of(lambda text: "river" in text, Can.TOP_LOGPROBS) for _ in range(2))
    plain, found = detected(records, alone, 0), detected(records, beside)
    assert [found.measures[alarms_on(kind)].value for kind in KINDS] == [0, 0, 0]
    assert (found.value, found.n, found.predictions) == (plain.value, plain.n, plain.predictions)
    scored = {line_for(Window(p.tokens)) for p in plain.predictions}
    asked = [asked_windows(r.messages[-1].content)[1] for r in beside.requests]
    assert asked[: len(alone.requests)] == [
        asked_windows(r.messages[-1].content)[1] for r in alone.requests
    ]
    of_hard = asked[len(alone.requests) :]
    assert len(of_hard) > 1
    for texts in of_hard:
        assert 0 < len(scored & set(texts)) < len(texts)
    assert any("river" in text for texts in of_hard for text in texts)


# -- in a run --------------------------------------------------------------------------------------


@pytest.mark.assets
def test_a_run_reports_false_alarms_on_every_kind_and_changes_no_other_figure(
    folder: Path, store: Store, server: Loopback, tmp_path: Path
) -> None:
    others: dict[str, Any] = {"features": "0-2", "scorers": ["detection"], "n_silent": 12}
    assert do(config_for(folder, server, n_hard=3, **others), store).status is RunStatus.DONE
    with open_store(f"sqlite:///{tmp_path}/plain.db") as plain:
        do(config_for(folder, server, **others), plain)
        without = rows(plain)
    found = rows(store)
    for row, bare in zip(found, without, strict=True):
        (score,), (other,) = row["scores"], bare["scores"]
        named = {kind for kind in KINDS if alarms_on(kind) in score["measures"]}
        told = {kind for kind in KINDS if f"no {kind}:" in score["note"]}
        assert named | told == set(KINDS)
        assert not named & told
        assert NEAREST in named
        assert NEIGHBOUR in named
        same = ("value", "low", "high", "null", "n", "predictions")
        assert [score[name] for name in same] == [other[name] for name in same]


def test_hard_windows_are_of_the_run_and_not_of_what_is_collected() -> None:
    plain, hard_ = RunConfig(), RunConfig(n_hard=5)
    assert RunConfig.from_mapping({"n-hard": 5}) == hard_
    assert plain.digest != hard_.digest
    assert plain.collection_digest == hard_.collection_digest


@pytest.mark.assets
def test_python_finds_the_neighbours_among_records(records: dict[str, FeatureRecord]) -> None:
    record = records["river"]
    (found,) = gl.run_sync(
        gl.score(
            Explanation.written_by_hand(record.feature, "river"),
            record,
            "detection",
            None,
            n_hard=6,
            neighbours=list(records.values()),
            live=live_on("river", records),
        )
    )
    assert [found.measures[alarms_on(kind)].value for kind in KINDS] == [0, 0, 0]
