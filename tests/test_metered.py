import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from glossator.errors import (
    BudgetSpent,
    ConfigError,
    GlossatorError,
    ProviderError,
    ProviderRefused,
    ReplyError,
)
from glossator.llm import (
    LLM,
    Can,
    Message,
    Purpose,
    Reply,
    Request,
    ScriptedLLM,
    Tool,
    ToolCall,
    working_on,
)
from glossator.llm import ask as ask_for
from glossator.providers.budget import Budget
from glossator.providers.gate import Gate
from glossator.providers.journal import MemoryJournal
from glossator.providers.metered import Metered, Retries, cache_key, prompt_tokens_at_most
from glossator.providers.openai import OpenAILLM
from glossator.providers.prices import FREE, FlatPrice
from glossator.types import Usage
from tests.loopback import (
    EMPTY,
    HTML,
    RESET,
    TRUNCATED,
    Answer,
    Fault,
    Loopback,
    hang,
    status,
    without,
)

QUICK = Retries(first_wait=0.01, longest_wait=0.02, jitter=0.01, deadline=20.0)
DOLLAR_A_TOKEN = FlatPrice(1e6, 1e6)


def ask(text: str = "colour?", **settings: Any) -> Request:
    return Request((Message("user", text),), **({"max_tokens": 10} | settings))


def connect(server: Loopback, timeout: float = 10.0) -> OpenAILLM:
    return OpenAILLM.connect("m", base_url=server.openai_url, timeout=timeout, environ={})


def run_on(llm: Metered, work: Callable[[Metered], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        try:
            return await work(llm)
        finally:
            await llm.aclose()

    return asyncio.run(whole())


async def outcome(llm: LLM, request: Request) -> Reply | GlossatorError:
    try:
        return await llm.reply(request)
    except GlossatorError as error:
        return error


async def together(llm: LLM, requests: list[Request]) -> list[Reply | GlossatorError]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome(llm, request)) for request in requests]
    return [task.result() for task in tasks]


def test_the_same_request_again_is_answered_from_the_cache() -> None:
    journal = MemoryJournal()
    with Loopback() as server:
        llm = Metered(connect(server), journal, price=FREE)

        async def work(llm: Metered) -> tuple[Reply, Reply, Reply]:
            return await llm.reply(ask()), await llm.reply(ask()), await llm.reply(ask(sample=1))

        first, second, vote = run_on(llm, work)
    assert len(server.log) == 2
    assert first.usage.calls == vote.usage.calls == 1
    assert second.usage == Usage(calls=0, cached_calls=1, cost=0.0)
    assert replace(second, usage=first.usage) == first
    assert llm.budget.calls == 2
    assert [call.attempt for call in journal.calls] == [1, 0, 1]


def test_equal_requests_at_the_same_time_are_sent_once() -> None:
    with Loopback(delay=0.1) as server:
        llm = Metered(connect(server), price=FREE)
        replies = run_on(llm, lambda llm: together(llm, [ask()] * 20))
    assert len(server.log) == 1
    assert sum(reply.usage.calls for reply in replies) == 1
    assert sum(reply.usage.cached_calls for reply in replies) == 19


def test_equal_requests_share_one_failure_too() -> None:
    with Loopback(faults=[status(401)], delay=0.1) as server:
        llm = Metered(connect(server), price=FREE)
        replies = run_on(llm, lambda llm: together(llm, [ask()] * 5))
    assert len(server.log) == 1
    assert all(isinstance(reply, ProviderRefused) for reply in replies)


def test_if_the_one_who_asked_first_gives_up_the_next_still_gets_a_reply() -> None:
    with Loopback(delay=0.2) as server:
        llm = Metered(connect(server), MemoryJournal(), price=FREE)

        async def work(llm: Metered) -> str:
            first = asyncio.create_task(llm.reply(ask()))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(llm.reply(ask()))
            await asyncio.sleep(0.05)
            first.cancel()
            return (await second).text

        assert run_on(llm, work) == "fine"
    assert len(server.log) == 1


