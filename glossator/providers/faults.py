"""What went wrong between a provider and us, decided once and the same way for every provider.

fatal       400, 401, 402, 403, 404 and other 4xx   ProviderRefused: one request, one clear message
                                                    (400 and 422 after replies: see `refusals.py`)
retry       408, 409, 425, 429, 5xx, no connection  ProviderError, with Retry-After where it is sane
record      context overflow, content filter        PromptTooLong, Refused: this request only

What is wrong with a body that did arrive is in `body.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from glossator.errors import (
    GlossatorError,
    PromptTooLong,
    ProviderError,
    ProviderRefused,
    Refused,
)
from glossator.providers.keys import HIDDEN, without_keys
from glossator.types import Usage

MAX_RETRY_AFTER = 300.0
"""Seconds; a longer Retry-After is cut to this."""
RETRIED = frozenset({408, 409, 425, 429})
BAD_REQUEST = frozenset({400, 422})
"""What is in a request may be why it is refused, and others are not."""
TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|prompt is too long"
    r"|context length is only|max_model_len|longer than the maximum model length"
    r"|exceed(?:s|ed)? (?:the |your )?(?:available |model's |maximum |max )?context"
    r"|input is too large to process|exceeds the maximum number of tokens"
)
"""How OpenAI, Anthropic, vLLM, llama.cpp, Ollama and OpenRouter say that a prompt is too long."""
FILTERED = re.compile(
    r"content_filter|content_policy|content management policy|invalid_prompt|flagged"
)
"""How OpenAI, Azure and OpenRouter say that they do not let a prompt through."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who is asked, as messages name them."""

    title: str
    """Such as `OpenAI`."""
    key_variable: str
    """Environment variable that holds the key."""
    model: str
    url: str
    key: str = field(default="", repr=False)
    """Kept to take it out of messages."""

    def clean(self, text: str) -> str:
        """`text` on one line, at most 300 characters, without the key or what looks like one.

        Nor with anything that does not print, such as what steers a terminal.
        """
        if self.key:
            text = text.replace(self.key, HIDDEN)
        shown = "".join(c if c.isprintable() else " " for c in text[:10_000])
        return " ".join(without_keys(shown).split())[:300]


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, in [0, MAX_RETRY_AFTER], or None.

    Takes seconds or an HTTP date; what is negative or neither of them is ignored.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = max(0.0, (date - now).total_seconds())
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return min(seconds, MAX_RETRY_AFTER)


def detail(body: object) -> tuple[str, str]:
    """The message and the code that an error body holds, as far as it does."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            code = inner.get("code") or inner.get("type") or ""
            message = str(inner.get("message") or "")
            # OpenRouter puts what the provider behind it said beside a sentence of its own.
            more = inner.get("metadata")
            raw = more.get("raw") if isinstance(more, Mapping) else None
            return f"{message}: {raw}" if isinstance(raw, str) else message, str(code)
        return str(inner), ""
    text = str(body or "")
    return ("" if text.lstrip().startswith("<") else text), ""


def from_status(
    account: Account, status: int, body: object, wait: str | None = None
) -> GlossatorError:
    """The error that an HTTP status means; `wait` is the Retry-After header."""
    message, code = detail(body)
    said = account.clean(message)
    quoted = f": {said}" if said else ""
    title, variable = account.title, account.key_variable
    instead = "or use --llm local"
    about = f"{code} {message}".lower()
    if "insufficient_quota" in about or "credit balance" in about or status == 402:
        return ProviderRefused(
            f"{title} says there is no credit left ({status}){quoted}; "
            f"top up the account of the key in {variable}, {instead}"
        )
    if _too_long(about, status):
        return PromptTooLong(
            f"the prompt is too long for {account.model}{quoted}", usage=Usage(), again=False
        )
    if status in RETRIED or status >= 500:
        return ProviderError(
            f"{title} at {account.url} answered {status}{quoted}",
            retry_after=retry_after(wait, datetime.now(UTC)),
            busy=status == 429,
        )
    if status in (400, 403) and FILTERED.search(about):
        return Refused(f"{title} filtered the prompt{quoted}", usage=Usage())
    if 300 <= status < 400:
        return ProviderRefused(
            f"{title} at {account.url} sends on to another address ({status}), which is not given "
            "the key: set --base-url to where the API is"
        )
    advice = {
        401: f"{title} does not accept the key (401){quoted}; "
        f"set {variable} to a valid one, {instead}",
        403: f"{title} does not allow this (403){quoted}; "
        f"the key in {variable} may not use {account.model}: use another model or key, {instead}",
        404: f"{title} knows no model {account.model!r} at {account.url} (404){quoted}; "
        f"check the name, --base-url and whose key is in {variable}, {instead}",
    }
    if status in advice:
        return ProviderRefused(advice[status])
    of_request = (
        f"{title} refuses a request to {account.model} that it calls bad ({status}){quoted}; "
        "it answers others. The same command asks it again, another model may take it"
    )
    return ProviderRefused(
        f"{title} refuses requests to {account.model} ({status}){quoted}; "
        f"check the model and --base-url (the key is read from {variable}), {instead}",
        of_request if status in BAD_REQUEST else "",
    )


def _too_long(about: str, status: int) -> bool:
    # OpenAI answers 429 where one prompt alone has more tokens than it allows in a minute.
    alone = status == 429 and "request too large" in about
    says_so = status in (400, 413, 422, 500) and TOO_LONG.search(about) is not None
    return status == 413 or alone or says_so


def unreachable(account: Account, *, timed_out: bool, connected: bool) -> ProviderError:
    """The error for no answer at all; `connected` is whether the request may have arrived."""
    what = "did not answer in time" if timed_out else "cannot be reached or hung up"
    return ProviderError(
        f"{account.title} at {account.url} {what}; check the network and --base-url, "
        "or use --llm local",
        maybe_billed=connected,
    )
