"""What a server says of itself before anything is paid: whether it is one, and what it runs."""

from __future__ import annotations

import asyncio
import difflib
import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from glossator.errors import ConfigError, GlossatorError, ProviderError, ProviderRefused, ReplyError
from glossator.providers.exchange import exchange
from glossator.providers.faults import Account, detail, from_status

PATIENCE = 10.0
"""Seconds that a server may take to list its models."""
VLLM, LLAMA_CPP, OLLAMA = "vllm", "llamacpp", "library"
"""What these servers call the owner of their models."""
OWN = frozenset({VLLM, LLAMA_CPP, OLLAMA})
"""Servers that people run themselves.

They call tools only with some models and settings, and pass over them in silence or with an error
otherwise; but all of them hold a model to a schema. None has a batch API.
"""
N_NAMED = 5


@dataclass
class Server:
    """Who answers at an address, as far as it has been asked."""

    owner: str = ""
    """Of its models: `OWN` or a company; empty if not known."""

    @property
    def is_own(self) -> bool:
        """Whether it is known as one that people run themselves."""
        return self.owner in OWN


class _NoList(GlossatorError):
    """A server answered, but not with a list of models."""


async def look(
    sdk: ModuleType,
    account: Account,
    server: Server,
    listing: AbstractAsyncContextManager[Any],
    bound: float,
    *,
    at_home: bool = False,
) -> str:
    """Asks for the list of models, once; gives a notice to show, or an empty string.

    Args:
        sdk: The package `openai` or `anthropic`.
        account: Who is asked.
        server: Told who answers.
        listing: The request for the list.
        bound: Seconds that any call may take.
        at_home: Whether that is the provider's own address, which cannot be a wrong one.

    Raises:
        ProviderRefused: if the key is not accepted.
        ConfigError: if nobody answers there, or what answers is no API.
    """
    title, url = account.title, account.url
    try:
        text = await exchange(sdk, account, listing, min(bound, PATIENCE), judge=_judge)
    except _NoList as error:
        return str(error)
    except ReplyError:
        return ""
    except ProviderRefused:
        raise
    except ProviderError as error:
        if error.maybe_billed:
            return f"{title} at {url} does not answer at once; it is asked all the same"
        raise _nobody(url) from None
    if at_home and text.lstrip()[:1] == "<":
        return f"{title} at {url} answers with a web page for now; it is asked all the same"
    if text.lstrip()[:1] == "<":
        raise ConfigError(
            f"{url} answers with a web page, not as an API: give --base-url the address of the "
            "API, such as http://127.0.0.1:8000/v1"
        )
    return _read(account, server, text)


async def knock(url: str) -> None:
    """Connects to whoever listens at `url`, and asks nothing: it takes no time and needs no key.

    Where a proxy stands between, only the request itself can tell.

    Raises:
        ConfigError: if nobody listens there.
    """
    host, port = _address(url)
    if getproxies().get(urlsplit(url).scheme) and not proxy_bypass(host):
        return
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return  # One that is slow is asked all the same.
    except OSError:
        raise _nobody(url) from None
    writer.close()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _nobody(url: str) -> ConfigError:
    host, port = _address(url)
    return ConfigError(
        f"nothing answers at {host}:{port}: start the server, check --base-url {url} and the "
        "network, or use --llm local"
    )


def _judge(account: Account, status: int, body: object, wait: str | None) -> GlossatorError:
    said, _ = detail(body)
    # OpenAI has keys that may ask models, but may not list them.
    narrow = status == 403 and "missing scopes" in said.lower()
    if status in (401, 402, 403) and not narrow:
        found = from_status(account, status, body, wait)
        return found if isinstance(found, ProviderRefused) else _NoList("")
    if 300 <= status < 400:
        return from_status(account, status, body, wait)
    if status == 429 or status >= 500:
        return _NoList(f"{account.title} at {account.url} answers {status} for now")
    return _NoList("")


def _read(account: Account, server: Server, text: str) -> str:
    """Tells `server` who it is; a notice if the model is not on its list."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    listed = data.get("data") if isinstance(data, dict) else None
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    owners = {e["owned_by"] for e in entries if isinstance(e.get("owned_by"), str)}
    server.owner = min(owners & OWN, default=min(owners, default=""))
    names = [e["id"] for e in entries if isinstance(e.get("id"), str)]
    model = account.model
    # A name without its date stands for the newest one.
    if not names or any(name == model or name.startswith(f"{model}-") for name in names):
        return ""
    near = difflib.get_close_matches(model, names, N_NAMED, 0.4) or names[:N_NAMED]
    shown = ", ".join(account.clean(name)[:80] for name in near)
    more = "" if len(near) == len(names) else f" and {len(names) - len(near)} others"
    return f"{account.title} at {account.url} lists no model {model!r}; it has {shown}{more}"
