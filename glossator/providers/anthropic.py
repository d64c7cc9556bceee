"""Claude models behind the Anthropic messages protocol."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import anthropic
import httpx2

from glossator.errors import ConfigError, ProviderError, Refused, ReplyError, Unsupported
from glossator.llm import Can, Reply, Request
from glossator.providers.faults import (
    Account,
    count,
    cut,
    from_status,
    read_object,
    storable,
    unreachable,
)
from glossator.providers.prices import Price, find_price
from glossator.types import Usage

KEY_VARIABLE = "ANTHROPIC_API_KEY"
URL_VARIABLE = "ANTHROPIC_BASE_URL"
HOME = "https://api.anthropic.com"
NO_SCHEMA = re.compile(r"claude-(?:[0-3]|instant|(?:opus|sonnet)-4(?:-0|-2025\d{4})?$)")
CACHED = {"type": "ephemeral"}


@dataclass(frozen=True)
class AnthropicLLM:
    """A Claude model, through Anthropic's own SDK: no log probabilities, no temperature.

    Serves one event loop; `aclose` it at the end.
    """

    model: str
    client: anthropic.AsyncAnthropic = field(repr=False, compare=False)
    account: Account
    price: Price | None = None
    """None where it is unknown."""
    timeout: float = 120.0
    """Seconds for one request, from sending to the last byte."""

    @classmethod
    def connect(
        cls,
        model: str,
        *,
        base_url: str | None = None,
        timeout: float = 120.0,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """The model called `model`, with the key and, where not given, the URL from `environ`.

        Raises:
            ConfigError: if there is no key, and no other URL than Anthropic's own.
        """
        url = base_url or environ.get(URL_VARIABLE) or HOME
        at_home = url.rstrip("/") == HOME
        key = environ.get(KEY_VARIABLE, "").strip()
        if not key and at_home:
            raise ConfigError(
                f"anthropic:{model} needs a key: set {KEY_VARIABLE}, or use --llm local"
            )
        client = anthropic.AsyncAnthropic(
            api_key=key or "none", base_url=url, max_retries=0, timeout=timeout
        )
        title = "Anthropic" if at_home else "the Anthropic-compatible server"
        return cls(
            model=model,
            client=client,
            account=Account(title, KEY_VARIABLE, model, url, key),
            price=find_price("anthropic", model, None if at_home else url),
            timeout=timeout,
        )

    @property
    def name(self) -> str:
        """`anthropic:MODEL`."""
        return f"anthropic:{self.model}"

    @property
    def identity(self) -> str:
        """Tells models of one name on several servers apart."""
        return self.account.url

    @property
    def can(self) -> frozenset[Can]:
        """Schemas, from Claude 4.1 on."""
        return frozenset() if NO_SCHEMA.match(self.model) else frozenset({Can.SCHEMA})

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`; raises as `LLM` says, and retries nothing."""
        payload = payload_of(request, self)
        started = time.monotonic()
        text = await self._send(payload)
        return read_reply(text, request, self, time.monotonic() - started)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.client.close()

    async def _send(self, payload: dict[str, Any]) -> str:
        try:
            async with asyncio.timeout(self.timeout):
                raw = await self.client.messages.with_raw_response.create(**payload)
                text: str = await raw.text()
                return text
        # `from None`: what the SDK raises holds the request with its key, and what the server said.
        except anthropic.APIStatusError as error:
            wait = error.response.headers.get("retry-after")
            raise from_status(self.account, error.status_code, error.body, wait) from None
        except (anthropic.APIConnectionError, TimeoutError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> ProviderError:
        early = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
        timed_out = isinstance(error, anthropic.APITimeoutError | TimeoutError)
        return unreachable(self.account, timed_out=timed_out, connected=not early)


def payload_of(request: Request, llm: AnthropicLLM) -> dict[str, Any]:
    """What is sent for `request`: the fixed part first and marked for Anthropic's prompt cache.

    Raises:
        Unsupported: if it asks for what the model cannot give.
    """
    if request.answers or request.slots:
        raise Unsupported(
            f"{llm.name} gives no log probabilities; use a method that reads replies, "
            "an OpenAI chat model, or --llm local"
        )
    if request.schema and Can.SCHEMA not in llm.can:
        raise Unsupported(f"{llm.name} holds to no schema; ask for JSON in the prompt")
    system = "\n\n".join(m.content for m in request.messages if m.role == "system" and m.content)
    turns = [(m.role, storable(m.content)) for m in request.messages if m.role != "system"]
    if request.prefill and turns:
        role, content = turns[-1]
        turns[-1] = (role, f"{content}\n\nBegin your reply with: {storable(request.prefill)}")
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
    if len(messages) > 1 and turns[-2][1].strip():
        messages[-2]["content"] = [_cached_block(turns[-2][1])]
    payload: dict[str, Any] = {
        "model": llm.model,
        "messages": messages,
        "max_tokens": max(1, request.max_tokens),
    }
    if system.strip():
        payload["system"] = [_cached_block(storable(system))]
    stops = [s for s in request.stop if s.strip()]  # The API refuses blank ones; `cut` does those.
    if stops:
        payload["stop_sequences"] = stops
    if request.schema:
        payload["output_config"] = {
            "format": {"type": "json_schema", "schema": json.loads(request.schema)}
        }
    return payload


def _cached_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": CACHED}


def read_reply(text: str, request: Request, llm: AnthropicLLM, seconds: float) -> Reply:
    """The reply that the body `text` holds.

    Raises:
        Refused: if the model declined.
        ReplyError: if the body is no message.
    """
    account = llm.account
    data = read_object(account, text)
    usage = read_usage(data.get("usage"), llm.price, seconds)
    reason = data.get("stop_reason")
    if reason == "refusal":
        raise Refused(f"{llm.name} declined to answer", text, usage)
    blocks = data.get("content")
    if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
        raise ReplyError(f"{account.title} sent no message", text, usage)
    parts = [block.get("text") for block in blocks if block.get("type") == "text"]
    if not all(isinstance(part, str) for part in parts):
        raise ReplyError(f"{account.title} sent a text block without text", text, usage)
    answered = storable("".join(map(str, parts)))
    trimmed = cut(answered, request)
    finish: Literal["stop", "length", "other"] = "other"
    if reason in ("end_turn", "stop_sequence") or trimmed != answered:
        finish = "stop"
    elif reason in ("max_tokens", "model_context_window_exceeded"):
        finish = "length"
    model = data.get("model")
    return Reply(
        text=trimmed,
        finish=finish,
        usage=usage,
        model=storable(model) if isinstance(model, str) else llm.model,
    )


def read_usage(found: object, price: Price | None, seconds: float) -> Usage:
    """What a reply says it used; the cost is None if it does not say or the price is unknown.

    Anthropic counts the tokens read from and written to its cache apart; here they are all prompt
    tokens.
    """
    fields = found if isinstance(found, dict) else {}
    fresh, completion = count(fields.get("input_tokens")), count(fields.get("output_tokens"))
    if fresh is None or completion is None:
        return Usage(calls=1, cost=None, seconds=seconds)
    read = count(fields.get("cache_read_input_tokens")) or 0
    written = count(fields.get("cache_creation_input_tokens")) or 0
    prompt = fresh + read + written
    cost = None
    if price is not None:
        cost = price.cost(prompt, completion, cache_read=read, cache_write=written)
    return Usage(1, 0, prompt, completion, cost, seconds)
