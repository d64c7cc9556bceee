"""What calls cost in US dollars, from the price list of the package `genai-prices`.

A model that is not on the list has no price: its cost is None, never 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

BATCH_SHARE = 0.5
"""What a call through a batch API costs, of what it costs at once: OpenAI's and Anthropic's."""
PER = 1_000_000
"""Tokens that a snapshot gives the price of."""


class Price(Protocol):
    """What a model charges."""

    def cost(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        cache_read: int = 0,
        cache_write: int = 0,
    ) -> float:
        """US dollars of one call; the cached tokens are among the prompt tokens."""
        ...

    @property
    def origin(self) -> dict[str, Any]:
        """Where the price is from, for the ledger."""
        ...


@dataclass(frozen=True, slots=True)
class FlatPrice:
    """One price a token, in US dollars per million."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.prompt < float("inf") and 0 <= self.completion < float("inf")):
            raise ValueError("a price is a finite number of dollars, at least 0")

    def cost(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        cache_read: int = 0,
        cache_write: int = 0,
    ) -> float:
        """US dollars of one call; cached tokens cost what others do."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6

    @property
    def origin(self) -> dict[str, Any]:
        """It was set by hand."""
        return {"source": "flat"}


FREE = FlatPrice()
"""What local models charge."""


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """The price that the list gives a model."""

    model: str
    provider: str | None = None
    """Name of the provider in the list."""
    url: str | None = None
    """Where the model is served, in place of `provider`."""

    def cost(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        cache_read: int = 0,
        cache_write: int = 0,
    ) -> float:
        """US dollars of one call, at the list's price of today.

        Raises:
            LookupError: if the list has no such model.
        """
        import genai_prices

        usage = genai_prices.Usage(
            input_tokens=prompt_tokens,
            output_tokens=completion_tokens,
            cache_read_tokens=min(cache_read, prompt_tokens),
            cache_write_tokens=min(cache_write, max(0, prompt_tokens - cache_read)),
        )
        return float(self._calculated(usage).total_price)

    @property
    def origin(self) -> dict[str, Any]:
        """The list, its version, and the entry in its words: some prices depend on the length."""
        import genai_prices

        found = self._calculated(genai_prices.Usage())
        return {
            "source": "genai-prices",
            "version": version("genai-prices"),
            "provider": found.provider.id,
            "model": found.model.id,
            "entry": str(found.model_price),
        }

    def _calculated(self, usage: Any) -> PriceCalculation:
        import genai_prices

        if self.url is not None:
            return genai_prices.calc_price(usage, self.model, provider_api_url=self.url)
        return genai_prices.calc_price(usage, self.model, provider_id=self.provider)


@dataclass(frozen=True, slots=True)
class Discounted:
    """A share of another price, as batch APIs charge it."""

    price: Price
    share: float = BATCH_SHARE

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError("a share is from 0 to 1")

    def cost(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        cache_read: int = 0,
        cache_write: int = 0,
    ) -> float:
        """US dollars of one call: the share of what the other price makes it."""
        whole = self.price.cost(
            prompt_tokens, completion_tokens, cache_read=cache_read, cache_write=cache_write
        )
        return self.share * whole

    @property
    def origin(self) -> dict[str, Any]:
        """Where the other price is from, and the share."""
        return {**self.price.origin, "share": self.share}


def find_price(provider: str, model: str, url: str | None = None) -> ListedPrice | None:
    """The price of `model`, or None if the list has none.

    With `url`, of the server there, whatever protocol it speaks: a model of a known name that
    somebody else serves has not the price of its maker.
    """
    price = ListedPrice(model, url=url) if url is not None else ListedPrice(model, provider)
    try:
        price.cost(1000, 1000)
    except LookupError:
        return None
    return price


def price_snapshot(price: Price) -> str:
    """What `price` says today, as JSON text: where it is from, and US dollars a million tokens.

    Of the lowest tier, where prices rise with the length of the prompt.
    """
    classes = {
        "input": price.cost(1000, 0),
        "output": price.cost(0, 1000),
        "cache_read": price.cost(1000, 0, cache_read=1000),
        "cache_write": price.cost(1000, 0, cache_write=1000),
    }
    each = {name: round(cost * PER / 1000, 9) for name, cost in classes.items()}
    return json.dumps({**price.origin, "per": PER, **each}, sort_keys=True)


def worst_cost(price: Price, prompt_tokens: int, completion_tokens: int) -> float:
    """The most one call can cost, be the prompt written to the provider's cache or not."""
    return max(
        price.cost(prompt_tokens, completion_tokens),
        price.cost(prompt_tokens, completion_tokens, cache_write=prompt_tokens),
    )


def price_of(llm: object) -> Price | None:
    """The `price` that a language model carries; None if it carries none or does not know it."""
    price: Price | None = getattr(llm, "price", None)
    return price
