"""What went wrong between a provider and us, decided once and the same way for every provider.

fatal       400, 401, 402, 403, 404 and other 4xx   ProviderRefused: one request, one clear message
retry       408, 409, 425, 429, 5xx, no connection  ProviderError, with Retry-After where it is sane
record      context overflow, content filter        ReplyError, Refused: this request only
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from glossator.errors import GlossatorError, ProviderError, ProviderRefused, Refused, ReplyError
from glossator.llm import Request
from glossator.types import Usage

MAX_RETRY_AFTER = 300.0
"""Seconds; a longer Retry-After is cut to this."""
MAX_BODY = 8_000_000
"""Characters; no reply to a bounded request is longer."""
RETRIED = frozenset({408, 409, 425, 429})
LOOKS_SECRET = re.compile(r"\b(?:sk|key|pk|api|Bearer)[-_ ][A-Za-z0-9_*.\-]{8,}")


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
            text = text.replace(self.key, "[key]")
        shown = "".join(c if c.isprintable() else " " for c in text[:10_000])
        return " ".join(LOOKS_SECRET.sub("[key]", shown).split())[:300]


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
            return str(inner.get("message") or ""), str(code)
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
    if status in RETRIED or status >= 500:
        return ProviderError(
            f"{title} at {account.url} answered {status}{quoted}",
            retry_after=retry_after(wait, datetime.now(UTC)),
            busy=status == 429,
        )
    if status in (400, 413, 422) and _too_long(about, status):
        return ReplyError(f"the prompt is too long for {account.model}{quoted}", usage=Usage())
    if status == 400 and "content_filter" in about:
        return Refused(f"{title} filtered the prompt{quoted}", usage=Usage())
    advice = {
        401: f"{title} does not accept the key (401){quoted}; "
        f"set {variable} to a valid one, {instead}",
        403: f"{title} does not allow this (403){quoted}; "
        f"the key in {variable} may not use {account.model}: use another model or key, {instead}",
        404: f"{title} knows no model {account.model!r} at {account.url} (404){quoted}; "
        f"check the name, --base-url and whose key is in {variable}, {instead}",
    }
    return ProviderRefused(
        advice.get(
            status,
            f"{title} refuses requests to {account.model} ({status}){quoted}; "
            f"check the model and --base-url (the key is read from {variable}), {instead}",
        )
    )


def _too_long(about: str, status: int) -> bool:
    signs = ("context_length_exceeded", "maximum context length", "prompt is too long")
    return status == 413 or any(sign in about for sign in signs)


def unreachable(account: Account, *, timed_out: bool, connected: bool) -> ProviderError:
    """The error for no answer at all; `connected` is whether the request may have arrived."""
    what = "did not answer in time" if timed_out else "cannot be reached or hung up"
    return ProviderError(
        f"{account.title} at {account.url} {what}; check the network and --base-url, "
        "or use --llm local",
        maybe_billed=connected,
    )


def read_object(account: Account, text: str) -> Mapping[str, Any]:
    """The JSON object that a reply's body is.

    Raises:
        ReplyError: if it is none; quotes the body.
        GlossatorError: what `from_status` gives, if it is an error sent with status 200.
    """
    if len(text) > MAX_BODY:
        raise ReplyError(f"{account.title} sent {len(text):,} characters, which is no reply", text)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        found = "an empty body" if not text.strip() else f"no JSON but {account.clean(text)[:80]!r}"
        raise ReplyError(f"{account.title} at {account.url} sent {found}", text) from None
    if not isinstance(data, dict):
        raise ReplyError(f"{account.title} sent a JSON {type(data).__name__}, no reply", text)
    error = data.get("error")
    if isinstance(error, dict):
        code = error.get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        raise from_status(account, status, data)
    return data


def count(value: object) -> int | None:
    """`value` as a number of tokens, or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
        return None
    return value


def storable(text: str) -> str:
    """`text` with lone surrogates, which no encoding takes, replaced."""
    return text.encode("utf-8", "replace").decode()


def cut(text: str, request: Request) -> str:
    """`text` up to the first stop behind the prefill, for servers that do not take all stops."""
    start = len(request.prefill) if text.startswith(request.prefill) else 0
    ends = [place for place in (text.find(s, start) for s in request.stop if s) if place >= 0]
    return text[: min(ends)] if ends else text
