"""A language model of a user's own: whatever its code does wrong is told as a fault of that model.

This is where code that is not ours is called, which may raise and return anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

from glossator.errors import BadReply, ConfigError, GlossatorError, ProviderError
from glossator.llm import LLM, Can, Finish, Reply, Request
from glossator.providers.faults import Account
from glossator.providers.prices import Price, price_of
from glossator.types import BadUsage, Usage

_FIELDS: dict[str, type] = {
    "text": str,
    "model": str,
    "usage": Usage,
    "answers": tuple,
    "slots": tuple,
    "calls": tuple,
}
"""Of a `Reply`, with the types that they have."""


@dataclass(frozen=True)
class OutsideLLM:
    """A language model of a user's own, held to what `LLM` says."""

    llm: LLM

    @property
    def name(self) -> str:
        """As the model inside."""
        return self.llm.name

    @property
    def can(self) -> frozenset[Can]:
        """As the model inside."""
        return frozenset(self.llm.can)

    @property
    def price(self) -> Price | None:
        """As the model inside; None if it has none."""
        return price_of(self.llm)

    def __getattr__(self, name: str) -> Any:
        """What else the model inside has, such as `identity`, `check` or `aclose`."""
        if name == "llm":  # While it is copied, there is none yet.
            raise AttributeError(name)
        return getattr(self.llm, name)

    async def reply(self, request: Request) -> Reply:
        """As the model inside.

        Raises:
            ProviderError: if it raises what is no error of ours.
            BadReply: if what it returns is no reply.
        """
        with blamed_on(self.name):
            reply = await self.llm.reply(request)
        if (wrong := _wrong_with(reply)) is not None:
            raise BadReply(
                f"{self.name} returned {wrong}: its `reply` is to return glossator.llm.Reply(text, "
                "usage=glossator.types.Usage(prompt_tokens=..., completion_tokens=...))"
            )
        return reply


def outside(llm: LLM) -> OutsideLLM:
    """`llm`, whose code is not ours.

    Raises:
        ConfigError: if its name, its price or what it can do is none.
    """
    name, can, price = llm.name, llm.can, price_of(llm)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a language model's `name` is a text, not {name!r:.60}")
    if not isinstance(can, Set) or not all(isinstance(one, Can) for one in can):
        raise ConfigError(f"{name} has a `can` that is no frozenset of glossator.llm.Can")
    if price is not None and not _is_price(price):
        raise ConfigError(
            f"{name} has a `price` that is none, {price!r:.60}: it is to be glossator.providers."
            "prices.FlatPrice(prompt, completion), US dollars a million tokens, or None if unknown"
        )
    return OutsideLLM(llm)


@contextmanager
def blamed_on(name: str) -> Iterator[None]:
    """Makes errors of ours of all that the code of `name` raises inside.

    Raises:
        BadReply: for a `Usage` that is none.
        ProviderError: for all else; it is retryable where a network failed or took too long.
    """
    try:
        yield
    except GlossatorError:
        raise
    except BadUsage as error:
        raise BadReply(f"{name} makes a Usage that is none: {error}") from error
    except Exception as error:  # The code is not ours: it may raise anything.
        said = Account("", "", name, "").clean(str(error))
        raise ProviderError(
            f"{name} raised {type(error).__name__}{f': {said}' if said else ''}",
            retryable=_may_pass(error),
            maybe_billed=True,
        ) from error


def _may_pass(error: BaseException) -> bool:
    """Whether a timeout or a failing network is behind it: HTTP clients wrap these."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, TimeoutError | OSError):
        found = found.__cause__
    return found is not None


def _is_price(price: Any) -> bool:
    """Whether it prices tokens of all classes, and says where it is from."""
    try:
        dollars = [
            price.cost(1000, 0),
            price.cost(0, 1000),
            price.cost(1000, 0, cache_read=1000),
            price.cost(1000, 0, cache_write=1000),
        ]
        json.dumps({**price.origin})
    except (AttributeError, TypeError, ValueError, LookupError, ArithmeticError):
        return False
    return all(isinstance(d, int | float) and 0 <= d < math.inf for d in dollars)


def _wrong_with(reply: Any) -> str | None:
    """What it is in place of a reply; None if it is one."""
    if not isinstance(reply, Reply):
        return f"a {type(reply).__name__}"
    for field, wanted in _FIELDS.items():
        value = getattr(reply, field)
        if not isinstance(value, wanted):
            return f"a Reply whose `{field}` is a {type(value).__name__}, not a {wanted.__name__}"
    if reply.finish not in get_args(Finish):
        known = ", ".join(get_args(Finish))
        return f"a Reply whose `finish` is {reply.finish!r:.40}, none of {known}"
    rows = (reply.answers, *reply.slots)
    if not all(isinstance(row, tuple) for row in rows):
        return "a Reply whose `slots` are no tuples"
    if not all(isinstance(n, int | float) and not math.isnan(n) for row in rows for n in row):
        return "a Reply with log probabilities that are no numbers"
    return None