def test_models_of_one_name_on_two_servers_do_not_share_replies() -> None:
    with Loopback() as here, Loopback() as there:
        one, other = connect(here), connect(there)
        assert cache_key(one, ask()) != cache_key(other, ask())
        assert cache_key(one, ask()) == cache_key(connect(here), ask())


def test_what_another_process_was_told_while_one_waited_is_not_asked() -> None:
    journal = MemoryJournal()

    def tells(asked: object) -> str:
        if not journal.replies.get(key):  # As another process would, that uses the same store.
            journal.replies[key] = Reply("deep blue")
        return "fine"

    with Loopback(tells) as server:
        llm = Metered(connect(server), journal, price=FREE, limit=1)
        key = cache_key(llm.llm, ask("colour?"))
        replies = run_on(llm, lambda llm: together(llm, [ask("first"), ask("colour?")]))
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == ["fine", "deep blue"]
    assert len(server.log) == llm.budget.calls == 1


def test_what_is_out_in_batches_is_fetched_by_batch_and_the_message_says_so() -> None:
    with Loopback() as server:
        budget = Budget(max_calls=3, owed={"a": 0.0, "b": 0.0})
        llm = Metered(connect(server), price=FREE, budget=budget)
        replies = run_on(llm, lambda llm: together(llm, [ask("1"), ask("2")]))
    (error,) = (one for one in replies if isinstance(one, BudgetSpent))
    assert "2 are out in batches, which --batch fetches" in str(error)
    assert len(server.log) == 1


def test_the_last_word_on_a_budget_counts_what_was_let_in_after_the_first() -> None:
    async def work() -> BudgetSpent:
        budget = Budget(dollars=3.0, spent=1.5)
        with pytest.raises(BudgetSpent) as caught:
            async with budget.call(2.0):
                raise AssertionError("it does not fit")
        async with budget.call(0.25):  # A smaller one does.
            pass
        assert "$1.5000 of $3.0000 are spent" in str(caught.value)
        return budget.retold(caught.value)

    said = str(asyncio.run(work()))
    assert "$1.7500 of $3.0000 are spent" in said
    assert "the next call may cost $2.0000" in said


def test_max_calls_stops_in_time() -> None:
    with Loopback() as server:
        llm = Metered(connect(server), price=FREE, budget=Budget(max_calls=3), limit=8)
        replies = run_on(llm, lambda llm: together(llm, [ask(str(i)) for i in range(10)]))
    assert len(server.log) == 3
    assert sum(isinstance(reply, Reply) for reply in replies) == 3
    assert sum(isinstance(reply, BudgetSpent) for reply in replies) == 7


def test_a_repeated_attempt_counts_as_a_call() -> None:
    with Loopback(faults=[status(500)] * 9) as server:
        llm = Metered(
            connect(server), price=FREE, budget=Budget(max_calls=2, calls=0), retries=QUICK
        )
        error = run_on(llm, lambda llm: outcome(llm, ask()))
    assert isinstance(error, BudgetSpent)
    assert len(server.log) == 2


def test_spending_never_passes_the_budget_and_every_paid_reply_is_kept() -> None:
    cache = MemoryJournal()
    # Each call really costs 1 prompt and 5 completion tokens, at a dollar each.
    with Loopback(lambda asked: "one two three four five", delay=0.01) as server:
        budget = Budget(dollars=200.0)
        llm = Metered(connect(server), cache, budget, DOLLAR_A_TOKEN, limit=8)
        replies = run_on(llm, lambda llm: together(llm, [ask(f"n{i}") for i in range(100)]))
    paid = [reply for reply in replies if isinstance(reply, Reply)]
    assert len(server.log) == len(paid) == len(cache.replies)
    assert budget.spent == 6.0 * len(paid) <= 200.0
    assert all(isinstance(reply, Reply | BudgetSpent) for reply in replies)
    # The worst case of one more call, about 60 dollars, no longer fits.
    assert 200.0 - budget.spent < 70.0
    assert budget.reserved == 0.0


