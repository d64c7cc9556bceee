"""The estimate before a run, held against the ledger after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glossator.config import RunConfig, RunLimits
from glossator.errors import NotRegistered
from glossator.estimate import Plan, plan, windows_at_most
from glossator.pipeline import run
from glossator.scorers.sample import draw
from glossator.store import Store, open_store
from tests.loopback import Loopback
from tests.pipeline_child import options, rule, save_subject, save_texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("estimate")
    save_subject(place / "subject")
    save_texts(place / "texts.jsonl")
    return place


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/glossator.db") as opened:
        yield opened


def estimate(folder: Path, store: Store, limits: RunLimits | None = None, **others: Any) -> Plan:
    return plan(RunConfig.from_mapping(options(folder, **others)), limits or RunLimits(), store)


@pytest.mark.parametrize(
    "others",
    [
        {"features": "0-1"},
        {"features": "0-1", "n_scored": 2, "n_shuffled": 0},
        {"features": "0", "llm": "openai:gpt-5-mini", "scorers": ["detection"]},
        {"features": "0", "explainers": ["max-act", "unigram"], "simulator": "reply"},
        {"features": "0", "simulator": "lexical"},
        {"features": "0", "llm": "anthropic:claude-opus-4-8", "scorers": ["detection"]},
        {"features": "0-2", "explainers": ["unigram"]},
    ],
)
def test_a_run_makes_no_more_calls_than_were_estimated(
    folder: Path, store: Store, others: dict[str, Any]
) -> None:
    with Loopback(rule) as server:
        remote = str(others.get("llm", "")).startswith("anthropic")
        url = server.anthropic_url if remote else server.openai_url
        config = RunConfig.from_mapping(options(folder, base_url=url, **others))
        planned = plan(config, RunLimits(), store)
        assert server.log == []
        assert store.runs() == []
        asyncio.run(run(config, RunLimits(), store))
    ledger = store.calls("r1")
    calls = int(ledger["n_calls"].sum())
    assert calls == len(server.log) <= planned.calls
    assert planned.calls <= 2 * calls + 20  # And not absurdly many.
    assert planned.features == len({e.feature for e in store.explanations_of("r1")})
    assert planned.disk_bytes > 0
    assert planned.seconds > 0
    if calls:  # Nobody knows the price of a server on this machine.
        assert planned.dollars is None
        assert any("nobody knows the price" in note for note in planned.notes)
    else:
        assert planned.dollars == 0.0


def test_a_run_makes_no_more_calls_of_a_function_than_were_estimated(
    folder: Path, store: Store
) -> None:
    others: dict[str, Any] = {"features": "0", "llm": "tests.pipeline_child:function"}
    planned = estimate(folder, store, **others)
    config = RunConfig.from_mapping(options(folder, **others))
    asyncio.run(run(config, RunLimits(), store))
    assert 0 < store.spent("r1")[1] <= planned.calls
    assert planned.dollars is None


def test_no_more_windows_are_drawn_than_is_reckoned(folder: Path, store: Store) -> None:
    config = RunConfig.from_mapping(options(folder, features="0", n_per_quantile=10))
    asyncio.run(run(config, RunLimits(), store, stages=("collect",)))
    (record,) = store.records(store.run("r1").collection)
    for n in range(2, 60):
        for split in (record.train, record.dev, record.test):
            assert len(draw(split, n, record.feature)) <= windows_at_most(n)


def test_a_known_price_gives_dollars_and_needs_no_key(folder: Path, store: Store) -> None:
    cheap = estimate(folder, store, llm="openai:gpt-4.1-mini")
    dear = estimate(folder, store, llm="openai:gpt-4.1")
    claude = estimate(folder, store, llm="anthropic:claude-opus-4-1")
    assert cheap.dollars is not None
    assert dear.dollars is not None
    assert claude.dollars is not None
    assert 0 < cheap.dollars < dear.dollars


def test_an_unknown_price_gives_no_dollars(folder: Path, store: Store) -> None:
    planned = estimate(folder, store, llm="openai:some-model-of-mine")
    assert planned.calls > 0
    assert planned.dollars is None
    assert any("openai:some-model-of-mine" in note for note in planned.notes)


def test_a_local_model_costs_nothing_and_is_not_loaded(folder: Path, store: Store) -> None:
    planned = estimate(folder, store, llm="local", limits=RunLimits(offline=True))
    assert planned.dollars == 0.0
    assert planned.calls > 0
    assert planned.seconds > 0


def test_more_features_cost_more_of_everything(folder: Path, store: Store) -> None:
    one = estimate(folder, store, features="0", llm="openai:gpt-4.1-mini")
    ten = estimate(folder, store, features="0-9", llm="openai:gpt-4.1-mini")
    assert ten.calls == 10 * one.calls
    assert ten.prompt_tokens == 10 * one.prompt_tokens
    assert ten.completion_tokens == 10 * one.completion_tokens
    assert ten.dollars == pytest.approx(10 * (one.dollars or 0.0), rel=0.01)


def test_what_is_not_there_is_named(folder: Path, store: Store) -> None:
    with pytest.raises(NotRegistered, match="max-act"):
        estimate(folder, store, explainers=["max-akt"])
