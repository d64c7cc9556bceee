"""Language models behind the OpenAI chat completions protocol, at OpenAI or at any other URL."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import httpx2
import openai

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

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
HOME = "https://api.openai.com/v1"
REASONING = re.compile(r"(?:openai/)?(?:o\d|gpt-[5-9])")
"""Models that think before they answer: they refuse temperature, stop and log probabilities."""
NO_SCHEMA = re.compile(
    r"(?:openai/)?(?:gpt-3\.5|gpt-4(?:-|$)|gpt-4o-2024-05-13|o1-(?:mini|preview))"
)
THINKING_TOKENS = 4096
"""What reasoning models may generate beyond the reply, billed as output."""
MAX_STOPS = 4


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
        url = base_url or environ.get(URL_VARIABLE) or HOME
        at_home = url.rstrip("/") == HOME
        key = environ.get(KEY_VARIABLE, "").strip()
        if not key and at_home:
            raise ConfigError(
                f"openai:{model} needs a key: set {KEY_VARIABLE}, give --base-url for another "
                "server, or use --llm local"
            )
        client = openai.AsyncOpenAI(
            api_key=key or "none", base_url=url, max_retries=0, timeout=timeout
        )
        title = "OpenAI" if at_home else "the OpenAI-compatible server"
        return cls(
            model=model,
            client=client,
            account=Account(title, KEY_VARIABLE, model, url, key),
            price=find_price("openai", model, None if at_home else url),
            timeout=timeout,
        )

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
        """Schemas, and unless it reasons, sampling and the likeliest first tokens.

        Whether another server than OpenAI's gives log probabilities shows in its first reply.
        """
        schema = frozenset() if NO_SCHEMA.match(self.model) else frozenset({Can.SCHEMA})
        return schema if self.reasons else schema | {Can.TOP_LOGPROBS, Can.SAMPLING}

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
                raw = await self.client.chat.completions.with_raw_response.create(**payload)
                text: str = raw.text
                return text
        # `from None`: what the SDK raises holds the request with its key, and what the server said.
        except openai.APIStatusError as error:
            wait = error.response.headers.get("retry-after")
            raise from_status(self.account, error.status_code, error.body, wait) from None
        except (openai.APIConnectionError, TimeoutError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> ProviderError:
        early = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
        timed_out = isinstance(error, openai.APITimeoutError | TimeoutError)
        return unreachable(self.account, timed_out=timed_out, connected=not early)


def payload_of(request: Request, llm: OpenAILLM) -> dict[str, Any]:
    """What is sent for `request`.

    Raises:
        Unsupported: if it asks for what the model cannot give.
    """
    if request.slots:
        raise Unsupported(f"{llm.name} gives no log probabilities of prompts; use --llm local")
    if request.answers and Can.TOP_LOGPROBS not in llm.can:
        raise Unsupported(
            f"{llm.name} gives no log probabilities; use a method that reads replies, "
            "a chat model such as openai:gpt-4.1-mini, or --llm local"
        )
    if request.schema and Can.SCHEMA not in llm.can:
        raise Unsupported(f"{llm.name} holds to no schema; ask for JSON in the prompt")
    messages = [{"role": m.role, "content": storable(m.content)} for m in request.messages]
    if request.prefill and messages:
        told = (
            "Your reply goes on behind this, without repeating it:"
            if request.answers
            else "Begin your reply with:"
        )
        messages[-1]["content"] += f"\n\n{told} {storable(request.prefill)}"
    payload: dict[str, Any] = {"model": llm.model, "messages": messages}
    if request.schema:
        payload["response_format"] = schema_format(json.loads(request.schema))
    if llm.reasons:
        payload["max_completion_tokens"] = max(1, request.max_tokens) + llm.overhead_tokens
        return payload
    payload["max_tokens"] = 1 if request.answers else max(1, request.max_tokens)
    payload["temperature"] = request.temperature
    if request.stop and not request.answers:
        payload["stop"] = list(request.stop[:MAX_STOPS])
    if request.answers:
        payload |= {"logprobs": True, "top_logprobs": llm.top_logprobs}
    return payload


def schema_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `response_format` for `schema`; strict where it meets OpenAI's rules for that."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": schema, "strict": _can_be_strict(schema)},
    }


def _can_be_strict(part: Any) -> bool:
    if isinstance(part, list):
        return all(map(_can_be_strict, part))
    if not isinstance(part, dict):
        return True
    if part.get("type") == "object":
        names = set(part.get("properties", {}))
        if part.get("additionalProperties") is not False or set(part.get("required", ())) != names:
            return False
    return all(map(_can_be_strict, part.values()))


def read_reply(text: str, request: Request, llm: OpenAILLM, seconds: float) -> Reply:
    """The reply that the body `text` holds.

    Raises:
        Refused: if the model declined, or a filter took the reply away.
        ReplyError: if the body is no chat completion, or lacks the log probabilities asked for.
    """
    account = llm.account
    data = read_object(account, text)
    usage = read_usage(data.get("usage"), llm.price, seconds)
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ReplyError(f"{account.title} sent no chat completion", text, usage)
    declined = message.get("refusal")
    reason = choice.get("finish_reason")
    if declined or reason == "content_filter":
        said = account.clean(str(declined or "a filter took the reply away"))
        raise Refused(f"{llm.name} declined: {said}", text, usage)
    content = message.get("content")
    if content is None and (reason == "length" or request.answers):
        content = ""
    if not isinstance(content, str):
        raise ReplyError(f"{account.title} sent no text but {content!r:.80}", text, usage)
    answers: tuple[float, ...] = ()
    if request.answers:
        listed = read_top(choice.get("logprobs"))
        if listed is None:
            raise ReplyError(
                f"{llm.name} at {account.url} sent no usable log probabilities; use a method that "
                "reads replies, a server that gives them, or --llm local",
                text,
                usage,
            )
        answers = match_answers(request.answers, listed)
    finish: Literal["stop", "length", "other"] = (
        "stop" if reason == "stop" else "length" if reason == "length" else "other"
    )
    answered = storable(content)
    trimmed = cut(answered, request)
    model = data.get("model")
    return Reply(
        text=trimmed,
        finish="stop" if trimmed != answered else finish,
        answers=answers,
        usage=usage,
        model=storable(model) if isinstance(model, str) else llm.model,
    )


def read_usage(found: object, price: Price | None, seconds: float) -> Usage:
    """What a reply says it used; the cost is None if it does not say or the price is unknown."""
    fields = found if isinstance(found, dict) else {}
    prompt, completion = count(fields.get("prompt_tokens")), count(fields.get("completion_tokens"))
    if prompt is None or completion is None:
        return Usage(calls=1, cost=None, seconds=seconds)
    details = fields.get("prompt_tokens_details")
    cached = count(details.get("cached_tokens")) if isinstance(details, dict) else None
    cost = price.cost(prompt, completion, cache_read=min(cached or 0, prompt)) if price else None
    return Usage(1, 0, prompt, completion, cost, seconds)


def read_top(found: object) -> list[tuple[str, float]] | None:
    """The first token's likeliest texts with their log probabilities, or None if not as it should.

    Shape (n_listed,), the likeliest first.
    """
    content = found.get("content") if isinstance(found, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    top = first.get("top_logprobs") if isinstance(first, dict) else None
    if not isinstance(top, list) or not top:
        return None
    listed: dict[str, float] = {}
    for entry in top:
        token = entry.get("token") if isinstance(entry, dict) else None
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(token, str) or isinstance(value, bool):
            return None
        if not isinstance(value, int | float) or math.isnan(value) or value > 1e-3:
            return None
        listed.setdefault(token, min(0.0, float(value)))
    return sorted(listed.items(), key=lambda pair: -pair[1])


def match_answers(answers: Sequence[str], listed: Sequence[tuple[str, float]]) -> tuple[float, ...]:
    """Shape (n_answers,): log probability of each answer's first token, -inf where not listed.

    Tokens are compared without the space around them, so that ` yes` and `yes` count together;
    case counts. A token that is only the beginning of an answer stands for it if no other
    answer begins with it.

    Raises:
        Unsupported: if the likeliest token begins several answers and cannot tell them apart.
    """
    bare = [answer.strip() for answer in answers]
    exact: list[list[float]] = [[] for _ in bare]
    begun: list[list[float]] = [[] for _ in bare]
    for rank, (token, value) in enumerate(listed):
        start = token.strip()
        if not start:
            continue
        same = [i for i, answer in enumerate(bare) if answer == start]
        longer = [
            i for i, answer in enumerate(bare) if answer != start and answer.startswith(start)
        ]
        if rank == 0 and not same and len(longer) > 1:
            raise Unsupported(
                f"the answers {', '.join(repr(answers[i]) for i in longer)} begin with the same "
                f"token {token!r}: give answers that differ in their first token"
            )
        for i in same:
            exact[i].append(value)
        if not same and len(longer) == 1:
            begun[longer[0]].append(value)
    return tuple(_log_sum(e or b) for e, b in zip(exact, begun, strict=True))


def _log_sum(values: Sequence[float]) -> float:
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    return min(0.0, top + math.log(sum(math.exp(v - top) for v in values)))
