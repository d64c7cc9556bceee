"""One request to a provider and what comes back, bounded in time and in size.

The SDK builds the request and sends it; whatever goes wrong becomes an error of ours here. What the
SDK raised is dropped: it holds the request with its key, and all that the server said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any, cast

import httpx2

from glossator.errors import ConfigError, GlossatorError
from glossator.providers.body import lost
from glossator.providers.faults import Account, from_status, unreachable

MAX_BODY = 8_000_000
"""Bytes; no reply to a bounded request is longer."""
MAX_ERROR = 100_000
"""Bytes of a body that says what went wrong; more is not read."""

Judge = Callable[[Account, int, object, str | None], GlossatorError]
"""Makes an error of a status, a body and a Retry-After header, as `from_status` does."""


def key_in(environ: Mapping[str, str], variable: str) -> str:
    """The key in `variable`, or an empty string.

    Raises:
        ConfigError: if it cannot be a key, which says nothing of what it is.
    """
    key = environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{variable} holds characters that no key has: set it to a valid key")
    return key


def http_client(sdk: ModuleType) -> httpx2.AsyncClient:
    """What the SDK sends through: it follows no redirect with the key, and no error is endless."""
    made = sdk.DefaultAsyncHttpxClient(
        follow_redirects=False, event_hooks={"response": [_bound_error]}
    )
    return cast("httpx2.AsyncClient", made)


async def exchange(
    sdk: ModuleType,
    account: Account,
    sending: AbstractAsyncContextManager[Any],
    seconds: float,
    *,
    limit: int = MAX_BODY,
    judge: Judge = from_status,
) -> str:
    """The body that comes back.

    Args:
        sdk: The package `openai` or `anthropic`.
        account: Who is asked.
        sending: What a method of the SDK's `with_streaming_response` gives.
        seconds: From sending to the last byte.
        limit: Bytes; of a longer body no more is read.
        judge: Makes the error of a status that is none of success.

    Raises:
        GlossatorError: what `judge` makes of the status.
        ProviderError: if there is no answer, or not all of it.
        ReplyError: if the body is too long, or was spoilt on its way.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds), sending as response:
            async for piece in response.iter_bytes():
                body += piece
                if len(body) > limit:
                    break
    except sdk.APIStatusError as error:
        wait = error.response.headers.get("retry-after")
        raise judge(account, error.status_code, error.body, wait) from None
    except httpx2.DecodingError:
        raise lost(account, "", "sent a body that cannot be unpacked") from None
    except (sdk.APIConnectionError, httpx2.RequestError, TimeoutError) as error:
        early = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
        slow = sdk.APITimeoutError | httpx2.TimeoutException | TimeoutError
        raise unreachable(account, timed_out=isinstance(error, slow), connected=not early) from None
    text = body.decode("utf-8", "replace")
    if len(body) > limit:
        raise lost(account, text[:2000], f"sent more than {limit:,} bytes, which is no reply")
    return text


async def _bound_error(response: httpx2.Response) -> None:
    """Cuts the body of an error short: the SDK reads it whole."""
    if response.status_code >= 400:
        response.stream = _Beginning(response.stream)


class _Beginning(httpx2.AsyncByteStream):
    """The first bytes of another stream, as if they were all."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_ERROR
        async for piece in self._whole:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._whole.aclose()
