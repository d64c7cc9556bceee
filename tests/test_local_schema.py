"""Replies of local models that are held to a JSON schema, and tools called through that."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glossator.errors import ConfigError, ReplyError, Unsupported
from glossator.llm import Can, Message, Reply, Request, Tool, ask
from glossator.providers.local import LocalLLM
from glossator.providers.metered import Metered
from glossator.providers.prices import FREE
from glossator.providers.schema import misfit
from tests.tiny_chat import all_replies, asked, loaded, roomy, save_tiny_chat


def closed(**properties: Any) -> str:
    return json.dumps(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )


TENTHS = {"type": "integer", "minimum": 0, "maximum": 10}
SCHEMAS = (
    closed(n=TENTHS, word={"enum": ["ships", 'the "king"', "pêche"]}),
    closed(values={"type": "array", "items": TENTHS, "minItems": 3, "maxItems": 3}),
    json.dumps({"enum": ["yes", "no"]}),
    json.dumps(
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/bit"}},
            "required": ["a"],
            "additionalProperties": False,
            "$defs": {"bit": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}},
        }
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("models") / "tiny-chat")


@pytest.fixture
def llm(folder: Path) -> LocalLLM:
    return loaded(folder)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_random_weights_keep_to_schemas_several_in_one_batch(
    llm: LocalLLM, temperature: float
) -> None:
    requests = [
        asked(text, schema=schema, temperature=temperature, sample=sample)
        for sample, text in enumerate(("the king", "Paris said", "of"))
        for schema in SCHEMAS
    ]
    free = [asked("the king", max_tokens=7)]
    replies = all_replies(llm, [*requests, *free])
    for request, reply in zip(requests, replies, strict=False):
        assert reply.finish == "stop"
        assert misfit(json.loads(reply.text), request.schema) == ""
        assert reply.usage.completion_tokens > 0
    assert replies[-1].text == all_replies(llm, free)[0].text
    if temperature:
        assert len({r.text for r in replies}) > len(SCHEMAS) + 1


def test_what_is_written_alone_is_written_together(llm: LocalLLM) -> None:
    requests = [
        asked("the king", schema=schema, temperature=1.0, sample=i)
        for i in range(2)
        for schema in SCHEMAS
    ]
    together = [r.text for r in all_replies(llm, requests)]
    assert [all_replies(llm, [r])[0].text for r in requests] == together


def test_a_stop_string_inside_the_value_does_not_count(llm: LocalLLM) -> None:
    (reply,) = all_replies(llm, [asked("the king", schema=SCHEMAS[0], stop=('"', ":", "n"))])
    assert misfit(json.loads(reply.text), SCHEMAS[0]) == ""
    assert reply.finish == "stop"


def test_a_reply_goes_on_behind_its_prefill(llm: LocalLLM) -> None:
    prefill = '{"n": 1'
    (reply,) = all_replies(llm, [asked("the king", schema=SCHEMAS[0], prefill=prefill)])
    assert reply.text.startswith(prefill)
    assert misfit(json.loads(reply.text), SCHEMAS[0]) == ""
    with pytest.raises(Unsupported, match="prefill"):
        all_replies(llm, [asked("the king", schema=SCHEMAS[0], prefill="Well, ")])


def test_a_reply_that_is_cut_off_says_so_and_is_asked_for_again(llm: LocalLLM) -> None:
    llm = roomy(llm)
    request = asked("the king", schema=SCHEMAS[0], max_tokens=3)
    (reply,) = all_replies(llm, [request])
    assert (reply.finish, reply.usage.completion_tokens) == ("length", 3)

    async def counted() -> int:
        with pytest.raises(ReplyError, match="cut off") as caught:
            await ask(Metered(llm, price=FREE), request, lambda reply: reply.value)
        assert caught.value.usage is not None
        return caught.value.usage.calls

    assert asyncio.run(counted()) == 3


def test_a_model_with_more_logits_than_its_tokenizer_has_tokens(llm: LocalLLM) -> None:
    llm.model.resize_token_embeddings(len(llm.tokenizer) + 37)
    head = llm.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    head.weight.data[-37:] *= 50  # What means nothing is by far the likeliest.
    wide = LocalLLM("wide", llm.model, llm.tokenizer)
    requests = [asked(t, schema=s) for t in ("the king", "Paris") for s in SCHEMAS]
    for request, reply in zip(requests, all_replies(wide, requests), strict=True):
        assert misfit(json.loads(reply.text), request.schema) == ""


def test_the_value_comes_back_through_the_meter(llm: LocalLLM) -> None:
    assert Can.SCHEMA in llm.can

    async def value() -> Any:
        return (await Metered(llm, price=FREE).reply(asked("x", schema=SCHEMAS[1]))).value

    found = asyncio.run(value())
    assert len(found["values"]) == 3
    assert all(0 <= v <= 10 for v in found["values"])


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "not": {"const": "x"}}, "not"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
        ({"type": "string", "pattern": "(?=a)b"}, "regex"),
        (False, "schema"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused_before_a_pass(
    llm: LocalLLM, schema: object, why: str
) -> None:
    with pytest.raises(Unsupported, match=why) as caught:
        all_replies(llm, [asked("x", schema=json.dumps(schema))])
    assert "simpler" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert llm._waiting == []


def test_what_is_no_schema_is_an_error_of_whoever_asked(llm: LocalLLM) -> None:
    for bad in ("{", '{"type": "nothing"}'):
        with pytest.raises(ConfigError, match="schema"):
            all_replies(llm, [asked("x", schema=bad)])


def test_any_value_is_a_schema_too(llm: LocalLLM) -> None:
    (reply,) = all_replies(llm, [asked("x", schema="true", max_tokens=40)])
    assert reply.finish == "length" or json.loads(reply.text) is not ...


# -- tools -----------------------------------------------------------------------------------------

WEATHER = Tool("weather", "Tells the weather.", closed(city={"enum": ["Paris", "Rome"]}))
SHIPS = Tool("ships", "Counts ships.", closed(n=TENTHS))


@pytest.mark.parametrize("tool", [WEATHER, SHIPS], ids=["weather", "ships"])
def test_random_weights_call_a_tool_with_arguments_that_fit(llm: LocalLLM, tool: Tool) -> None:
    request = asked("Look.", tools=(tool,), tool_choice="required", temperature=1.5)

    async def calls() -> list[Reply]:
        model = Metered(roomy(llm), price=FREE)
        requests = [replace(request, sample=i) for i in range(8)]
        return list(await asyncio.gather(*map(model.reply, requests)))

    for reply in asyncio.run(calls()):
        (call,) = reply.calls
        assert (reply.finish, call.name) == ("tool_calls", tool.name)
        assert misfit(json.loads(call.arguments), tool.schema) == ""


def test_a_model_that_may_calls_one_of_several_tools_or_replies(llm: LocalLLM) -> None:
    async def replies() -> list[Reply | BaseException]:
        model = Metered(roomy(llm), price=FREE)
        request = asked("Look.", tools=(WEATHER, SHIPS), temperature=1.5, max_tokens=60)
        requests = [replace(request, sample=i) for i in range(8)]
        return list(await asyncio.gather(*map(model.reply, requests), return_exceptions=True))

    for reply in asyncio.run(replies()):
        # Random weights may talk without end; what is whole is a call or a reply.
        if isinstance(reply, Reply):
            assert bool(reply.calls) != bool(reply.text)
        else:
            assert "cut off" in str(reply)


def test_without_a_meter_tools_are_refused(llm: LocalLLM) -> None:
    with pytest.raises(Unsupported, match="Metered"):
        all_replies(llm, [asked("x", tools=(WEATHER,))])


@pytest.mark.slow
@pytest.mark.assets
def test_the_small_local_model_calls_a_tool_and_tells_its_result() -> None:
    tool = Tool("weather", "Tells the weather in a city.", closed(city={"type": "string"}))
    question = (
        Message("system", "You answer questions about the weather, in one sentence."),
        Message("user", "How is the weather in Paris now? Use the tool."),
    )

    async def talk() -> tuple[Reply, Reply]:
        model = Metered(LocalLLM.load("local:small"), price=FREE)
        first = await model.reply(Request(question, tools=(tool,), tool_choice="required"))
        (call,) = first.calls
        said = (
            Message("assistant", "", calls=first.calls),
            Message("tool", "17 degrees and rain", call=call.id),
        )
        last = await model.reply(Request((*question, *said), tools=(tool,), tool_choice="none"))
        await model.aclose()
        return first, last

    first, last = asyncio.run(talk())
    assert json.loads(first.calls[0].arguments) == {"city": "Paris"}
    assert "17" in last.text
