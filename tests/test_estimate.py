"""The estimate before a run, held against the ledger after it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from glossator.config import RunConfig, RunLimits
from glossator.errors import (
    ConfigError,
    CorpusError,
    NotRegistered,
    ProviderRefused,
    StoreError,
    Unsupported,
)
from glossator.estimate import Plan, plan
from glossator.llm import LLM, Message, Request, ask
from glossator.providers.schema import read_json
from glossator.providers.tokens import reckoned
from glossator.store import Store, open_store, open_to_read
from glossator.types import Explanation, FeatureId, Score, Split
from tests.loopback import Loopback, status
from tests.pipeline_child import answer, config_for, do, options

STAGES = ("collect", "explain", "score")


def estimate(
    folder: Path,
    store: Store | None = None,
    limits: RunLimits | None = None,
    stages: tuple[str, ...] = STAGES,
    fresh: bool = False,
    **others: Any,
) -> Plan:
    config = RunConfig.from_mapping(options(folder, **others))
    return plan(config, limits or RunLimits(), store, stages, fresh=fresh)


def within(planned: float, actual: float, share: float = 0.3) -> bool:
    return abs(planned - actual) <= share * actual


@dataclass(frozen=True)
class Rater:
    """A scorer from outside, which asks once a window and is told of nowhere else."""

    llm: LLM
    n_scored: int = 4

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"rate": {"type": "integer", "minimum": 1}},
        }
        schema |= {"required": ["rate"], "additionalProperties": False}
        for example in split.examples[: self.n_scored]:
            asked = (Message("system", "JSON object"), Message("user", f"1: {example.text}"))
            request = Request(asked, schema=json.dumps(schema))
            await ask(self.llm, request, lambda reply: read_json(reply.text))
        feature, who = explanation.feature, explanation.explainer
        return Score(feature, who, "rater", model=self.llm.name, value=0.5)


@dataclass(frozen=True)
class Asker:
    """An explainer from outside, of whose replies nobody can guess the form."""

    llm: LLM

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        about = (Message("system", "You study one neuron"), Message("user", train.firing[0].text))
        said, usage = await ask(self.llm, Request(about, max_tokens=20), lambda r: r.text[40:])
        return Explanation(feature, said or "nothing", "asker", self.llm.name, usage=usage)


# -- against what is then asked --------------------------------------------------------------------


@pytest.mark.parametrize(
    "others",
    [
        {"features": "0-1"},
        {"features": "0-1", "n_scored": 2, "n_shuffled": 0},
        {"features": "0", "scorers": ["detection"], "n_shuffled": 4},
        {"features": "0", "explainers": ["max-act", "unigram"], "simulator": "reply"},
        {"features": "0", "simulator": "lexical"},
        {"features": "0", "llm": "anthropic:claude-opus-4-8", "scorers": ["detection"]},
        {"features": "0-2", "explainers": ["unigram"]},
        {"features": "0-1", "scorers": ["tests.test_estimate:Rater"]},
        {"features": "0-1", "explainers": ["tests.test_estimate:Asker"], "scorers": ["detection"]},
    ],
)
def test_calls_and_tokens_of_a_run_are_within_a_third_of_the_estimate(
    folder: Path, store: Store, server: Loopback, others: dict[str, Any]
) -> None:
    server.count, server.around = reckoned, 4
    remote = str(others.get("llm", "")).startswith("anthropic")
    url = server.anthropic_url if remote else server.openai_url
    planned = estimate(folder, store, base_url=url, **others)
    assert server.log == []
    assert store.runs() == []
    config = config_for(folder, base_url=url, **others)
    do(config, store)
    used = store.used("r1")
    assert used.calls == len(server.log)
    assert within(planned.calls, used.calls)
    assert within(planned.prompt_tokens, used.prompt_tokens)
    # How long this server's replies are, nobody could know.
    assert used.completion_tokens / 3 <= planned.completion_tokens <= 3 * used.completion_tokens
    assert planned.features == len({e.feature for e in store.explanations_of("r1")})
    assert planned.disk_bytes > 0
    assert planned.seconds > 0
    if used.calls:  # Nobody knows the price of a server on this machine.
        assert planned.dollars_low is planned.dollars_high is None
        assert any("nobody knows the price" in note for note in planned.notes)
    else:
        assert planned.dollars_low == planned.dollars_high == 0.0


def test_dollars_are_within_a_third_of_the_low_estimate_and_below_the_high_one(
    folder: Path, store: Store, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    server.count, server.around = reckoned, 4
    planned = estimate(folder, store, llm="tests.pipeline_child:Listed")
    do(config_for(folder, llm="tests.pipeline_child:Listed"), store)
    spent = store.spent("r1")[0]
    assert planned.dollars_low is not None
    assert planned.dollars_high is not None
    assert within(planned.dollars_low, spent)
    assert planned.dollars_low <= planned.dollars_high
    assert spent <= planned.dollars_high


def test_a_function_is_counted_too(folder: Path, store: Store) -> None:
    others: dict[str, Any] = {"features": "0", "llm": "tests.test_estimate:rule"}
    planned = estimate(folder, store, **others)
    assert ASKED == []
    do(config_for(folder, **others), store)
    assert within(planned.calls, store.used("r1").calls)
    assert planned.dollars_low is None


ASKED: list[str] = []


def rule(messages: Any) -> str:
    ASKED.append(messages[-1]["content"])
    return answer([(m["role"], m["content"]) for m in messages])


# -- what hangs on what is answered ----------------------------------------------------------------

MANY = {"features": "0", "scorers": ["detection"], "n_scored": 120, "n_top": 20, "tokens": 40_000}
MANY |= {"n_per_quantile": 16, "n_silent": 60, "per_call": 1}


@pytest.mark.parametrize(
    ("precision", "fewest"), [(0.9, True), (1e-4, False), (0.12, None)], ids=str
)
def test_a_precision_gives_a_low_figure_for_the_first_look_and_a_high_one_for_the_last(
    folder: Path, store: Store, server: Loopback, precision: float, fewest: bool | None
) -> None:
    server.count, server.around = reckoned, 4
    others: dict[str, Any] = {**MANY, "base_url": server.openai_url}
    planned = estimate(folder, store, precision=precision, **others)
    assert planned.calls * 1.5 < planned.calls_high
    assert planned.prompt_tokens * 1.5 < planned.prompt_tokens_high
    assert planned.completion_tokens < planned.completion_tokens_high
    assert planned.seconds <= planned.seconds_high
    assert any("precision: low if 40 windows a score are enough" in n for n in planned.notes)
    do(config_for(folder, precision=precision, **others), store)
    used = store.used("r1")
    if fewest is not None:
        assert within(planned.calls if fewest else planned.calls_high, used.calls, 0.1)
    assert planned.calls * 0.9 <= used.calls <= planned.calls_high * 1.1
    assert planned.prompt_tokens * 0.7 <= used.prompt_tokens <= planned.prompt_tokens_high * 1.3


def test_the_figures_hold_for_several_windows_to_a_request(
    folder: Path, store: Store, server: Loopback
) -> None:
    others: dict[str, Any] = {**MANY, "base_url": server.openai_url, "per_call": 10}
    planned = estimate(folder, store, precision=1e-4, **others)
    do(config_for(folder, precision=1e-4, **others), store)
    # The last request of each look may be part full, which the estimate of all at once has not.
    assert planned.calls <= store.used("r1").calls <= 1.1 * planned.calls_high


def test_with_as_few_windows_as_one_look_takes_there_is_one_figure(
    folder: Path, server: Loopback
) -> None:
    url = server.openai_url
    planned = estimate(folder, features="0", precision=0.05, base_url=url, n_scored=40)
    assert planned.calls == planned.calls_high
    assert not any("precision" in note for note in planned.notes)


@pytest.mark.parametrize("simulator", ["auto", "reply"])
def test_triage_gives_a_low_figure_for_nobody_asked_and_a_high_one_for_all(
    folder: Path, store: Store, server: Loopback, simulator: str
) -> None:
    server.count, server.around = reckoned, 4
    others: dict[str, Any] = {"features": "0-2", "simulator": simulator, "per_call": 1}
    others |= {"scorers": ["detection"], "base_url": server.openai_url}
    planned, plain = (estimate(folder, store, triage=t, **others) for t in (True, False))
    assert any("triage: low if no feature" in note for note in planned.notes)
    if simulator == "auto":  # Patterns are run as programs, on dev and on test.
        assert planned.calls == 0
        assert planned.calls_high == plain.calls
    else:
        assert 0 < planned.calls < planned.calls_high
        assert planned.calls_high >= plain.calls + 3 * 4  # Dev is read for the cheap one, too.
    do(config_for(folder, triage=True, **others), store)
    used = store.used("r1")
    assert planned.calls * 0.9 <= used.calls <= planned.calls_high * 1.1
    assert planned.prompt_tokens * 0.7 <= used.prompt_tokens <= planned.prompt_tokens_high * 1.3


@pytest.mark.assets
def test_hard_windows_are_counted_up_to_all_that_were_asked_for(
    folder: Path, store: Store, server: Loopback
) -> None:
    server.count, server.around = reckoned, 4
    others: dict[str, Any] = {"features": "0-2", "scorers": ["detection"], "per_call": 1}
    others |= {"base_url": server.openai_url, "n_silent": 12}
    plain = estimate(folder, store, **others)
    planned = estimate(folder, store, n_hard=4, **others)
    assert plain.calls == plain.calls_high < planned.calls < planned.calls_high
    # A window may be of two kinds, and is asked about once.
    assert plain.calls + 3 * 2 * 4 < planned.calls_high <= plain.calls + 3 * 3 * 4
    do(config_for(folder, n_hard=4, **others), store)
    assert planned.calls <= store.used("r1").calls <= planned.calls_high


# -- what the store holds already ------------------------------------------------------------------


def test_a_finished_run_has_nothing_left_and_a_fresh_one_pays_nothing_again(
    folder: Path, store: Store, server: Loopback
) -> None:
    others: dict[str, Any] = {"base_url": server.openai_url, "features": "0-1"}
    do(config_for(folder, **others), store)
    asked = len(server.log)
    left = estimate(folder, store, **others)
    assert left.units == {"collect": 0, "explain": 0, "score": 0}
    assert (left.calls, left.prompt_tokens, left.seconds) == (0, 0, 0.0)
    again = estimate(folder, store, fresh=True, **others)
    assert again.units == {"collect": 0, "explain": 2, "score": 4}
    assert (again.calls, again.completion_tokens) == (0, 0)
    assert len(server.log) == asked


@pytest.mark.parametrize("calls", [5, 40])
def test_of_a_run_that_was_stopped_the_rest_is_left(
    folder: Path, store: Store, server: Loopback, calls: int
) -> None:
    config = config_for(folder, server)
    do(config, store, max_calls=calls)
    planned = plan(config, RunLimits(), store)
    before = len(server.log)
    do(config, store)
    assert within(planned.calls, len(server.log) - before, 0.1)


def test_stages_count_alone_and_together(folder: Path, store: Store, server: Loopback) -> None:
    def of(*stages: str) -> Plan:
        return estimate(folder, store, stages=stages, base_url=server.openai_url, features="0-1")

    do(config_for(folder, server, features="0-1"), store, stages=("collect",))
    whole, explained, scored = of(*STAGES), of("explain"), of("score")
    assert whole.units == {"collect": 0, "explain": 2, "score": 4}
    assert explained.calls == 2
    # There are no explanations yet to score.
    assert (scored.calls, scored.units) == (0, {"score": 0})
    do(config_for(folder, server, features="0-1"), store, stages=("explain",))
    assert of("score").units == {"score": 4}
    assert within(of("score").calls, whole.calls - 2, 0.1)
    assert of("collect").calls == 0


def test_how_long_and_how_much_earlier_calls_took_is_remembered(
    folder: Path, store: Store, server: Loopback
) -> None:
    others: dict[str, Any] = {"base_url": server.openai_url, "features": "0"}
    first = estimate(folder, store, **others)
    assert any("some-model: a guess" in note for note in first.notes)
    do(config_for(folder, **others), store)
    used = store.asked("openai:some-model")["explain", "max-act"]
    later = estimate(folder, store, seed=5, stages=("collect", "explain"), **others)
    assert any("some-model: by earlier calls" in note for note in later.notes)
    assert later.completion_tokens == round(used.completion_tokens / used.calls)


# -- the store is not touched ----------------------------------------------------------------------


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_a_dry_run_makes_no_file(folder: Path, server: Loopback, tmp_path: Path) -> None:
    given = options(folder, base_url=server.openai_url, features="0", scorers=["detection"])
    (tmp_path / "run.yaml").write_text(json.dumps(given))
    command = [sys.executable, "-m", "glossator", "--json", "--store", f"sqlite:///{tmp_path}/a.db"]
    command += ["--config", str(tmp_path / "run.yaml"), "run", "--dry-run"]
    before = fingerprint(tmp_path)
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["calls"] > 0
    assert fingerprint(tmp_path) == before


def test_an_estimate_from_a_store_changes_nothing_in_it(
    folder: Path, server: Loopback, tmp_path: Path
) -> None:
    config, url = config_for(folder, server, features="0"), f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as made:
        do(config, made)
    before = fingerprint(tmp_path)
    read = open_to_read(url)
    assert read is not None
    with read:
        assert plan(config, RunLimits(), read).calls == 0
    assert fingerprint(tmp_path) == before


def test_a_store_that_is_only_read_takes_nothing_and_sees_what_others_write(
    store: Store, tmp_path: Path
) -> None:
    assert open_to_read(store.url) is not None
    read = open_to_read(store.url)
    assert read is not None
    with read:
        store.begin_run(RunConfig())
        assert [run.id for run in read.runs()] == ["r1"]
        with pytest.raises(StoreError, match="reading alone"):
            read.begin_run(RunConfig())
    (tmp_path / "empty.db").touch()
    assert open_to_read(f"sqlite:///{tmp_path}/empty.db") is None


def test_a_store_of_an_older_version_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    open_store(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    engine.dispose()
    before = fingerprint(tmp_path)
    with pytest.raises(StoreError, match="glossator list"):
        open_to_read(url)
    assert fingerprint(tmp_path) == before


# -- money -----------------------------------------------------------------------------------------


def test_a_known_price_gives_dollars_and_needs_no_key(folder: Path) -> None:
    plans = [
        estimate(folder, llm=llm)
        for llm in ("openai:gpt-4.1-mini", "openai:gpt-4.1", "anthropic:claude-opus-4-1")
    ]
    low = [planned.dollars_low or 0.0 for planned in plans]
    assert 0 < low[0] < low[1] < low[2]
    assert all((p.dollars_high or 0.0) > (p.dollars_low or 0.0) for p in plans)


def test_what_a_model_thinks_is_in_the_high_estimate(folder: Path) -> None:
    planned = estimate(folder, llm="openai:gpt-5-mini", features="0", scorers=["detection"])
    assert planned.dollars_low is not None
    assert planned.dollars_high is not None
    assert planned.dollars_high > 20 * planned.dollars_low


def test_batches_cost_half(folder: Path) -> None:
    llm = "openai:gpt-4.1-mini"
    at_once = estimate(folder, llm=llm, features="0")
    batched = estimate(folder, llm=llm, features="0", limits=RunLimits(batch=True))
    assert (batched.calls, batched.prompt_tokens) == (at_once.calls, at_once.prompt_tokens)
    assert batched.dollars_low == pytest.approx((at_once.dollars_low or 0.0) / 2)
    assert batched.dollars_high == pytest.approx((at_once.dollars_high or 0.0) / 2)
    assert any("up to a day" in note for note in batched.notes)


def test_an_unknown_price_gives_no_dollars_and_a_budget_would_refuse(folder: Path) -> None:
    planned = estimate(folder, llm="openai:some-model-of-mine", limits=RunLimits(budget=5.0))
    assert planned.calls > 0
    assert planned.dollars_low is None
    assert planned.dollars_high is None
    said = " ".join(planned.notes)
    assert "openai:some-model-of-mine" in said
    assert "would refuse: use --max-calls" in said


def test_limits_are_told(folder: Path) -> None:
    limits = RunLimits(budget=5.0, max_calls=7)
    said = " ".join(estimate(folder, llm="openai:gpt-4.1-mini", limits=limits).notes)
    assert "before it passes 5 dollars" in said
    assert "after 7 calls" in said


def test_a_local_model_costs_nothing_and_is_neither_loaded_nor_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path / "cache"))
    planned = estimate(folder, llm="local", limits=RunLimits(offline=True))
    assert planned.dollars_low == planned.dollars_high == 0.0
    assert planned.calls > 0
    assert planned.seconds > 0
    assert planned.download_bytes > 10**9
    assert any("leave out --offline" in note for note in planned.notes)
    assert not (tmp_path / "cache").exists()


def test_more_features_cost_more_of_everything(folder: Path) -> None:
    one = estimate(folder, features="0", llm="openai:gpt-4.1-mini")
    ten = estimate(folder, features="0-9", llm="openai:gpt-4.1-mini")
    assert within(ten.calls, 10 * one.calls, 0.15)
    assert within(ten.prompt_tokens, 10 * one.prompt_tokens, 0.15)
    assert within(ten.dollars_low or 0.0, 10 * (one.dollars_low or 0.0), 0.15)


# -- what the run would refuse ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"explainers": ["max-akt"]}, NotRegistered, "max-act"),
        ({"llm": "opnai:gpt"}, NotRegistered, "openai:MODEL"),
        ({"sites": ["layers.0.mlp.neuron"]}, ConfigError, "layers.0.mlp.neurons"),
        ({"tokens": 10}, CorpusError, "train pool"),
        ({"ctx": 5000}, ConfigError, "ctx of 5000 is too long"),
        ({"simulator": "logprob"}, Unsupported, "--simulator reply"),
        ({"llm": "anthropic:claude-opus-4-8", "simulator": "contrast"}, Unsupported, "reply"),
        ({"base_url": "http://127.0.0.1:9/v1"}, ConfigError, "nothing answers at 127.0.0.1:9"),
        ({"llm": "local", "base_url": "http://127.0.0.1:9/v1"}, ConfigError, "--base-url"),
    ],
)
def test_what_the_run_would_refuse_is_refused(
    folder: Path, wrong: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        estimate(folder, **{"features": "0", **wrong})


def test_limits_that_cannot_be_met_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--offline forbids"):
        estimate(folder, features="0", limits=RunLimits(offline=True))
    with pytest.raises(ConfigError, match="--batch"):
        estimate(folder, features="0", llm="local", limits=RunLimits(batch=True))
    with pytest.raises(ConfigError, match="collect it first"):
        estimate(folder, features="0", stages=("explain",))


def test_a_key_that_a_server_refuses_is_refused_before_the_run(folder: Path) -> None:
    with Loopback(admit=lambda now: status(401)) as server, pytest.raises(ProviderRefused):
        estimate(folder, features="0", base_url=server.openai_url)
    assert "OPENAI_API_KEY" not in os.environ
