"""Language models behind the OpenAI chat completions protocol, at OpenAI or at any other URL."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import openai

from glossator.errors import Refused, Unsupported
from glossator.llm import Can, Finish, Message, Reply, Request, ToolCall
from glossator.providers.answered_lines import read_lines
from glossator.providers.answers import match_answers, read_top
from glossator.providers.body import Body, reply_of
from glossator.providers.exchange import MAX_BODY, exchange
from glossator.providers.faults import from_status
from glossator.providers.prices import Price
from glossator.providers.remote import Maker, Remote
from glossator.providers.server import VLLM
from glossator.providers.slots import N_LISTED, read_slots
from glossator.providers.turns import (
    call_of,
    can_be_strict,
    refuse_what_it_cannot,
    schema_of,
    turns,
)
from glossator.providers.usage import count, usage_of
from glossator.types import Usage

OPENAI = Maker(
    name="openai",
    title="OpenAI",
    home="https://api.openai.com/v1",
    key_variable="OPENAI_API_KEY",
    url_variable="OPENAI_BASE_URL",
    sdk=openai,
    client=openai.AsyncOpenAI,
    no_schema=re.compile(
        r"(?:openai/)?(?:gpt-3\.5|gpt-4(?:-|$)|gpt-4o-2024-05-13|o1-(?:mini|preview))"
    ),
    no_tools=re.compile(r"(?:openai/)?(?:o1-(?:mini|preview)|chatgpt-)"),
    reasoning=re.compile(r"(?:openai/)?(?:o\d|gpt-[5-9])"),
)
"""Its reasoning models refuse temperature, stop and log probabilities."""
THINKING_TOKENS = 4096
"""What reasoning models may generate beyond the reply, billed as output."""
MAX_STOPS = 4
SLOTS_BODY = 8 * MAX_BODY
"""Bytes of a reply that lists the likeliest tokens at each one of its prompt."""
NO_LOGPROBS = (
    "{} at {} sent no usable log probabilities; use a method that reads replies, a server that "
    "gives them, or --llm local"
)
NO_SEED = frozenset({"mistralai"})
"""Owners of models that refuse a request with a seed."""


@dataclass(frozen=True)
class OpenAILLM(Remote[openai.AsyncOpenAI]):
    """A model that speaks the chat completions protocol."""

    kind: ClassVar[str] = "openai"
    maker: ClassVar[Maker] = OPENAI

    top_logprobs: int = 20
    """How many of the likeliest first tokens to ask for."""

    @property
    def overhead_tokens(self) -> int:
        """Tokens it may generate beyond those asked for."""
        return THINKING_TOKENS if self.reasons else 0

    @property
    def can(self) -> frozenset[Can]:
        """Schemas, tools and batches, and unless it reasons, sampling and likeliest first tokens.

        What a server of another make can do shows in `check`; whether it gives log probabilities,
        in its first reply.
        """
        found = set(super().can)
        if not self.reasons:
            found |= {Can.TOP_LOGPROBS, Can.SAMPLING}
            if self.server.owner not in NO_SEED:
                found.add(Can.SEED)
            if self.server.owner == VLLM:
                found.add(Can.PROMPT_LOGPROBS)
        return frozenset(found)

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`; raises as `LLM` says, and retries nothing."""
        payload = payload_of(request, self)
        # The SDK knows no other fields than OpenAI's.
        extra = {name: payload.pop(name) for name in ("prompt_logprobs",) if name in payload}
        started = time.monotonic()
        text = await exchange(
            openai,
            self.account,
            self.client.chat.completions.with_streaming_response.create(
                **payload, extra_body=extra or None, timeout=self.timeout
            ),
            self.timeout,
            limit=SLOTS_BODY if request.slots else MAX_BODY,
        )
        return read_reply(text, request, self, time.monotonic() - started)


def payload_of(request: Request, llm: OpenAILLM) -> dict[str, Any]:
    """What is sent for `request`: no more fields than it needs, as some servers refuse others.

    Raises:
        Unsupported: if it asks for what the model cannot give.
        ConfigError: if a schema in it is none.
    """
    if request.slots and Can.PROMPT_LOGPROBS not in llm.can:
        raise Unsupported(
            f"{llm.name} gives no log probabilities of prompts; use --simulator reply, a vLLM "
            "server, or --llm local"
        )
    if request.answers and Can.TOP_LOGPROBS not in llm.can:
        raise Unsupported(
            f"{llm.name} gives no log probabilities; use a method that reads replies, "
            "a chat model such as openai:gpt-4.1-mini, or --llm local"
        )
    refuse_what_it_cannot(request, llm)
    payload: dict[str, Any] = {
        "model": llm.model,
        "messages": [_turn(message) for message in turns(request)],
    }
    if request.schema:
        named = {"name": "reply", **strictly(schema_of(request), "schema")}
        payload["response_format"] = {"type": "json_schema", "json_schema": named}
    if request.tools:
        payload["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": schema_of(tool),
                },
            }
            for tool in request.tools
        ]
        if request.tool_choice != "auto":
            payload["tool_choice"] = request.tool_choice
    only_answers = bool(request.answers) and not request.lines
    if llm.reasons:
        payload["max_completion_tokens"] = max(1, request.max_tokens) + llm.overhead_tokens
        return payload
    payload["max_tokens"] = 1 if only_answers else max(1, request.max_tokens)
    payload["temperature"] = request.temperature
    if request.temperature > 0 and Can.SEED in llm.can:
        payload["seed"] = request.sample
    if request.stop and not only_answers:
        payload["stop"] = list(request.stop[:MAX_STOPS])
    if request.slots:
        payload["prompt_logprobs"] = N_LISTED
    elif request.answers:
        payload |= {"logprobs": True, "top_logprobs": llm.top_logprobs}
    return payload


