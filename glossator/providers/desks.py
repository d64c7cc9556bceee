"""What a provider's batch API is to the queue in front of it: a desk that takes batches."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, cast

import httpx2

from glossator.errors import ConfigError, GlossatorError, ProviderError, ProviderRefused
from glossator.llm import LLM, Can, Reply, Request
from glossator.providers.faults import Account, detail, from_status, unreachable
from glossator.providers.prices import Discounted
from glossator.providers.remote import Remote
from glossator.registry import Registry

TRANSFER = 900.0
"""Seconds that sending or fetching a whole batch may take."""
SKEW = timedelta(hours=1)
"""How far a provider's clock may be off from ours."""
PAGE = 100
"""Batches asked for at a time when looking for one."""
LATER = 60.0
"""Seconds before a batch is tried again for which the provider had no room."""

NONE_SUCH = (404, 405, 501)
"""What servers answer that have not what was asked for, or no batch API at all."""

Payload = dict[str, Any]
"""What is sent for one request."""

SomeRemote = TypeVar("SomeRemote", bound=Remote[Any])

DESKS = Registry(
    "batch API",
    {
        "openai": "glossator.providers.openai_desk:OpenAIDesk",
        "openai-responses": "glossator.providers.openai_desk:OpenAIDesk",
        "anthropic": "glossator.providers.anthropic_desk:AnthropicDesk",
    },
)
"""By the kind of model, which is how its name begins."""


def desk_of(llm: LLM) -> Desk:
    """The batch API behind `llm`.

    Raises:
        ConfigError: if it has none.
    """
    kind = llm.name.partition(":")[0]
    if Can.BATCH not in llm.can or kind not in DESKS.paths:
        raise ConfigError(f"{llm.name} has no batch API: leave out --batch")
    return cast("Desk", DESKS.load(kind).of(llm))  # type: ignore[attr-defined]


class Missing(ProviderRefused):
    """The provider has not what was asked for."""


class Crowded(ProviderError):
    """A batch was turned away as too much at once; a smaller one, or a later one, may go."""

    def __init__(self, message: str) -> None:
        super().__init__(message, busy=True, retry_after=LATER)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one batch may hold."""

    requests: int
    bytes: int
    """Of JSON text."""

    def __post_init__(self) -> None:
        if self.requests < 1 or self.bytes < 1:
            raise ValueError("a batch holds at least one request")


@dataclass(frozen=True, slots=True)
class Slip:
    """What a batch can be known by where its id was lost."""

    token: str
    """Ours; all custom ids begin with it."""
    n: int
    made: datetime
    """When it was planned: it was sent later, if at all."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look through the provider's list of batches has shown."""

    id: str = ""
    """The provider's id of the batch; empty if it was not there."""
    undecided: bool = False
    """Whether there is one that may turn out to be it."""


@dataclass(frozen=True, slots=True)
class State:
    """How far a batch is."""

    ended: bool
    done: int = 0
    """Requests that are through, whatever came of them."""
    short: bool = False
    """Whether it was ended before all were: the rest costs nothing."""
    error: GlossatorError | None = None
    """Why none of the batch was done, where it was turned away as a whole."""


class Desk(Protocol):
    """One provider's batch API. Everything raises what the model behind it would raise.

    `submit`, `state` and `results` raise `Missing` for what is not there; `submit`, and a `State`,
    say `Crowded` where a batch is too much at once.
    """

    @property
    def llm(self) -> LLM:
        """Who answers, at the price of a batch."""
        ...

    @property
    def account(self) -> Account:
        """Whose batches they are."""
        ...

    @property
    def limits(self) -> Limits:
        """How much one batch may hold."""
        ...

    async def check(self) -> None:
        """Asks whether there is a batch API at all; raises `ProviderRefused` if not."""
        ...

    def payload(self, request: Request) -> Payload:
        """What is sent for `request`; raises Unsupported."""
        ...

    async def submit(self, token: str, payloads: Sequence[Payload]) -> str:
        """Hands a batch in, once; gives the provider's id of it."""
        ...

    async def find(self, slip: Slip, others: set[str]) -> Found:
        """Looks for the batch of `slip`; to `others`, known not to be it, adds what is not."""
        ...

    async def state(self, batch: str) -> State:
        """How far the batch is that the provider calls `batch`."""
        ...

    async def results(self, batch: str) -> str:
        """What came of an ended batch: a JSON object in each line, in any order."""
        ...

    async def aclose(self) -> None:
        """Closes the model behind it."""
        ...

    def read(self, line: Mapping[str, Any], request: Request, seconds: float) -> Reply:
        """The reply that a line of the results holds; raises what went wrong with it."""
        ...


