"""Claude models behind the Anthropic messages protocol."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import anthropic

from glossator.errors import Refused, Unsupported
from glossator.llm import Finish, Message, Reply, Request
from glossator.providers.body import Body, reply_of
from glossator.providers.exchange import exchange
from glossator.providers.prices import Price
from glossator.providers.remote import Maker, Remote
from glossator.providers.turns import call_of, refuse_what_it_cannot, schema_of, turns
from glossator.providers.usage import count, usage_of
from glossator.types import JSON, Usage

CACHED = {"type": "ephemeral"}
"""Marks the end of what is to be cached; a request may hold four marks, and ours hold three."""
MOST_LISTED = 1000
"""Models that one page of the list may hold."""
ANTHROPIC = Maker(
    name="anthropic",
    title="Anthropic",
    home="https://api.anthropic.com",
    key_variable="ANTHROPIC_API_KEY",
    url_variable="ANTHROPIC_BASE_URL",
    sdk=anthropic,
    client=anthropic.AsyncAnthropic,
    no_schema=re.compile(r"claude-(?:[0-3]|instant|(?:opus|sonnet)-4(?:-0|-2025\d{4})?$)"),
    no_tools=re.compile(r"claude-(?:[0-2]|instant)"),
    listing={"limit": MOST_LISTED},
)
"""It has schemas from Claude 4.1 on, and tools from Claude 3 on."""
CHOICES = {"auto": "auto", "required": "any", "none": "none"}


@dataclass(frozen=True)
class AnthropicLLM(Remote[anthropic.AsyncAnthropic]):
    """A Claude model: no log probabilities, no temperature."""

    kind: ClassVar[str] = "anthropic"
    maker: ClassVar[Maker] = ANTHROPIC

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`; raises as `LLM` says, and retries nothing."""
        payload = payload_of(request, self)
        started = time.monotonic()
        text = await exchange(
            anthropic,
            self.account,
            self.client.messages.with_streaming_response.create(**payload, timeout=self.timeout),
            self.timeout,
        )
        return read_reply(text, request, self, time.monotonic() - started)


def payload_of(request: Request, llm: AnthropicLLM) -> dict[str, Any]:
    """What is sent for `request`: the fixed part first and marked for Anthropic's prompt cache.

    Raises:
        Unsupported: if it asks for what the model cannot give.
        ConfigError: if a schema in it is none.
    """
    if request.answers or request.slots:
        raise Unsupported(
            f"{llm.name} gives no log probabilities; use a method that reads replies, "
            "an OpenAI chat model, or --llm local"
        )
    refuse_what_it_cannot(request, llm)
    told = turns(request)
    system = [m.content for m in told if m.role == "system" and m.content.strip()]
    if request.schema and llm.server.is_own:
        # They pass over `output_config` in silence.
        system.append(f"Answer with JSON alone, that keeps to this schema: {request.schema}")
    messages = _messages([m for m in told if m.role != "system"])
    payload: dict[str, Any] = {
        "model": llm.model,
        "messages": messages,
        "max_tokens": max(1, request.max_tokens),
    }
    if request.tools:
        payload["tools"] = [
            {"name": t.name, "description": t.description, "input_schema": schema_of(t)}
            for t in request.tools
        ]
        if request.tool_choice != "auto":
            payload["tool_choice"] = {"type": CHOICES[request.tool_choice]}
    if system:
        payload["system"] = [{"type": "text", "text": "\n\n".join(system), "cache_control": CACHED}]
    elif request.tools:
        payload["tools"][-1]["cache_control"] = CACHED
    # Examples come before the last turn; a conversation with tools goes on behind it.
    for message in messages[-2:] if request.tools else messages[-2:-1]:
        _mark(message)
    stops = [s for s in request.stop if s.strip()]  # The API refuses blank ones; `cut` does those.
    if stops:
        payload["stop_sequences"] = stops
    if request.schema:
        form = {"type": "json_schema", "schema": schema_of(request)}
        payload["output_config"] = {"format": form}
    return payload


def _messages(told: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns in Anthropic's form: results of tools are blocks of one turn of the user's."""
    found: list[dict[str, Any]] = []
    for message in told:
        if message.role == "tool":
            result = {"type": "tool_result", "tool_use_id": message.call}
            blocks = [{**result, "content": message.content}]
            if found and found[-1]["role"] == "user" and isinstance(found[-1]["content"], list):
                found[-1]["content"] += blocks
            else:
                found.append({"role": "user", "content": blocks})
        elif message.calls:
            said = [{"type": "text", "text": message.content}] if message.content.strip() else []
            used = [
                {"type": "tool_use", "id": c.id, "name": c.name, "input": _object(c.arguments)}
                for c in message.calls
            ]
            found.append({"role": message.role, "content": [*said, *used]})
        else:
            found.append({"role": message.role, "content": message.content})
    return found


def _object(arguments: str) -> JSON:
    """Arguments as the API wants them, an object; what the model wrote instead of one is in it."""
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": arguments}


def _mark(message: dict[str, Any]) -> None:
    """Has the conversation up to the end of `message` cached, if that is not blank."""
    content = message["content"]
    if isinstance(content, list):
        content[-1]["cache_control"] = CACHED
    elif content.strip():
        message["content"] = [{"type": "text", "text": content, "cache_control": CACHED}]


def read_reply(text: str, request: Request, llm: AnthropicLLM, seconds: float) -> Reply:
    """The reply that the body `text` holds.

    Raises:
        Refused: if the model declined.
        ReplyError: if the body is no message.
    """
    body = Body.of(llm.account, text)
    usage = read_usage(body.data.get("usage"), llm.price, seconds)
    reason, blocks = body.data.get("stop_reason"), body.data.get("content")
    if reason == "refusal":
        raise Refused(f"{llm.name} declined to answer", text, usage)
    if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
        raise body.no_reply("sent no message", usage)
    said, calls = [], []
    for number, block in enumerate(blocks):
        if block.get("type") == "text":
            if not isinstance(block.get("text"), str):
                raise body.no_reply("sent a text block without text", usage)
            said.append(block["text"])
        elif block.get("type") == "tool_use":
            parts = block.get("id"), block.get("name"), block.get("input")
            calls.append(call_of(body, number, usage, *parts))
    return reply_of(
        body,
        request,
        llm.model,
        usage,
        text="".join(said),
        finish=_finish(reason),
        calls=tuple(calls),
    )


def _finish(reason: object) -> Finish:
    if reason in ("end_turn", "stop_sequence"):
        return "stop"
    # `pause_turn` is for tools that run at Anthropic, of which we ask for none.
    return "length" if reason in ("max_tokens", "model_context_window_exceeded") else "other"


def read_usage(found: object, price: Price | None, seconds: float) -> Usage:
    """What a reply says it used.

    Anthropic counts the tokens read from and written to its cache apart; here they are all prompt
    tokens.
    """
    fields = found if isinstance(found, dict) else {}
    fresh = count(fields.get("input_tokens"))
    read = count(fields.get("cache_read_input_tokens")) or 0
    written = count(fields.get("cache_creation_input_tokens")) or 0
    details = fields.get("output_tokens_details")
    return usage_of(
        price,
        seconds,
        None if fresh is None else fresh + read + written,
        count(fields.get("output_tokens")),
        cache_read=read,
        cache_write=written,
        reasoning=details.get("thinking_tokens") if isinstance(details, dict) else None,
    )
