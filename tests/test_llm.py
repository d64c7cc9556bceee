"""Language models made of functions and of scripts, and what a request is."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.errors import ConfigError, ProviderError, Refused, ReplyError, Unsupported
from glossator.llm import (
    LLM,
    Can,
    FunctionLLM,
    Message,
    Purpose,
    Reply,
    Request,
    ScriptedLLM,
    Tool,
    ToolCall,
    as_llm,
    ask,
    need,
    purpose,
    working_on,
)
from glossator.types import Usage

Messages = Sequence[Mapping[str, str]]
ASK = Request((Message("system", "Be brief."), Message("user", "What?")))


def answer(llm: LLM, request: Request = ASK) -> Reply:
    return asyncio.run(llm.reply(request))


def shout(messages: Messages) -> str:
    return messages[-1]["content"].upper()


async def shout_later(messages: Messages) -> str:
    await asyncio.sleep(0)
    return shout(messages)


def shout_in_a_future(messages: Messages) -> Awaitable[str]:
    return shout_later(messages)


class Shouter:
    def __call__(self, messages: Messages) -> str:
        return shout(messages)


@pytest.mark.parametrize("function", [shout, shout_later, shout_in_a_future, Shouter()])
def test_a_function_of_any_kind_is_a_language_model(function: Any) -> None:
    reply = answer(as_llm(function))
    assert reply.text == "WHAT?"
    assert reply.usage.calls == 1


def test_a_function_gets_roles_and_contents_in_order() -> None:
    seen: list[Messages] = []

    def keep(messages: Messages) -> str:
        seen.append(messages)
        return ""

    answer(as_llm(keep))
    assert seen == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}]
    ]


def test_a_function_is_told_how_its_reply_must_begin() -> None:
    request = dataclasses.replace(ASK, prefill="Yes, ")
    assert answer(as_llm(shout), request).text.endswith("YES, ")
    assert request.messages[-1].content == "What?"


def test_a_plain_function_does_not_hold_up_the_event_loop() -> None:
    here = threading.get_ident()
    found: list[int] = []

    def where(messages: Messages) -> str:
        found.append(threading.get_ident())
        return "x"

    answer(as_llm(where))
    assert found
    assert here not in found


def test_an_error_of_the_function_comes_out_as_it_is() -> None:
    def fails(messages: Messages) -> str:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        answer(as_llm(fails))


@pytest.mark.parametrize("returned", [None, 3, b"bytes", {"text": "x"}])
def test_a_function_that_returns_no_text_is_said_so(returned: Any) -> None:
    with pytest.raises(ConfigError, match="returns the reply as a string"):
        answer(as_llm(lambda messages: returned))


def test_a_language_model_stands_for_itself() -> None:
    llm = FunctionLLM(shout, name="mine")
    assert as_llm(llm) is llm
    assert isinstance(llm, LLM)


def test_a_function_is_called_by_its_name() -> None:
    assert as_llm(shout).name == "function:shout"
    assert as_llm(Shouter()).name == "function:Shouter"


@pytest.mark.parametrize("thing", [None, 3, "local", [], object()])
def test_what_is_no_language_model_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigError, match="is no language model"):
        as_llm(thing)


def test_a_script_is_answered_in_order_and_keeps_its_requests() -> None:
    llm = ScriptedLLM(["one", Reply(text="two", model="m")])
    other = dataclasses.replace(ASK, sample=1)
    assert answer(llm).text == "one"
    assert answer(llm, other) == Reply(text="two", model="m")
    assert llm.requests == [ASK, other]


def test_a_scripted_error_is_raised_and_the_script_goes_on() -> None:
    llm = ScriptedLLM([ProviderError("away"), "back"])
    with pytest.raises(ProviderError, match="away"):
        answer(llm)
    assert answer(llm).text == "back"


def test_a_rule_answers_by_the_request() -> None:
    llm = ScriptedLLM(lambda request: request.messages[-1].content[::-1])
    assert answer(llm).text == "?tahW"
    assert answer(llm).text == "?tahW"


def test_what_a_model_cannot_do_is_refused_with_what_can() -> None:
    llm = ScriptedLLM([], name="small", can=frozenset({Can.ANSWERS}))
    need(llm, Can.ANSWERS, "logprob", "reply")
    with pytest.raises(Unsupported) as caught:
        need(llm, Can.PROMPT_LOGPROBS, "logprob", "reply")
    assert str(caught.value) == "logprob needs prompt_logprobs, which small has not; use reply"
    assert caught.value.exit_code == 2


texts = st.text(max_size=12)
requests = st.builds(
    Request,
    messages=st.lists(
        st.builds(
            Message,
            st.sampled_from(["system", "user", "assistant", "tool"]),
            texts,
            st.lists(st.builds(ToolCall, texts, texts, texts), max_size=1).map(tuple),
            texts,
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    max_tokens=st.integers(0, 512),
    temperature=st.floats(0, 2),
    stop=st.lists(texts, max_size=2).map(tuple),
    prefill=texts,
    schema=texts,
    answers=st.lists(texts, max_size=2).map(tuple),
    slots=st.lists(texts, max_size=2).map(tuple),
    sample=st.integers(0, 5),
    tools=st.lists(st.builds(Tool, texts, texts, texts), max_size=1).map(tuple),
    tool_choice=st.sampled_from(["auto", "required", "none"]),
)


@given(requests, requests)
def test_digests_are_equal_exactly_where_requests_are(one: Request, other: Request) -> None:
    assert (one.digest == other.digest) == (one == other)
    assert dataclasses.replace(one).digest == one.digest


@given(requests)
def test_every_field_of_a_request_is_in_its_digest(request: Request) -> None:
    changed = {
        "messages": (*request.messages, Message("user", "more")),
        "max_tokens": request.max_tokens + 1,
        "temperature": request.temperature + 1,
        "stop": (*request.stop, "x"),
        "prefill": request.prefill + "x",
        "schema": request.schema + "x",
        "answers": (*request.answers, "x"),
        "slots": (*request.slots, "x"),
        "sample": request.sample + 1,
        "lines": request.lines + 1,
        "tools": (*request.tools, Tool("x", "", "{}")),
        "tool_choice": "none" if request.tool_choice == "auto" else "auto",
    }
    assert changed.keys() == {f.name for f in dataclasses.fields(Request)}
    digests = {dataclasses.replace(request, **{k: v}).digest for k, v in changed.items()}  # type: ignore[arg-type]
    assert len(digests | {request.digest}) == len(changed) + 1


def read_number(reply: Reply) -> int:
    if not reply.text.isdigit():
        raise ReplyError("it is no number")
    return int(reply.text)


def test_what_cannot_be_read_is_asked_for_again_with_what_was_wrong() -> None:
    paid = Usage(1, cost=0.5)
    llm = ScriptedLLM([Reply(text, usage=paid) for text in ("seven", "", "7")])
    assert asyncio.run(ask(llm, ASK, read_number)) == (7, paid + paid + paid)
    first, second, third = llm.requests
    assert first == ASK
    assert second.messages[: len(ASK.messages)] == ASK.messages
    assert [m.role for m in third.messages[len(ASK.messages) :]] == ["assistant", "user"] * 2
    assert "it is no number" in third.messages[-1].content
    assert third.messages[-2].content == "(empty)"


def test_after_two_more_the_error_has_the_last_reply_and_the_cost_of_all() -> None:
    paid = Usage(1, cost=0.5)
    llm = ScriptedLLM([Reply(text, usage=paid) for text in ("a", "b", "c", "7")])
    with pytest.raises(ReplyError, match="no number") as caught:
        asyncio.run(ask(llm, ASK, read_number))
    assert (caught.value.reply, caught.value.usage) == ("c", paid + paid + paid)


@pytest.mark.parametrize(
    "error",
    [
        Refused("no", "no", Usage(1)),
        ReplyError("too long", usage=Usage(1), again=False),
        ReplyError("half a body", usage=Usage(1), broken=True),
    ],
)
def test_what_asking_again_would_not_mend_is_asked_once(error: ReplyError) -> None:
    llm = ScriptedLLM([error, "7"])
    with pytest.raises(type(error)) as caught:
        asyncio.run(ask(llm, ASK, read_number))
    assert len(llm.requests) == 1
    assert caught.value.usage == Usage(1)
    assert (caught.value.again, caught.value.broken) == (error.again, error.broken)


def test_a_purpose_holds_for_the_tasks_begun_inside_and_not_for_others() -> None:
    async def seen() -> str:
        await asyncio.sleep(0)
        return purpose().part

    async def work() -> list[str]:
        with working_on(Purpose(part="a")):
            inside = asyncio.create_task(seen())
        return [await inside, await asyncio.create_task(seen())]

    assert asyncio.run(work()) == ["a", ""]
