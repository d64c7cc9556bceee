import asyncio
import json
import math
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.errors import (
    ConfigError,
    GlossatorError,
    NotRegistered,
    PromptTooLong,
    ProviderError,
    ProviderRefused,
    Refused,
    ReplyError,
    Unsupported,
)
from glossator.llm import Can, FunctionLLM, Message, Reply, Request, as_llm
from glossator.providers.answers import match_answers
from glossator.providers.anthropic import AnthropicLLM
from glossator.providers.faults import MAX_RETRY_AFTER, Account, retry_after
from glossator.providers.openai import OpenAILLM
from glossator.providers.openai_responses import OpenAIResponsesLLM
from glossator.providers.table import check_spec, make_llm
from glossator.types import Usage
from tests.loopback import (
    DRIP,
    EMPTY,
    HALF_SENT,
    HTML,
    HUGE,
    RESET,
    TRUNCATED,
    Answer,
    Fault,
    Loopback,
    changed,
    hang,
    sends,
    status,
    without,
)
from tests.protocols import ASK, KEY, PROTOCOLS, ask, connect, failure, unconnected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_reply_has_its_text_model_and_usage(protocol: str) -> None:
    with Loopback(lambda asked: f"{asked.last} Deep blue.") as server:
        (reply,) = ask(connect(protocol, server), ASK)
    assert reply.text == "Which colour? Deep blue."
    assert reply.finish == "stop"
    assert reply.model.startswith(("gpt-4o-mini-2026", "claude-opus-4-8-2026"))
    assert (reply.usage.calls, reply.usage.prompt_tokens, reply.usage.completion_tokens) == (
        1,
        4,
        4,
    )
    assert reply.usage.cost is None  # Nobody knows what a server on 127.0.0.1 charges.
    assert server.log[0].messages == [("system", "Be brief."), ("user", "Which colour?")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 422])
def test_a_fatal_status_is_one_request_and_says_what_to_do(protocol: str, code: int) -> None:
    error, server = failure(protocol, status(code, f"no, and your key is {KEY}"))
    assert isinstance(error, ProviderRefused)
    assert error.exit_code == 3
    assert not error.retryable
    assert PROTOCOLS[protocol].key_variable in str(error)
    assert "--llm local" in str(error)
    assert len(server.log) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503, 529])
def test_a_passing_trouble_is_retryable_and_the_sdk_does_not_retry(
    protocol: str, code: int
) -> None:
    error, server = failure(protocol, status(code, retry_after="7"))
    assert isinstance(error, ProviderError)
    assert error.retryable
    assert error.retry_after == 7.0
    assert error.busy is (code == 429)
    assert not error.maybe_billed
    assert len(server.log) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", [RESET, HALF_SENT, hang()], ids=["reset", "half", "hang"])
def test_no_answer_is_retryable_and_may_have_been_billed(protocol: str, fault: Fault) -> None:
    error, _ = failure(protocol, fault)
    assert isinstance(error, ProviderError)
    assert error.retryable
    assert error.maybe_billed


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_not_there_is_retryable_and_bills_nothing(protocol: str) -> None:
    with Loopback() as server:
        llm = connect(protocol, server)
    with pytest.raises(ProviderError, match="--base-url") as caught:
        ask(llm, ASK)
    assert caught.value.retryable
    assert not caught.value.maybe_billed


