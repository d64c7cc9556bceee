"""Tools over each protocol: what is sent, what comes back, and the round trip between them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from glossator.errors import ReplyError, Unsupported
from glossator.llm import Can, Message, Reply, Request, Tool
from glossator.providers.anthropic import payload_of
from glossator.providers.server import LLAMA_CPP, OLLAMA, VLLM
from tests.loopback import Answer, Asked, Fault, Loopback, changed
from tests.protocols import PROTOCOLS, ask, connect, unconnected

SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
LOOK_UP = Tool("look_up", "Looks a word up.", json.dumps(SCHEMA))
COUNT = Tool("count", "Counts letters.", json.dumps(SCHEMA))
ASK = Request((Message("system", "Be brief."), Message("user", "What is a gloss?")), max_tokens=99,
              tools=(LOOK_UP, COUNT))  # fmt: skip
CALLS = (("look_up", '{"word": "gloss"}'), ("count", '{"word": "gloss"}'))


def rule(asked: Asked) -> Answer:
    """Calls both tools, then says what they gave."""
    results = [text for role, text in asked.messages if text.startswith("result")]
    return Answer("".join(results)) if results else Answer("", calls=CALLS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tools_are_called_and_their_results_are_read(protocol: str) -> None:
    with Loopback(rule) as server:
        llm = connect(protocol, server)
        assert Can.TOOLS in llm.can
        (first,) = ask(llm, ASK)
        assert first.finish == "tool_calls"
        assert [(c.name, json.loads(c.arguments)) for c in first.calls] == [
            (name, json.loads(arguments)) for name, arguments in CALLS
        ]
        turns = [Message("assistant", "I look.", first.calls)]
        turns += [Message("tool", f"result {c.name};", call=c.id) for c in first.calls]
        (second,) = ask(connect(protocol, server), replace(ASK, messages=(*ASK.messages, *turns)))
    assert (second.text, second.finish) == ("result look_up;result count;", "stop")
    assert second.calls == ()


def sent(protocol: str, request: Request) -> dict[str, Any]:
    with Loopback(rule) as server:
        ask(connect(protocol, server), request)
    return dict(server.log[0].body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_is_told_of_tools_and_choices_in_its_own_way(protocol: str) -> None:
    open_choice = sent(protocol, ASK)
    assert "tool_choice" not in open_choice
    tool = open_choice["tools"][0]
    if protocol == "openai":
        assert tool["function"]["parameters"] == SCHEMA
    elif protocol == "anthropic":
        assert tool["input_schema"] == SCHEMA
    else:
        assert (tool["parameters"], tool["strict"]) == (SCHEMA, False)
    must = sent(protocol, replace(ASK, tool_choice="required"))["tool_choice"]
    assert must == ({"type": "any"} if protocol == "anthropic" else "required")


def conversation() -> Request:
    (call,) = reply_with(CALLS[:1]).calls
    (other,) = reply_with(CALLS[1:]).calls
    other = replace(other, id="b", arguments="{word")
    turns = (
        Message("assistant", "", (call, other)),
        Message("tool", "a word", call=call.id),
        Message("tool", "five", call="b"),
        Message("user", "And?"),
    )
    return replace(ASK, messages=(*ASK.messages, *turns))


def reply_with(calls: tuple[tuple[str, str], ...]) -> Reply:
    with Loopback(lambda asked: Answer("", calls=calls)) as server:
        return ask(connect("openai", server), ASK)[0]


def test_openai_gets_each_result_in_a_turn_and_arguments_as_they_were_written() -> None:
    turns = sent("openai", conversation())["messages"][2:]
    assert [t["role"] for t in turns] == ["assistant", "tool", "tool", "user"]
    assert turns[0]["content"] is None
    assert [c["function"]["arguments"] for c in turns[0]["tool_calls"]] == [CALLS[0][1], "{word"]
    assert [t["tool_call_id"] for t in turns[1:3]] == ["call_0", "b"]


def test_responses_get_calls_and_results_as_items() -> None:
    items = sent("openai-responses", conversation())["input"][2:]
    kinds = [item.get("type", item.get("role")) for item in items]
    assert kinds == [*["function_call"] * 2, *["function_call_output"] * 2, "user"]
    assert [item["call_id"] for item in items[:4]] == ["call_0", "b"] * 2


def test_claude_gets_all_results_in_one_turn_and_arguments_as_an_object() -> None:
    turns = sent("anthropic", conversation())["messages"][1:]
    assert [t["role"] for t in turns] == ["assistant", "user", "user"]
    assert [b["type"] for b in turns[0]["content"]] == ["tool_use"] * 2
    assert [b["input"] for b in turns[0]["content"]] == [{"word": "gloss"}, {"arguments": "{word"}]
    assert [b["tool_use_id"] for b in turns[1]["content"]] == ["call_0", "b"]


def test_a_conversation_with_claude_has_at_most_four_marks_and_goes_on_from_what_is_cached() -> (
    None
):
    for request in (conversation(), replace(conversation(), messages=conversation().messages[1:])):
        payload = payload_of(request, unconnected("anthropic"))
        assert json.dumps(payload).count('"cache_control"') == 3
        assert payload["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_that_were_not_to_be_made_are_no_reply(protocol: str) -> None:
    for request in (replace(ASK, tools=()), replace(ASK, tool_choice="none")):
        with (
            Loopback(lambda asked: Answer("", calls=CALLS)) as server,
            pytest.raises(ReplyError, match="none may be called"),
        ):
            ask(connect(protocol, server), request)
    must = replace(ASK, tool_choice="required")
    with (
        Loopback(lambda asked: "I would rather talk") as server,
        pytest.raises(ReplyError, match="though it must") as caught,
    ):
        ask(connect(protocol, server), must)
    assert caught.value.again


def spoil(part: str, value: Any) -> Fault:
    """Both calls with `value` for their `id`, `name` or `arguments`, whatever these are called."""
    names = {"id": ("id", "call_id"), "name": ("name",), "arguments": ("arguments", "input")}

    def spoilt(thing: Any) -> Any:
        if isinstance(thing, list):
            return [spoilt(inner) for inner in thing]
        if not isinstance(thing, dict):
            return thing
        calls = (
            thing.get("type") in ("function", "function_call", "tool_use") or "arguments" in thing
        )
        return {
            key: value if calls and key in names[part] else spoilt(inner)
            for key, inner in thing.items()
        }

    return changed(spoilt)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("part", "value"), [("name", None), ("name", ""), ("name", 7), ("id", 7), ("arguments", [1])]
)
def test_a_call_of_another_shape_is_no_reply(protocol: str, part: str, value: Any) -> None:
    with Loopback(rule, faults=[spoil(part, value)]) as server, pytest.raises(ReplyError) as caught:
        ask(connect(protocol, server), ASK)
    assert caught.value.broken


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_model_writes_for_arguments_is_passed_on(protocol: str) -> None:
    for value, text in (('{"word": ', '{"word": '), ({"word": "x"}, '{"word": "x"}'), ("", "{}")):
        with Loopback(rule, faults=[spoil("arguments", value)]) as server:
            (reply,) = ask(connect(protocol, server), ASK)
        assert [call.arguments for call in reply.calls] == [text, text]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_without_ids_get_some_and_calls_with_one_id_are_no_reply(protocol: str) -> None:
    with Loopback(rule, faults=[spoil("id", None)]) as server:
        (reply,) = ask(connect(protocol, server), ASK)
    assert len({call.id for call in reply.calls}) == 2
    with (
        Loopback(rule, faults=[spoil("id", "same")]) as server,
        pytest.raises(ReplyError, match="same id"),
    ):
        ask(connect(protocol, server), ASK)


def test_a_call_that_was_cut_off_says_so() -> None:
    def cut(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["finish_reason"] = "length"
        return reply

    with Loopback(rule, faults=[changed(cut)]) as server:
        (reply,) = ask(connect("openai", server), ASK)
    assert reply.finish == "length"
    assert reply.calls


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("owner", [LLAMA_CPP, OLLAMA, VLLM])
def test_servers_that_call_tools_only_at_times_are_asked_through_a_schema(
    protocol: str, owner: str
) -> None:
    llm = unconnected(protocol)
    assert Can.TOOLS in llm.can
    llm.server.owner = owner
    assert not llm.can & {Can.TOOLS, Can.BATCH}
    assert Can.SCHEMA in llm.can
    with pytest.raises(Unsupported):
        PROTOCOLS[protocol].module.payload_of(ASK, llm)


def test_a_model_without_tools_says_so_before_anything_is_sent() -> None:
    with Loopback(rule) as server, pytest.raises(Unsupported):
        ask(connect("anthropic", server, "claude-2.1"), ASK)
    assert server.log == []
