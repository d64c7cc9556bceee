"""JSON in replies: a value that keeps to the schema, or an error that a model can act on."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.errors import ConfigError, CutOff, ReplyError
from glossator.llm import Message, Reply, Request, ScriptedLLM, ToolCall, ask
from glossator.providers.metered import Metered
from glossator.providers.prices import FREE
from glossator.providers.schema import misfit, read_json, with_value
from glossator.types import JSON, Usage

SCORES = json.dumps(
    {
        "type": "object",
        "properties": {"scores": {"type": "array", "items": {"type": "integer", "maximum": 10}}},
        "required": ["scores"],
        "additionalProperties": False,
    }
)
ASK = Request((Message("user", "Rate these."),), schema=SCORES)


def value(text: str, **more: Any) -> JSON:
    return with_value(Reply(text, **more), ASK).value


@pytest.mark.parametrize(
    "text",
    [
        '{"scores": [1, 2]}',
        ' \n{"scores": [1, 2]}\n',
        '```json\n{"scores": [1, 2]}\n```',
        'Here you are:\n```\n{"scores": [1, 2]}\n```\nI hope it helps.',
        'The scores are {"scores": [1, 2]}.',
        '<think>{"scores": [9]} or [1]?</think>\n{"scores": [1, 2]}',
    ],
)
def test_words_fences_and_thoughts_around_the_value_are_let_pass(text: str) -> None:
    assert value(text) == {"scores": [1, 2]}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "empty"),
        ("I cannot do that", "no JSON object"),
        ('{"scores": [1, 2', "too early"),
        ('{"scores": [1 2]}', "line 1, column"),
        ('{"scores": [1]} {"scores": [2]}', "more than one"),
        ('{"scores": [NaN]}', "NaN"),
        ('{"scores": [1e400]}', "too large"),
        ('{"scores": [' + "9" * 5000 + "]}", "digits"),
        ('{"scores": [1], "scores": [2]}', "twice"),
        ('{"scores": ["10"]}', r"\$\.scores\[0\]"),
        ('{"scores": [11]}', "maximum of 10"),
        ('{"scores": [1.5]}', "not of type 'integer'"),
        ('{"scores": null}', "not of type 'array'"),
        ('{"score": [1]}', "required"),
        ("[1, 2]", "not of type 'object'"),
        ('{"scores": ' + "[" * 100_000, "deep"),
        ('{"scores": ' + "[" * 70 + "]" * 70 + "}", "deep"),
        ('{"scores": ["\\ud800"]}', "character"),
    ],
)
def test_what_is_no_such_value_is_an_error_that_says_what_is_wrong(text: str, wrong: str) -> None:
    with pytest.raises(ReplyError, match=wrong) as caught:
        value(text)
    assert caught.value.reply == text[:2000]
    assert len(str(caught.value)) < 500


def test_a_reply_that_was_cut_off_is_told_so() -> None:
    with pytest.raises(ReplyError, match="cut off at 256 tokens, so be shorter") as caught:
        value('{"scores": [1', finish="length")
    assert type(caught.value) is CutOff
    with pytest.raises(ReplyError) as caught:
        value('{"scores": [1')
    assert type(caught.value) is ReplyError


def test_a_reply_that_stays_cut_off_is_counted_as_that() -> None:
    cut = Reply('{"scores": [1', "length", usage=Usage(1, cost=0.5))
    with pytest.raises(ReplyError) as caught:
        asyncio.run(ask(Metered(ScriptedLLM([cut] * 3), price=FREE), ASK, lambda r: r.value))
    assert caught.value.kind == "cut off"
    assert caught.value.usage == cut.usage + cut.usage + cut.usage


def test_a_reply_that_does_not_keep_to_the_schema_is_asked_for_twice_more() -> None:
    paid = Usage(1, cost=0.5)
    bad = Reply('{"scores": ["10"]}', usage=paid)
    inner = ScriptedLLM([bad, Reply("sorry", usage=paid), Reply('{"scores": [10]}', usage=paid)])
    llm = Metered(inner, price=FREE)
    found, usage = asyncio.run(ask(llm, ASK, lambda reply: reply.value))
    assert (found, usage) == ({"scores": [10]}, paid + paid + paid)
    assert "$.scores[0]" in inner.requests[1].messages[-1].content
    inner = ScriptedLLM([bad] * 9)
    with pytest.raises(ReplyError) as caught:
        asyncio.run(ask(Metered(inner, price=FREE), ASK, lambda reply: reply.value))
    assert len(inner.requests) == 3
    assert (caught.value.reply, caught.value.usage) == (bad.text, paid + paid + paid)


def test_what_calls_a_tool_need_hold_no_value() -> None:
    reply = Reply("", "tool_calls", calls=(ToolCall("1", "x", "{}"),))
    assert with_value(reply, ASK) == reply


@pytest.mark.parametrize(
    "schema",
    ["{", '{"type": "thing"}', '{"$ref": "https://example.com/x"}', '{"$ref": "#/$defs/missing"}'],
)
def test_a_schema_that_is_none_is_the_users_fault_and_not_the_models(schema: str) -> None:
    with pytest.raises(ConfigError):
        with_value(Reply("{}"), Request(ASK.messages, schema=schema))


def test_an_array_is_found_beside_words_where_the_schema_wants_one() -> None:
    request = Request(ASK.messages, schema='{"type": "array"}')
    assert with_value(Reply("I say [1, 2]"), request).value == [1, 2]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=6), json_values), st.booleans())
def test_every_object_comes_back_as_it_was(found: dict[str, Any], fenced: bool) -> None:
    text = json.dumps(found)
    assert read_json(f"```json\n{text}\n```" if fenced else text, "{") == found


alphabet = st.sampled_from(
    ["{", "}", "[", "]", '"', ":", ",", "scores", "1", "-", ".5", "e", "999", "NaN", "Infinity",
     "null", "true", "\\", "\\u", "d800", "```", "json\n", "<think>", "</think>", " ", "\n", "ü"]
)  # fmt: skip


@settings(max_examples=10_000)
@given(st.lists(alphabet, max_size=24).map("".join))
def test_whatever_is_written_is_a_fitting_value_or_a_reply_error(text: str) -> None:
    try:
        found = value(text)
    except ReplyError as error:
        assert error.reply == text  # noqa: PT017 - both ways out are right
        return
    assert misfit(found, SCORES) == ""
    assert all(math.isfinite(v) for v in found["scores"])  # type: ignore[call-overload, index, union-attr, arg-type]
