"""Tokens by class, as replies count them, and what they cost."""

from __future__ import annotations

from glossator.providers.prices import Price
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
