"""Requests that go through providers' batch APIs: each sent once and answered, come what may."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from glossator.config import RunConfig, RunLimits
from glossator.errors import (
    BudgetSpent,
    ConfigError,
    GlossatorError,
    ProviderError,
    ProviderRefused,
    ReplyError,
    RequestRefused,
)
from glossator.llm import Message, Reply, Request
from glossator.models import Models, Who, check_batch
from glossator.progress import Progress
from glossator.providers.anthropic import AnthropicLLM
from glossator.providers.batching import BatchingLLM
from glossator.providers.budget import Budget
from glossator.providers.desks import Desk, Limits, desk_of
from glossator.providers.errand import Pace
from glossator.providers.gate import Gate
from glossator.providers.journal import GroupJournal
from glossator.providers.metered import Metered
from glossator.providers.openai import OpenAILLM
from glossator.providers.prices import FlatPrice
from glossator.store import Store
from tests.loopback import EMPTY, HALF_SENT, HTML, RESET, Asked, Fault, Loopback, status
from tests.loopback_batches import Fate

QUICK = Pace(quiet=0.02, longest=2.0, first=0.02, most=0.05, grace=0.3, patience=3.0, leave=2.0)
BOTH = pytest.mark.parametrize("kind", ["openai", "anthropic"])


def echo(asked: Asked) -> str:
    return f"reply to {asked.last}"


def ask(text: str) -> Request:
    return Request((Message("system", "Echo."), Message("user", text)), max_tokens=10)


def many(n: int, start: int = 0) -> list[Request]:
    return [ask(f"request {i}") for i in range(start, start + n)]


def expected(requests: list[Request]) -> list[str]:
    return [f"reply to {request.messages[-1].content}" for request in requests]


def run_of(store: Store) -> str:
    return store.begin_run(RunConfig()).id


def models_for(
    store: Store, tell: Callable[[Progress], None] = lambda progress: None, **limits: Any
) -> Models:
    run = run_of(store)
    budget = Budget(
        limits.get("budget"),
        limits.get("max_calls"),
        *store.spent(run),
        store.batches.owed(run),
    )
    config = RunConfig(llm="openai:m")
    return Models(config, RunLimits(batch=True, **limits), store, run, budget, tell, QUICK)


def who(kind: str, server: Loopback) -> Who:
    url = server.anthropic_url if kind == "anthropic" else server.openai_url
    return Who(f"{kind}:some-model", url)


def in_batches(
    kind: str,
    server: Loopback,
    store: Store,
    work: Callable[[Metered], Awaitable[Any]],
    tell: Callable[[Progress], None] = lambda progress: None,
    **limits: Any,
) -> Any:
    """What `work` gives with a model of a run, as the run would use it."""

    async def whole() -> Any:
        models = models_for(store, tell, **limits)
        try:
            return await work(await models.get(who(kind, server)))
        finally:
            await models.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(whole())


async def outcomes(llm: Metered, requests: list[Request]) -> list[Reply | GlossatorError]:
    found = await asyncio.gather(*map(llm.reply, requests), return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, GlossatorError):
            raise one
    return found  # type: ignore[return-value]


def texts(found: list[Reply | GlossatorError]) -> list[str]:
    return [one.text if isinstance(one, Reply) else repr(one) for one in found]


async def until(server: Loopback, what: str, times: int) -> None:
    """Waits until the server was asked that often."""
    while server.batches.done[what] < times:  # noqa: ASYNC110 - it is in another thread
        await asyncio.sleep(0.01)


def each_once(server: Loopback) -> bool:
    return set(server.batches.asked().values()) == {1}


# -- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openai", "openai-responses", "anthropic"])
def test_requests_go_out_together_and_each_gets_its_own_reply(kind: str, store: Store) -> None:
    requests = many(40)
    with Loopback(echo) as server:
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert [len(batch.items) for batch in server.batches.sent] == [40]
    assert server.log == []
    calls = store.calls()
    assert calls["batched"].all()
    assert calls["n_calls"].sum() == 40
    assert store.batches.owed("r1") == {}


@BOTH
def test_what_was_answered_in_a_batch_is_kept_for_both_ways_of_asking(
    kind: str, store: Store
) -> None:
    requests = many(3)
    with Loopback(echo) as server:
        for _ in range(2):
            found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
            assert texts(found) == expected(requests)
        assert len(server.batches.sent) == 1

        async def at_once() -> list[Reply | GlossatorError]:
            models = models_for(store)
            models.limits = RunLimits()
            try:
                return await outcomes(await models.get(who(kind, server)), requests)
            finally:
                await models.aclose()

        assert texts(asyncio.run(at_once())) == expected(requests)
    assert server.log == []
    assert store.calls()["batched"].tolist() == [True] * 3 + [False] * 6


@BOTH
@pytest.mark.parametrize(
    "fate",
    [Fate("expired"), Fate("cancelled"), Fate("missing"), Fate("garbage"), Fate("error", 429)],
    ids=lambda fate: fate.kind,
)
def test_what_a_batch_did_not_answer_goes_into_the_next(
    kind: str, fate: Fate, store: Store
) -> None:
    requests = many(12)
    with Loopback(echo) as server:
        server.batches.fate = lambda text, before: (
            fate if text.endswith("7") and before == 0 else Fate()
        )
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
        sizes = [len(batch.items) for batch in server.batches.sent]
    assert texts(found) == expected(requests)
    assert sizes == [12, 1]
    again = store.calls().query("attempt == 2")
    assert len(again) == 1
    assert store.batches.owed("r1") == {}


def test_what_openai_ended_early_is_asked_again(store: Store) -> None:
    requests = many(6)
    with Loopback(echo) as server:
        server.batches.ended_as = "expired"
        server.batches.fate = lambda text, before: Fate("missing" if before == 0 else "done")
        found = in_batches("openai", server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert [len(batch.items) for batch in server.batches.sent] == [6, 6]
    # What was not done costs nothing, so it is not a cost that is unknown.
    assert (store.calls().query("attempt == 1")["cost"] == 0).all()


@BOTH
def test_one_wrong_request_is_that_ones_error_alone(kind: str, store: Store) -> None:
    with Loopback(echo) as server:
        server.batches.fate = lambda text, before: (
            Fate("error", 400, "no such option") if text.endswith("3") else Fate()
        )
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, many(5)))
    assert [isinstance(one, Reply) for one in found] == [True, True, True, False, True]
    assert isinstance(found[3], RequestRefused)
    assert "no such option" in str(found[3])
    assert store.batches.owed("r1") == {}


@BOTH
def test_requests_that_are_all_wrong_are_refused_with_one_message(kind: str, store: Store) -> None:
    with Loopback(echo) as server:
        server.batches.fate = lambda text, before: Fate("error", 400, "no such option")
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, many(5)))
    assert all(isinstance(one, ProviderRefused) for one in found)
    assert len({str(one) for one in found}) == 1
    assert store.batches.owed("r1") == {}


@BOTH
def test_a_prompt_too_long_in_a_batch_is_that_ones_error_alone(kind: str, store: Store) -> None:
    with Loopback(echo) as server:
        server.batches.fate = lambda text, before: (
            Fate("error", 400, "prompt is too long: 9 tokens") if text.endswith("3") else Fate()
        )
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, many(5)))
    assert [isinstance(one, Reply) for one in found] == [True, True, True, False, True]
    assert isinstance(found[3], ReplyError)
    assert server.batches.done["submit"] == 1


@BOTH
def test_a_batch_that_is_too_large_is_split(kind: str, store: Store) -> None:
    requests = many(20)
    with Loopback(echo) as server:
        server.batches.most = 6
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert each_once(server)
    assert max(len(b.items) for b in server.batches.sent if not b.refused) <= 6
    assert store.batches.owed("r1") == {}


def test_a_batch_turned_away_as_a_whole_is_one_message(store: Store) -> None:
    with Loopback(echo) as server:
        server.batches.refuse_with = "model_not_found"
        found = in_batches("openai", server, store, lambda llm: outcomes(llm, many(4)))
    assert all(isinstance(one, ProviderRefused) for one in found)
    assert "some-model" in str(found[0])
    assert len(server.batches.sent) == 1
    assert store.batches.owed("r1") == {}


@BOTH
def test_a_server_without_a_batch_api_is_told_before_anything_is_asked(
    kind: str, store: Store
) -> None:
    with Loopback(echo) as server:
        server.batches.there = False
        with pytest.raises(ProviderRefused, match="has no batch API; leave out --batch"):
            in_batches(kind, server, store, lambda llm: outcomes(llm, many(4)))
    assert server.log == []


def test_batches_with_a_model_that_has_none_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="local:small runs on this machine and has no batch API"):
        check_batch(RunConfig(llm="local:small"), RunLimits(batch=True))
    check_batch(RunConfig(llm="local", scorer_llm="openai:m"), RunLimits(batch=True))
    check_batch(RunConfig(llm="local"), RunLimits())


def test_batches_with_somebody_elses_model_are_refused(store: Store) -> None:
    async def work() -> None:
        models = models_for(store)
        try:
            await models.get(Who("tests.pipeline_child:function"))
        finally:
            await models.aclose()

    with pytest.raises(ConfigError, match="has no batch API: leave out --batch"):
        asyncio.run(work())


# -- what goes wrong on the way -------------------------------------------------------------------

LOST = {
    "error": status(500),
    "hung-up": RESET,
    "web-page": HTML,
    "nothing": EMPTY,
    "cut": HALF_SENT,
}


@BOTH
@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_a_batch_whose_id_was_lost_is_found_and_not_sent_again(
    kind: str, fault: Fault, store: Store
) -> None:
    requests = many(8)
    with Loopback(echo) as server:
        server.batches.faults["submit"].append((fault, True))
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert len(server.batches.sent) == 1
    assert each_once(server)


@BOTH
def test_a_lost_batch_is_told_from_others_of_its_size(kind: str, store: Store) -> None:
    with Loopback(echo) as server:
        for start in (0, 100, 200, 300):  # More than a page of the list holds.
            before = many(5, start)
            in_batches(kind, server, store, partial(outcomes, requests=before))
        server.batches.faults["submit"].append((RESET, True))
        requests = many(5, 400)
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert len(server.batches.sent) == 5


@BOTH
@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_a_batch_that_did_not_arrive_is_sent_again_once_that_is_certain(
    kind: str, fault: Fault, store: Store
) -> None:
    requests = many(8)
    with Loopback(echo) as server:
        server.batches.faults["submit"].append((fault, False))
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
        assert server.batches.done["list"] >= 3  # The first was to see whether there is any.
    assert texts(found) == expected(requests)
    assert each_once(server)


def test_an_upload_that_fails_is_made_again(store: Store) -> None:
    requests = many(4)
    with Loopback(echo) as server:
        server.batches.faults["upload"] += [(status(503), False), (status(429), False)]
        found = in_batches("openai", server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert each_once(server)


@BOTH
@pytest.mark.parametrize("what", ["state", "results"])
def test_faults_while_a_batch_is_out_lose_nothing(kind: str, what: str, store: Store) -> None:
    requests = many(8)
    notes: list[str] = []
    with Loopback(echo) as server:
        faults = [status(500), RESET, status(429, retry_after="0"), HALF_SENT]
        faults += [HTML, EMPTY] if what == "state" else []
        server.batches.faults[what].extend((fault, False) for fault in faults)
        found = in_batches(
            kind,
            server,
            store,
            lambda llm: outcomes(llm, requests),
            tell=lambda progress: notes.append(progress.note),
        )
    assert texts(found) == expected(requests)
    assert len(server.batches.sent) == 1
    assert any("0 of 8 requests done in 1 batch, looked at" in note for note in notes)
    assert any("answered 500" in note for note in notes)


@BOTH
def test_results_that_came_through_in_part_are_fetched_again(kind: str, store: Store) -> None:
    requests = many(8)
    with Loopback(echo) as server:
        server.batches.faults["results"].append((Fault(body=b'{"custom_id": "x'), False))
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert len(server.batches.sent) == 1


@BOTH
def test_a_provider_that_takes_no_batch_for_long_is_given_up(kind: str, store: Store) -> None:
    with Loopback(echo) as server:
        server.batches.faults["submit"].extend([(status(429), False)] * 1000)
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, many(2)))
    assert all(isinstance(one, ProviderError) for one in found)
    assert not any(isinstance(one, ProviderRefused) for one in found)


@BOTH
def test_a_key_that_is_refused_meanwhile_leaves_the_batch_out_for_the_right_one(
    kind: str, store: Store
) -> None:
    requests = many(4)
    with Loopback(echo) as server:
        server.batches.faults["state"].extend([(status(401), False)])
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
        assert all(isinstance(one, ProviderRefused) for one in found)
        assert len(store.batches.owed("r1")) == 4
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert each_once(server)


@BOTH
def test_a_batch_that_another_account_has_is_not_paid_for_again(kind: str, store: Store) -> None:
    requests = many(4)

    async def left(llm: Metered) -> None:
        asking = asyncio.gather(*map(llm.reply, requests))
        await until(server, "state", 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    with Loopback(echo) as server:
        server.batches.hold = True
        in_batches(kind, server, store, left)
        server.batches.hold = False
        server.batches.faults["state"].append((status(404), False))
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
        assert all(isinstance(one, ProviderRefused) for one in found)
        variable = "OPENAI_API_KEY" if kind == "openai" else "ANTHROPIC_API_KEY"
        assert f"to the key in {variable}: use the key that it was sent with" in str(found[0])
        found = in_batches(kind, server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert len(server.batches.sent) == 1


# -- going on -------------------------------------------------------------------------------------


@BOTH
def test_whoever_stops_is_not_held_up_and_finds_the_batch_again(kind: str, store: Store) -> None:
    requests = many(10)

    async def stopped(llm: Metered) -> float:
        asking = asyncio.gather(*map(llm.reply, requests))
        await until(server, "state", 2)
        began = time.monotonic()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return time.monotonic() - began

    with Loopback(echo) as server:
        server.batches.hold = True
        in_batches(kind, server, store, stopped)
        assert len(store.batches.owed("r1")) == 10
        server.batches.hold = False
        # Only some are asked for now; the others are still there afterwards.
        for some in (requests[5:], requests):
            found = in_batches(kind, server, store, partial(outcomes, requests=some))
            assert texts(found) == expected(some)
    assert [len(batch.items) for batch in server.batches.sent] == [10]
    assert store.calls()["n_calls"].sum() == 10
    assert store.batches.owed("r1") == {}


@BOTH
def test_who_gives_up_and_asks_again_waits_for_the_same_batch(kind: str, store: Store) -> None:
    requests = many(3)

    async def work(llm: Metered) -> list[Reply | GlossatorError]:
        asking = asyncio.gather(*map(llm.reply, requests))
        await until(server, "state", 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        server.batches.hold = False
        return await outcomes(llm, requests)

    with Loopback(echo) as server:
        server.batches.hold = True
        assert texts(in_batches(kind, server, store, work)) == expected(requests)
    assert each_once(server)


# -- money ----------------------------------------------------------------------------------------


def priced(kind: str, server: Loopback, store: Store, budget: Budget) -> Metered:
    """As `Models` makes it, at a dollar a token."""
    price = FlatPrice(1e6, 1e6)
    llm: OpenAILLM | AnthropicLLM
    if kind == "openai":
        llm = OpenAILLM.connect("m", base_url=server.openai_url, environ={})
    else:
        llm = AnthropicLLM.connect("m", base_url=server.anthropic_url, environ={})
    desk = desk_of(dataclasses.replace(llm, price=price))
    run = run_of(store)
    batching = BatchingLLM(desk, store.batches, run, QUICK)

    def write(entries: Any) -> list[int]:
        with store.transaction():
            lines = store.put_calls(run, entries)
            store.batches.settle(batching.taken(e.key for e in entries if e.key))
            return lines

    return Metered(
        batching,
        GroupJournal(store.replies.get, write),
        budget,
        price=batching.price,
        gate=Gate(1000),
        drain=0.0,
    )


def spending(
    kind: str, server: Loopback, store: Store, dollars: float, requests: list[Request]
) -> tuple[list[Reply | GlossatorError], Budget]:
    run = run_of(store)
    budget = Budget(dollars, None, *store.spent(run), store.batches.owed(run))

    async def work() -> list[Reply | GlossatorError]:
        llm = priced(kind, server, store, budget)
        try:
            return await outcomes(llm, requests)
        finally:
            await llm.aclose()

    return asyncio.run(work()), budget


@BOTH
def test_a_call_in_a_batch_costs_half(kind: str, store: Store) -> None:
    with Loopback(echo) as server:
        spending(kind, server, store, 1e6, many(3))
    calls = store.calls()
    tokens = calls["prompt_tokens"] + calls["completion_tokens"]
    assert (calls["cost"] == tokens / 2).all()
    assert calls["price"].str.contains('"share": 0.5').all()


@BOTH
def test_a_budget_lets_in_what_it_can_and_a_higher_one_goes_on(kind: str, store: Store) -> None:
    requests = many(20)
    with Loopback(echo) as server:
        found, budget = spending(kind, server, store, 100.0, requests)
        good = [one for one in found if isinstance(one, Reply)]
        assert 0 < len(good) < 20
        assert all(isinstance(one, Reply | BudgetSpent) for one in found)
        assert budget.spent <= 100.0
        assert budget.spent == store.spent("r1")[0]
        # In flight are only some at a time, so there is more than one batch, and all are through.
        assert store.batches.owed("r1") == {}
        found, budget = spending(kind, server, store, 1e6, requests)
    assert texts(found) == expected(requests)
    assert each_once(server)


@BOTH
def test_what_is_out_counts_against_the_budget_but_is_never_refused(
    kind: str, store: Store
) -> None:
    requests, others = many(6), many(6, 100)
    run = run_of(store)

    async def stopped(budget: Budget) -> None:
        llm = priced(kind, server, store, budget)
        asking = asyncio.gather(*map(llm.reply, requests))
        await until(server, "state", 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await llm.aclose()

    with Loopback(echo) as server:
        server.batches.hold = True
        asyncio.run(stopped(Budget(1e6)))
        owed = sum(store.batches.owed(run).values())
        server.batches.hold = False
        # There is room for these six and not for one more.
        found, budget = spending(kind, server, store, owed, [others[0], *requests])
        assert isinstance(found[0], BudgetSpent)
        assert texts(found[1:]) == expected(requests)
        assert budget.spent < owed
    assert [len(batch.items) for batch in server.batches.sent] == [6]


def test_a_limit_of_calls_holds_over_batches_and_restarts(store: Store) -> None:
    requests = many(10)
    with Loopback(echo) as server:
        for limit in (4, 7):
            found = in_batches(
                "openai", server, store, lambda llm: outcomes(llm, requests), max_calls=limit
            )
            assert sum(isinstance(one, Reply) for one in found) == limit
            assert store.spent("r1")[1] == limit
    assert [len(batch.items) for batch in server.batches.sent] == [4, 3]


# -- many -----------------------------------------------------------------------------------------


@BOTH
def test_the_limits_of_a_batch_are_kept(kind: str, store: Store) -> None:
    requests = many(25)

    async def work() -> list[Reply | GlossatorError]:
        llm = priced(kind, server, store, Budget())
        assert isinstance(llm.llm, BatchingLLM)
        desk: Desk = dataclasses.replace(llm.llm.desk, limits=Limits(10, 10_000_000))  # type: ignore[type-var]
        batching = BatchingLLM(desk, store.batches, run_of(store), QUICK)
        small = dataclasses.replace(desk, limits=Limits(1000, 2_000))  # type: ignore[type-var]
        narrow = BatchingLLM(small, store.batches, run_of(store), QUICK)
        try:
            found = await asyncio.gather(*map(batching.reply, requests))
            await asyncio.gather(*map(narrow.reply, many(9, 100)))
        finally:
            await narrow.aclose()
            await batching.aclose()
        return list(found)

    with Loopback(echo) as server:
        assert texts(asyncio.run(work())) == expected(requests)
    sizes = [len(batch.items) for batch in server.batches.sent]
    assert sizes[:3] == [10, 10, 5]
    assert sum(sizes[3:]) == 9
    assert len(sizes[3:]) > 1


def test_thousands_are_in_one_batch(store: Store) -> None:
    requests = many(3000)
    with Loopback(echo) as server:
        found = in_batches("openai", server, store, lambda llm: outcomes(llm, requests))
    assert texts(found) == expected(requests)
    assert len(server.batches.sent) <= 2
    assert Counter(store.calls()["batched"]) == {True: 3000}