def test_calls_in_flight_count_against_the_budget() -> None:
    words = FlatPrice(prompt=0.0, completion=1e6)
    with Loopback(lambda asked: "one two three four five", delay=0.05) as server:
        budget = Budget(dollars=23.0)
        llm = Metered(connect(server), None, budget, words, limit=8)
        requests = [ask(str(i), max_tokens=5) for i in range(20)]
        run_on(llm, lambda llm: together(llm, requests))
    assert len(server.log) == 4  # Of 5 dollars each.
    assert budget.spent == 20.0


def test_a_resumed_run_starts_from_what_was_spent() -> None:
    with Loopback() as server:
        budget = Budget(dollars=200.0, spent=195.0)
        llm = Metered(connect(server), None, budget, DOLLAR_A_TOKEN)
        error = run_on(llm, lambda llm: outcome(llm, ask()))
    assert isinstance(error, BudgetSpent)
    assert error.exit_code == 4
    assert "--budget" in str(error)
    assert server.log == []


def test_an_unknown_price_with_a_budget_in_dollars_refuses_to_start() -> None:
    with pytest.raises(ConfigError, match=r"--max-calls .* a class of yours with a `price`"):
        Metered(ScriptedLLM(["x"]), budget=Budget(dollars=5.0))


def test_an_unknown_price_without_one_gives_an_unknown_cost() -> None:
    with Loopback() as server:
        llm = Metered(connect(server))
        reply = run_on(llm, lambda llm: llm.reply(ask()))
    assert reply.usage.cost is None


def test_a_reply_that_hides_its_usage_is_charged_the_worst() -> None:
    with Loopback(faults=[without("usage")]) as server:
        budget = Budget(dollars=1000.0)
        llm = Metered(connect(server), None, budget, DOLLAR_A_TOKEN)
        reply = run_on(llm, lambda llm: llm.reply(ask()))
    assert reply.usage.cost is None
    assert budget.spent > 10.0


def test_a_refusal_and_a_broken_reply_cost_what_was_used() -> None:
    def refuse(asked: object) -> Answer:
        return Answer("I will not", finish="refused")

    with Loopback(refuse) as server:
        budget = Budget(dollars=1000.0)
        llm = Metered(connect(server), None, budget, DOLLAR_A_TOKEN)
        error = run_on(llm, lambda llm: outcome(llm, ask()))
    assert isinstance(error, ReplyError)
    assert budget.spent == 1.0 + 3.0
    assert len(server.log) == 1


def test_a_429_is_waited_out_as_long_as_the_server_says() -> None:
    journal = MemoryJournal()
    with Loopback(faults=[status(429, retry_after="0.4")]) as server:
        llm = Metered(connect(server), journal, price=FREE, retries=QUICK)
        reply = run_on(llm, lambda llm: llm.reply(ask()))
    assert reply.text == "fine"
    assert len(server.log) == 2
    assert 0.39 <= server.log[1].at - server.log[0].at < 2.0
    assert [(c.attempt, c.error_type) for c in journal.calls] == [(1, "ProviderError"), (2, "")]


def test_nobody_sends_during_a_pause() -> None:
    refused_at: list[float] = []

    def admit(now: float) -> Fault | None:
        if refused_at:
            return None
        refused_at.append(now)
        return status(429, retry_after="0.5")

    with Loopback(admit=admit) as server:
        llm = Metered(connect(server), price=FREE, retries=QUICK, limit=1)
        run_on(llm, lambda llm: together(llm, [ask(str(i)) for i in range(5)]))
    assert all(asked.at - refused_at[0] >= 0.49 for asked in server.log[1:])


def test_a_storm_of_429_loses_no_call_and_uses_the_allowed_rate() -> None:
    rate, window, n = 25, 0.5, 300
    admitted: list[float] = []

    def admit(now: float) -> Fault | None:
        recent = [at for at in admitted if at > now - window]
        if len(recent) >= rate * window:
            return status(429, retry_after=f"{recent[0] + window - now:.3f}")
        admitted.append(now)
        return None

    with Loopback(admit=admit) as server:
        llm = Metered(connect(server), price=FREE, retries=QUICK, limit=64)
        replies = run_on(llm, lambda llm: together(llm, [ask(str(i)) for i in range(n)]))
    assert all(isinstance(reply, Reply) for reply in replies)
    assert len(admitted) == n
    # The clock is the limit's own: 85% of what it allows.
    assert n / (admitted[-1] - admitted[0]) >= 0.85 * rate


