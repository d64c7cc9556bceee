"""Language models behind the OpenAI Responses protocol, at OpenAI or at any other URL.

Nothing is stored at the provider: each request holds the whole conversation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import openai

from glossator.errors import Refused, Unsupported
from glossator.llm import Can, Finish, Message, Reply, Request
from glossator.providers.body import Body, reply_of
from glossator.providers.exchange import exchange
from glossator.providers.faults import from_status
from glossator.providers.openai import OPENAI, THINKING_TOKENS, read_usage, strictly
from glossator.providers.remote import Maker, Remote
from glossator.providers.server import LLAMA_CPP
from glossator.providers.turns import call_of, refuse_what_it_cannot, schema_of, turns
from glossator.types import Usage

LEAST_TOKENS = 16
"""OpenAI refuses a smaller bound on what is generated."""


@dataclass(frozen=True)
class OpenAIResponsesLLM(Remote[openai.AsyncOpenAI]):
    """A model that speaks the Responses protocol."""

    kind: ClassVar[str] = "openai-responses"
    maker: ClassVar[Maker] = OPENAI

    @property
    def overhead_tokens(self) -> int:
        """Tokens it may generate beyond those asked for."""
        return LEAST_TOKENS + (THINKING_TOKENS if self.reasons else 0)

    @property
    def can(self) -> frozenset[Can]:
        """Schemas, tools and batches, and unless it reasons, sampling."""
        return super().can | (set() if self.reasons else {Can.SAMPLING})

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`; raises as `LLM` says, and retries nothing."""
        payload = payload_of(request, self)
        extra = None
        if request.schema and self.server.owner == LLAMA_CPP:
            # It passes over `text` in silence, and takes what its chat completions take.
            named = {"name": "reply", "schema": schema_of(request)}
            extra = {"response_format": {"type": "json_schema", "json_schema": named}}
        started = time.monotonic()
        text = await exchange(
            openai,
            self.account,
            self.client.responses.with_streaming_response.create(
                **payload, extra_body=extra, timeout=self.timeout
            ),
            self.timeout,
        )
        return read_reply(text, request, self, time.monotonic() - started)


def payload_of(request: Request, llm: OpenAIResponsesLLM) -> dict[str, Any]:
    """What is sent for `request`.

    Raises:
        Unsupported: if it asks for what the model cannot give.
        ConfigError: if a schema in it is none.
    """
    if request.answers or request.slots:
        raise Unsupported(
            f"{llm.name} is asked for no log probabilities; use openai:{llm.model}, a method that "
            "reads replies, or --llm local"
        )
    refuse_what_it_cannot(request, llm)
    items = [item for message in turns(request) for item in _items(message)]
    payload: dict[str, Any] = {
        "model": llm.model,
        "input": items,
        "store": False,
        "max_output_tokens": _bound(request, llm),
    }
    if not llm.reasons:
        payload["temperature"] = request.temperature
    if request.schema:
        form = {"type": "json_schema", "name": "reply", **strictly(schema_of(request), "schema")}
        payload["text"] = {"format": form}
    if request.tools:
        payload["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": schema_of(tool),
                "strict": False,  # Else what is optional would have to be filled in.
            }
            for tool in request.tools
        ]
        if request.tool_choice != "auto":
            payload["tool_choice"] = request.tool_choice
    return payload


def _bound(request: Request, llm: OpenAIResponsesLLM) -> int:
    """The most tokens that may be generated."""
    thinking = THINKING_TOKENS if llm.reasons else 0
    return max(LEAST_TOKENS, request.max_tokens) + thinking


def _items(message: Message) -> list[dict[str, Any]]:
    """What stands for `message` in the list that the protocol takes."""
    if message.role == "tool":
        result = {"type": "function_call_output", "call_id": message.call}
        return [{**result, "output": message.content}]
    if message.role != "assistant":
        return [{"role": message.role, "content": message.content}]
    calls = [
        {"type": "function_call", "call_id": c.id, "name": c.name, "arguments": c.arguments}
        for c in message.calls
    ]
    if not message.content and calls:
        return calls
    # The long form: some servers do not know the short one for what a model said.
    said = [{"type": "output_text", "text": message.content, "annotations": []}]
    return [{"type": "message", "role": "assistant", "content": said}, *calls]


def read_reply(text: str, request: Request, llm: OpenAIResponsesLLM, seconds: float) -> Reply:
    """The reply that the body `text` holds.

    Raises:
        Refused: if the model declined, or a filter took the reply away.
        ReplyError: if the body is no response.
        ProviderError: if the provider says that it failed.
    """
    account = llm.account
    body = Body.of(account, text)
    usage = read_usage(body.data.get("usage"), llm.price, seconds, read="input", written="output")
    status, output = body.data.get("status"), body.data.get("output")
    if status == "failed":
        raise from_status(account, 500, body.data)
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        raise body.no_reply("sent no response", usage)
    details = body.data.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if reason == "content_filter":
        raise Refused(f"{llm.name} declined: a filter took the reply away", text, usage)
    said: list[str] = []
    calls = []
    for number, item in enumerate(output):
        if item.get("type") == "message":
            said += _texts(body, item, llm, usage)
        elif item.get("type") == "function_call":
            parts = item.get("call_id"), item.get("name"), item.get("arguments")
            calls.append(call_of(body, number, usage, *parts))
    finish = _finish(status, reason)
    if llm.server.owner == LLAMA_CPP and usage.completion_tokens >= _bound(request, llm):
        finish = "length"  # It says `completed` all the same.
    if not said and not calls and finish != "length":
        raise body.wrong("it has no text", usage)
    return reply_of(
        body, request, llm.model, usage, text="".join(said), finish=finish, calls=tuple(calls)
    )


def _texts(body: Body, item: Mapping[str, Any], llm: OpenAIResponsesLLM, usage: Usage) -> list[str]:
    """The texts of a message."""
    parts = item.get("content")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise body.no_reply("sent a message without parts", usage)
    declined = [part for part in parts if part.get("type") == "refusal"]
    if declined:
        why = body.account.clean(str(declined[0].get("refusal") or "without a reason"))
        raise Refused(f"{llm.name} declined: {why}", body.text, usage)
    texts = [part.get("text") for part in parts if part.get("type") == "output_text"]
    if not all(isinstance(part, str) for part in texts):
        raise body.no_reply("sent a text without text", usage)
    return list(map(str, texts))


def _finish(status: object, reason: object) -> Finish:
    if status == "completed":
        return "stop"
    return "length" if reason == "max_output_tokens" else "other"
