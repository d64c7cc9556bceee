"""A language model at a provider, or at a server that speaks its protocol: what all have alike."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from glossator.errors import ConfigError
from glossator.llm import Can
from glossator.providers.exchange import http_client, key_in
from glossator.providers.faults import Account
from glossator.providers.prices import Price, find_price
from glossator.providers.server import Server, look


@dataclass(frozen=True)
class Maker:
    """A company with models of its own, whose protocol other servers speak, too."""

    name: str
    """In the price list."""
    title: str
    """In messages."""
    home: str
    """Base URL of its own API."""
    key_variable: str
    url_variable: str
    sdk: ModuleType
    client: Callable[..., Any]
    """The SDK's asynchronous client."""
    no_schema: re.Pattern[str]
    """Models that cannot be held to a schema."""
    no_tools: re.Pattern[str]
    """Models that cannot call tools."""
    reasoning: re.Pattern[str] | None = None
    """Models that think before they answer, also where nobody asks them to."""
    listing: Mapping[str, Any] = field(default_factory=dict)
    """Options of the request for its list of models."""

    def account(self, kind: str, model: str, url: str, environ: Mapping[str, str]) -> Account:
        """Who is asked for `model` at `url`, with the key from `environ`.

        Raises:
            ConfigError: if there is no key, and `url` is its own; names `kind`.
        """
        at_home = self.is_home(url)
        key = key_in(environ, self.key_variable)
        if not key and at_home:
            raise ConfigError(
                f"{kind}:{model} needs a key: set {self.key_variable}, give --base-url for another "
                "server, or use --llm local"
            )
        title = self.title if at_home else f"the {self.title}-compatible server"
        return Account(title, self.key_variable, model, url, key)

    def price(self, account: Account) -> Price | None:
        """The price of a model where it is served."""
        url = None if self.is_home(account.url) else account.url
        return find_price(self.name, account.model, url)

    def is_home(self, url: str) -> bool:
        """Whether its own API is at `url`."""
        return url.rstrip("/") == self.home


class Client(Protocol):
    """An SDK's client, as far as all are alike."""

    @property
    def models(self) -> Any:
        """The models there are."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


OfSDK = TypeVar("OfSDK", bound=Client)


@dataclass(frozen=True)
class Remote(Generic[OfSDK]):
    """A model asked through its maker's own SDK. Serves one event loop; `aclose` it at the end."""

    kind: ClassVar[str]
    """How its name begins."""
    maker: ClassVar[Maker]

    model: str
    client: OfSDK = field(repr=False, compare=False)
    account: Account
    price: Price | None = None
    """None where it is unknown."""
    timeout: float = 120.0
    """Seconds for one request, from sending to the last byte."""
    server: Server = field(default_factory=Server, compare=False)
    """What `check` has found out."""

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
            ConfigError: if there is no key, and no other URL than the maker's own.
        """
        maker = cls.maker
        url = base_url or environ.get(maker.url_variable) or maker.home
        account = maker.account(cls.kind, model, url, environ)
        client = maker.client(
            api_key=account.key or "none",
            base_url=url,
            max_retries=0,
            timeout=timeout,
            http_client=http_client(maker.sdk),
        )
        return cls(model, client, account, maker.price(account), timeout)

    @property
    def name(self) -> str:
        """`KIND:MODEL`."""
        return f"{self.kind}:{self.model}"

    @property
    def identity(self) -> str:
        """Tells models of one name on several servers apart."""
        return self.account.url

    @property
    def reasons(self) -> bool:
        """Whether it thinks before it answers."""
        pattern = self.maker.reasoning
        return pattern is not None and pattern.match(self.model) is not None

    @property
    def can(self) -> frozenset[Can]:
        """Schemas, tools and batches, as far as its name and, after `check`, its server tell."""
        found = set() if self.server.is_own else {Can.BATCH}
        if self.maker.no_schema.match(self.model) is None:
            found.add(Can.SCHEMA)
        if self.maker.no_tools.match(self.model) is None and not self.server.is_own:
            found.add(Can.TOOLS)
        return frozenset(found)

    async def check(self) -> str:
        """Asks the server for its models, once; gives a notice to show, or an empty string.

        Raises:
            ProviderRefused: if it does not accept the key.
            ConfigError: if nobody answers, or what answers is no API.
        """
        listing = self.client.models.with_streaming_response.list(**self.maker.listing)
        at_home = self.maker.is_home(self.account.url)
        sdk, account = self.maker.sdk, self.account
        return await look(sdk, account, self.server, listing, self.timeout, at_home=at_home)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.client.close()