BAD_BODIES = {
    "truncated": TRUNCATED,
    "empty": EMPTY,
    "html": HTML,
    "a list": sends("[1]"),
    "a number": sends("1e999"),
    "no fields": sends("{}"),
    "nested without end": sends("[" * 100_000),
    "not utf-8": sends(b"\xff\xfe{"),
    "huge": sends(b" " * 9_000_000),
    "wrong types": changed(
        lambda r: (
            r | {"choices": {"0": 1}, "content": [7], "output": [7], "usage": "much", "model": 3}
        )
    ),
    "no content": without("choices", "content", "output"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", BAD_BODIES)
def test_a_body_that_is_no_reply_is_an_error_that_keeps_it(protocol: str, kind: str) -> None:
    error, server = failure(protocol, BAD_BODIES[kind])
    assert isinstance(error, ReplyError)
    assert not isinstance(error, Refused)
    assert error.broken
    assert len(error.reply) <= 2000
    assert len(str(error)) < 400
    assert len(server.log) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "change",
    [
        without("usage"),
        changed(lambda r: r | {"usage": None}),
        changed(lambda r: r | {"usage": {"prompt_tokens": -1, "input_tokens": True}}),
    ],
)
def test_a_reply_that_does_not_say_what_it_used_has_an_unknown_cost(
    protocol: str, change: Fault
) -> None:
    with Loopback(faults=[change]) as server:
        (reply,) = ask(connect(protocol, server), ASK)
    assert reply.text == "fine"
    assert reply.usage.cost is None
    assert reply.usage.calls == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_is_no_reply_and_says_what_it_used(protocol: str) -> None:
    with (
        Loopback(lambda asked: Answer("I cannot help.", finish="refused")) as server,
        pytest.raises(Refused) as caught,
    ):
        ask(connect(protocol, server), ASK)
    assert caught.value.usage is not None
    assert caught.value.usage.prompt_tokens == 4


@pytest.mark.parametrize("protocol", ["openai", "openai-responses"])
def test_a_filtered_reply_is_a_refusal(protocol: str) -> None:
    with (
        Loopback(lambda asked: Answer("", finish="content_filter")) as server,
        pytest.raises(Refused),
    ):
        ask(connect(protocol, server), ASK)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cut_off_reply_says_so(protocol: str) -> None:
    with Loopback(lambda asked: Answer("Deep", finish="length")) as server:
        (reply,) = ask(connect(protocol, server), ASK)
    assert (reply.text, reply.finish) == ("Deep", "length")


TOO_LONG = {
    "OpenAI": (400, "This model's maximum context length is 8192 tokens, you sent 9000"),
    "OpenAI responses": (400, "Your input exceeds the context window of this model."),
    "OpenAI by the minute": (429, "Request too large for gpt-4o on tokens per min (TPM)"),
    "Anthropic": (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    "Anthropic with reply": (400, "input length and `max_tokens` exceed context limit: 1 + 2 > 2"),
    "Anthropic by size": (413, "Request exceeds the maximum size"),
    "vLLM": (400, "The decoder prompt (length 9) is longer than the maximum model length of 8."),
    "vLLM, older": (400, "the model's context length is only 4096 tokens"),
    "llama.cpp": (400, "request (9 tokens) exceeds the available context size (8 tokens)"),
    "llama.cpp, older": (500, "the request exceeds the available context size, try increasing it"),
    "llama.cpp, batch": (500, "input is too large to process. increase the physical batch size"),
    "Ollama": (400, "the input length exceeds the context length"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("who", TOO_LONG)
def test_a_prompt_that_is_too_long_concerns_only_that_request(protocol: str, who: str) -> None:
    code, said = TOO_LONG[who]
    error, _ = failure(protocol, status(code, said))
    assert isinstance(error, PromptTooLong)
    assert "too long" in str(error)
    assert not error.again
    assert not error.broken
    assert error.usage == Usage()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_sends_on_to_another_is_not_followed_with_the_key(protocol: str) -> None:
    with Loopback() as other:
        url = f"http://127.0.0.1:{other.port}/v1/messages"
        error, _ = failure(protocol, status(307, location=url))
        assert isinstance(error, ProviderRefused)
        assert "--base-url" in str(error)
        assert other.log == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_cannot_be_a_key_is_not_sent_and_not_shown(protocol: str) -> None:
    known = PROTOCOLS[protocol]
    with pytest.raises(ConfigError, match=known.key_variable) as caught:
        known.maker.connect(known.model, environ={known.key_variable: "sk-schl\u00fcssel"})
    assert "schl" not in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_body_without_end_is_not_read_to_it(protocol: str) -> None:
    for code in (200, 500):
        with Loopback(faults=[replace(HUGE, status=code)]) as server:
            with pytest.raises(GlossatorError) as caught:
                ask(connect(protocol, server), ASK)
            assert server.sent < 20_000_000
        assert isinstance(caught.value, ReplyError if code == 200 else ProviderError)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_body_that_trickles_in_is_bounded_by_the_timeout(protocol: str) -> None:
    error, server = failure(protocol, DRIP)
    assert isinstance(error, ProviderError)
    assert error.retryable
    assert error.maybe_billed
    assert server.sent < 100


def test_a_429_for_lack_of_credit_is_fatal() -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    error, _ = failure("openai", Fault(status=429, body=json.dumps(body).encode()))
    assert isinstance(error, ProviderRefused)
    assert "credit" in str(error)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "upstream is down", "code": 502}, ProviderError),
        ({"message": "upstream is down"}, ProviderError),
        ("upstream is down", ProviderError),
        ({"message": "slow down", "code": "429"}, ProviderError),
        ({"message": "no such key", "code": 401}, ProviderRefused),
        ({"message": "flagged as harmful", "code": 403}, Refused),
        ({"message": "", "code": "context_length_exceeded"}, PromptTooLong),
    ],
)
def test_an_error_sent_with_status_200_is_an_error(
    protocol: str, error: object, kind: type[GlossatorError]
) -> None:
    found, _ = failure(protocol, sends(json.dumps({"error": error})))
    assert type(found) is kind