def custom_id(token: str, number: int) -> str:
    """What the request `number` of the batch `token` is called: letters, digits and a dash."""
    return f"{token}-{number}"


def read_lines(text: str, token: str) -> dict[int, Mapping[str, Any]]:
    """The lines of results by the number of the request, those that can be read."""
    found: dict[int, Mapping[str, Any]] = {}
    for line in text.split("\n"):  # Not `splitlines`: texts may hold other ends of lines.
        name, data = _named(line)
        of, _, number = name.rpartition("-")
        if of == token and number.isascii() and number.isdigit():
            found.setdefault(int(number), data)
    return found


def token_in(text: str) -> str:
    """The token of the batch whose results begin with `text`; empty if that cannot be read."""
    name, _ = _named(text.partition("\n")[0])
    return name.rpartition("-")[0]


def _named(line: str) -> tuple[str, Mapping[str, Any]]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return "", {}
    name = data.get("custom_id") if isinstance(data, dict) else None
    return (name, data) if isinstance(name, str) else ("", {})


def given_up(account: Account, what: str) -> ProviderError:
    """The error of a request that a batch ended without answering; it may be sent again."""
    return ProviderError(f"{account.title} {account.clean(what)} in a batch; it is asked again")


def as_dict(value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_number(value: object) -> int:
    """`value` if it is a count, else 0."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return max(0, int(value)) if good else 0  # type: ignore[call-overload]


@asynccontextmanager
async def told(llm: Remote[Any], seconds: float) -> AsyncIterator[None]:
    """Turns what the SDK of `llm` raises inside into errors of ours, and what takes too long."""
    sdk, account = llm.maker.sdk, llm.account
    try:
        async with asyncio.timeout(seconds):
            yield
    # `from None`: what the SDK raises holds the request with its key, and what the server said.
    except sdk.APIStatusError as error:
        status, body = error.status_code, error.body
        if status in NONE_SUCH:
            said = account.clean(detail(body)[0])
            raise Missing(f"{account.title} at {account.url} has no such thing: {said}") from None
        if status == 413:
            raise Crowded(f"{account.title} does not take a batch of that size (413)") from None
        wait = error.response.headers.get("retry-after")
        raise from_status(account, status, body, wait) from None
    except (sdk.APIConnectionError, TimeoutError) as error:
        early = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
        timed_out = isinstance(error, sdk.APITimeoutError | TimeoutError)
        raise unreachable(account, timed_out=timed_out, connected=not early) from None


async def get(llm: Remote[Any], path: str, seconds: float) -> str:
    """What the API of `llm` has at `path`."""
    async with told(llm, seconds):
        answer = await llm.client.get(path, cast_to=httpx2.Response, options={"timeout": seconds})
    text: str = answer.text
    return text


def at_batch_price(llm: SomeRemote) -> SomeRemote:
    """`llm` at what its answers cost in batches."""
    return replace(llm, price=None if llm.price is None else Discounted(llm.price))


def no_batches(account: Account) -> ProviderRefused:
    """The error of a server that speaks the protocol, but has no batch API."""
    return ProviderRefused(f"{account.title} at {account.url} has no batch API; leave out --batch")


def read_page(account: Account, text: str) -> tuple[list[Mapping[str, Any]], str]:
    """The entries of a page that the API answered with, and the id behind which the next begins.

    The id is empty if there is no next page. Raises what `read_answer` does.
    """
    page = read_answer(account, text)
    data = page.get("data")
    entries = [as_dict(e) for e in data] if isinstance(data, list) else []
    last = entries[-1] if entries and page.get("has_more") else {}
    return entries, str(last.get("id") or "")


def read_id(account: Account, text: str) -> str:
    """The id of what the API says that it has made; raises what `read_answer` does."""
    found = read_answer(account, text).get("id")
    if not isinstance(found, str) or not found:
        raise ProviderError(f"{account.title} named no id", maybe_billed=True)
    return found


def read_answer(account: Account, text: str) -> Mapping[str, Any]:
    """The JSON object that the API answered with.

    Raises:
        ProviderError: if it is none: what was asked for may have been done all the same.
        GlossatorError: what `from_status` gives, if it is an error sent with status 200.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        found = account.clean(text)[:80] or "nothing"
        raise ProviderError(
            f"the batch API of {account.title} at {account.url} sent no JSON object but {found!r}",
            maybe_billed=True,
        )
    error = data.get("error")
    if isinstance(error, dict):
        code = error.get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        raise from_status(account, status, data)
    return data