@pytest.mark.parametrize("fault", [status(500), status(503), status(529), RESET])
def test_passing_trouble_is_retried(fault: Fault) -> None:
    with Loopback(faults=[fault, fault]) as server:
        llm = Metered(connect(server), price=FREE, retries=QUICK)
        assert run_on(llm, lambda llm: llm.reply(ask())).text == "fine"
    assert len(server.log) == 3


def test_retries_are_bounded() -> None:
    with Loopback(faults=[status(503)] * 50) as server:
        llm = Metered(connect(server), price=FREE, retries=replace(QUICK, attempts=4))
        error = run_on(llm, lambda llm: outcome(llm, ask()))
    assert isinstance(error, ProviderError)
    assert len(server.log) == 4


def test_a_wait_past_the_deadline_is_not_begun() -> None:
    with Loopback(faults=[status(503, retry_after="130")] * 9) as server:
        llm = Metered(connect(server), price=FREE, retries=replace(QUICK, deadline=5.0))
        started = time.monotonic()
        error = run_on(llm, lambda llm: outcome(llm, ask()))
    assert isinstance(error, ProviderError)
    assert time.monotonic() - started < 3.0
    assert len(server.log) == 1


@pytest.mark.parametrize("code", [400, 401, 402, 403, 404])
def test_a_fatal_answer_is_not_repeated(code: int) -> None:
    with Loopback(faults=[status(code)] * 9) as server:
        llm = Metered(connect(server), price=FREE, retries=QUICK)
        error = run_on(llm, lambda llm: outcome(llm, ask()))
    assert isinstance(error, ProviderRefused)
    assert len(server.log) == 1


def test_a_call_that_hung_is_charged_the_worst_and_sent_again() -> None:
    with Loopback(faults=[hang()]) as server:
        budget = Budget(dollars=1000.0)
        llm = Metered(connect(server, timeout=0.3), None, budget, DOLLAR_A_TOKEN, retries=QUICK)
        reply = run_on(llm, lambda llm: llm.reply(ask()))
    assert reply.usage.cost == 2.0
    assert budget.spent > 12.0
    assert budget.calls == 2


def test_no_more_requests_are_out_than_the_limit() -> None:
    with Loopback(delay=0.02) as server:
        llm = Metered(connect(server), price=FREE, limit=3)
        run_on(llm, lambda llm: together(llm, [ask(str(i)) for i in range(20)]))
    assert server.at_once == 3


def test_models_of_one_provider_and_key_share_their_limit_and_their_pause() -> None:
    with Loopback(delay=0.02) as server:
        gate = Gate(3)
        one, other = (Metered(connect(server), price=FREE, gate=gate) for _ in range(2))

        async def work(llm: Metered) -> None:
            await asyncio.gather(
                *(together(m, [ask(f"{i}") for i in range(10)]) for m in (llm, other))
            )
            await other.aclose()

        run_on(one, work)
    assert len(server.log) == 20
    assert server.at_once == 3


@pytest.mark.parametrize("fault", [EMPTY, HTML, TRUNCATED])
def test_a_reply_that_was_lost_on_its_way_is_sent_for_again_at_most_twice(fault: Fault) -> None:
    with Loopback(faults=[fault] * 2) as server:
        llm = Metered(connect(server), price=FREE, retries=QUICK)
        assert run_on(llm, lambda llm: llm.reply(ask())).text == "fine"
        assert len(server.log) == 3
    journal = MemoryJournal()
    with Loopback(faults=[fault] * 9) as server:
        llm = Metered(connect(server), journal, price=FREE, retries=QUICK)
        error = run_on(llm, lambda llm: outcome(llm, ask()))
        assert isinstance(error, ReplyError)
        assert error.broken
        assert len(server.log) == 3
    assert [call.error_type for call in journal.calls] == ["ReplyError"] * 3


