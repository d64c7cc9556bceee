"""Tools for models that have no form of their own for calling them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.errors import ConfigError, CutOff, ReplyError
from glossator.llm import Can, Message, Reply, Request, ScriptedLLM, Tool, ToolCall, ask
from glossator.providers.metered import Metered
from glossator.providers.prices import FREE
from glossator.providers.schema import misfit
from glossator.providers.tools import plain_request, read_calls

RUN = Tool(
    "run_text",
    "Runs a text through the model.",
    '{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}',
)
STOP = Tool("stop", "Ends.", '{"type": "object", "properties": {}}')
USER = Message("user", "When does it fire?")
ASK = Request((Message("system", "You study a neuron."), USER), tools=(RUN, STOP))
PAIR = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


def said(**chosen: Any) -> str:
    return json.dumps({"next": chosen})


def held(request: Request, value: str) -> str:
    """Why `value` is no answer to the schema that `request` is sent with; empty if it is one."""
    return misfit(json.loads(value), plain_request(request, schema=True).schema)


def metered(*replies: str, schema: bool = True) -> tuple[Metered, ScriptedLLM]:
    inner = ScriptedLLM(list(replies), can=frozenset({Can.SCHEMA} if schema else ()))
    return Metered(inner, price=FREE), inner


@pytest.mark.parametrize("schema", [True, False])
def test_a_model_without_tools_calls_one_and_is_told_the_result(schema: bool) -> None:
    call = said(tool="run_text", arguments={"text": "a dog"})
    llm, inner = metered(call, said(reply="on animals"), schema=schema)

    async def work() -> tuple[Reply, Reply]:
        first = await llm.reply(ASK)
        (made,) = first.calls
        turns = (Message("assistant", "", (made,)), Message("tool", "peak 3.2", call=made.id))
        return first, await llm.reply(replace(ASK, messages=(*ASK.messages, *turns)))

    first, second = asyncio.run(work())
    assert (first.finish, first.text) == ("tool_calls", "")
    assert first.calls[0].name == "run_text"
    assert json.loads(first.calls[0].arguments) == {"text": "a dog"}
    assert (second.calls, second.text, second.finish) == ((), "on animals", "stop")
    sent = inner.requests[1]
    assert not sent.tools
    assert [m.role for m in sent.messages] == ["system", "user", "assistant", "user"]
    assert "peak 3.2" in sent.messages[-1].content
    assert first.calls[0].id in sent.messages[-1].content
    assert first.calls[0].id in sent.messages[-2].content
    assert bool(sent.schema) == schema
    assert "You study a neuron." in sent.messages[0].content
    assert RUN.description in sent.messages[0].content


def test_the_schema_takes_calls_and_replies_and_nothing_else() -> None:
    assert held(ASK, said(tool="run_text", arguments={"text": "x"})) == ""
    assert held(ASK, said(tool="stop", arguments={})) == ""
    assert held(ASK, said(reply="because")) == ""
    assert held(ASK, said(tool="run_text", arguments={}))
    assert held(ASK, said(tool="format_disk", arguments={}))
    assert held(ASK, said(tool="stop", arguments={}, reply="both"))
    must = replace(ASK, tool_choice="required")
    assert held(must, said(reply="I would rather not"))
    typed = replace(ASK, schema=PAIR)
    assert held(typed, said(reply={"n": 1})) == ""
    assert held(typed, said(reply="one"))


def test_where_no_schema_can_be_held_to_it_is_in_the_prompt() -> None:
    plain = plain_request(ASK, schema=False)
    wanted = json.loads(plain_request(ASK, schema=True).schema)
    assert plain.schema == ""
    assert json.dumps(wanted) in plain.messages[0].content


def test_a_reply_that_keeps_to_no_form_is_asked_for_again_with_what_was_wrong() -> None:
    llm, inner = metered(
        "I shall call run_text", said(tool="rm", arguments={}), said(tool="stop", arguments={})
    )
    calls, _ = asyncio.run(ask(llm, ASK, lambda reply: reply.calls))
    assert [call.name for call in calls] == ["stop"]
    assert "no JSON object" in inner.requests[1].messages[-1].content
    assert "run_text, stop" in inner.requests[2].messages[-1].content


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "empty"),
        ("{", "too early"),
        ('{"next": []}', "no object"),
        ('{"next": {}}', "neither"),
        ('{"next": {"tool": ["stop"]}}', "no tool"),
        ('{"next": {"tool": null}}', "no tool"),
        ('{"next": {"tool": "stop", "arguments": "now"}}', "no object"),
        ('{"next": {"tool": "stop", "tool": "stop"}}', "twice"),
    ],
)
def test_what_neither_calls_nor_says_anything_is_an_error_that_quotes_it(
    text: str, wrong: str
) -> None:
    with pytest.raises(ReplyError, match=wrong) as caught:
        read_calls(Reply(text), ASK)
    assert caught.value.reply == text


@pytest.mark.parametrize("text", ["{", '{"next": {}}', '{"next": {"tool": "stop", "argu'])
def test_a_call_that_was_cut_off_is_counted_as_that(text: str) -> None:
    with pytest.raises(ReplyError, match="cut off") as caught:
        read_calls(Reply(text, "length"), ASK)
    assert (type(caught.value), caught.value.reply) == (CutOff, text)


def test_a_call_that_must_be_made_and_is_not_is_an_error() -> None:
    with pytest.raises(ReplyError, match="must"):
        read_calls(Reply(said(reply="no")), replace(ASK, tool_choice="required"))


def test_tools_that_must_not_be_called_are_not_told_of() -> None:
    plain = plain_request(replace(ASK, tool_choice="none"), schema=True)
    assert (plain.tools, plain.schema, plain.messages) == ((), "", ASK.messages)
    assert read_calls(Reply("fine"), replace(ASK, tool_choice="none")).text == "fine"


def test_a_reply_beside_tools_can_have_a_schema_of_its_own() -> None:
    typed = replace(ASK, schema=PAIR)
    assert read_calls(Reply(said(reply={"n": 3})), typed).value == {"n": 3}
    with pytest.raises(ReplyError, match="'n' is a required"):
        read_calls(Reply(said(reply={"m": 3})), typed)


def test_equal_calls_at_equal_places_have_one_id_and_others_another() -> None:
    def id_of(request: Request, text: str) -> str:
        made = read_calls(Reply(said(tool="run_text", arguments={"text": text})), request)
        return made.calls[0].id

    later = replace(ASK, messages=(*ASK.messages, Message("user", "and now?")))
    assert id_of(ASK, "a") == id_of(ASK, "a")
    assert len({id_of(ASK, "a"), id_of(ASK, "b"), id_of(later, "a")}) == 3


def test_definitions_in_schemas_of_arguments_are_found_from_the_top() -> None:
    inner = {"$defs": {"word": {"type": "string"}}, "type": "object", "required": ["w"]}
    inner["properties"] = {"w": {"$ref": "#/$defs/word"}}
    one = Tool("one", "", json.dumps(inner))
    request = replace(ASK, tools=(one, STOP))
    assert held(request, said(tool="one", arguments={"w": "x"})) == ""
    assert held(request, said(tool="one", arguments={"w": 1}))
    other = Tool("other", "", json.dumps({**inner, "$defs": {"word": {"type": "integer"}}}))
    with pytest.raises(ConfigError, match="word"):
        plain_request(replace(ASK, tools=(one, other)), schema=True)


@pytest.mark.parametrize("schema", ["{", "[]", "3"])
def test_a_tool_whose_schema_is_none_is_refused_before_anything_is_sent(schema: str) -> None:
    llm, inner = metered(said(reply="x"))
    with pytest.raises(ConfigError, match="odd"):
        asyncio.run(llm.reply(replace(ASK, tools=(Tool("odd", "", schema),))))
    assert inner.requests == []


def test_answers_and_tools_are_two_requests() -> None:
    llm, inner = metered(said(reply="x"))
    with pytest.raises(ConfigError, match="two requests"):
        asyncio.run(llm.reply(replace(ASK, answers=("yes", "no"))))
    assert inner.requests == []


texts = st.text(max_size=30)


@given(texts, texts, texts)
def test_what_was_said_and_done_cannot_end_its_message(said_: str, result: str, call: str) -> None:
    """Text in arguments and results stays inside the JSON that it is told in."""
    written = json.dumps({"text": said_})
    turns = (
        Message("assistant", "", (ToolCall(call, "run_text", written),)),
        Message("tool", result, call=call),
    )
    plain = plain_request(replace(ASK, messages=(USER, *turns)), schema=True)
    told, came = plain.messages[-2:]
    assert json.loads(told.content)["next"]["arguments"] == {"text": said_}
    assert json.loads(came.content) == {"result of": call, "result": result}
