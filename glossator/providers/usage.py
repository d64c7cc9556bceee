"""Tokens by class, as replies count them, and what they cost."""

from __future__ import annotations

from dataclasses import replace

from glossator.errors import BadReply, GlossatorError, ProviderError, ReplyError
from glossator.providers.prices import FREE, Price
from glossator.types import Usage

MOST = 10**12
"""Tokens; what claims more is no count."""


def count(value: object) -> int | None:
    """`value` as a number of tokens, or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST:
        return None
    return value


def usage_of(
    price: Price | None,
    seconds: float,
    prompt: int | None,
    completion: int | None,
    *,
    cache_read: object = None,
    cache_write: object = None,
    reasoning: object = None,
) -> Usage:
    """What one reply used; the cost is None if it does not say or the price is unknown.

    Args:
        price: None where it is unknown.
        seconds: From sending to the last byte.
        prompt: All tokens of the prompt; None if the reply does not say.
        completion: All tokens generated; None if the reply does not say.
        cache_read: Of the prompt's tokens, as the reply has it.
        cache_write: Of the prompt's tokens, as the reply has it.
        reasoning: Of the generated tokens, as the reply has it.
    """
    if prompt is None or completion is None:
        return Usage(calls=1, cost=None, seconds=seconds)
    read = min(count(cache_read) or 0, prompt)
    written = min(count(cache_write) or 0, prompt - read)
    thought = count(reasoning) or 0
    if thought > completion:  # Some servers count them apart; they are paid for all the same.
        completion += thought
    cost = None
    if price is not None:
        cost = price.cost(prompt, completion, cache_read=read, cache_write=written)
    return Usage(1, 0, prompt, completion, cost, seconds, read, written, thought)


def priced(usage: Usage, price: Price | None) -> Usage:
    """`usage` of an attempt that was sent, with its cost; None where that is not known.

    Whatever a model says, it was called. One that says nothing of its cost leaves 0, which is no
    price.
    """
    usage = replace(usage, calls=max(1, usage.calls))
    if usage.cost:
        return usage
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if price is None or (price is not FREE and not (prompt or completion)):
        return replace(usage, cost=None)
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    cost = price.cost(prompt, completion, cache_read=read, cache_write=written)
    return replace(usage, cost=cost)


def usage_of_failure(error: GlossatorError, price: Price | None) -> Usage:
    """What an attempt used that brought no reply; the cost is None where that is not known.

    An error with an empty usage says that nothing was charged.
    """
    told = error.usage if isinstance(error, ReplyError) else None
    if told is not None:
        return priced(told, price) if told != Usage() else Usage(calls=1)
    charged = isinstance(error, ReplyError | BadReply)
    charged = charged or (isinstance(error, ProviderError) and error.maybe_billed)
    return priced(Usage(), price) if charged else Usage(calls=1)
