"""Language models behind the OpenAI chat completions protocol, at OpenAI or at any other URL."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import openai

from glossator.errors import ConfigError, Refused, Unsupported
from glossator.llm import Can, Finish, Message, Reply, Request, ToolCall
from glossator.providers.answers import match_answers, read_top
from glossator.providers.body import Body, reply_of
from glossator.providers.exchange import MAX_BODY, exchange, http_client, key_in
from glossator.providers.faults import Account, from_status
from glossator.providers.prices import Price, find_price
from glossator.providers.server import VLLM, Server, look
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

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
HOME = "https://api.openai.com/v1"
REASONING = re.compile(r"(?:openai/)?(?:o\d|gpt-[5-9])")
"""Models that think before they answer: they refuse temperature, stop and log probabilities."""
NO_SCHEMA = re.compile(
    r"(?:openai/)?(?:gpt-3\.5|gpt-4(?:-|$)|gpt-4o-2024-05-13|o1-(?:mini|preview))"
)
NO_TOOLS = re.compile(r"(?:openai/)?(?:o1-(?:mini|preview)|chatgpt-)")
THINKING_TOKENS = 4096
"""What reasoning models may generate beyond the reply, billed as output."""
MAX_STOPS = 4
SLOTS_BODY = 8 * MAX_BODY
"""Bytes of a reply that lists the likeliest tokens at each one of its prompt."""
NO_SEED = frozenset({"mistralai"})
"""Owners of models that refuse a request with a seed."""


@dataclass(frozen=True)
class OpenAILLM:
    """A model that speaks the chat completions protocol, through OpenAI's own SDK.

    Serves one event loop; `aclose` it at the end.
    """

    model: str
    client: openai.AsyncOpenAI = field(repr=False, compare=False)
    account: Account
    price: Price | None = None
    """None where it is unknown."""
    timeout: float = 120.0
    """Seconds for one request, from sending to the last byte."""
    top_logprobs: int = 20
    """How many of the likeliest first tokens to ask for."""
    server: Server = field(default_factory=Server, compare=False)
    """What `check` has found out."""

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
            ConfigError: if there is no key, and no other URL than OpenAI's own.
        """
        client, account = connected(f"openai:{model}", model, base_url, timeout, environ)
        return cls(model, client, account, price_at(account), timeout)

    @property
    def name(self) -> str:
        """`openai:MODEL`."""
        return f"openai:{self.model}"

    @property
    def identity(self) -> str:
        """Tells models of one name on several servers apart."""
        return self.account.url

    @property
    def reasons(self) -> bool:
        """Whether it thinks before it answers."""
        return REASONING.match(self.model) is not None

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
        found = set() if self.server.is_own else {Can.BATCH}
        if NO_SCHEMA.match(self.model) is None:
            found.add(Can.SCHEMA)
        if NO_TOOLS.match(self.model) is None and not self.server.is_own:
            found.add(Can.TOOLS)
        if not self.reasons:
            found |= {Can.TOP_LOGPROBS, Can.SAMPLING}
            if self.server.owner not in NO_SEED:
                found.add(Can.SEED)
            if self.server.owner == VLLM:
                found.add(Can.PROMPT_LOGPROBS)
        return frozenset(found)

    async def check(self) -> str:
        """Asks the server for its models, once; gives a notice to show, or an empty string.

        Raises:
            ProviderRefused: if it does not accept the key.
            ConfigError: if nobody answers, or what answers is no API.
        """
        listing = self.client.models.with_streaming_response.list()
        return await look(openai, self.account, self.server, listing, self.timeout)

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

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.client.close()


def connected(
    name: str, model: str, base_url: str | None, timeout: float, environ: Mapping[str, str]
) -> tuple[openai.AsyncOpenAI, Account]:
    """The SDK's client for the server at `base_url`, or at what `environ` says, and its account.

    Raises:
        ConfigError: if there is no key, and no other URL than OpenAI's own.
    """
    url = base_url or environ.get(URL_VARIABLE) or HOME
    at_home = url.rstrip("/") == HOME
    key = key_in(environ, KEY_VARIABLE)
    if not key and at_home:
        raise ConfigError(
            f"{name} needs a key: set {KEY_VARIABLE}, give --base-url for another server, or use "
            "--llm local"
        )
    client = openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=url,
        max_retries=0,
        timeout=timeout,
        http_client=http_client(openai),
    )
    title = "OpenAI" if at_home else "the OpenAI-compatible server"
    return client, Account(title, KEY_VARIABLE, model, url, key)


def price_at(account: Account) -> Price | None:
    """The price of a model where it is served."""
    at_home = account.url.rstrip("/") == HOME
    return find_price("openai", account.model, None if at_home else account.url)


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
    only_answers = bool(request.answers)
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
        function = entry.get("function") if isinstance(entry, dict) else None
        call = None
        if isinstance(function, dict):
            place = f"{number} {body.text}"
            call = call_of(entry.get("id"), function.get("name"), function.get("arguments"), place)
        if call is None:
            raise body.no_reply("sent a call of a tool without its parts", usage)
        calls.append(call)
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
    listed = read_top(choice.get("logprobs"))
    if listed is None:
        what = (
            f"{llm.name} at {llm.account.url} sent no usable log probabilities; use a method that "
            "reads replies, a server that gives them, or --llm local"
        )
        raise body.wrong(what, usage, again=False)
    return match_answers(request.answers, listed), ()


def read_usage(found: object, price: Price | None, seconds: float) -> Usage:
    """What a reply says it used."""
    fields = found if isinstance(found, dict) else {}
    prompt, made = fields.get("prompt_tokens_details"), fields.get("completion_tokens_details")
    of_prompt = prompt if isinstance(prompt, dict) else {}
    of_reply = made if isinstance(made, dict) else {}
    return usage_of(
        price,
        seconds,
        count(fields.get("prompt_tokens")),
        count(fields.get("completion_tokens")),
        cache_read=of_prompt.get("cached_tokens"),
        cache_write=of_prompt.get("cache_write_tokens"),
        reasoning=of_reply.get("reasoning_tokens"),
    )