def strictly(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`schema` under `name`, and whether OpenAI can keep to it without fail."""
    return {name: schema, "strict": can_be_strict(schema)}


def _turn(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call, "content": message.content}
    if not message.calls:
        return {"role": message.role, "content": message.content}
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in message.calls
    ]
    return {"role": message.role, "content": message.content or None, "tool_calls": calls}


def read_reply(text: str, request: Request, llm: OpenAILLM, seconds: float) -> Reply:
    """The reply that the body `text` holds.

    Raises:
        Refused: if the model declined, or a filter took the reply away.
        ReplyError: if the body is no chat completion, or lacks the log probabilities asked for.
    """
    account = llm.account
    body = Body.of(account, text)
    usage = read_usage(body.data.get("usage"), llm.price, seconds)
    choices = body.data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise body.no_reply("sent no chat completion", usage)
    declined, reason = message.get("refusal"), choice.get("finish_reason")
    if declined or reason == "content_filter":
        said = account.clean(str(declined or "a filter took the reply away"))
        raise Refused(f"{llm.name} declined: {said}", text, usage)
    if reason == "error":  # OpenRouter: the provider behind it broke off.
        raise from_status(account, 502, choice)
    calls = _calls(body, message.get("tool_calls"), usage)
    content = _joined(message.get("content"))
    if content is None and (calls or request.answers or reason == "length"):
        content = ""
    if not isinstance(content, str):
        what = f"it has no text but {content!r:.80}"
        raise body.no_reply(what, usage) if content is not None else body.wrong(what, usage)
    answers, slots = _log_probabilities(body, choice, request, llm, usage)
    return reply_of(
        body,
        request,
        llm.model,
        usage,
        text=content,
        finish=_finish(reason),
        calls=calls,
        answers=answers,
        slots=slots,
    )


def _joined(content: object) -> object:
    """The text of a reply that came in parts, some of them thoughts, as Mistral sends it."""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return content
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    return "".join(map(str, texts)) if all(isinstance(t, str) for t in texts) else content


def _finish(reason: object) -> Finish:
    return "stop" if reason == "stop" else "length" if reason == "length" else "other"


def _calls(body: Body, found: object, usage: Usage) -> tuple[ToolCall, ...]:
    if found is None:
        return ()
    if not isinstance(found, list):
        raise body.no_reply("sent calls of tools in no list", usage)
    calls = []
    for number, entry in enumerate(found):
        fields = entry if isinstance(entry, dict) else {}
        function = fields.get("function")
        made = function if isinstance(function, dict) else {}
        parts = fields.get("id"), made.get("name"), made.get("arguments")
        calls.append(call_of(body, number, usage, *parts))
    return tuple(calls)


def _log_probabilities(
    body: Body, choice: Mapping[str, Any], request: Request, llm: OpenAILLM, usage: Usage
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Those of the answers, and those behind each slot, as far as they were asked for."""
    if request.slots:
        last = turns(request)[-1].content
        found = body.data.get("prompt_logprobs")
        try:
            return (), read_slots(found, last, request.slots, request.answers, llm.name)
        except ValueError as error:
            raise body.wrong(f"{llm.name}: {error}", usage, again=False) from None
    if not request.answers:
        return (), ()
    if request.lines:
        said = str(_joined(choice["message"].get("content")) or "")
        rows = read_lines(choice.get("logprobs"), said, request.lines, request.answers)
        if rows is None:
            raise body.wrong(NO_LOGPROBS.format(llm.name, llm.account.url), usage, again=False)
        return (), rows
    listed = read_top(choice.get("logprobs"))
    if listed is None:
        raise body.wrong(NO_LOGPROBS.format(llm.name, llm.account.url), usage, again=False)
    return match_answers(request.answers, listed), ()


def read_usage(
    found: object,
    price: Price | None,
    seconds: float,
    *,
    read: str = "prompt",
    written: str = "completion",
) -> Usage:
    """What a reply says it used; `read` and `written` are the protocol's words for the tokens."""
    fields = found if isinstance(found, dict) else {}
    prompt, made = fields.get(f"{read}_tokens_details"), fields.get(f"{written}_tokens_details")
    of_prompt = prompt if isinstance(prompt, dict) else {}
    of_reply = made if isinstance(made, dict) else {}
    return usage_of(
        price,
        seconds,
        count(fields.get(f"{read}_tokens")),
        count(fields.get(f"{written}_tokens")),
        cache_read=of_prompt.get("cached_tokens"),
        cache_write=of_prompt.get("cache_write_tokens"),
        reasoning=of_reply.get("reasoning_tokens"),
    )