def test_what_the_provider_behind_a_router_said_is_told() -> None:
    error = {"message": "Provider returned error", "code": 400, "metadata": {"raw": "bad schema"}}
    found, _ = failure("openai", sends(json.dumps({"error": error})))
    assert "bad schema" in str(found)


@pytest.mark.parametrize("spoilt", ["error", "failed"])
def test_a_reply_that_its_maker_broke_off_is_retryable(spoilt: str) -> None:
    def chat(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["finish_reason"] = "error"
        return reply

    fault = changed(chat) if spoilt == "error" else changed(lambda r: r | {"status": "failed"})
    error, _ = failure("openai" if spoilt == "error" else "openai-responses", fault)
    assert type(error) is ProviderError
    assert error.retryable


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", [status(401, f"bad key {KEY}"), sends(f"{KEY} <"), RESET])
def test_the_key_is_in_no_message_traceback_or_repr(protocol: str, fault: Fault) -> None:
    with Loopback(faults=[fault]) as server:
        llm = connect(protocol, server)
        with pytest.raises(GlossatorError) as caught:
            ask(llm, ASK)
    assert KEY in str(server.log[0].headers.values())
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown + repr(llm) + str(llm.account) + repr(caught.value)


def test_what_a_server_says_cannot_steer_the_terminal() -> None:
    error, _ = failure("openai", status(400, "a\x1b[2Jb\nc\ud800"))
    assert str(error).isprintable()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_a_key_nothing_is_built_and_the_way_out_is_named(protocol: str) -> None:
    known = PROTOCOLS[protocol]
    with pytest.raises(ConfigError, match=rf"{known.key_variable}.*--llm local"):
        known.maker.connect(known.model, environ={})
    asyncio.run(unconnected(protocol).aclose())


def test_answers_get_the_log_probabilities_of_their_first_tokens() -> None:
    top = {"yes": math.log(0.5), " yes": math.log(0.2), "Yes": math.log(0.1), "no": math.log(0.05)}
    request = Request(ASK.messages, max_tokens=0, answers=("yes", "no", "maybe"))
    with Loopback(lambda asked: Answer("yes", top)) as server:
        llm = connect("openai", server)
        assert Can.TOP_LOGPROBS in llm.can
        (reply,) = ask(llm, request)
    yes, no, maybe = reply.answers
    assert math.exp(yes) == pytest.approx(0.7)
    assert math.exp(no) == pytest.approx(0.05)
    assert maybe == -math.inf
    sent = server.log[0].body
    assert (sent["max_tokens"], sent["logprobs"], sent["top_logprobs"]) == (1, True, 20)


def test_a_server_without_log_probabilities_is_found_out() -> None:
    def drop(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["logprobs"] = None
        return reply

    error, _ = failure("openai", changed(drop), Request(ASK.messages, answers=("yes", "no")))
    assert isinstance(error, ReplyError)
    assert "log probabilities" in str(error)


@pytest.mark.parametrize("value", [math.nan, "0", None, True, 3.0])
def test_log_probabilities_that_are_none_are_refused(value: object) -> None:
    def spoil(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] = value
        return reply

    error, _ = failure("openai", changed(spoil), Request(ASK.messages, answers=("yes", "no")))
    assert isinstance(error, ReplyError)


def test_longer_answers_are_known_by_their_beginning_unless_it_is_shared() -> None:
    logs = match_answers(("correct", "incorrect"), [(" in", -0.1), ("cor", -2.0), ("\n", -9.0)])
    assert list(logs) == pytest.approx([-2.0, -0.1])
    digits = match_answers(("1", "10"), [("1", -0.5), ("10", -1.0)])
    assert list(digits) == pytest.approx([-0.5, -1.0])
    with pytest.raises(Unsupported, match="same token"):
        match_answers(("firing", "fires"), [("fir", -0.1)])


@pytest.mark.parametrize("protocol", ["openai", "openai-responses"])
def test_reasoning_models_are_not_sent_what_they_refuse(protocol: str) -> None:
    request = Request(ASK.messages, max_tokens=16, temperature=0.7, stop=("END",))
    with Loopback(lambda asked: "blue END red") as server:
        llm = connect(protocol, server, "gpt-5-mini")
        assert not llm.can & {Can.TOP_LOGPROBS, Can.SAMPLING, Can.SEED}
        (reply,) = ask(llm, request)
    assert reply.text == "blue "
    sent = server.log[0].body
    assert not sent.keys() & {"temperature", "stop", "logprobs", "max_tokens", "seed"}
    bound = sent["max_completion_tokens" if protocol == "openai" else "max_output_tokens"]
    assert 16 < bound <= request.max_tokens + llm.overhead_tokens


def test_a_server_is_sent_no_field_that_it_may_not_know() -> None:
    with Loopback() as server:
        ask(connect("openai", server), ASK)
    assert server.log[0].body.keys() == {"model", "messages", "max_tokens", "temperature"}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"reasoning": "let me think", "reasoning_content": "hm", "content": "blue"}, "blue"),
        ({"content": [{"type": "thinking"}, {"type": "text", "text": "blue"}]}, "blue"),
        ({"content": "blue", "tool_calls": None, "refusal": ""}, "blue"),
    ],
)
def test_what_servers_add_to_a_message_is_not_its_text(message: dict[str, Any], text: str) -> None:
    def other(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["message"] = message
        return reply

    with Loopback(faults=[changed(other)]) as server:
        (reply,) = ask(connect("openai", server), ASK)
    assert reply.text == text


def test_thoughts_alone_are_no_reply() -> None:
    def thoughts(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["message"] = {"content": None, "reasoning": "let me think"}
        return reply

    error, _ = failure("openai", changed(thoughts))
    assert isinstance(error, ReplyError)
    assert error.again


def test_where_chance_plays_a_part_the_sample_decides_what_is_drawn() -> None:
    drawn = Request(ASK.messages, temperature=0.7, sample=3)
    with Loopback() as server:
        llm = connect("openai", server)
        assert Can.SEED in llm.can
        ask(llm, drawn, ASK)
    assert server.log[0].body["seed"] == 3
    assert "seed" not in server.log[1].body


def test_responses_are_not_stored() -> None:
    with Loopback() as server:
        ask(connect("openai-responses", server), ASK)
    assert server.log[0].body["store"] is False


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tokens_are_counted_by_class(protocol: str) -> None:
    said = Answer("deep blue", cached=2, written=1, thought=7)
    with Loopback(lambda asked: said) as server:
        llm = replace(connect(protocol, server), price=OneClassDear())
        (reply,) = ask(llm, ASK)
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (4, 9)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (2, 1)
    assert usage.reasoning_tokens == 7
    assert usage.cost == 4 + 9 + 20 + 100


class OneClassDear:
    """Ten dollars more for a token read, a hundred for one written."""

    origin: Mapping[str, Any] = {}

    def cost(self, prompt: int, made: int, *, cache_read: int = 0, cache_write: int = 0) -> float:
        return prompt + made + 10 * cache_read + 100 * cache_write


def test_thoughts_that_are_counted_apart_are_paid_for() -> None:
    def apart(reply: dict[str, Any]) -> dict[str, Any]:
        reply["usage"]["completion_tokens_details"]["reasoning_tokens"] = 50
        return reply

    with Loopback(faults=[changed(apart)]) as server:
        (reply,) = ask(connect("openai", server), ASK)
    assert reply.usage.completion_tokens == 51


@pytest.mark.parametrize(
    ("protocol", "model", "request_"),
    [
        ("openai", "gpt-5-mini", Request(ASK.messages, answers=("yes", "no"))),
        ("openai", "gpt-4o-mini", Request(ASK.messages, answers=("yes",), slots=("a",))),
        ("openai", "gpt-3.5-turbo", Request(ASK.messages, schema="{}")),
        ("openai-responses", "gpt-3.5-turbo", Request(ASK.messages, schema="{}")),
        ("openai-responses", "gpt-4o-mini", Request(ASK.messages, answers=("yes", "no"))),
        ("anthropic", "claude-opus-4-8", Request(ASK.messages, answers=("yes", "no"))),
        ("anthropic", "claude-3-haiku-20240307", Request(ASK.messages, schema="{}")),
    ],
)
def test_what_a_model_cannot_do_is_refused_before_anything_is_sent(
    protocol: str, model: str, request_: Request
) -> None:
    with Loopback() as server, pytest.raises(Unsupported, match="use "):
        ask(connect(protocol, server, model), request_)
    assert server.log == []


SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}


def test_a_schema_is_sent_as_each_protocol_wants_it() -> None:
    request = Request(ASK.messages, schema=json.dumps(SCHEMA))
    with Loopback(lambda asked: '{"colour": "blue"}') as server:
        ask(connect("openai", server), request)
        ask(connect("anthropic", server), request)
        ask(connect("openai", server), Request(ASK.messages, schema='{"type": "object"}'))
        ask(connect("openai-responses", server), request)
    strict, claude, loose, response = (asked.body for asked in server.log)
    assert strict["response_format"]["json_schema"]["schema"] == SCHEMA
    assert strict["response_format"]["json_schema"]["strict"] is True
    assert claude["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
    assert loose["response_format"]["json_schema"]["strict"] is False
    form = {"type": "json_schema", "name": "reply", "schema": SCHEMA, "strict": True}
    assert response["text"] == {"format": form}


def test_claude_is_sent_the_fixed_part_first_and_marked_for_its_cache() -> None:
    shots = (Message("user", "sky?"), Message("assistant", "blue"), Message("user", "grass?"))
    request = Request((Message("system", "Be brief."), *shots), stop=("\n", "END"))
    with Loopback(lambda asked: Answer("green\nred", cached=2)) as server:
        (reply,) = ask(connect("anthropic", server), request)
    sent = server.log[0].body
    assert sent["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert sent["messages"][1]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert sent["messages"][2]["content"] == "grass?"
    assert sent["stop_sequences"] == ["END"]
    assert not sent.keys() & {"temperature", "top_p"}
    assert reply.text == "green"
    assert reply.usage.prompt_tokens == 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_prefill_is_asked_for_in_words(protocol: str) -> None:
    with Loopback(lambda asked: "This neuron fires on x") as server:
        (reply,) = ask(
            connect(protocol, server), Request(ASK.messages, prefill="This neuron fires on")
        )
    assert server.log[0].last.endswith("Begin your reply with: This neuron fires on")
    assert server.log[0].messages[-1][0] == "user"
    assert reply.text == "This neuron fires on x"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_text_that_no_encoding_takes_is_mended_both_ways(protocol: str) -> None:
    request = Request((Message("user", "lone \ud800 surrogate"),))
    with Loopback(lambda asked: "back \udfff") as server:
        (reply,) = ask(connect(protocol, server), request)
    assert reply.text.encode() == b"back ?"


NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("3", 3.0),
        ("130", 130.0),
        ("1e9", MAX_RETRY_AFTER),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (format_datetime(NOW + timedelta(seconds=42), usegmt=True), 42.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
    ],
)
def test_retry_after_is_obeyed_where_it_is_sane(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text())
def test_retry_after_of_any_text_is_a_bounded_wait_or_none(header: str) -> None:
    found = retry_after(header, NOW)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER


def test_names_resolve_to_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    gpt, claude = make_llm("openai:gpt-4o-mini"), make_llm("anthropic:claude-opus-4-8")
    response = make_llm("openai-responses:gpt-4o-mini")
    assert isinstance(response, OpenAIResponsesLLM)
    assert response.price is not None
    assert isinstance(gpt, OpenAILLM)
    assert isinstance(claude, AnthropicLLM)
    assert (gpt.name, claude.name) == ("openai:gpt-4o-mini", "anthropic:claude-opus-4-8")
    assert gpt.price is not None
    assert claude.price is not None

    async def close() -> None:
        await gpt.aclose()
        await claude.aclose()
        await response.aclose()

    asyncio.run(close())


def test_a_module_in_no_package_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_alone.py").write_text("def said(messages):\n    return 'fine'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert check_spec("mine_alone:said") == ("mine_alone", "said")
    assert "mine_alone" not in sys.modules  # A name is looked at; nothing is imported for that.
    assert make_llm("mine_alone:said").name == "function:said"


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided", "api documentation is at", "the key provided-to-us is none",
        "api version-is-unknown", "Bearer authentication required", "key management-policies apply",
    ],
)  # fmt: skip
def test_plain_words_about_keys_are_told_as_they_are(text: str) -> None:
    assert Account("A", "A_API_KEY", "m", "http://a").clean(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-Zm9vYmFyYmF6cXV4", "sk-abcdefghijkl", "sk-ant-api03-abcd1234", "pk_live_abcdefgh",
        "Bearer 0123456789abcdef", "Bearer abcdefghijklmnopqrstuvwxyzabcdef", "key abcd1234efgh",
        "api-key-1234567890", "key sk-****************abcd", "api_9f8e7d6c5b4a",
    ],
)  # fmt: skip
def test_what_looks_like_a_key_is_hidden(secret: str) -> None:
    said = Account("A", "A_API_KEY", "m", "http://a").clean(f"you sent {secret} to us")
    assert "[key]" in said
    assert secret.split("-")[-1].split()[-1] not in said


