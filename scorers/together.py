"""Waiting for several things at once: when one fails the others are cancelled and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def together(work: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """The results of `work`, in order.

    Raises:
        BaseException: the first that any of it raised, as it was and in no group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None
    return [t.result() for t in tasks]


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception in nested groups."""
    inner = errors.exceptions[0]
    return first_of(inner) if isinstance(inner, BaseExceptionGroup) else inner