def test_a_reply_against_its_schema_is_asked_for_again_with_what_was_wrong() -> None:
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    said = iter(['{"m": 1}', "sorry", '{"n": 3}'])
    with Loopback(lambda asked: next(said)) as server:
        llm = Metered(connect(server), MemoryJournal(), price=FREE)
        value, usage = run_on(llm, lambda llm: ask_for(llm, ask(schema=schema), lambda r: r.value))
    assert value == {"n": 3}
    assert usage.calls == len(server.log) == 3
    assert server.log[1].messages[-2] == ("assistant", '{"m": 1}')
    assert "'n'" in server.log[1].last
    assert server.log[2].messages[-2] == ("assistant", "sorry")


def test_what_never_fits_its_schema_fails_with_the_raw_reply_and_is_kept_for_the_next_time() -> (
    None
):
    with Loopback(lambda asked: '{"n": "x"}') as server:
        llm = Metered(connect(server), MemoryJournal(), price=FREE)
        request = ask(schema='{"type": "object", "properties": {"n": {"type": "integer"}}}')

        async def twice(llm: Metered) -> list[ReplyError]:
            errors = []
            for _ in range(2):
                with pytest.raises(ReplyError) as caught:
                    await ask_for(llm, request, lambda r: r.value)
                errors.append(caught.value)
            return errors

        first, second = run_on(llm, twice)
    assert first.reply == second.reply == '{"n": "x"}'
    assert len(server.log) == 3  # The second time all three came from the journal.
    assert (first.usage.calls, second.usage.cached_calls) == (3, 3)


def test_a_refusal_and_a_prompt_too_long_are_not_asked_again() -> None:
    too_long = status(400, "This model's maximum context length is 10 tokens")
    for fault in (too_long, None):
        rule = lambda asked: Answer("no", finish="refused")  # noqa: E731
        with Loopback(rule, faults=[fault]) as server:
            llm = Metered(connect(server), price=FREE)
            with pytest.raises(ReplyError):
                run_on(llm, lambda llm: ask_for(llm, ask(), lambda r: r.text))
            assert len(server.log) == 1


def test_the_ledger_says_what_a_call_was_for_and_at_what_price() -> None:
    about = Purpose("score", None, "max-act/detection")
    journal = MemoryJournal()
    with Loopback() as server:
        llm = Metered(connect(server), journal, price=DOLLAR_A_TOKEN)

        async def work(llm: Metered) -> None:
            with working_on(about):
                await llm.reply(ask("a"))
            await llm.reply(ask("b"))

        run_on(llm, work)
    first, second = journal.calls
    assert (first.purpose, second.purpose) == (about, Purpose())
    assert json.loads(first.price)["input"] == 1e6


def test_when_one_task_fails_what_the_others_paid_for_is_kept() -> None:
    cache = MemoryJournal()
    with Loopback(delay=0.2) as server:
        llm = Metered(connect(server), cache, Budget(max_calls=3), FREE, limit=8)

        async def work(llm: Metered) -> None:
            async with asyncio.TaskGroup() as group:  # As scorers do: the first error ends it.
                for i in range(8):
                    group.create_task(llm.reply(ask(str(i))))

        with pytest.raises(ExceptionGroup) as caught:
            run_on(llm, work)
    assert caught.group_contains(BudgetSpent)
    assert len(server.log) == len(cache.replies) == 3


def test_a_second_cancellation_stops_at_once_and_leaves_no_task() -> None:
    async def work(llm: Metered) -> int:
        task = asyncio.create_task(llm.reply(ask()))
        for _ in range(2):
            await asyncio.sleep(0.1)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    with Loopback(faults=[hang(60)]) as server:
        started = time.monotonic()
        assert run_on(Metered(connect(server, timeout=60), price=FREE), work) == 1
    assert time.monotonic() - started < 10


