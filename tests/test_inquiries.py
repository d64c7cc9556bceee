"""Inquiries of a run: kept, resumed after kills, held to budgets, honest about what they lack."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glossator.agent.concluding import speaks
from glossator.agent.investigator import investigate
from glossator.config import RunConfig
from glossator.datasets.planted import collect_planted
from glossator.embedder import Embedder
from glossator.errors import BudgetSpent, Refused, StoreError
from glossator.evidence import (
    About,
    Conclusion,
    Effect,
    Ending,
    Evidence,
    Experiment,
    Finding,
    Hypothesis,
    Part,
    Question,
)
from glossator.experiments.of_function import live_function
from glossator.inquiring import Bench, RunInquirer
from glossator.llm import LLM, Reply, Request, ScriptedLLM
from glossator.notebook import Entry, MemoryNotebook
from glossator.runs import RunStatus
from glossator.store import Store, open_store
from glossator.types import FeatureRecord
from glossator.units import OnDev
from tests.inquiring_model import inquired
from tests.loopback import Loopback
from tests.pipeline_child import config_for, do
from tests.test_going_on import child, killed_after

AGENT: dict[str, Any] = {
    "explainers": ["agent"],
    "scorers": ["detection"],
    "features": "0-1",
    "most_experiments": 4,
    "n_per_quantile": 6,
    "n_silent": 30,
}


def entries(store: Store) -> dict[str, list[Entry]]:
    found = {}
    for known in store.notebooks.known():
        notebook = store.notebooks.find(known.name)
        assert notebook is not None
        found[known.name] = list(notebook.entries())
    return found


def told(kept: dict[str, list[Entry]]) -> dict[str, list[tuple[str, str]]]:
    """Without times, of which two runs have others."""
    return {
        name: [(e.key, json.dumps(without_times(e.content), sort_keys=True)) for e in some]
        for name, some in kept.items()
    }


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k != "seconds"}
    return [without_times(v) for v in value] if isinstance(value, list) else value


@pytest.mark.timeout(600)
def test_after_ten_kills_an_inquiry_ends_as_if_there_had_been_none(
    folder: Path, tmp_path: Path
) -> None:
    chance, in_flight = random.Random(5), 4
    with Loopback(inquired, delay=0.004) as server:
        config = config_for(folder, server, **AGENT)
        with open_store(f"sqlite:///{tmp_path}/whole.db") as store:
            do(config, store, stages=("collect", "explain"))
            expected, whole = told(entries(store)), len(server.log)
        database = tmp_path / "killed.db"
        seen: dict[str, dict[str, Entry]] = {}
        kills = 0
        for _ in range(10):
            process = child(config, database, concurrency=in_flight)
            kills += killed_after(process, server, server.answered + chance.randint(1, whole // 6))
            with open_store(f"sqlite:///{database}") as store:
                for name, some in entries(store).items():
                    for entry in some:
                        # what was found once is never found again, not even alike
                        known = seen.setdefault(name, {}).setdefault(entry.key, entry)
                        assert known == entry
        assert kills >= 5
        with open_store(f"sqlite:///{database}") as store:
            do(config, store, stages=("collect", "explain"))
            ended = entries(store)
            assert told(ended) == expected
            for name, known_entries in seen.items():
                assert {e.key: e for e in ended[name]}.items() >= known_entries.items()
    again = Counter(json.dumps(asked.body) for asked in server.log[whole:])
    assert sum(again.values()) - len(again) <= kills * in_flight


def test_the_same_command_again_asks_nobody_and_experiments_no_more(
    folder: Path, store: Store
) -> None:
    with Loopback(inquired) as server:
        config = config_for(folder, server, **AGENT)
        assert do(config, store, stages=("collect", "explain")).status is RunStatus.DONE
        asked, kept = len(server.log), entries(store)
        assert do(config, store, stages=("collect", "explain")).status is RunStatus.DONE
        assert len(server.log) == asked
        assert entries(store) == kept


def test_an_inquiry_that_spent_its_budget_goes_on_with_a_higher_one(
    folder: Path, store: Store
) -> None:
    with Loopback(inquired) as server:
        config = config_for(folder, server, **AGENT)
        stages = ("collect", "explain")
        assert do(config, store, stages, max_calls=20).status is RunStatus.BUDGET_SPENT
        assert len(server.log) <= 20
        kept = entries(store)
        assert not any(e.kind == "conclusion" for some in kept.values() for e in some)
        assert do(config, store, stages).status is RunStatus.DONE
        for name, some in kept.items():
            assert entries(store)[name][: len(some)] == some


def test_what_is_foretold_is_written_before_the_experiment_and_stays(
    folder: Path, store: Store
) -> None:
    with Loopback(inquired) as server:
        do(config_for(folder, server, **AGENT), store, stages=("collect", "explain"))
    for name, some in entries(store).items():
        place = {e.key: i for i, e in enumerate(some)}
        found_of = [Evidence.from_json(e.content) for e in some if e.kind == "evidence"]
        tested = [e for e in found_of if e.experiment.questions]
        assert tested
        notebook = store.notebooks.find(name)
        assert notebook is not None
        for evidence in tested:
            assert place[evidence.id] < place[f"{evidence.id} found"]
            planned = next(e for e in some if e.key == evidence.id)
            assert Experiment.from_json(planned.content) == evidence.experiment
            assert evidence.experiment.foretold
            with pytest.raises(StoreError, match="not changed"):
                notebook.put(evidence.id, "experiment", {**planned.content, "foretold": []})


# -- on a planted feature, with a model that answers as it is told -------------------------------

WORDS = [
    "the",
    "old",
    "mill",
    "road",
    "went",
    "over",
    "hill",
    "to",
    "next",
    "town",
    "she",
    "put",
    "book",
    "on",
    "table",
    "and",
    "looked",
    "out",
    "window",
    "rain",
    "garden",
    "they",
    "built",
    "house",
    "stone",
    "near",
    "wood",
    "lived",
    "many",
    "years",
    "without",
    "car",
    "morning",
    "baker",
    "sold",
    "bread",
    "cake",
    "all",
    "who",
    "came",
    "in",
    "from",
    "cold",
    "street",
    "boat",
    "ran",
    "past",
]


def fires_on_river(tokens: list[str]) -> list[float]:
    return [float(t.strip() == "river") for t in tokens]


@pytest.fixture(scope="module")
def record() -> FeatureRecord:
    chance = random.Random(4)

    def text(i: int) -> str:
        words = [chance.choice(WORDS) for _ in range(30)]
        return " ".join([*words[:12], "river", *words[12:]] if i % 3 == 0 else words)

    texts = [text(i) for i in range(240)]
    (found,) = collect_planted({"river": fires_on_river}, texts=texts, window=16)
    return found


def concluded(llm: LLM, record: FeatureRecord, **options: Any) -> tuple[Conclusion, MemoryNotebook]:
    from glossator.blank import BlankEmbedder

    blank: Embedder = BlankEmbedder()
    config = RunConfig.from_mapping({"simulator": "lexical", **options})
    live = live_function(fires_on_river, record)
    bench = Bench()
    inquirer = RunInquirer(config, record, OnDev(config, record, llm, blank), live, blank, bench)
    assert isinstance(bench.notebook, MemoryNotebook)
    return asyncio.run(investigate(inquirer.inquiry(llm))), bench.notebook


def by_schema(**answers: Any) -> ScriptedLLM:
    """Answers each request by the first key of the schema that it asks for; else with a phrase."""

    def answer(request: Request) -> Reply | str:
        for key, value in answers.items():
            if f'"{key}"' in request.schema:
                return json.dumps({**{"texts": [], "hypotheses": []}, key: value})
        return "nothing in particular"

    return ScriptedLLM(answer)


RIVER = {"trigger": "river", "output_effect": ""}
BREAD = {"trigger": "words about bread and cake", "output_effect": ""}


def test_claims_that_cite_no_evidence_are_struck_out_and_counted(record: FeatureRecord) -> None:
    claims = [
        {"part": "trigger", "text": "It fires on river.", "evidence": ["E1"]},
        {"part": "sense", "text": "It likes water.", "evidence": []},
        {"part": "exception", "text": "Not in June.", "evidence": ["E77"]},
    ]
    llm = by_schema(claims=claims, hypotheses=[RIVER, BREAD])
    found, _ = concluded(llm, record)
    assert found.ending is Ending.DECIDED
    assert found.explanation.trigger == "river"
    assert [c.text for c in found.claims] == ["It fires on river."]
    assert found.struck == ("sense: It likes water.", "exception: Not in June.")
    assert "2 without evidence struck out" in found.explanation.note


@pytest.mark.parametrize(
    "reply", ["", "I cannot help with that.", '{"hypotheses": "none"}', "{" * 500, "\x00 \u202e"]
)
def test_a_model_that_answers_garbage_leaves_its_reasons_and_an_honest_end(
    reply: str, record: FeatureRecord
) -> None:
    found, notebook = concluded(ScriptedLLM(lambda request: reply), record)
    failed = [e for e in notebook.entries() if e.kind == "failure"]
    assert any(e.key == "propose failed" for e in failed)
    assert all(e.content["message"] for e in failed)
    # what programs propose may still be decided for; a model's words are not in it
    assert found.explanation.abstained.startswith("undecided") or found.explanation.runs


def test_a_model_that_refuses_is_asked_once_for_each_thing(record: FeatureRecord) -> None:
    def refuse(request: Request) -> Reply:
        raise Refused("it declines")

    llm = ScriptedLLM(refuse)
    found, notebook = concluded(llm, record)
    failure = notebook.get("propose failed")
    assert failure is not None
    assert failure.content["kind"] == "Refused"
    said = found.explanation.abstained or found.explanation.note
    assert "the language model could not be used" in said
    assert "first for 'look 1': it declines" in said or "first for 'propose': it declines" in said


def test_a_model_that_calls_the_same_tool_again_and_again_is_stopped(record: FeatureRecord) -> None:
    from glossator.llm import ToolCall

    def answer(request: Request) -> Reply | str:
        if request.tools:
            call = ToolCall("c1", "run_texts", '{"texts": ["the river"]}')
            return Reply(calls=(call, ToolCall("c2", "run_texts", '{"texts": ["the river"]}')))
        return json.dumps({"hypotheses": [RIVER]}) if '"hypotheses"' in request.schema else "x"

    llm = ScriptedLLM(answer)
    _, notebook = concluded(llm, record)
    looks = [e for e in notebook.entries() if e.kind == "evidence" and e.key == "E1 found"]
    assert len(looks) == 1
    asked = [r for r in llm.requests if r.tools]
    assert len(asked) <= 2
    results = [m for m in asked[-1].messages if m.role == "tool"]
    assert [m.call for m in results][:2] == ["c1", "c2"]
    assert "called before, as E1" in results[1].content


def test_a_feature_that_never_fires_is_told_so(record: FeatureRecord) -> None:
    (silent,) = collect_planted(
        {"never": lambda tokens: [0.0] * len(tokens)}, texts=[f"a b c {i}" for i in range(200)]
    )
    found, _ = concluded(ScriptedLLM(lambda request: "x"), silent)
    assert found.ending is Ending.SILENT
    assert "read more text" in found.explanation.abstained


def test_a_spent_budget_is_no_conclusion(record: FeatureRecord) -> None:
    def broke(request: Request) -> Reply:
        raise BudgetSpent("the budget is spent")

    with pytest.raises(BudgetSpent):
        concluded(ScriptedLLM(broke), record)


def test_time_that_is_up_ends_an_inquiry(record: FeatureRecord) -> None:
    from dataclasses import replace

    from glossator.blank import BlankEmbedder

    llm, blank = by_schema(hypotheses=[RIVER, BREAD]), BlankEmbedder()
    config = RunConfig(simulator="lexical", confidence=0.9999)
    live, trial = live_function(fires_on_river, record), OnDev(config, record, llm, blank)
    inquiry = RunInquirer(config, record, trial, live, blank, Bench()).inquiry(llm)
    ticks = iter(range(0, 10**9, 1000))
    found = asyncio.run(investigate(replace(inquiry, clock=lambda: float(next(ticks)))))
    assert found.ending is Ending.TIME
    assert found.explanation.abstained.startswith("undecided (time spent)")


def test_an_end_without_a_further_reason_has_no_comma_behind_it() -> None:
    from glossator.agent.inquiry import _ended

    assert _ended(Ending.EXPERIMENTS, "after 1 experiments, ")["why"] == "after 1 experiments"


def test_a_claim_of_the_trigger_needs_an_experiment_that_bore_it_out() -> None:
    wrong = Effect("where foretold less elsewhere", -0.4, -0.8, -0.1, 8)
    right = Effect("where foretold less elsewhere", 0.4, 0.1, 0.8, 8)
    leader = Hypothesis("H1", "river", "river")
    asked = (Question(About.FIRES, "a river"),)
    against = Evidence(Experiment("E1", "run_texts", {}, "", asked), Finding(""), "", {"H1": wrong})
    speaking = Evidence(
        Experiment("E2", "run_texts", {}, "", asked), Finding(""), "", {"H1": right}
    )
    look = Evidence(Experiment("E3", "exemplars", {}), Finding(""))
    assert not speaks(against, Part.TRIGGER, leader)
    assert speaks(speaking, Part.TRIGGER, leader)
    assert speaks(look, Part.TRIGGER, leader)
    assert speaks(against, Part.EXCEPTION, leader)
