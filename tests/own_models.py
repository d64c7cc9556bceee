"""Language models as a user may write them: each does one thing wrong, or leaves one thing out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from glossator.llm import Can, Reply, Request
from glossator.providers.prices import FlatPrice
from glossator.types import Usage
from tests.pipeline_child import PER_TOKEN, answer

ASKED: Counter[str] = Counter()
"""How often each was asked."""


class Own:
    """Does nothing wrong; a dollar for ten thousand tokens."""

    can: Any = frozenset[Can]()
    price: Any = FlatPrice(100.0, 100.0)

    @property
    def name(self) -> str:
        return type(self).__name__

    async def reply(self, request: Request) -> Any:
        ASKED[self.name] += 1
        text = answer([(m.role, m.content) for m in request.messages])
        return dataclasses.replace(self.made(text), usage=self.usage())

    def made(self, text: str) -> Any:
        return Reply(text)

    def usage(self) -> Any:
        return Usage(calls=1, prompt_tokens=100, completion_tokens=5)


class CountsNoCalls(Own):
    price = PER_TOKEN

    def usage(self) -> Usage:
        return Usage(prompt_tokens=100, completion_tokens=5)


class CountsNothing(Own):
    price = None

    def usage(self) -> Usage:
        return Usage()


class Raises(Own):
    async def reply(self, request: Request) -> Any:
        ASKED[self.name] += 1
        raise ValueError("my own bug, with sk-abcdefgh12345678")


class TimesOut(Own):
    """Every other time."""

    async def reply(self, request: Request) -> Any:
        found = await super().reply(request)
        if ASKED[self.name] % 2:
            raise RuntimeError("gave up") from TimeoutError("slow")
        return found


class CostNaN(Own):
    def usage(self) -> Usage:
        return Usage(calls=1, cost=float("nan"))


class CostText(Own):
    def usage(self) -> Any:
        wrong: Any = "0.01"
        return Usage(calls=1, cost=wrong)


class CostNegative(Own):
    def usage(self) -> Usage:
        return Usage(calls=1, cost=-1.0)


class TokensNegative(Own):
    def usage(self) -> Usage:
        return Usage(calls=1, prompt_tokens=-100)


class TokensInParts(Own):
    def usage(self) -> Any:
        wrong: Any = 100.5
        return Usage(calls=1, prompt_tokens=wrong)


class UsageMapping(Own):
    def usage(self) -> Any:
        return {"prompt_tokens": 100}


class NoText(Own):
    def made(self, text: str) -> Any:
        wrong: Any = None
        return Reply(wrong)


class BareText(Own):
    async def reply(self, request: Request) -> Any:
        ASKED[self.name] += 1
        return "yes"


class OddFinish(Own):
    def made(self, text: str) -> Any:
        wrong: Any = "done"
        return Reply(text, finish=wrong)


class PriceNumber(Own):
    price = 0.01


class _Lying:
    origin: Any = {"source": "mine"}  # noqa: RUF012

    def __init__(self, dollars: Any) -> None:
        self.dollars = dollars

    def cost(self, prompt: int, made: int, *, cache_read: int = 0, cache_write: int = 0) -> Any:
        return self.dollars


class PriceNaN(Own):
    price = _Lying(float("nan"))


class PriceNone(Own):
    price = _Lying(None)


class PriceNegative(Own):
    price = _Lying(-1.0)


class CanAnything(Own):
    can = "anything"


class Unmade(Own):
    def __init__(self) -> None:
        raise KeyError("MY_KEY")
