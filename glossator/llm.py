"""What a language model is to the rest of the package, and the scripted one for tests.

A method builds a `Request` and awaits a `Reply`. Who answers (a local model, a provider's API, a
function) is decided by whoever builds the model; methods only look at what it `can` do. `ask` sends
a request and reads its reply; what cannot be read is asked for again.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from glossator.errors import (
    ConfigError,
    CutOff,
    PromptTooLong,
    Refused,
    ReplyError,
    Unsupported,
)
from glossator.types import JSON, FeatureId, Usage

_Read = TypeVar("_Read")

_UNUSABLE = "That cannot be used: "
ASKED_AGAIN = 2
"""How often a reply that cannot be read is asked for again, with what was wrong."""


class Can(StrEnum):
    """What a language model may be able to do beyond answering in text."""

    ANSWERS = "answers"
    """Exact log probabilities of given answers, without generating (`Request.answers`)."""
    TOP_LOGPROBS = "top_logprobs"
    """Log probabilities of a reply's likeliest tokens: `answers` of one token each."""
    PROMPT_LOGPROBS = "prompt_logprobs"
    """Distribution over given answers at marked places of the prompt (`Request.slots`)."""
    SCHEMA = "schema"
    """Replies held to a JSON schema by whoever makes them."""
    TOOLS = "tools"
    """Calls of tools in a form of their own; others are asked for them through a schema."""
    BATCH = "batch"
    """Many requests at once, answered within a day at a lower price."""
    SEED = "seed"
    """`sample` decides what is drawn where `temperature` is above 0."""
    SAMPLING = "sampling"
    """`temperature` is honoured."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may call."""

    name: str
    """Letters, digits, `_` and `-`, at most 64: what all providers take."""
    description: str
    schema: str
    """JSON schema of its arguments, an object, as text."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """That a model wants a tool called."""

    id: str
    """Names the call, for the message with its result."""
    name: str
    arguments: str
    """JSON text as the model wrote it; whoever runs the tool checks it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[ToolCall, ...] = ()
    """What an assistant's turn wants called."""
    call: str = ""
    """In a `tool` turn, the id of the call that `content` is the result of."""


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
    lines: int = 0
    """How many numbered lines the reply is to have, each with one of the answers; where there are
    `answers`, their log probabilities are wanted on each line."""
    sample: int = 0
    """Distinguishes repeated votes on the same prompt."""
    tools: tuple[Tool, ...] = ()
    """What the model may call."""
    tool_choice: Literal["auto", "required", "none"] = "auto"
    """Whether it decides itself, must call one, or must not."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        plain: dict[str, Any] = {
            "messages": [_plain(m) for m in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stop": self.stop,
            "prefill": self.prefill,
            "schema": self.schema,
            "answers": self.answers,
            "slots": self.slots,
            "sample": self.sample,
        }
        if self.lines:
            plain["lines"] = self.lines
        if self.tools or self.tool_choice != "auto":
            plain["tools"] = [(t.name, t.description, t.schema) for t in self.tools]
            plain["tool_choice"] = self.tool_choice
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(message: Message) -> tuple[Any, ...]:
    """Short for most messages, so that replies kept by earlier versions are found again."""
    calls = [(c.id, c.name, c.arguments) for c in message.calls]
    more = (calls, message.call) if calls or message.call else ()
    return (message.role, message.content, *more)


Finish = Literal["stop", "length", "tool_calls", "refused", "other"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    text: str = ""
    finish: Finish = "stop"
    answers: tuple[float, ...] = ()
    """Shape (n_answers,): natural-log probability of each of `Request.answers`; -inf where the
    provider did not list it. Empty if none were asked for."""
    slots: tuple[tuple[float, ...], ...] = ()
    """Shape (n_slots, n_answers): the same behind each of `Request.slots`, or on each of its
    `lines`; empty for a line that is not there."""
    usage: Usage = Usage(calls=1, cost=None)
    model: str = ""
    """What the provider says it ran, with its version."""
    calls: tuple[ToolCall, ...] = ()
    """Tools that it wants called."""
    value: JSON = None
    """What `text` holds as JSON, checked against `Request.schema`; None where there is none."""


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


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a call is for, as the ledger says it."""

    stage: str = ""
    feature: FeatureId | None = None
    part: str = ""
    """Of the stage, such as `max-act/detection`."""


NO_PURPOSE = Purpose()
_PURPOSE: ContextVar[Purpose] = ContextVar("purpose", default=NO_PURPOSE)


def purpose() -> Purpose:
    """What is being worked on, where `working_on` has said so."""
    return _PURPOSE.get()


@contextmanager
def working_on(what: Purpose) -> Iterator[None]:
    """Calls made inside, by this task and those it starts, are for `what`."""
    token = _PURPOSE.set(what)
    try:
        yield
    finally:
        _PURPOSE.reset(token)


async def ask(
    llm: LLM, request: Request, read: Callable[[Reply], _Read], again: int = ASKED_AGAIN
) -> tuple[_Read, Usage]:
    """What `read` makes of the reply to `request`, and what all replies cost together.

    A reply that `read` cannot use (it raises ReplyError), or that does not keep to the schema, is
    asked for again up to `again` times; the model is told what it said and what was wrong with it.

    Raises:
        Refused: if it declines; it is not asked again.
        ReplyError: the last one, with the raw reply and the usage of all.
    """
    usage = Usage()
    asked = request
    for attempt in range(again + 1):
        try:
            reply = await llm.reply(asked)
            usage += reply.usage
        except ReplyError as error:
            usage += error.usage or Usage()
            said, wrong = error.reply, error
        else:
            try:
                return read(reply), usage
            except ReplyError as error:
                said, wrong = reply.text, error
                if reply.finish == "length" and request.max_tokens and error.kind == "parse":
                    wrong = CutOff(f"it was cut off at {request.max_tokens} tokens; {error}")
        if attempt == again or isinstance(wrong, Refused) or wrong.broken or not wrong.again:
            ended = type(wrong)(str(wrong), said, usage, again=wrong.again, broken=wrong.broken)
            raise ended from wrong
        told = Message("user", f"{_UNUSABLE}{wrong}. Reply again, in the form asked for.")
        before = Message("assistant", said[:2000] or "(empty)")
        asked = replace(asked, messages=(*asked.messages, before, told))
    raise AssertionError("the loop returns or raises")


def asked_again(request: Request) -> bool:
    """Whether `ask` has sent `request` before and could not read the reply."""
    last = request.messages[-1] if request.messages else None
    return last is not None and last.role == "user" and last.content.startswith(_UNUSABLE)


async def with_fewer(
    llm: LLM, n: int, ask_about: Callable[[int], Awaitable[_Read]]
) -> tuple[_Read, str]:
    """What `ask_about` gives for `n` examples, or for as many as `llm` takes; and a note of that.

    Each time that the prompt is too long, it is asked about half as many. Whole examples are left
    out, for one that is cut could say something else. The note is empty if none was.

    Raises:
        PromptTooLong: if a single one is too long.
    """
    fitting = n
    while True:
        try:
            found = await ask_about(fitting)
        except PromptTooLong:
            if fitting <= 1:
                raise
            fitting //= 2
        else:
            left_out = f"{n - fitting} of {n} examples were left out: the prompt was too long for"
            return found, "" if fitting == n else f"{left_out} {llm.name}"


def tells_probabilities(llm: LLM) -> bool:
    """Whether `llm` gives log probabilities of short answers, exact ones or of its likeliest."""
    return bool({Can.ANSWERS, Can.TOP_LOGPROBS} & llm.can)


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
