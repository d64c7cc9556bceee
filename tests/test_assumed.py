"""What nobody billed is assumed at the most it can be: budgets hold, and people are told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glossator.cli.progress import spent_line, used_parts
from glossator.cli.spending import assumed_line, spending
from glossator.config import RunConfig
from glossator.errors import GlossatorError, ProviderRefused, ReplyError
from glossator.ledger import OUT, Assumed, Call, Entry
from glossator.llm import Message, Purpose, Reply, Request, ScriptedLLM, working_on
from glossator.providers.budget import Budget
from glossator.providers.journal import MemoryJournal
from glossator.providers.metered import Metered
from glossator.providers.openai import OpenAILLM
from glossator.providers.outage import IN_A_ROW, PIECES_OF_WORK, Outage
from glossator.providers.prices import FlatPrice
from glossator.runs import RunStatus
from glossator.store import Store
from glossator.types import FeatureId, Usage
from tests.loopback import HTML, TRUNCATED, Fault, Loopback, changed, sends, without
from tests.pipeline_child import config_for, do, rule

DOLLAR_A_TOKEN = FlatPrice(1e6, 1e6)


def request() -> Request:
    return Request((Message("user", "colour?"),), max_tokens=10)


def metered(server: Loopback, budget: Budget | None = None) -> Metered:
    llm = OpenAILLM.connect("m", base_url=server.openai_url, environ={})
    return Metered(llm, MemoryJournal(), budget or Budget(1000.0), DOLLAR_A_TOKEN)


def asked(llm: Metered) -> tuple[Reply | GlossatorError, list[Call]]:
    """What comes of one request, and the ledger."""

    async def once() -> Reply | GlossatorError:
        try:
            return await llm.reply(request())
        except GlossatorError as error:
            return error
        finally:
            await llm.aclose()

    found = asyncio.run(once())
    assert isinstance(llm.journal, MemoryJournal)
    return found, llm.journal.calls


# -- replies that do not say what they used --------------------------------------------------------


@pytest.mark.parametrize("count", [0, -5, "12", None, 1e18, 1e308, 2.5])
def test_the_ledger_holds_what_a_reply_of_no_usable_usage_is_charged(count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": count}
    with Loopback(faults=[changed(lambda body: {**body, "usage": usage})]) as server:
        llm = metered(server)
        reply, (call,) = asked(llm)
    assert isinstance(reply, Reply)
    assert llm.budget.spent > 10.0
    assert call.usage.cost == call.usage.assumed == llm.budget.spent
    assert llm.budget.assumed == Assumed(llm.budget.spent)


def test_a_budget_holds_over_repeats_where_no_reply_says_what_it_used(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(rule, faults=[without("usage")] * 1000) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        config = config_for(folder, llm="tests.pipeline_child:Priced", features="0")
        first = do(config, store, budget=8.0)
        sent = len(server.log)
        assert sent > 0
        spent, calls = store.spent("r1")
        assert (store.assumed("r1"), calls) == (Assumed(spent), sent)
        assert 0 < spent <= 8.0
        assert first.used.assumed == pytest.approx(spent)
        again = do(config, store, budget=8.0)
        assert again.status is first.status is RunStatus.BUDGET_SPENT
        assert len(server.log) == sent
        assert f"${spent:.4f} of it assumed" in str(again.stopped)
        do(config, store, budget=12.0)
        assert len(server.log) > sent


# -- models that leave their usage alone -----------------------------------------------------------


@pytest.mark.parametrize("usage", [Usage(), Usage(cost=None), Usage(cached_calls=1)])
def test_an_attempt_is_a_call_at_the_most_it_can_cost_where_the_model_says_nothing(
    usage: Usage,
) -> None:
    llm = Metered(
        ScriptedLLM([Reply("fine", usage=usage)]), MemoryJournal(), Budget(1000.0), DOLLAR_A_TOKEN
    )
    reply, (call,) = asked(llm)
    assert isinstance(reply, Reply)
    assert (reply.usage.calls, call.usage.calls, llm.budget.calls) == (1, 1, 1)
    assert call.usage.cost == call.usage.assumed == llm.budget.spent > 10.0


def test_tokens_alone_are_a_call_at_their_price() -> None:
    usage = Usage(prompt_tokens=100, completion_tokens=5)
    rule = ScriptedLLM([Reply("fine", usage=usage)])
    llm = Metered(rule, MemoryJournal(), Budget(1000.0), DOLLAR_A_TOKEN)
    _, (call,) = asked(llm)
    assert call.usage == replace(usage, calls=1, cost=105.0)
    assert (llm.budget.spent, llm.budget.assumed) == (105.0, Assumed())


def test_a_reply_that_took_several_calls_counts_as_many_here_and_in_the_ledger() -> None:
    usage = Usage(3, 0, 100, 5)
    llm = Metered(ScriptedLLM([Reply("fine", usage=usage)]), MemoryJournal(), price=DOLLAR_A_TOKEN)
    _, (call,) = asked(llm)
    assert call.usage.calls == llm.budget.calls == 3


@pytest.mark.parametrize("name", ["CountsNoCalls", "CountsNothing"])
def test_limits_hold_over_repeats_for_a_model_that_counts_no_calls(
    folder: Path, store: Store, name: str
) -> None:
    from tests.own_models import ASKED

    ASKED.clear()
    config = config_for(folder, llm=f"tests.own_models:{name}", features="0")
    for _ in range(2):
        assert do(config, store, max_calls=6).status is RunStatus.BUDGET_SPENT
    assert ASKED[name] == 6 == store.spent("r1")[1]


# -- calls that a kill cut off ---------------------------------------------------------------------


def cut_off(dollars: float) -> Entry:
    usage = Usage(1, cost=dollars, assumed=dollars)
    return Entry(Call("a:b", "1", 1, usage, "out", OUT, Purpose("score", None, "max-act/rubric")))


def test_a_budget_that_a_kill_filled_says_so_and_a_higher_one_goes_on(
    folder: Path, store: Store, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    config = config_for(folder, llm="tests.pipeline_child:Priced", features="0")
    store.put_calls(store.begin_run(config).id, [cut_off(4.0), cut_off(3.5)])
    outcome = do(config, store, budget=8.0)
    assert outcome.status is RunStatus.BUDGET_SPENT
    said = str(outcome.stopped)
    assert "$7.5000 of $8.0000 are spent ($7.5000 of it assumed" in said
    assert "$7.5000 for 2 calls cut off by a kill" in said
    assert "a higher --budget goes on" in said
    assert do(config, store, budget=1000.0).status is RunStatus.DONE


# -- what people are told --------------------------------------------------------------------------


def filled(store: Store) -> str:
    run = store.begin_run(RunConfig()).id
    paid = Entry(Call("a:b", "0", 1, Usage(1, 0, 100, 20, 0.25)))
    silent = Entry(Call("a:b", "2", 1, Usage(1, cost=0.5, assumed=0.5)))
    store.put_calls(run, [paid, cut_off(2.0), silent])
    return run


def test_assumed_dollars_are_told_apart_from_billed_ones(store: Store) -> None:
    run = filled(store)
    assert store.assumed(run) == Assumed(2.5, 2.0, 1)
    assert (store.used(run).cost, store.used(run).assumed) == (2.75, 2.5)
    total = spending(store.calls(run))[-1]
    assert (total["cost"], total["assumed"], total["cut_off"]) == (2.75, 2.5, 1)
    assert "$2.50 is assumed" in assumed_line(total)
    assert "1 of them cut off by a kill" in assumed_line(total)
    assert "$2.75 ($2.50 of it assumed" in spent_line(store.used(run))
    assert "$2.75 spent ($2.50 assumed)" in used_parts(store.used(run))
    assert list(store.calls(run)["assumed"]) == [0.0, 2.0, 0.5]


def test_nothing_is_said_of_assumptions_where_there_are_none(store: Store) -> None:
    run = store.begin_run(RunConfig()).id
    store.put_calls(run, [Entry(Call("a:b", "0", 1, Usage(1, 0, 100, 20, 0.25)))])
    assert assumed_line(spending(store.calls(run))[-1]) == ""
    assert "assumed" not in spent_line(store.used(run))


def test_the_command_tells_it_to_people_and_to_programs(store: Store) -> None:
    filled(store)
    command = [sys.executable, "-m", "glossator", "--store", store.url, "list", "--spending"]
    wide = {**os.environ, "COLUMNS": "160"}
    told = subprocess.run(command, capture_output=True, text=True, env=wide)
    assert "$2.50 assumed" in told.stdout
    assert "1 cut off" in told.stdout
    assert "the most that they can have cost" in told.stderr
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, env=wide)
    assert json.loads(told.stdout)["spending"][-1]["assumed"] == 2.5


# -- a gateway in place of the model ---------------------------------------------------------------


@pytest.mark.parametrize(
    "page", ["<!doctype html><p>sign in", "\ufeff\n<HTML lang='en'>", "<?xml version='1.0'?><a/>"]
)
def test_a_web_page_costs_nothing_for_no_model_made_it(page: str) -> None:
    with Loopback(faults=[sends(page, "text/html")] * 3) as server:
        llm = metered(server)
        error, calls = asked(llm)
    assert isinstance(error, ReplyError)
    assert error.broken
    assert [(c.usage.calls, c.usage.cost) for c in calls] == [(1, 0.0)] * 3
    assert (llm.budget.spent, llm.budget.calls) == (0.0, 3)


def test_half_a_reply_may_have_been_paid_and_is_assumed() -> None:
    with Loopback(faults=[TRUNCATED]) as server:
        llm = metered(server)
        _, (lost, paid) = asked(llm)
    assert lost.usage.cost == lost.usage.assumed > 10.0
    assert paid.usage.assumed == 0.0
    assert llm.budget.assumed.dollars == lost.usage.assumed


def test_a_run_stops_where_web_pages_come_for_replies_and_goes_on_later(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True

    def admit(now: float) -> Fault | None:
        return HTML if broken and server.answered >= 20 else None

    with Loopback(rule, admit=admit) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        config = config_for(folder, llm="tests.pipeline_child:Priced", features="0-9")
        outcome = do(config, store, concurrency=4)
        assert isinstance(outcome.stopped, ProviderRefused)
        assert outcome.status is RunStatus.REFUSED
        assert "replies of openai:priced were lost" in str(outcome.stopped)
        assert "--base-url" in str(outcome.stopped)
        assert len(server.log) < 20 + IN_A_ROW + 3 * 16
        assert store.assumed("r1") == Assumed()
        broken = False
        assert do(config, store).status is RunStatus.DONE


def lost() -> ReplyError:
    return ReplyError("a page", broken=True)


def test_lost_replies_end_a_run_only_in_a_row_and_over_several_pieces_of_work() -> None:
    outage = Outage()
    for n in range(10 * IN_A_ROW):
        with working_on(Purpose("score", FeatureId("m", "s", 0), f"{n % (PIECES_OF_WORK - 1)}")):
            assert outage.failed("a:b", lost()) is None
    outage.came()
    found = None
    for n in range(IN_A_ROW):
        assert found is None
        with working_on(Purpose("score", FeatureId("m", "s", n), "")):
            found = outage.failed("a:b", lost())
    assert found is not None
    assert "a page" in str(found)
    outage.failed("a:b", ReplyError("no JSON"))  # The model did answer.
    with working_on(Purpose("score", None, "")):
        assert outage.failed("a:b", lost()) is None
