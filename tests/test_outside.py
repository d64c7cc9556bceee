"""A user's own language model: whatever it does wrong is told as its fault, and soon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from glossator.errors import BadReply, ConfigError, ProviderError
from glossator.llm import Message, Request
from glossator.providers.table import make_llm
from glossator.runs import RunStatus
from glossator.store import Store
from tests.own_models import ASKED
from tests.pipeline_child import config_for, do

WRONG = {
    "CostNaN": "a cost is a finite number of dollars, .* not nan",
    "CostText": "a cost is a finite number of dollars, .* not '0.01'",
    "CostNegative": "a cost is .* not -1.0",
    "TokensNegative": "whole numbers, none below 0, not -100",
    "TokensInParts": "whole numbers, none below 0, not 100.5",
    "UsageMapping": "`usage` is a dict, not a Usage",
    "NoText": "`text` is a NoneType, not a str",
    "BareText": "returned a str: its `reply` is to return glossator.llm.Reply",
    "OddFinish": "`finish` is 'done', none of stop",
}


def ask_once(name: str) -> None:
    llm = make_llm(f"tests.own_models:{name}")
    asyncio.run(llm.reply(Request((Message("user", "colour?"),))))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_reply_is_named_with_what_to_return_before_more_is_paid(
    folder: Path, store: Store, name: str
) -> None:
    ASKED.clear()
    config = config_for(folder, llm=f"tests.own_models:{name}", features="0-2")
    with pytest.raises(BadReply, match=f"(?s)^{name} .*{WRONG[name]}") as raised:
        do(config, store, budget=1000.0)
    assert raised.value.exit_code == 2
    assert len(str(raised.value)) < 300
    assert ASKED[name] == 1
    assert store.run("r1").status is RunStatus.INTERRUPTED
    (line,) = store.calls("r1").to_dict("records")
    assert line["error_type"] == "BadReply"
    assert line["cost"] == line["assumed"] > 0.0  # It may have been paid for.


@pytest.mark.parametrize("name", ["PriceNumber", "PriceNaN", "PriceNone", "PriceNegative"])
def test_a_price_that_is_none_is_refused_before_anything_is_asked(name: str) -> None:
    ASKED.clear()
    with pytest.raises(ConfigError, match=rf"{name} has a `price` that is none, .*FlatPrice\("):
        ask_once(name)
    assert not ASKED


def test_other_things_that_a_model_has_are_looked_at_too() -> None:
    with pytest.raises(ConfigError, match="CanAnything has a `can`"):
        make_llm("tests.own_models:CanAnything")
    with pytest.raises(ProviderError, match=r"own_models:Unmade raised KeyError: 'MY_KEY'"):
        make_llm("tests.own_models:Unmade")


def test_what_a_model_raises_fails_the_piece_of_work_under_its_name(
    folder: Path, store: Store
) -> None:
    config = config_for(folder, llm="tests.own_models:Raises", features="0-2")
    outcome = do(config, store)
    assert (outcome.status, outcome.failed) == (RunStatus.SOME_FAILED, 3)
    assert store.run("r1").status is RunStatus.SOME_FAILED
    told = {failure.message for failure in store.failures("r1")}
    assert told == {"Raises raised ValueError: my own bug, with [key]"}
    ledger = store.calls("r1")
    assert set(ledger["error_type"]) == {"ProviderError"}
    assert list(ledger["attempt"]) == [1, 1, 1]  # A bug is not asked again.


def test_a_timeout_of_a_model_is_asked_again(folder: Path, store: Store) -> None:
    config = config_for(
        folder, llm="tests.own_models:TimesOut", features="0", scorers=["detection"]
    )
    assert do(config, store).status is RunStatus.DONE
    failed = store.calls("r1").query("error_type != ''")
    assert set(failed["error_type"]) == {"ProviderError"}
    assert set(failed["error"]) == {"TimesOut raised RuntimeError: gave up"}


def test_a_model_of_a_users_own_keeps_all_that_it_has() -> None:
    llm = make_llm("tests.own_models:Own")
    assert (llm.name, llm.can) == ("Own", frozenset())
    assert not hasattr(llm, "identity")
    ask_once("Own")