@dataclass
class Buggy:
    name: str = "buggy"
    can: frozenset[Can] = field(default_factory=frozenset)

    async def reply(self, request: Request) -> Reply:
        raise ZeroDivisionError


def test_a_bug_is_not_retried_and_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(Metered(Buggy(), price=FREE).reply(ask()))


def test_a_metered_model_is_one_like_the_model_inside() -> None:
    llm = Metered(ScriptedLLM(["x"], can=frozenset({Can.SCHEMA})), price=FREE)
    assert isinstance(llm, LLM)
    assert (llm.name, llm.can) == ("scripted", frozenset({Can.SCHEMA, Can.TOOLS}))


def test_tools_and_the_arguments_of_calls_count_in_the_worst_a_prompt_can_be() -> None:
    long = "x" * 4000
    plain = prompt_tokens_at_most(ask())
    with_tool = prompt_tokens_at_most(ask(tools=(Tool("t", long, "{}"),)))
    turn = Message("assistant", "", (ToolCall("1", "t", long),))
    with_call = prompt_tokens_at_most(Request((Message("user", "colour?"), turn)))
    assert min(with_tool, with_call) > plain + 1900


def test_a_model_that_says_nothing_of_its_cost_is_not_free() -> None:
    def said(request: Request) -> Reply:
        return Reply("fine", usage=Usage(calls=1, prompt_tokens=100, completion_tokens=10))

    budget = Budget(dollars=1.0)
    price = FlatPrice(1000.0, 1000.0)
    priced = Metered(ScriptedLLM(said), MemoryJournal(), budget, price, limit=1)
    replies = asyncio.run(together(priced, [ask(str(i)) for i in range(20)]))
    paid = [reply for reply in replies if isinstance(reply, Reply)]
    assert [reply.usage.cost for reply in paid] == pytest.approx([0.11] * len(paid))
    assert len(paid) < 20
    assert 0.11 * len(paid) == pytest.approx(budget.spent)
    assert budget.spent <= 1.0
    unknown = Metered(ScriptedLLM(said), MemoryJournal())
    assert asyncio.run(unknown.reply(ask())).usage.cost is None
    silent = Metered(ScriptedLLM(["fine"]), MemoryJournal())
    assert asyncio.run(silent.reply(ask())).usage.cost is None


def test_a_call_is_in_the_ledger_from_when_it_goes_out_and_once() -> None:
    journal = MemoryJournal()

    def seen(asked: object) -> str:
        return " ".join(f"{call.error_type}:{call.usage.cost}" for call in journal.calls)

    with Loopback(seen) as server:
        llm = Metered(connect(server), journal, price=DOLLAR_A_TOKEN)
        reply = run_on(llm, lambda llm: llm.reply(ask()))
    kind, _, cost = reply.text.partition(":")
    assert kind == "Out"
    assert float(cost) > 10.0
    assert [(c.error_type, c.usage.cost) for c in journal.calls] == [("", reply.usage.cost)]


def test_one_request_goes_ahead_so_that_a_refusal_is_met_once() -> None:
    with Loopback(admit=lambda now: status(401), delay=0.05) as server:
        llm = Metered(connect(server), MemoryJournal(), price=DOLLAR_A_TOKEN, limit=32)
        replies = run_on(llm, lambda llm: together(llm, [ask(str(i)) for i in range(20)]))
    assert all(isinstance(reply, ProviderRefused) for reply in replies)
    assert len(server.log) == 1
    with Loopback(delay=0.05) as server:
        llm = Metered(connect(server), MemoryJournal(), price=DOLLAR_A_TOKEN, limit=32)
        run_on(llm, lambda llm: together(llm, [ask(str(i)) for i in range(20)]))
    assert server.at_once > 10


def test_digits_and_other_scripts_may_be_a_token_each_byte() -> None:
    digits = " ".join("123456789" * 40)
    assert prompt_tokens_at_most(ask(digits)) >= len(digits)
    runes = "\u16a0" * 100
    assert prompt_tokens_at_most(ask(runes)) >= 130  # As a tokenizer of bytes cuts them.
