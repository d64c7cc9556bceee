"""Runs against servers that refuse, are not there, are no API, or hold other models; and keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glossator.errors import ConfigError, GlossatorError, ProviderRefused
from glossator.runs import RunStatus
from glossator.store import Store, open_store
from tests.loopback import HTML, Asked, Loopback, status
from tests.pipeline_child import config_for, do, options, rule
from tests.protocols import PROTOCOLS

KEY = "sk-proj-Zm9vYmFyYmF6cXV4"


def job(folder: Path, server: Loopback, protocol: str = "openai", **others: Any) -> Any:
    named = {"llm": f"{protocol}:any-model-at-all", "base_url": PROTOCOLS[protocol].url(server)}
    return config_for(folder, features="0", **(named | others))


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    for protocol in PROTOCOLS.values():
        monkeypatch.setenv(protocol.key_variable, KEY)
    return KEY


def everything_sent(server: Loopback) -> list[Asked]:
    return [*server.looked, *server.log]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_model_name_runs_the_whole_job_against_a_server_of_the_protocol(
    folder: Path, store: Store, server: Loopback, protocol: str
) -> None:
    outcome = do(job(folder, server, protocol, scorers=["detection"]), store)
    assert outcome.status is RunStatus.DONE
    assert all(s.value is not None for s in store.scores_of("r1"))
    assert {asked.body["model"] for asked in server.log} == {"any-model-at-all"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_key_is_one_request_and_one_message_that_names_the_variable(
    folder: Path, store: Store, protocol: str, key: str
) -> None:
    with Loopback(rule, admit=lambda now: status(401, f"no such key: {KEY}")) as server:
        outcome = do(job(folder, server, protocol), store)
        assert len(everything_sent(server)) == 1
    stopped = outcome.stopped
    assert isinstance(stopped, ProviderRefused)
    assert stopped.exit_code == 3
    assert PROTOCOLS[protocol].key_variable in str(stopped)
    assert outcome.status is store.run("r1").status is RunStatus.REFUSED
    assert KEY not in str(stopped)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_key_is_nowhere_in_what_a_run_leaves_behind(
    folder: Path, tmp_path: Path, protocol: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    echo = f"your key {KEY} is over its limit"
    with (
        Loopback(rule, faults=[None, None, *[status(500, echo)] * 3]) as server,
        open_store(f"sqlite:///{tmp_path}/glossator.db") as store,
    ):
        do(job(folder, server, protocol, scorers=["detection"]), store)
        sent = [a for a in server.log if KEY in json.dumps(dict(a.headers))]
        assert sent == server.log  # It was used.
        store.export(str(tmp_path / "out"), "jsonl")
        assert (store.calls("r1")["error_type"] == "ProviderError").sum() >= 2
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    said = capsys.readouterr()
    assert KEY not in said.out + said.err


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_address_that_nobody_answers_is_told_before_the_text_is_read(
    folder: Path, store: Store, server: Loopback, protocol: str
) -> None:
    stages = []
    config = job(folder, server, protocol, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9"):
        do(config, store, tell=lambda p: stages.append(p.stage))
    assert set(stages) == {"load"}


def test_an_address_that_nobody_listens_at_is_told_before_the_subject_is_loaded(
    folder: Path, store: Store, server: Loopback
) -> None:
    notes: list[str] = []
    closed = job(folder, server, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match=r"nothing answers at 127\.0\.0\.1:9: start the server"):
        do(closed, store, tell=lambda p: notes.append(p.note))
    assert notes == ["language model openai:any-model-at-all"]
    assert store.runs() == []


def test_a_run_of_which_nothing_is_left_needs_no_server(folder: Path, store: Store) -> None:
    with Loopback(rule) as server:
        config = job(folder, server, scorers=["detection"])
        do(config, store)
    assert do(config, store).status is RunStatus.DONE


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_address_that_answers_with_a_page_is_no_api(
    folder: Path, store: Store, protocol: str
) -> None:
    with Loopback(rule, admit=lambda now: HTML) as server:
        with pytest.raises(GlossatorError, match="web page") as raised:
            do(job(folder, server, protocol), store)
        assert raised.value.exit_code == 2
        assert len(str(raised.value).splitlines()) <= 2
        assert server.log == []


def test_two_language_models_may_live_at_two_addresses(folder: Path, store: Store) -> None:
    with Loopback(rule) as one, Loopback(rule) as other:
        told = options(
            folder, features="0", scorers=["detection"], base_url=one.openai_url,
            scorer_llm="anthropic:a-judge", scorer_base_url=other.anthropic_url,
        )  # fmt: skip
        assert do(config_for(folder, None, **told), store).status is RunStatus.DONE
        assert {a.path for a in one.log} == {"/v1/chat/completions"}
        assert {a.path for a in other.log} == {"/v1/messages"}


def test_the_ledger_says_for_which_feature_and_part_each_call_was(
    folder: Path, store: Store, server: Loopback
) -> None:
    do(config_for(folder, server, features="0-1"), store)
    calls = store.calls("r1")
    asked = calls.groupby(["stage", "part"])["n_calls"].sum()
    assert set(asked.index) == {
        ("explain", "max-act"),
        ("score", "max-act/detection"),
        ("score", "max-act/simulation"),
    }
    assert asked[("explain", "max-act")] == 2
    assert calls["feature"].notna().all()
    assert calls["feature"].nunique() == 2