def test_a_dotted_path_names_a_class_or_a_function() -> None:
    assert make_llm("tests.test_providers:Parrot").name == "parrot"
    assert make_llm("tests.test_providers:answer").name == "function:answer"


class Parrot:
    name = "parrot"
    can: frozenset[Can] = frozenset()

    async def reply(self, request: Request) -> Reply:
        return Reply(request.messages[-1].content)


def answer(messages: list[Mapping[str, str]]) -> str:
    return "fine"


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("opnai:gpt-4o", {}, "did you mean openai:MODEL"),
        ("gpt-4o", {}, "there are: anthropic:MODEL"),
        ("openai:", {}, "openai:MODEL"),
        ("no.such:Thing", {}, "no.such"),
        ("mine:Thing", {}, "package.module:name"),
        ("opnai:gpt", {}, "did you mean openai:MODEL"),
        ("json:gpt-4", {}, "package.module:name"),
        ("json:nothing", {}, "no language model at 'json:nothing'"),
        ("openai:gpt-4o", {"offline": True}, "--llm local"),
        ("openai:gpt-4o", {"base_url": "localhost:8000"}, "http://127.0.0.1:8000/v1"),
        ("local", {"base_url": "http://127.0.0.1:1"}, "--base-url"),
    ],
)
def test_a_name_that_cannot_be_used_is_answered_with_what_can(
    spec: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises((ConfigError, NotRegistered), match=said):
        make_llm(spec, **options)


def test_offline_allows_a_server_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Loopback() as server:
        llm = make_llm("openai:qwen", base_url=server.openai_url, offline=True)
        assert isinstance(llm, OpenAILLM)
        assert ask(llm, ASK)[0].text == "fine"


def test_a_thousand_hanging_calls_leave_no_task_and_no_socket_behind() -> None:
    async def work() -> int:
        llm = connect("openai", server, timeout=0.3)
        tasks: list[Callable[[], Awaitable[Reply]]] = [lambda: llm.reply(ASK)] * 1000
        results = await asyncio.gather(*(task() for task in tasks), return_exceptions=True)
        await llm.aclose()
        assert all(isinstance(result, ProviderError) for result in results)
        return len(asyncio.all_tasks())

    with Loopback(delay=60) as server:
        assert asyncio.run(work()) == 1


def test_providers_are_language_models() -> None:
    with Loopback() as server:
        for protocol in PROTOCOLS:
            llm = connect(protocol, server)
            assert as_llm(llm) is llm
            assert not isinstance(llm, FunctionLLM)
            ask(llm)
