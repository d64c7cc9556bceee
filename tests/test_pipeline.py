"""The whole job against real servers on this machine: what it does, asks, keeps and survives."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glossator.acts import ActKind
from glossator.datasets.pools import pool_of
from glossator.errors import (
    ConfigError,
    CorpusError,
    GlossatorError,
    NotRegistered,
    Unsupported,
)
from glossator.progress import Progress
from glossator.reviews import Wish
from glossator.runs import RunStatus
from glossator.store import Store, open_store
from glossator.types import Pool, Usage
from tests.loopback import Loopback
from tests.panels import asked_windows
from tests.pipeline_child import (
    DEAD,
    asked_about,
    config_for,
    do,
    kind_of,
    rows,
    rule,
    texts,
)

ROOT = Path(__file__).parents[1]
LIMIT = 16
"""Requests that one run has out at a time, at most."""


# -- what a run leaves behind ---------------------------------------------------------------------


def test_a_whole_run_over_the_openai_protocol_is_in_the_store(
    folder: Path, store: Store, server: Loopback
) -> None:
    seen: list[Progress] = []
    outcome = do(config_for(folder, server), store, tell=seen.append)
    assert (outcome.status, outcome.done, outcome.failed) == (RunStatus.DONE, 3, 0)
    assert store.run("r1").status is RunStatus.DONE
    explanations, scores = store.explanations_of("r1"), store.scores_of("r1", predictions=True)
    assert sorted(e.feature.index for e in explanations) == [0, 1, 2]
    assert all(e.text and e.usage.calls == 1 and e.model == "openai:some-model"
               for e in explanations)  # fmt: skip
    assert sorted((s.feature.index, s.scorer) for s in scores) == [
        (i, s) for i in range(3) for s in ("detection", "simulation")
    ]
    assert {s.simulator for s in scores} == {"reply", "ask 12 at a time (P(yes))"}
    assert all(s.value is not None and s.null is not None and s.predictions for s in scores)
    # What each result says it used is what the server was asked.
    used = sum([e.usage for e in explanations] + [s.usage for s in scores], Usage())
    assert used.calls == len(server.log) == store.spent("r1")[1] == len(store.calls("r1"))
    assert used.cost is None  # Nobody knows the price of a server on this machine.
    assert set(asked_about(server)) == {"explain", "simulate", "detect"}
    assert list(dict.fromkeys(p.done for p in seen if p.stage == "score")) == list(range(7))
    assert seen[-1].calls == len(server.log)


def test_a_whole_run_over_the_anthropic_protocol_is_in_the_store(
    folder: Path, store: Store, server: Loopback
) -> None:
    config = config_for(
        folder, server, llm="anthropic:claude-opus-4-8", base_url=server.anthropic_url,
        features="0-1",
    )  # fmt: skip
    outcome = do(config, store)
    assert (outcome.status, outcome.done) == (RunStatus.DONE, 2)
    scores = store.scores_of("r1")
    assert {s.simulator for s in scores} == {"reply", "ask 12 at a time (5 votes)"}
    assert all(s.value is not None and s.n_failed == 0 for s in scores)
    assert {asked.path for asked in server.log} == {"/v1/messages"}
    asked = [asked_windows(a.last) for a in server.log if kind_of(a.messages) == "detect"]
    questions = Counter((about, frozenset(windows)) for about, windows, _ in asked)
    assert questions
    assert set(questions.values()) == {5}


def test_a_function_at_a_dotted_path_is_a_language_model(folder: Path, store: Store) -> None:
    outcome = do(config_for(folder, llm="tests.pipeline_child:function", features="0-1"), store)
    assert (outcome.status, outcome.done) == (RunStatus.DONE, 2)
    assert all(s.value is not None for s in store.scores_of("r1"))


def test_what_a_known_price_comes_to_is_with_every_result(
    folder: Path, store: Store, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    do(config_for(folder, llm="tests.pipeline_child:Priced", features="0"), store)
    results = store.results("r1")
    total = sum(r.cost or 0.0 for r in results)
    assert total > 0
    assert total == pytest.approx(store.spent("r1")[0])


def test_the_same_command_again_asks_nobody_and_changes_nothing(
    folder: Path, store: Store, server: Loopback
) -> None:
    config = config_for(folder, server)
    first = do(config, store)
    before, asked = rows(store), len(server.log)
    again = do(config, store)
    assert len(server.log) == asked
    assert again.run.id == first.run.id
    assert again.status is RunStatus.DONE
    assert rows(store) == before
    fresh = do(config, store, fresh=True)
    assert fresh.run.id == "r2"
    assert len(server.log) == asked  # The replies are kept, too.
    assert rows(store, "r2") == before


def test_stages_one_at_a_time_come_to_the_same(
    folder: Path, store: Store, server: Loopback, tmp_path: Path
) -> None:
    config = config_for(folder, server, features="0-1")
    for stage in ("collect", "explain", "score"):
        assert do(config, store, stages=(stage,)).status is RunStatus.DONE
    with open_store(f"sqlite:///{tmp_path}/other.db") as other:
        do(config, other)
        assert rows(store) == rows(other)


def test_explaining_what_was_not_collected_says_so(
    folder: Path, store: Store, server: Loopback
) -> None:
    with pytest.raises(ConfigError, match="collect it first"):
        do(config_for(folder, server), store, stages=("explain",))
    assert server.log == []


def test_two_models_are_each_asked_only_their_part(folder: Path, store: Store) -> None:
    with Loopback(rule) as server:
        config = config_for(folder, server, scorer_llm="openai:other-model", features="0-1")
        do(config, store)
        models = {kind_of(a.messages): set[str]() for a in server.log}
        for asked in server.log:
            models[kind_of(asked.messages)].add(asked.body["model"])
    assert models == {
        "explain": {"some-model"}, "simulate": {"other-model"}, "detect": {"other-model"},
    }  # fmt: skip
    assert {e.model for e in store.explanations_of("r1")} == {"openai:some-model"}
    assert {s.model for s in store.scores_of("r1")} == {"openai:other-model"}


def test_explainers_see_train_text_alone_and_scorers_none_of_it(
    folder: Path, store: Store, server: Loopback
) -> None:
    do(config_for(folder, server, explainers=["max-act", "unigram"], features="0-3"), store)
    pools = {f"z{i:03d}": pool_of(text) for i, text in enumerate(texts())}
    seen: dict[str, Counter[Pool]] = {}
    for asked in server.log:
        shown = asked.last.replace("<<", "").replace(">>", "")
        if kind_of(asked.messages) == "simulate":  # A token a line.
            shown = "".join(re.findall(r"^\d+: ?(.*)$", shown, re.MULTILINE))
        found = {pools[tag] for tag in re.findall(r"z\d{3}", shown)}
        assert found, shown
        seen.setdefault(kind_of(asked.messages), Counter()).update(found)
        if kind_of(asked.messages) != "explain":
            assert len(found) == 1
    assert set(seen["explain"]) == {Pool.TRAIN}
    assert set(seen["detect"]) == set(seen["simulate"]) == {Pool.DEV, Pool.TEST}
    # What is scored is of the test pool alone; dev is for calibration.
    documents = {p.document for s in store.scores_of("r1", predictions=True) for p in s.predictions}
    tests = {e.document for i in range(4) for e in _record(store, i).test.examples}
    assert documents <= tests


def _record(store: Store, index: int) -> Any:
    made = store.run("r1")
    return next(r for r in store.records(made.collection) if r.feature.index == index)


def test_a_neuron_that_never_fires_is_a_result_and_no_failure(
    folder: Path, store: Store, server: Loopback
) -> None:
    config = config_for(folder, server, features=f"0,{DEAD}", explainers=["max-act", "unigram"])
    outcome = do(config, store)
    assert (outcome.status, outcome.done, outcome.failed) == (RunStatus.DONE, 2, 0)
    dead = [e for e in store.explanations_of("r1") if e.feature.index == DEAD]
    assert len(dead) == 2
    assert all(e.abstained and not e.text for e in dead)
    scores = [s for s in store.scores_of("r1") if s.feature.index == DEAD]
    assert len(scores) == 4
    assert all(s.value is None and "abstained" in s.note and not s.usage.calls for s in scores)


def test_an_unknown_price_with_a_budget_refuses_to_start(
    folder: Path, store: Store, server: Loopback
) -> None:
    seen: list[Progress] = []
    with pytest.raises(ConfigError, match="--max-calls"):
        do(config_for(folder, server), store, budget=5.0, tell=seen.append)
    assert server.log == []
    assert {p.stage for p in seen} == {"load"}  # Not even the text was read.


# -- names and text that are not there ------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"model": "smollm2-136m"}, ConfigError, "smollm2-135m"),
        ({"sites": ["layers.0.mlp.neuron"]}, ConfigError, "layers.0.mlp.neurons"),
        ({"sites": ["layers.7.mlp.neurons"]}, ConfigError, "layers.0 to layers.1"),
        ({"features": "0-99"}, ConfigError, "features 0 to 23"),
        ({"features": "smple:3"}, ConfigError, "sample:200"),
        ({"explainers": ["max-akt"]}, NotRegistered, "max-act"),
        ({"explainers": ["no.such:Thing"]}, NotRegistered, "no.such"),
        ({"scorers": ["detektion"]}, NotRegistered, "detection"),
        ({"simulator": "replay"}, NotRegistered, "reply"),
        ({"llm": "opnai:gpt"}, NotRegistered, "openai:MODEL"),
        ({"scorer_llm": "opnai:gpt"}, NotRegistered, "openai:MODEL"),
        ({"llm": "openai:"}, ConfigError, "openai:MODEL"),
        ({"corpus": "defualt"}, CorpusError, "default"),
        ({"corpus": "nowhere/texts.txt"}, CorpusError, "nowhere/texts.txt"),
        ({"simulator": "logprob"}, Unsupported, "--simulator reply"),
        ({"simulator": "contrast"}, Unsupported, "--simulator reply"),
    ],
)
def test_what_is_not_there_is_named_before_anything_is_paid(
    folder: Path,
    store: Store,
    server: Loopback,
    wrong: dict[str, Any],
    error: type[GlossatorError],
    says: str,
) -> None:
    seen: list[Progress] = []
    with pytest.raises(error, match=re.escape(says)) as raised:
        do(config_for(folder, server, **wrong), store, tell=seen.append)
    assert raised.value.exit_code == 2
    assert len(str(raised.value).splitlines()) <= 2
    assert server.log == []
    assert "read" not in {p.stage for p in seen}


@pytest.mark.parametrize("text", ["", "\n\n \n", "…!?\n"])
def test_an_empty_corpus_is_one_clear_error(
    folder: Path, store: Store, server: Loopback, tmp_path: Path, text: str
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError) as raised:
        do(config_for(folder, server, corpus=str(empty)), store)
    assert len(str(raised.value).splitlines()) == 1
    assert server.log == []


# -- parts from outside, and models that are not needed -------------------------------------------


def test_an_explainer_from_outside_is_kept_under_the_name_it_was_asked_by(
    folder: Path, store: Store
) -> None:
    name = "tests.pipeline_child:Outsider"
    config = config_for(folder, explainers=[name], simulator="lexical", features="0-1")
    assert do(config, store).status is RunStatus.DONE
    assert {e.explainer for e in store.explanations_of("r1")} == {name}
    assert len(store.scores_of("r1")) == 4
    before = rows(store)
    assert do(config, store).status is RunStatus.DONE
    assert rows(store) == before


def test_no_model_is_opened_that_nobody_would_ask(folder: Path, store: Store) -> None:
    config = config_for(folder, llm="no.such:model", explainers=["unigram"])
    assert do(config, store).status is RunStatus.DONE
    assert {s.simulator for s in store.scores_of("r1")} == {"symbolic", "maximum of symbolic"}


def test_a_simulator_that_is_named_reads_the_baseline_too(
    folder: Path, store: Store, server: Loopback
) -> None:
    config = config_for(folder, server, explainers=["unigram"], simulator="reply", features="0")
    assert do(config, store).status is RunStatus.DONE
    assert set(asked_about(server)) == {"simulate", "detect"}


def test_what_people_wrote_is_scored_like_the_rest_until_they_take_it_back(
    folder: Path, store: Store, server: Loopback
) -> None:
    config = config_for(folder, server, features="0-1")
    do(config, store)
    first, second = (e.feature for e in store.explanations_of("r1"))
    store.reviews.put("r1", first, Wish("Ann", ActKind.EDIT, value="words about water"))
    gone = store.reviews.put("r1", second, Wish("Ann", ActKind.EDIT, value="words about fire"))
    store.reviews.put("r1", second, Wish("Ann", ActKind.UNDO, undoes=gone.id))
    assert do(config, store, stages=("score",)).status is RunStatus.DONE
    people = [s for s in store.scores_of("r1") if s.explainer == "human"]
    assert [(s.feature, s.scorer) for s in sorted(people, key=lambda s: s.scorer)] == [
        (first, "detection"),
        (first, "simulation"),
    ]
    assert all(s.value is not None and s.null is not None for s in people)
