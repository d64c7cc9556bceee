"""What a language model is to the rest of the package, and the scripted one for tests.

A method builds a `Request` and awaits a `Reply`. Who answers (a local model, a provider's API, a
function) is decided by whoever builds the model; methods only look at what it `can` do.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

from glossator.errors import ConfigError, Unsupported
from glossator.types import Usage


class Can(StrEnum):
    """What a language model may be able to do beyond answering in text."""

    ANSWERS = "answers"
    """Exact log probabilities of given answers, without generating (`Request.answers`)."""
    TOP_LOGPROBS = "top_logprobs"
    """Log probabilities of the likeliest first tokens: `answers` of one token each."""
    PROMPT_LOGPROBS = "prompt_logprobs"
    """Distribution over given answers at marked places of the prompt (`Request.slots`)."""
    SCHEMA = "schema"
    """Replies held to a JSON schema by the server."""
    SEED = "seed"
    SAMPLING = "sampling"
    """`temperature` is honoured."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a language model, in full: equal requests have equal digests."""

    messages: tuple[Message, ...]
    max_tokens: int = 256
    """Bound on generated tokens; 0 where only log probabilities are wanted."""
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    prefill: str = ""
    """How the reply must begin. Local models continue it; others are told to begin with it."""
    schema: str = ""
    """A JSON schema as text, if `Reply.value` is wanted."""
    answers: tuple[str, ...] = ()
    """Possible replies whose log probabilities are wanted, right after the prompt and prefill."""
    slots: tuple[str, ...] = ()
    """Texts of the last user message, in order, behind each of which the distribution over
    `answers` is wanted; needs `PROMPT_LOGPROBS`."""
    sample: int = 0
    """Distinguishes repeated votes on the same prompt."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        plain = {
            "messages": [(m.role, m.content) for m in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stop": self.stop,
            "prefill": self.prefill,
            "schema": self.schema,
            "answers": self.answers,
            "slots": self.slots,
            "sample": self.sample,
        }
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    text: str = ""
    finish: Literal["stop", "length", "refused", "other"] = "stop"
    answers: tuple[float, ...] = ()
    """Shape (n_answers,): natural-log probability of each of `Request.answers`; -inf where the
    provider did not list it. Empty if none were asked for."""
    slots: tuple[tuple[float, ...], ...] = ()
    """Shape (n_slots, n_answers): the same behind each of `Request.slots`."""
    usage: Usage = Usage(calls=1)
    model: str = ""
    """What the provider says it ran, with its version."""


@runtime_checkable
class LLM(Protocol):
    """A language model.

    `reply` raises:
        Refused: if it declines.
        ReplyError: if what it sent is not a reply.
        ProviderError: if it cannot be reached; `retryable` says whether waiting helps.
        BudgetSpent: if the call could pass the budget; nothing was sent.
        Unsupported: if the request needs what is not in `can`; nothing was sent.
    """

    @property
    def name(self) -> str:
        """What people type, such as `local` or `openai:gpt-5-mini`; part of the cache key."""
        ...

    @property
    def can(self) -> frozenset[Can]:
        """What it can do."""
        ...

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`."""
        ...


def need(llm: LLM, wanted: Can, method: str, instead: str) -> None:
    """Raises `Unsupported`, naming the alternative, if `llm` cannot do what `method` needs."""
    if wanted not in llm.can:
        raise Unsupported(f"{method} needs {wanted.value}, which {llm.name} has not; use {instead}")


Answerer = Callable[[Sequence[Mapping[str, str]]], "str | Awaitable[str]"]
"""A function from messages (`role`, `content`) to a reply, plain or async."""


@dataclass(frozen=True)
class FunctionLLM:
    """A language model made of a function from messages to a reply."""

    function: Answerer
    name: str = "function"
    can: frozenset[Can] = frozenset()

    async def reply(self, request: Request) -> Reply:
        """What the function returns for the messages."""
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        if request.prefill:
            messages[-1]["content"] += f"\n\nBegin your reply with: {request.prefill}"
        if inspect.iscoroutinefunction(self.function):
            answer = await self.function(messages)
        else:
            answer = await asyncio.to_thread(self.function, messages)
            if inspect.isawaitable(answer):
                answer = await answer
        if not isinstance(answer, str):
            raise ConfigError(
                f"{self.name} returned a {type(answer).__name__}; a function used as a language "
                "model takes messages and returns the reply as a string"
            )
        return Reply(text=answer, model=self.name)


def as_llm(thing: Any) -> LLM:
    """`thing` as a language model: one already, or a function from messages to a reply.

    Raises:
        ConfigError: if it is neither.
    """
    if isinstance(thing, LLM):
        return thing
    if callable(thing):
        name = getattr(thing, "__qualname__", type(thing).__name__)
        return FunctionLLM(thing, name=f"function:{name}")
    raise ConfigError(
        f"a {type(thing).__name__} is no language model: give a name such as 'local', an object "
        "with `name`, `can` and an async `reply(request)`, or a function from messages to a string"
    )


@dataclass
class ScriptedLLM:
    """A language model that answers by a rule, for tests; keeps the requests it was sent."""

    rule: Callable[[Request], Reply | str] | Iterable[Reply | str | Exception]
    """Maps a request to its reply, or lists the replies in order."""
    name: str = "scripted"
    can: frozenset[Can] = frozenset()
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue = None if callable(self.rule) else iter(self.rule)

    async def reply(self, request: Request) -> Reply:
        """The next scripted reply, or what the rule says; scripted exceptions are raised."""
        self.requests.append(request)
        found: Reply | str | Exception
        if callable(self.rule):
            found = self.rule(request)
        else:
            if self._queue is None:
                raise ConfigError("a scripted model needs a rule or a list of replies")
            found = next(self._queue)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Reply) else Reply(text=found, model=self.name)
